-- By which policy a client came to an IB is known for ever: policies are added, never changed.
-- Repeatable: app/migrate.py runs this file after migrations.

CREATE OR REPLACE TRIGGER partner_policy_append_only BEFORE UPDATE OR DELETE ON partner_policy
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE OR REPLACE TRIGGER partner_policy_no_truncate BEFORE TRUNCATE ON partner_policy
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'lotwise_app') THEN
        REVOKE UPDATE, DELETE, TRUNCATE ON partner_policy FROM lotwise_app;
    END IF;
END $$;
