-- Posting: the only way by which money moves. Legs are a JSON array of
--     {"account": "client:1:wallet:USD", "currency": "USD", "debit": 100}      (or "credit")
-- with whole minor units; app/ledger/posting.py makes them.
--
-- `post` writes one transaction and is tuned for that; `post_many` writes many at once, set by set. Both keep the same
-- rules, and the tests run every rule through both.
--
-- The functions run with their owner's rights and a fixed search path. Sequential scans are switched off inside them,
-- because a plan made while a table is small stays with the session. For the same reason accounts are looked up one by
-- one (OFFSET 0 keeps the planner from joining): joined, each posting read all accounts and most of the speed was gone.

-- What makes two requests the same: what happened, which transaction it reverses, and which account moves by how much.
-- Moment, actor and metadata may differ between a request and its repetition.
CREATE OR REPLACE FUNCTION ledger.fingerprint(p_kind text, p_reverses uuid, p_legs jsonb) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN (
        SELECT sha256(convert_to(
                   concat_ws(E'\n', p_kind, coalesce(p_reverses::text, '-'),
                       string_agg(concat_ws(' ', l.account, l.currency, coalesce(l.debit, 0), coalesce(l.credit, 0)),
                                  E'\n' ORDER BY l.account COLLATE "C", l.debit, l.credit)), 'UTF8'))
          FROM jsonb_to_recordset(p_legs) AS l(account text, currency text, debit bigint, credit bigint));
END $$;

-- Say why an account could not be used. Always raises.
CREATE OR REPLACE FUNCTION ledger.refuse_account(p_code text, p_currency text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_currency text;
BEGIN
    SELECT a.currency INTO v_currency FROM ledger.account a WHERE a.code = p_code;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no account %', p_code USING ERRCODE = 'LG005';
    ELSIF v_currency IS DISTINCT FROM p_currency THEN
        RAISE EXCEPTION 'account % is not in %', p_code, p_currency USING ERRCODE = 'LG008';
    END IF;
    RAISE EXCEPTION 'account % is closed', p_code USING ERRCODE = 'LG004';
END $$;

-- Post one transaction. Returns its id; when the same request was posted before, the id of that time, and nothing moves.
CREATE OR REPLACE FUNCTION ledger.post(
    p_key text, p_kind text, p_effective_at timestamptz, p_actor text, p_legs jsonb,
    p_metadata jsonb DEFAULT '{}', p_reverses uuid DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v_hash bytea := ledger.fingerprint(p_kind, p_reverses, p_legs);
    v_known bytea;
    v_id uuid;
    v_leg record;
    v_account record;
BEGIN
    IF jsonb_array_length(p_legs) > 200 THEN
        RAISE EXCEPTION 'a transaction has 200 legs at most' USING ERRCODE = 'LG010';
    END IF;

    -- The header. A twin that is being posted by somebody else is waited for here.
    INSERT INTO ledger.txn (idempotency_key, request_hash, kind, effective_at, actor, reverses, metadata)
    VALUES (p_key, v_hash, p_kind, p_effective_at, p_actor, p_reverses, p_metadata)
        ON CONFLICT (idempotency_key) DO NOTHING
    RETURNING id INTO v_id;
    IF v_id IS NULL THEN
        SELECT t.id, t.request_hash INTO v_id, v_known FROM ledger.txn t WHERE t.idempotency_key = p_key;
        IF v_known IS DISTINCT FROM v_hash THEN
            RAISE EXCEPTION 'key % was used for another request', p_key USING ERRCODE = 'LG002';
        END IF;
        RETURN v_id;
    END IF;

    -- Reading this table also makes ledger.close_period wait until this transaction has ended.
    IF EXISTS (SELECT FROM ledger.period_close c WHERE c.closed_through > p_effective_at) THEN
        RAISE EXCEPTION 'the period is closed' USING ERRCODE = 'LG007';
    END IF;

    -- The accounts in id order, against deadlocks: the update takes the row's lock and is judged by sufficient_funds.
    FOR v_leg IN
        SELECT l.account AS code, l.currency, coalesce(l.debit, 0) AS debit, coalesce(l.credit, 0) AS credit, a.id
          FROM jsonb_to_recordset(p_legs) AS l(account text, currency text, debit bigint, credit bigint)
          LEFT JOIN LATERAL (SELECT a.id FROM ledger.account a WHERE a.code = l.account OFFSET 0) AS a ON true
         ORDER BY a.id
    LOOP
        UPDATE ledger.account a
           SET debits = a.debits + v_leg.debit, credits = a.credits + v_leg.credit, version = a.version + 1
         WHERE a.id = v_leg.id AND a.currency = v_leg.currency AND a.closed_at IS NULL
        RETURNING a.version, a.debits, a.credits INTO v_account;
        IF NOT FOUND THEN
            PERFORM ledger.refuse_account(v_leg.code, v_leg.currency);
        END IF;
        INSERT INTO ledger.entry (txn_id, account_id, currency, effective_at, debit, credit,
                                  account_version, debits_after, credits_after)
        VALUES (v_id, v_leg.id, v_leg.currency, p_effective_at, v_leg.debit, v_leg.credit,
                v_account.version, v_account.debits, v_account.credits);
    END LOOP;
    RETURN v_id;
END $$;

-- Post several transactions at once, all or none. Takes a JSON array of objects with key, kind, effective_at, actor,
-- legs, metadata and reverses; returns the ids in the order given, of earlier times where the same request was posted
-- before. Funds are judged on what all of them do together.
CREATE OR REPLACE FUNCTION ledger.post_many(p_postings jsonb) RETURNS uuid[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v_new uuid[];          -- per posting: the id it gets if it is new
    v_ids uuid[];          -- per posting: the id it has
    v_inserted bigint;
    v_known record;
    v_leg record;          -- per leg, parallel arrays
    v_total record;
    v_before record;
    v_accounts bigint[];   -- per account touched, parallel arrays: its counters before
    v_debits bigint[];
    v_credits bigint[];
    v_versions bigint[];
BEGIN
    IF EXISTS (SELECT FROM jsonb_array_elements(p_postings) AS p(document) WHERE jsonb_array_length(p.document -> 'legs') > 200) THEN
        RAISE EXCEPTION 'a transaction has 200 legs at most' USING ERRCODE = 'LG010';
    END IF;

    -- 1. The headers, in key order, against deadlocks between twins.
    v_new := ARRAY(SELECT uuidv7() FROM generate_series(1, jsonb_array_length(p_postings)));
    INSERT INTO ledger.txn (id, idempotency_key, request_hash, kind, effective_at, actor, reverses, metadata)
    SELECT v_new[p.posting], d.key, ledger.fingerprint(d.kind, d.reverses, d.legs), d.kind, d.effective_at, d.actor,
           d.reverses, coalesce(d.metadata, '{}')
      FROM jsonb_array_elements(p_postings) WITH ORDINALITY AS p(document, posting)
     CROSS JOIN LATERAL jsonb_to_record(p.document)
                AS d(key text, kind text, effective_at timestamptz, actor text, legs jsonb, metadata jsonb, reverses uuid)
     ORDER BY d.key
        ON CONFLICT (idempotency_key) DO NOTHING;
    GET DIAGNOSTICS v_inserted = ROW_COUNT;

    -- 2. Keys that were there already, or stand twice in the list: the same request, or an error.
    v_ids := v_new;
    IF v_inserted < cardinality(v_new) THEN
        FOR v_known IN
            SELECT p.posting, d.key, t.id, t.request_hash = ledger.fingerprint(d.kind, d.reverses, d.legs) AS same
              FROM jsonb_array_elements(p_postings) WITH ORDINALITY AS p(document, posting)
             CROSS JOIN LATERAL jsonb_to_record(p.document) AS d(key text, kind text, legs jsonb, reverses uuid)
             CROSS JOIN LATERAL (SELECT t.id, t.request_hash FROM ledger.txn t WHERE t.idempotency_key = d.key OFFSET 0) AS t
             WHERE t.id <> v_new[p.posting]
        LOOP
            IF NOT v_known.same THEN
                RAISE EXCEPTION 'key % was used for another request', v_known.key USING ERRCODE = 'LG002';
            END IF;
            v_ids[v_known.posting] := v_known.id;
        END LOOP;
    END IF;
    IF v_inserted = 0 THEN
        RETURN v_ids;
    END IF;
    IF EXISTS (
        SELECT FROM ledger.txn t JOIN ledger.period_close c ON c.closed_through > t.effective_at WHERE t.id = ANY (v_new)
    ) THEN
        RAISE EXCEPTION 'the period is closed' USING ERRCODE = 'LG007';
    END IF;

    -- 3. The legs of the new ones.
    SELECT array_agg(l.posting) AS postings, array_agg(l.account) AS codes, array_agg(a.id) AS accounts,
           array_agg(l.currency) AS currencies, array_agg(l.debit) AS debits, array_agg(l.credit) AS credits
      INTO v_leg
      FROM (SELECT p.posting, l.account, l.currency, coalesce(l.debit, 0) AS debit, coalesce(l.credit, 0) AS credit
              FROM jsonb_array_elements(p_postings) WITH ORDINALITY AS p(document, posting)
             CROSS JOIN LATERAL jsonb_to_recordset(p.document -> 'legs')
                        AS l(account text, currency text, debit bigint, credit bigint)
             WHERE v_ids[p.posting] = v_new[p.posting]) AS l
      LEFT JOIN LATERAL (SELECT a.id FROM ledger.account a WHERE a.code = l.account OFFSET 0) AS a ON true;

    -- 4. The accounts, once each, in id order.
    FOR v_total IN
        SELECT l.account, l.code, l.currency, sum(l.debit)::bigint AS debit, sum(l.credit)::bigint AS credit, count(*) AS legs
          FROM unnest(v_leg.accounts, v_leg.codes, v_leg.currencies, v_leg.debits, v_leg.credits)
               AS l(account, code, currency, debit, credit)
         GROUP BY l.account, l.code, l.currency ORDER BY l.account
    LOOP
        -- The counters before are computed back from those after: RETURNING old.* is stale when the row was waited for.
        UPDATE ledger.account a
           SET debits = a.debits + v_total.debit, credits = a.credits + v_total.credit, version = a.version + v_total.legs
         WHERE a.id = v_total.account AND a.currency = v_total.currency AND a.closed_at IS NULL
        RETURNING a.debits - v_total.debit AS debits, a.credits - v_total.credit AS credits, a.version - v_total.legs AS version
             INTO v_before;
        IF NOT FOUND THEN
            PERFORM ledger.refuse_account(v_total.code, v_total.currency);
        END IF;
        v_accounts := v_accounts || v_total.account;
        v_debits := v_debits || v_before.debits;
        v_credits := v_credits || v_before.credits;
        v_versions := v_versions || v_before.version;
    END LOOP;

    -- 5. The entries, each with its account's counters as they stand after it.
    INSERT INTO ledger.entry (txn_id, account_id, currency, effective_at, debit, credit,
                              account_version, debits_after, credits_after)
    SELECT v_ids[l.posting], l.account, l.currency,
           (p_postings -> (l.posting - 1)::int ->> 'effective_at')::timestamptz, l.debit, l.credit,
           b.version + row_number() OVER so_far, b.debits + sum(l.debit) OVER so_far, b.credits + sum(l.credit) OVER so_far
      FROM unnest(v_leg.postings, v_leg.accounts, v_leg.currencies, v_leg.debits, v_leg.credits)
           AS l(posting, account, currency, debit, credit)
      JOIN unnest(v_accounts, v_debits, v_credits, v_versions) AS b(account, debits, credits, version) USING (account)
    WINDOW so_far AS (PARTITION BY l.account ORDER BY l.posting ROWS UNBOUNDED PRECEDING);
    RETURN v_ids;
END $$;
