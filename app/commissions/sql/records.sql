-- What was proposed, published and settled stays: the application writes rows once, and later says only what became of
-- them. Repeatable: app/migrate.py runs this file after migrations.

-- When an IB's plan ended is said once.
CREATE OR REPLACE TRIGGER ib_plan_stays BEFORE UPDATE ON ib_plan
    FOR EACH ROW WHEN (OLD.valid_to IS NOT NULL) EXECUTE FUNCTION refuse_change();

-- A settlement gets its figures in the transaction that begins it.
CREATE OR REPLACE TRIGGER settlement_stays BEFORE UPDATE ON settlement
    FOR EACH ROW WHEN (OLD.ledger_txn_id IS NOT NULL) EXECUTE FUNCTION refuse_change();

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'lotwise_app') THEN
        REVOKE UPDATE, DELETE, TRUNCATE ON plan_version, plan_draft, ib_plan, ib_terms_proposal, settlement FROM lotwise_app;
        GRANT UPDATE (status, decided_by, decided_at, decision_reason, version_id) ON plan_draft TO lotwise_app;
        GRANT UPDATE (valid_to) ON ib_plan TO lotwise_app;
        GRANT UPDATE (status, decided_by, decided_at, decision_reason, terms_id, valid_from) ON ib_terms_proposal TO lotwise_app;
        GRANT UPDATE (accrued, converted, carried_in, amount_minor, carried_out, ledger_txn_id) ON settlement TO lotwise_app;

        REVOKE UPDATE, DELETE, TRUNCATE ON replay_run, commission_flag FROM lotwise_app;
        GRANT UPDATE (status, deals, deals_done, sums, error, computed_at, posted_at, proposed_by, proposed_at,
                      decided_by, decided_at, decision_reason) ON replay_run TO lotwise_app;
        -- A run that is begun anew drops its lines; none is changed.
        REVOKE UPDATE, TRUNCATE ON replay_line FROM lotwise_app;
        GRANT UPDATE (details, seen_at, status, reason, decided_by, decided_at) ON commission_flag TO lotwise_app;
    END IF;
END $$;
