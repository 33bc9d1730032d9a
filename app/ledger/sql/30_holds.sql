-- Holds: part of an account's balance set aside until it is captured (becomes a transaction), released or expired.
-- `account.held` is the sum of the unresolved ones, and what they take is not `available`; CHECK sufficient_funds keeps that
-- at zero or above.

-- Place a hold. Returns its id; when the same request was made before, the id of that time, whatever became of it.
CREATE OR REPLACE FUNCTION ledger.place_hold(
    p_account text, p_currency text, p_amount bigint, p_key text, p_reason text, p_actor text,
    p_expires_at timestamptz DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
    v_account bigint;
    v_known record;
    v_id uuid;
BEGIN
    SELECT a.id INTO v_account FROM ledger.account a WHERE a.code = p_account AND a.currency = p_currency;
    IF NOT FOUND THEN
        PERFORM ledger.refuse_account(p_account, p_currency);
    END IF;

    -- The hold before the account: a twin waits here and then sees the hold, instead of being told that funds are short.
    INSERT INTO ledger.hold (account_id, amount, idempotency_key, reason, actor, expires_at)
    VALUES (v_account, p_amount, p_key, p_reason, p_actor, p_expires_at)
        ON CONFLICT (idempotency_key) DO NOTHING
    RETURNING id INTO v_id;
    IF v_id IS NULL THEN
        SELECT h.id, h.account_id, h.amount INTO v_known FROM ledger.hold h WHERE h.idempotency_key = p_key;
        IF (v_known.account_id, v_known.amount) IS DISTINCT FROM (v_account, p_amount) THEN
            RAISE EXCEPTION 'key % was used for another hold', p_key USING ERRCODE = 'LG002';
        END IF;
        RETURN v_known.id;
    END IF;

    UPDATE ledger.account a SET held = a.held + p_amount, available = a.available - p_amount
     WHERE a.id = v_account AND a.closed_at IS NULL;
    IF NOT FOUND THEN
        PERFORM ledger.refuse_account(p_account, p_currency);
    END IF;
    RETURN v_id;
END $$;

-- Turn a hold into the transaction it was placed for. The legs take at most the held amount from the held account; what
-- they leave is free again. Returns the transaction's id, and the same one to whoever repeats the request.
CREATE OR REPLACE FUNCTION ledger.capture_hold(
    p_hold uuid, p_key text, p_kind text, p_effective_at timestamptz, p_actor text,
    p_accounts text[], p_currencies text[], p_debits bigint[], p_credits bigint[], p_metadata jsonb DEFAULT '{}'
) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
    v_hold ledger.hold;
    v_outcome text;
    v_known uuid;
    v_taken bigint;
    v_id uuid;
BEGIN
    SELECT h.* INTO v_hold FROM ledger.hold h WHERE h.id = p_hold;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no hold %', p_hold USING ERRCODE = 'LG011';
    END IF;

    -- The closed periods before the accounts, as plain postings read them: a close that comes between would wait for us, and
    -- we for it.
    PERFORM FROM ledger.period_close c WHERE c.closed_through > p_effective_at;

    -- All accounts in the order of their codes, as plain postings lock them: the held account need not be the first.
    PERFORM FROM (SELECT FROM ledger.account a
                   WHERE a.code = ANY (p_accounts) OR a.id = v_hold.account_id ORDER BY a.code COLLATE "C" FOR NO KEY UPDATE) AS a;

    -- Only now, under the locks: was it resolved in the meantime? By this very request, then it is answered as before.
    SELECT r.outcome, r.txn_id INTO v_outcome, v_known FROM ledger.hold_resolution r WHERE r.hold_id = p_hold;
    IF FOUND THEN
        IF EXISTS (SELECT FROM ledger.txn t WHERE t.id = v_known AND t.idempotency_key = p_key) THEN
            RETURN ledger.post(p_key, p_kind, p_effective_at, p_actor, p_accounts, p_currencies, p_debits, p_credits,
                        p_metadata);
        END IF;
        RAISE EXCEPTION 'hold % is % already', p_hold, v_outcome USING ERRCODE = 'LG009';
    ELSIF EXISTS (SELECT FROM ledger.txn t WHERE t.idempotency_key = p_key) THEN
        RAISE EXCEPTION 'key % was used for another request', p_key USING ERRCODE = 'LG002';
    END IF;

    UPDATE ledger.account a SET held = a.held - v_hold.amount, available = a.available + v_hold.amount
     WHERE a.id = v_hold.account_id;
    v_id := ledger.post(p_key, p_kind, p_effective_at, p_actor, p_accounts, p_currencies, p_debits, p_credits,
                        p_metadata);
    SELECT (e.debit - e.credit) * a.side INTO v_taken
      FROM ledger.entry e JOIN ledger.account a ON a.id = e.account_id
     WHERE e.txn_id = v_id AND e.account_id = v_hold.account_id;
    IF NOT coalesce(v_taken BETWEEN 1 AND v_hold.amount, false) THEN
        RAISE EXCEPTION 'hold % of % cannot be captured by %', p_hold, v_hold.amount, v_taken USING ERRCODE = 'LG013';
    END IF;
    INSERT INTO ledger.hold_resolution (hold_id, outcome, txn_id, actor) VALUES (p_hold, 'captured', v_id, p_actor);
    RETURN v_id;
END $$;

-- End a hold without a transaction: 'released', or 'expired' once its moment has come. Returns whether this call did it;
-- false when it had ended in the same way before.
CREATE OR REPLACE FUNCTION ledger.resolve_hold(p_hold uuid, p_outcome text, p_actor text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
    v_hold ledger.hold;
    v_outcome text;
BEGIN
    SELECT h.* INTO v_hold FROM ledger.hold h WHERE h.id = p_hold;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no hold %', p_hold USING ERRCODE = 'LG011';
    ELSIF p_outcome NOT IN ('released', 'expired') THEN
        RAISE EXCEPTION 'a hold is released or expired, not %', p_outcome USING ERRCODE = 'LG001';
    END IF;
    PERFORM FROM ledger.account a WHERE a.id = v_hold.account_id FOR NO KEY UPDATE;
    SELECT r.outcome INTO v_outcome FROM ledger.hold_resolution r WHERE r.hold_id = p_hold;
    IF v_outcome = p_outcome THEN
        RETURN false;
    ELSIF v_outcome IS NOT NULL THEN
        RAISE EXCEPTION 'hold % is % already', p_hold, v_outcome USING ERRCODE = 'LG009';
    ELSIF p_outcome = 'expired' AND coalesce(v_hold.expires_at > now(), true) THEN
        RAISE EXCEPTION 'hold % has not come to its end', p_hold USING ERRCODE = 'LG014';
    END IF;
    UPDATE ledger.account a SET held = a.held - v_hold.amount, available = a.available + v_hold.amount
     WHERE a.id = v_hold.account_id;
    INSERT INTO ledger.hold_resolution (hold_id, outcome, actor) VALUES (p_hold, p_outcome, p_actor);
    RETURN true;
END $$;
