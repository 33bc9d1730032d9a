-- What a payout is stays as it was proposed: the application only says what becomes of it. A statement stays as it was frozen, and
-- gets its file once. Nothing of it is removed. Repeatable: app/migrate.py runs this file after migrations.

CREATE OR REPLACE TRIGGER payout_statement_stays BEFORE UPDATE ON payout_statement
    FOR EACH ROW WHEN (OLD.pdf IS NOT NULL) EXECUTE FUNCTION refuse_change();

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'lotwise_app') THEN
        REVOKE UPDATE, DELETE, TRUNCATE ON payout, payout_statement FROM lotwise_app;
        REVOKE UPDATE, DELETE, TRUNCATE ON payout_run, payout_reversal FROM lotwise_app;
        GRANT UPDATE (status, decided_by, decided_at, decision_reason) ON payout_run, payout_reversal TO lotwise_app;
        GRANT UPDATE (run_id, state, warnings, decided_by, decided_at, decision_reason, ledger_txn_id, transfer_id, withdrawal_id,
                      failure, moved_at, finished_at) ON payout TO lotwise_app;
        GRANT UPDATE (pdf, pdf_sha256) ON payout_statement TO lotwise_app;
    END IF;
END $$;
