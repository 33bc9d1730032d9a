-- Books of any size: deposits from one provider into 10,000 wallets over a year, one entry in ten a few seconds behind the
-- one before it, one in fifty thousand days behind. As the superuser, past the guards; the proofs then hold on them.
-- :transactions is put in by the benchmark; a transaction has two entries.
SET session_replication_role = replica;
SET work_mem = '512MB';
SET maintenance_work_mem = '512MB';

INSERT INTO ledger.currency VALUES ('USD', 2);
INSERT INTO client (id, email, password_hash, first_name, last_name, country, terms_version, terms_accepted_at)
SELECT n, 'client-' || n || '@bench.example', 'x', 'A', 'B', 'DE', '1', now() FROM generate_series(1, 10000) AS n;
INSERT INTO ledger.account (code, kind, currency, may_go_negative, client_id, side)
SELECT 'client:' || n || ':wallet:USD', 'liability', 'USD', false, n, 1 FROM generate_series(1, 10000) AS n
 UNION ALL
SELECT 'psp:bench:clearing:USD', 'asset', 'USD', true, NULL, -1;

-- In batches of ten thousand, as database transactions of their own: the seals cover whole ones.
DO $$
BEGIN
    FOR v_first IN 1 .. :transactions BY 10000 LOOP
        INSERT INTO ledger.txn (idempotency_key, kind, effective_at, actor)
        SELECT 'deposit:bench:' || n, 'deposit',
               timestamptz '2026-01-01 00:00+00' + n * (interval '360 days' / :transactions)
                   - CASE WHEN n % 50000 = 0 THEN interval '3 days' WHEN n % 10 = 0 THEN interval '20 seconds'
                          ELSE interval '0' END,
               'system:bench'
          FROM generate_series(v_first, least(v_first + 9999, :transactions)) AS n;
        COMMIT;
    END LOOP;
END $$;

INSERT INTO ledger.entry (account_id, account_version, txn_id, effective_at, debit, credit, debits_after, credits_after,
                          currency, lateness)
SELECT account_id, row_number() OVER so_far, id, effective_at, debit, credit, sum(debit) OVER so_far, sum(credit) OVER so_far,
       'USD', CASE WHEN effective_at >= max(effective_at) OVER so_far THEN 0
                   WHEN effective_at >= max(effective_at) OVER so_far - interval '5 minutes' THEN 1 ELSE 2 END
  FROM (SELECT t.seq, t.id, t.effective_at, a.id AS account_id, 1 + t.seq % 1000 AS debit, 0 AS credit
          FROM ledger.txn t, ledger.account a WHERE a.code = 'psp:bench:clearing:USD'
         UNION ALL
        SELECT t.seq, t.id, t.effective_at, a.id, 0, 1 + t.seq % 1000
          FROM ledger.txn t JOIN ledger.account a ON a.client_id = 1 + t.seq * 7919 % 10000) AS legs
WINDOW so_far AS (PARTITION BY account_id ORDER BY seq ROWS UNBOUNDED PRECEDING);

UPDATE ledger.account a
   SET debits = e.debits, credits = e.credits, version = e.version, effective_through = e.latest,
       available = CASE WHEN NOT a.may_go_negative THEN (e.credits - e.debits) * a.side END
  FROM (SELECT account_id, sum(debit)::bigint AS debits, sum(credit)::bigint AS credits, count(*) AS version,
               max(effective_at) AS latest
          FROM ledger.entry GROUP BY account_id) AS e
 WHERE e.account_id = a.id;
UPDATE ledger.account SET available = 0 WHERE available IS NULL AND NOT may_go_negative;

INSERT INTO deposit (public_id, client_id, connector, amount_minor, settled_minor, currency, state, idempotency_key,
                     settled_at, ledger_txn_id)
SELECT t.id, a.client_id, 'bench', e.credit, e.credit, 'USD', 'settled', t.seq, t.posted_at, t.id
  FROM ledger.txn t JOIN ledger.entry e ON e.txn_id = t.id JOIN ledger.account a ON a.id = e.account_id
 WHERE a.client_id IS NOT NULL;

RESET session_replication_role;
VACUUM ANALYZE;
