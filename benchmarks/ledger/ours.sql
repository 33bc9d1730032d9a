-- The same accounts in our ledger, each with money in it, and short names for pgbench: its scripts take every colon for a
-- variable, so that account codes are put together here.
CREATE SCHEMA bench;
GRANT USAGE ON SCHEMA bench TO lotwise_app;

CREATE FUNCTION bench.wallet(p_number integer) RETURNS text
LANGUAGE sql IMMUTABLE AS $$ SELECT 'client:' || 10000 + p_number || ':wallet:USD' $$;

CREATE FUNCTION bench.clearing(p_shard integer) RETURNS text
LANGUAGE sql IMMUTABLE AS $$ SELECT 'psp:bench-' || p_shard || ':clearing:USD' $$;

INSERT INTO ledger.currency VALUES ('USD', 2);
INSERT INTO ledger.account (code, kind, currency) SELECT bench.wallet(n), 'liability', 'USD' FROM generate_series(1, 10000) AS n;
INSERT INTO ledger.account (code, kind, currency, may_go_negative)
SELECT bench.clearing(n), 'asset', 'USD', true FROM generate_series(0, 15) AS n;
VACUUM ANALYZE ledger.account;
SELECT ledger.post_many(
           array_agg('opening:' || n), array_agg('bench'::text), array_agg(now()), array_agg('system:bench'::text), array_agg('{}'::jsonb),
           array_agg(NULL::uuid), array_agg(n) || array_agg(n), array_agg(bench.clearing(0)) || array_agg(bench.wallet(n)),
           array_agg('USD'::text) || array_agg('USD'::text),
           array_agg(1000000000::bigint) || array_agg(0::bigint), array_agg(0::bigint) || array_agg(1000000000::bigint))
  FROM generate_series(1, 10000) AS n;
