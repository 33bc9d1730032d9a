-- What was accrued stays: the application adds accruals and their sums, and only says which settlement took a sum.
-- Repeatable: app/migrate.py runs this file after migrations.

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'lotwise_app') THEN
        REVOKE UPDATE, DELETE, TRUNCATE ON accrual, accrual_unit, accrual_sum, occasion, occasion_taken_back FROM lotwise_app;
        GRANT UPDATE (settlement_id) ON accrual_sum TO lotwise_app;
    END IF;
END $$;
