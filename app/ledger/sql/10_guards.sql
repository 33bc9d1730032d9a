-- What the tables refuse, whoever asks. Rights keep the application out (90_grants.sql); these guards also stop an
-- owner's slip. SQLSTATE codes of class LG are listed in app/ledger/errors.py.

-- Written once: no row of the journal is ever changed or removed.
CREATE OR REPLACE FUNCTION ledger.refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'LG006';
END $$;

DO $$
DECLARE
    v_table text;
BEGIN
    FOREACH v_table IN ARRAY ARRAY['currency', 'txn', 'entry', 'hold', 'hold_resolution', 'period_close', 'seal'] LOOP
        EXECUTE format(
            'CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE OR DELETE ON ledger.%I
                FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change()', v_table);
        EXECUTE format(
            'CREATE OR REPLACE TRIGGER no_truncate BEFORE TRUNCATE ON ledger.%I
                FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change()', v_table);
    END LOOP;
END $$;

-- Rates that converted money stay as they were.
CREATE OR REPLACE TRIGGER append_only BEFORE UPDATE OR DELETE ON public.fx_rate
    FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change();
CREATE OR REPLACE TRIGGER no_truncate BEFORE TRUNCATE ON public.fx_rate
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

-- An account's counters move; what it is does not.
CREATE OR REPLACE TRIGGER identity_stays BEFORE UPDATE OF id, code, kind, currency ON ledger.account
    FOR EACH ROW WHEN ((OLD.id, OLD.code, OLD.kind, OLD.currency) IS DISTINCT FROM (NEW.id, NEW.code, NEW.kind, NEW.currency))
    EXECUTE FUNCTION ledger.refuse_change();
CREATE OR REPLACE TRIGGER no_delete BEFORE DELETE ON ledger.account
    FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change();
CREATE OR REPLACE TRIGGER no_truncate BEFORE TRUNCATE ON ledger.account
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

-- Sealed: entries join their header in the database transaction that wrote it, or never. The header keeps the
-- transaction's id in a column because a row's own xmin is another one inside a savepoint.
CREATE OR REPLACE FUNCTION ledger.refuse_late_entry() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    IF EXISTS (
        SELECT FROM added
          CROSS JOIN LATERAL (SELECT t.xact FROM ledger.txn t WHERE t.id = added.txn_id OFFSET 0) AS header
         WHERE header.xact <> pg_current_xact_id()
    ) THEN
        RAISE EXCEPTION 'this transaction is sealed: no entry can be added to it' USING ERRCODE = 'LG006';
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE TRIGGER sealed AFTER INSERT ON ledger.entry REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_late_entry();

-- Balanced: judged once per transaction when everything is written, which is at commit. A reversal must be the mirror
-- image of what it reverses, or it would block the true one.
CREATE OR REPLACE FUNCTION ledger.refuse_unbalanced() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v_legs bigint;
    v_balanced boolean;
BEGIN
    SELECT sum(c.legs), bool_and(c.balanced) INTO v_legs, v_balanced
      FROM (SELECT count(*) AS legs, sum(e.debit) = sum(e.credit) AS balanced
              FROM ledger.entry e WHERE e.txn_id = NEW.id GROUP BY e.currency) AS c;
    IF v_legs IS NULL OR v_legs < 2 OR NOT v_balanced THEN
        RAISE EXCEPTION 'transaction % does not balance in each currency', NEW.idempotency_key USING ERRCODE = 'LG003';
    END IF;
    IF NEW.reverses IS NOT NULL AND EXISTS (
        SELECT FROM (SELECT account_id, debit, credit FROM ledger.entry WHERE txn_id = NEW.id) AS mine
          FULL JOIN (SELECT account_id, credit AS debit, debit AS credit FROM ledger.entry WHERE txn_id = NEW.reverses) AS mirrored
              USING (account_id, debit, credit)
         WHERE mine IS NULL OR mirrored IS NULL
    ) THEN
        RAISE EXCEPTION 'transaction % does not mirror what it reverses', NEW.idempotency_key USING ERRCODE = 'LG012';
    END IF;
    RETURN NULL;
END $$;

-- A constraint trigger cannot be replaced in place.
DROP TRIGGER IF EXISTS balanced ON ledger.txn;
CREATE CONSTRAINT TRIGGER balanced AFTER INSERT ON ledger.txn DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION ledger.refuse_unbalanced();
