-- Seals: hashes over what was posted, each over the one before, so that a change made past every guard shows. A copy of the
-- newest hash kept outside shows even a chain that was computed anew.
--
-- A transaction is sealed when all database transactions up to its own have ended, so that none can still arrive among those
-- that a seal covers. Database ids (txn.xact) begin anew where a dump is restored into another server, while sequences go on:
-- `after_seq` tells the transactions of the two times apart.

-- Of each transaction with a database id above the first and below the second, and a seq after the third and up to the last:
-- one hash over header and entries. Binary formats and lengths make it the same in every time zone, and different for
-- whatever differs. One statement without settings of its own, so that the planner sees through the function.
CREATE OR REPLACE FUNCTION ledger.digests(p_above bigint, p_below bigint, p_after_seq bigint, p_through_seq bigint)
RETURNS TABLE (xact bigint, seq bigint, entries bigint, digest bytea)
LANGUAGE sql STABLE AS $$
    SELECT t.xact::text::bigint, t.seq, count(e.txn_id),
           sha256(uuid_send(t.id) || int8send(t.seq) || timestamptz_send(t.effective_at) || timestamptz_send(t.posted_at)
               || coalesce(uuid_send(t.reverses), '\x')
               || convert_to(concat_ws(' ', t.reverses IS NULL, length(t.idempotency_key), length(t.kind), length(t.actor),
                                       t.idempotency_key, t.kind, t.actor, t.metadata), 'UTF8')
               || convert_to(coalesce(string_agg(concat_ws(' ', e.account_version, e.debit, e.credit, e.currency, a.kind,
                                                           length(a.code), a.code), E'\n' ORDER BY e.account_id), ''), 'UTF8'))
      FROM ledger.txn t
      LEFT JOIN ledger.entry e ON e.txn_id = t.id
      LEFT JOIN ledger.account a ON a.id = e.account_id
     WHERE t.xact::text::bigint > p_above AND t.xact::text::bigint < p_below AND t.seq > p_after_seq AND t.seq <= p_through_seq
     GROUP BY t.id
$$;

-- The hash of a seal: over that of the seal before ('' for the first one), what it covers, and the digests in order.
CREATE OR REPLACE FUNCTION ledger.seal_hash(
    p_previous bytea, p_through_xact bigint, p_through_seq bigint, p_after_seq bigint, p_txns bigint, p_entries bigint,
    p_content bytea
) RETURNS bytea
LANGUAGE sql IMMUTABLE AS $$
    SELECT sha256(p_previous || int8send(p_through_xact) || int8send(p_through_seq) || int8send(p_after_seq)
                  || int8send(p_txns) || int8send(p_entries) || p_content)
$$;

-- Seal everything that can be sealed, about `p_size` transactions a seal: what one database transaction wrote stays together.
-- Returns how many transactions that were. Two at once follow one another.
CREATE OR REPLACE FUNCTION ledger.seal(p_size integer DEFAULT 50000) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    c_all CONSTANT bigint := 9223372036854775807;
    v_last record;
    v_head bytea := '';
    v_given bigint;    -- the database ids that this server has given lie below this
    v_settled bigint;  -- and those that have ended, below this
    v_old bigint;      -- the highest seq from before the database ids began anew; null when they did not
    v_time record;
    v_seal record;
    v_total bigint := 0;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'sealing must see what was committed while it waited' USING ERRCODE = '25001';
    END IF;
    LOCK TABLE ledger.seal IN SHARE ROW EXCLUSIVE MODE;
    SELECT coalesce(max(s.through_xact::text::bigint), 0) AS xact, coalesce(max(s.through_seq), 0) AS seq,
           coalesce(max(s.after_seq), 0) AS after_seq, max(s.hash) AS hash INTO v_last
      FROM (SELECT * FROM ledger.seal ORDER BY id DESC LIMIT 1) AS s;
    v_head := coalesce(v_last.hash, '');

    -- Visible, and yet with an id that this server has not given: such transactions came with a dump, all of them at once.
    SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint, pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
           (SELECT max(t.seq) FROM ledger.txn t
             WHERE t.xact::text::bigint >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint
               AND t.seq > v_last.after_seq AND t.xact IS DISTINCT FROM pg_current_xact_id_if_assigned())
      INTO v_given, v_settled, v_old;
    IF v_last.xact >= v_given THEN
        v_old := greatest(v_old, v_last.seq);
    END IF;

    FOR v_time IN
        SELECT v_last.xact AS above, CASE WHEN v_old IS NULL THEN v_settled ELSE c_all END AS below,
               v_last.after_seq, coalesce(v_old, c_all) AS through_seq
         UNION ALL
        SELECT 0, v_settled, v_old, c_all WHERE v_old IS NOT NULL
    LOOP
        FOR v_seal IN
            SELECT max(c.xact) AS xact, max(c.seq) AS seq, count(*) AS txns, sum(c.entries)::bigint AS entries,
                   sha256(string_agg(c.digest, ''::bytea ORDER BY c.xact, c.seq)) AS content
              FROM (SELECT d.*, (rank() OVER (ORDER BY d.xact) - 1) / p_size AS part
                      FROM ledger.digests(v_time.above, v_time.below, v_time.after_seq, v_time.through_seq) AS d) AS c
             GROUP BY c.part ORDER BY c.part
        LOOP
            v_last.seq := greatest(v_last.seq, v_seal.seq);
            v_head := ledger.seal_hash(v_head, v_seal.xact, v_last.seq, v_time.after_seq, v_seal.txns, v_seal.entries,
                                       v_seal.content);
            INSERT INTO ledger.seal (through_xact, through_seq, after_seq, txns, entries, hash)
            VALUES (v_seal.xact::text::xid8, v_last.seq, v_time.after_seq, v_seal.txns, v_seal.entries, v_head);
            v_total := v_total + v_seal.txns;
        END LOOP;
    END LOOP;
    RETURN v_total;
END $$;
