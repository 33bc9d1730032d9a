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

-- An account begins empty, on the side of its kind. `available` is what can be spent; it says nothing (null) where an account
-- may go below zero. Unknown kinds have no side, which its NOT NULL refuses.
CREATE OR REPLACE FUNCTION ledger.begin_account() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.side := CASE WHEN NEW.kind IN ('asset', 'expense') THEN -1
                     WHEN NEW.kind IN ('liability', 'equity', 'income') THEN 1 END;
    NEW.available := CASE WHEN NEW.may_go_negative THEN NULL ELSE 0 END;
    RETURN NEW;
END $$;

CREATE OR REPLACE TRIGGER begins_empty BEFORE INSERT ON ledger.account
    FOR EACH ROW EXECUTE FUNCTION ledger.begin_account();

-- Its counters move; what it is does not.
CREATE OR REPLACE TRIGGER identity_stays AFTER UPDATE OF id, code, kind, side, currency, may_go_negative ON ledger.account
    FOR EACH ROW WHEN ((OLD.id, OLD.code, OLD.kind, OLD.side, OLD.currency, OLD.may_go_negative)
                       IS DISTINCT FROM (NEW.id, NEW.code, NEW.kind, NEW.side, NEW.currency, NEW.may_go_negative))
    EXECUTE FUNCTION ledger.refuse_change();
CREATE OR REPLACE TRIGGER no_delete BEFORE DELETE ON ledger.account
    FOR EACH ROW EXECUTE FUNCTION ledger.refuse_change();
CREATE OR REPLACE TRIGGER no_truncate BEFORE TRUNCATE ON ledger.account
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

-- Sealed: entries join their header in the database transaction that wrote it, or never. The header keeps the
-- transaction's id in a column because a row's own xmin is another one inside a savepoint. An entry is one-sided and in its
-- account's currency. The posting functions see to all of this themselves; while one of them is at work, the setting spares
-- asking again for each entry.
--
-- Together with the triggers against removal this stands in for the foreign keys of entries, which are declared and not
-- enforced: asked row by row they made a third of a posting's cost.
CREATE OR REPLACE FUNCTION ledger.refuse_stray_entry() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM ledger.txn t WHERE t.id = NEW.txn_id AND t.xact = pg_current_xact_id()) THEN
        RAISE EXCEPTION 'this transaction is sealed: no entry can be added to it' USING ERRCODE = 'LG006';
    ELSIF NOT EXISTS (SELECT FROM ledger.account a WHERE a.id = NEW.account_id AND a.currency = NEW.currency) THEN
        RAISE EXCEPTION 'account % is not in %, or does not exist', NEW.account_id, NEW.currency USING ERRCODE = 'LG008';
    ELSIF (NEW.debit > 0) = (NEW.credit > 0) OR NEW.debit < 0 OR NEW.credit < 0 THEN
        RAISE EXCEPTION 'an entry is a debit or a credit, above zero' USING ERRCODE = 'LG001';
    END IF;
    RETURN NEW;
END $$;

CREATE OR REPLACE TRIGGER sealed BEFORE INSERT ON ledger.entry
    FOR EACH ROW WHEN (current_setting('ledger.posting', true) IS DISTINCT FROM 'at work')
    EXECUTE FUNCTION ledger.refuse_stray_entry();

-- Judged once per transaction when everything is written, which is at commit: two legs or more, balanced per currency; a
-- reversal is the mirror image of what it reverses, or it would block the true one.
CREATE OR REPLACE FUNCTION ledger.refuse_unbalanced() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v_legs bigint;
    v_is_balanced boolean;
    v_is_one_currency boolean;
BEGIN
    SELECT count(*), sum(e.debit - e.credit) = 0, min(e.currency) = max(e.currency)
      INTO v_legs, v_is_balanced, v_is_one_currency
      FROM ledger.entry e WHERE e.txn_id = NEW.id;
    IF NOT v_is_one_currency THEN
        SELECT bool_and(c.is_balanced) INTO v_is_balanced
          FROM (SELECT sum(e.debit - e.credit) = 0 AS is_balanced
                  FROM ledger.entry e WHERE e.txn_id = NEW.id GROUP BY e.currency) AS c;
    END IF;
    IF v_legs < 2 OR NOT v_is_balanced THEN
        RAISE EXCEPTION 'transaction % does not balance in each currency', NEW.idempotency_key USING ERRCODE = 'LG003';
    END IF;
    -- Two conditions and not one: a condition with a query in it is run as a query each time.
    IF NEW.reverses IS NOT NULL THEN
        IF EXISTS (
            SELECT FROM (SELECT account_id, debit, credit FROM ledger.entry WHERE txn_id = NEW.id) AS mine
              FULL JOIN (SELECT account_id, credit AS debit, debit AS credit
                           FROM ledger.entry WHERE txn_id = NEW.reverses) AS mirrored
                  USING (account_id, debit, credit)
             WHERE mine IS NULL OR mirrored IS NULL
        ) THEN
            RAISE EXCEPTION 'transaction % does not mirror what it reverses', NEW.idempotency_key USING ERRCODE = 'LG012';
        END IF;
    END IF;
    RETURN NULL;
END $$;

-- A constraint trigger cannot be replaced in place.
DROP TRIGGER IF EXISTS balanced ON ledger.txn;
CREATE CONSTRAINT TRIGGER balanced AFTER INSERT ON ledger.txn DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION ledger.refuse_unbalanced();
