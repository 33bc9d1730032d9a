-- What IBs advertise with is switched on or off, never changed: what somebody copied stays what it was.
-- Repeatable: app/migrate.py runs this file after migrations.

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'lotwise_app') THEN
        REVOKE UPDATE, DELETE, TRUNCATE ON marketing_material FROM lotwise_app;
        GRANT UPDATE (is_active) ON marketing_material TO lotwise_app;
    END IF;
END $$;
