-- By which policy somebody came, and what was agreed to, is known for ever: both are added, never changed.
-- Repeatable: app/migrate.py runs this file after migrations.

CREATE OR REPLACE TRIGGER partner_policy_append_only BEFORE UPDATE OR DELETE ON partner_policy
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE OR REPLACE TRIGGER partner_policy_no_truncate BEFORE TRUNCATE ON partner_policy
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE OR REPLACE TRIGGER partner_agreement_append_only BEFORE UPDATE OR DELETE ON partner_agreement
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE OR REPLACE TRIGGER partner_agreement_no_truncate BEFORE TRUNCATE ON partner_agreement
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'lotwise_app') THEN
        REVOKE UPDATE, DELETE, TRUNCATE ON partner_policy, partner_agreement FROM lotwise_app;
    END IF;
END $$;
