-- Posting: the only way by which money moves. Legs come as arrays of equal length (account code, currency, debit, credit in
-- whole minor units, one side zero), ascending by account code; app/ledger/posting.py makes them.
--
-- `post` writes one transaction and is tuned for that; `post_many` writes many at once, set by set. Both keep the same
-- rules, and the tests run every rule through both. Accounts are locked in the order of their codes (collation C), here and
-- in every other function: that order is what keeps two postings from waiting for each other.
--
-- The functions run with their owner's rights and a fixed search path. Sequential scans are switched off and plans are
-- generic inside them, because a plan made while a table is small stays with the session, and a plan made for each array
-- costs more than the posting. Where an account is looked up for a set, OFFSET 0 keeps the planner from joining: joined,
-- each posting read all accounts.

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

-- Refuse a request under a key that was used before, unless it is the same: the same kind, reversed transaction and legs.
-- Moment, actor and metadata may differ between a request and its repetition. What was written is itself the fingerprint.
CREATE OR REPLACE FUNCTION ledger.refuse_other_request(
    p_txn uuid, p_kind text, p_reverses uuid, p_accounts text[], p_currencies text[], p_debits bigint[], p_credits bigint[]
) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM ledger.txn t
                    WHERE t.id = p_txn AND t.kind = p_kind AND t.reverses IS NOT DISTINCT FROM p_reverses)
       OR EXISTS (
        SELECT FROM (SELECT a.code, e.currency, e.debit, e.credit
                       FROM ledger.entry e JOIN ledger.account a ON a.id = e.account_id WHERE e.txn_id = p_txn) AS written
          FULL JOIN unnest(p_accounts, p_currencies, p_debits, p_credits) AS asked(code, currency, debit, credit)
              USING (code, currency, debit, credit)
         WHERE written IS NULL OR asked IS NULL
    ) THEN
        RAISE EXCEPTION 'key of transaction % was used for another request', p_txn USING ERRCODE = 'LG002';
    END IF;
END $$;

-- Post one transaction. Returns its id; when the same request was posted before, the id of that time, and nothing moves.
CREATE OR REPLACE FUNCTION ledger.post(
    p_key text, p_kind text, p_effective_at timestamptz, p_actor text,
    p_accounts text[], p_currencies text[], p_debits bigint[], p_credits bigint[],
    p_metadata jsonb DEFAULT '{}', p_reverses uuid DEFAULT NULL
) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v_legs integer := cardinality(p_accounts);
    v_id uuid;
    v_account record;
    v_setting text;
BEGIN
    IF v_legs > 200 THEN
        RAISE EXCEPTION 'a transaction has 200 legs at most' USING ERRCODE = 'LG010';
    ELSIF length(p_key) NOT BETWEEN 1 AND 200 THEN
        RAISE EXCEPTION 'a key has 1 to 200 characters' USING ERRCODE = 'LG001';
    ELSIF p_effective_at NOT BETWEEN '1970-01-01 00:00+00' AND now() + interval '1 day' THEN
        RAISE EXCEPTION 'no movement is effective at %', p_effective_at USING ERRCODE = 'LG016';
    END IF;

    -- Reversals of one transaction come one after the other. Of twins at once the slower would otherwise meet the unique index
    -- on `reverses` before that on its own key, and be refused as another's instead of getting the same answer.
    IF p_reverses IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock(hashtextextended('reversal:' || p_reverses, 0));
    END IF;

    -- The header. A twin that is being posted by somebody else is waited for here. Reading the closed periods also makes
    -- ledger.close_period wait until this transaction has ended.
    INSERT INTO ledger.txn (idempotency_key, kind, effective_at, actor, reverses, metadata)
    SELECT p_key, p_kind, p_effective_at, p_actor, p_reverses, p_metadata
     WHERE NOT EXISTS (SELECT FROM ledger.period_close c WHERE c.closed_through > p_effective_at)
        ON CONFLICT (idempotency_key) DO NOTHING
    RETURNING id INTO v_id;
    IF v_id IS NULL THEN
        SELECT t.id INTO v_id FROM ledger.txn t WHERE t.idempotency_key = p_key;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'the period is closed' USING ERRCODE = 'LG007';
        END IF;
        PERFORM ledger.refuse_other_request(v_id, p_kind, p_reverses, p_accounts, p_currencies, p_debits, p_credits);
        RETURN v_id;
    END IF;

    -- The update takes the account's lock and is judged by CHECK sufficient_funds.
    v_setting := set_config('ledger.posting', 'at work', true);
    FOR i IN 1 .. v_legs LOOP
        IF p_accounts[i] <= p_accounts[i - 1] COLLATE "C" THEN
            RAISE EXCEPTION 'legs are not in the order of their accounts, or name one twice' USING ERRCODE = 'LG001';
        ELSIF (p_debits[i] > 0) = (p_credits[i] > 0) OR p_debits[i] < 0 OR p_credits[i] < 0 THEN
            RAISE EXCEPTION 'a leg is a debit or a credit, above zero' USING ERRCODE = 'LG001';
        END IF;
        UPDATE ledger.account a
           SET debits = a.debits + p_debits[i], credits = a.credits + p_credits[i], version = a.version + 1,
               available = a.available + (p_credits[i] - p_debits[i]) * a.side,
               effective_through = greatest(a.effective_through, p_effective_at)
         WHERE a.code = p_accounts[i] AND a.currency = p_currencies[i] AND a.closed_at IS NULL
        RETURNING a.id, a.version, a.debits, a.credits, a.effective_through INTO v_account;
        IF NOT FOUND THEN
            PERFORM ledger.refuse_account(p_accounts[i], p_currencies[i]);
        END IF;
        INSERT INTO ledger.entry (txn_id, account_id, currency, effective_at, debit, credit,
                                  account_version, debits_after, credits_after, lateness)
        VALUES (v_id, v_account.id, p_currencies[i], p_effective_at, p_debits[i], p_credits[i],
                v_account.version, v_account.debits, v_account.credits,
                CASE WHEN p_effective_at >= v_account.effective_through THEN 0
                     WHEN p_effective_at >= v_account.effective_through - interval '5 minutes' THEN 1 ELSE 2 END);
    END LOOP;
    v_setting := set_config('ledger.posting', '', true);
    RETURN v_id;
END $$;

-- Move the counters of accounts that the caller has locked, one array element per account. One statement for all of them:
-- 200 single ones took a third of post_many. Only nested loops, so that it never reads accounts it does not move.
CREATE OR REPLACE FUNCTION ledger.move_counters(
    p_accounts text[], p_debits bigint[], p_credits bigint[], p_legs bigint[], p_effective_at timestamptz[]
) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    UPDATE ledger.account a
       SET debits = a.debits + t.debit, credits = a.credits + t.credit, version = a.version + t.legs,
           available = a.available + (t.credit - t.debit) * a.side,
           effective_through = greatest(a.effective_through, t.effective_at)
      FROM unnest(p_accounts, p_debits, p_credits, p_legs, p_effective_at) AS t(account, debit, credit, legs, effective_at)
     WHERE a.code = t.account;
END $$;

-- Post several transactions at once, all or none. One array element per transaction, and one per leg of any of them with
-- the number of its transaction (from 1); a transaction's legs ascend by account code. Returns the ids in the order given,
-- of earlier times where the same request was posted before. Funds are judged on what all of them do together.
CREATE OR REPLACE FUNCTION ledger.post_many(
    p_keys text[], p_kinds text[], p_effective_at timestamptz[], p_actors text[], p_metadata jsonb[], p_reverses uuid[],
    p_postings integer[], p_accounts text[], p_currencies text[], p_debits bigint[], p_credits bigint[]
) RETURNS uuid[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v_new uuid[];          -- per transaction: the id it gets if it is new
    v_ids uuid[];          -- per transaction: the id it has
    v_inserted bigint;
    v_known record;
    v_locked record;       -- per account, parallel arrays: its counters before
    v_unusable record;
    v_setting text;
BEGIN
    IF EXISTS (SELECT FROM unnest(p_postings) AS l(posting) GROUP BY l.posting HAVING count(*) > 200) THEN
        RAISE EXCEPTION 'a transaction has 200 legs at most' USING ERRCODE = 'LG010';
    ELSIF EXISTS (SELECT FROM unnest(p_keys) AS k(key) WHERE length(k.key) NOT BETWEEN 1 AND 200) THEN
        RAISE EXCEPTION 'a key has 1 to 200 characters' USING ERRCODE = 'LG001';
    ELSIF EXISTS (SELECT FROM unnest(p_debits, p_credits) AS l(debit, credit)
                   WHERE (l.debit > 0) = (l.credit > 0) OR l.debit < 0 OR l.credit < 0) THEN
        RAISE EXCEPTION 'a leg is a debit or a credit, above zero' USING ERRCODE = 'LG001';
    ELSIF EXISTS (SELECT FROM unnest(p_effective_at) AS m(moment)
                   WHERE m.moment NOT BETWEEN '1970-01-01 00:00+00' AND now() + interval '1 day') THEN
        RAISE EXCEPTION 'a movement is effective at a moment that cannot be' USING ERRCODE = 'LG016';
    END IF;

    -- Reversals of one transaction come one after the other, as in `post`.
    IF array_remove(p_reverses, NULL) <> '{}' THEN
        PERFORM pg_advisory_xact_lock(hashtextextended('reversal:' || r.id, 0))
           FROM (SELECT DISTINCT id FROM unnest(p_reverses) AS id WHERE id IS NOT NULL ORDER BY id) AS r;
    END IF;

    -- 1. The headers, in key order, against deadlocks between twins.
    v_new := ARRAY(SELECT uuidv7() FROM generate_series(1, cardinality(p_keys)));
    INSERT INTO ledger.txn (id, idempotency_key, kind, effective_at, actor, reverses, metadata)
    SELECT h.id, h.key, h.kind, h.effective_at, h.actor, h.reverses, h.metadata
      FROM unnest(v_new, p_keys, p_kinds, p_effective_at, p_actors, p_reverses, p_metadata)
           AS h(id, key, kind, effective_at, actor, reverses, metadata)
     ORDER BY h.key
        ON CONFLICT (idempotency_key) DO NOTHING;
    GET DIAGNOSTICS v_inserted = ROW_COUNT;

    -- 2. Keys that were there already, or stand twice in the list: the same request, or an error. Those that stand twice
    -- have no entries yet and are compared with each other.
    v_ids := v_new;
    IF v_inserted < cardinality(v_new) THEN
        FOR v_known IN
            SELECT h.posting, t.id, array_position(v_new, t.id) AS twin
              FROM unnest(p_keys) WITH ORDINALITY AS h(key, posting)
             CROSS JOIN LATERAL (SELECT t.id FROM ledger.txn t WHERE t.idempotency_key = h.key OFFSET 0) AS t
             WHERE t.id <> v_new[h.posting]
        LOOP
            v_ids[v_known.posting] := v_known.id;
            IF v_known.twin IS NULL THEN
                PERFORM ledger.refuse_other_request(
                            v_known.id, p_kinds[v_known.posting], p_reverses[v_known.posting],
                            array_agg(l.account), array_agg(l.currency), array_agg(l.debit), array_agg(l.credit))
                   FROM unnest(p_postings, p_accounts, p_currencies, p_debits, p_credits)
                        AS l(posting, account, currency, debit, credit)
                  WHERE l.posting = v_known.posting;
            ELSIF (p_kinds[v_known.twin], p_reverses[v_known.twin])
                  IS DISTINCT FROM (p_kinds[v_known.posting], p_reverses[v_known.posting])
               OR (SELECT array_agg(l ORDER BY l) FILTER (WHERE posting = v_known.twin)
                          IS DISTINCT FROM array_agg(l ORDER BY l) FILTER (WHERE posting = v_known.posting)
                     FROM (SELECT posting, (account, currency, debit, credit)::text AS l
                             FROM unnest(p_postings, p_accounts, p_currencies, p_debits, p_credits)
                                  AS l(posting, account, currency, debit, credit)) AS legs) THEN
                RAISE EXCEPTION 'key % stands twice, for different requests', p_keys[v_known.posting] USING ERRCODE = 'LG002';
            END IF;
        END LOOP;
    END IF;
    IF v_inserted = 0 THEN
        RETURN v_ids;
    END IF;
    IF EXISTS (
        SELECT FROM unnest(v_ids, v_new, p_effective_at) AS h(id, new, effective_at)
          JOIN ledger.period_close c ON c.closed_through > h.effective_at WHERE h.id = h.new
    ) THEN
        RAISE EXCEPTION 'the period is closed' USING ERRCODE = 'LG007';
    END IF;

    -- 3. The accounts, locked in the order of their codes, with their counters before.
    SELECT array_agg(a.id) AS ids, array_agg(a.code) AS codes, array_agg(a.currency) AS currencies,
           array_agg(a.debits) AS debits, array_agg(a.credits) AS credits, array_agg(a.version) AS versions,
           array_agg(a.effective_through) AS effective_through
      INTO v_locked
      FROM (SELECT a.* FROM ledger.account a
             WHERE a.code = ANY (p_accounts) AND a.closed_at IS NULL ORDER BY a.code COLLATE "C" FOR NO KEY UPDATE) AS a;
    SELECT l.account, l.currency INTO v_unusable
      FROM unnest(p_postings, p_accounts, p_currencies) AS l(posting, account, currency)
      LEFT JOIN unnest(v_locked.codes, v_locked.currencies) AS a(account, currency) USING (account, currency)
     WHERE a.account IS NULL AND v_ids[l.posting] = v_new[l.posting] ORDER BY l.account LIMIT 1;
    IF FOUND THEN
        PERFORM ledger.refuse_account(v_unusable.account, v_unusable.currency);
    END IF;

    -- 4. The entries, each with its account's counters as they stand after it.
    v_setting := set_config('ledger.posting', 'at work', true);
    INSERT INTO ledger.entry (txn_id, account_id, currency, effective_at, debit, credit,
                              account_version, debits_after, credits_after, lateness)
    SELECT v_new[l.posting], l.id, l.currency, l.effective_at, l.debit, l.credit, l.version, l.debits, l.credits,
           CASE WHEN l.effective_at >= l.through THEN 0 WHEN l.effective_at >= l.through - interval '5 minutes' THEN 1 ELSE 2 END
      FROM (SELECT l.posting, a.id, l.currency, p_effective_at[l.posting] AS effective_at, l.debit, l.credit,
                   a.version + row_number() OVER so_far AS version,
                   a.debits + sum(l.debit) OVER so_far AS debits, a.credits + sum(l.credit) OVER so_far AS credits,
                   greatest(a.effective_through, max(p_effective_at[l.posting]) OVER so_far) AS through
              FROM unnest(p_postings, p_accounts, p_currencies, p_debits, p_credits)
                   AS l(posting, account, currency, debit, credit)
              JOIN unnest(v_locked.ids, v_locked.codes, v_locked.debits, v_locked.credits, v_locked.versions,
                          v_locked.effective_through)
                   AS a(id, account, debits, credits, version, effective_through) USING (account)
             WHERE v_ids[l.posting] = v_new[l.posting]
            WINDOW so_far AS (PARTITION BY a.id ORDER BY l.posting ROWS UNBOUNDED PRECEDING)) AS l;
    v_setting := set_config('ledger.posting', '', true);

    -- 5. The accounts' counters, judged by CHECK sufficient_funds.
    PERFORM ledger.move_counters(
                array_agg(t.account), array_agg(t.debit), array_agg(t.credit), array_agg(t.legs), array_agg(t.effective_at))
       FROM (SELECT l.account, sum(l.debit)::bigint AS debit, sum(l.credit)::bigint AS credit, count(*) AS legs,
                    max(p_effective_at[l.posting]) AS effective_at
               FROM unnest(p_postings, p_accounts, p_debits, p_credits) AS l(posting, account, debit, credit)
              WHERE v_ids[l.posting] = v_new[l.posting] GROUP BY l.account) AS t;
    RETURN v_ids;
END $$;
