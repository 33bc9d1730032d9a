-- By which policy somebody came, what was agreed to, and who moved whom is known for ever: all are added, never changed.
-- Repeatable: app/migrate.py runs this file after migrations.

CREATE OR REPLACE TRIGGER partner_policy_append_only BEFORE UPDATE OR DELETE ON partner_policy
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE OR REPLACE TRIGGER partner_policy_no_truncate BEFORE TRUNCATE ON partner_policy
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE OR REPLACE TRIGGER partner_agreement_append_only BEFORE UPDATE OR DELETE ON partner_agreement
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE OR REPLACE TRIGGER partner_agreement_no_truncate BEFORE TRUNCATE ON partner_agreement
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE OR REPLACE TRIGGER partner_acceptance_append_only BEFORE UPDATE OR DELETE ON partner_acceptance
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE OR REPLACE TRIGGER partner_acceptance_no_truncate BEFORE TRUNCATE ON partner_acceptance
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'lotwise_app') THEN
        REVOKE UPDATE, DELETE, TRUNCATE ON partner_policy, partner_agreement, partner_acceptance FROM lotwise_app;
        -- Who applied, with which words and by which agreement, stays; so does who invited whom.
        REVOKE UPDATE, DELETE, TRUNCATE ON ib_application, ib_invitation FROM lotwise_app;
        GRANT UPDATE (status, decided_by, decided_at, decision_reason) ON ib_application TO lotwise_app;
        GRANT UPDATE (revoked_at, used_by) ON ib_invitation TO lotwise_app;
        -- Of a move that was proposed, only what became of it is said.
        REVOKE UPDATE, DELETE, TRUNCATE ON partner_move FROM lotwise_app;
        GRANT UPDATE (status, decided_by, decided_at, decision_reason, effective_at, moved, cancelled_by, cancelled_at,
                      cancel_reason) ON partner_move TO lotwise_app;
    END IF;
END $$;
