-- What IBs might see and when is known for ever: policies are added, never changed.
-- Repeatable: app/migrate.py runs this file after migrations.

CREATE OR REPLACE TRIGGER partner_privacy_append_only BEFORE UPDATE OR DELETE ON partner_privacy
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE OR REPLACE TRIGGER partner_privacy_no_truncate BEFORE TRUNCATE ON partner_privacy
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'lotwise_app') THEN
        REVOKE UPDATE, DELETE, TRUNCATE ON partner_privacy FROM lotwise_app;
    END IF;
END $$;
