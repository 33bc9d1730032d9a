-- What the application's role may do: read everything, open currencies and accounts (but not write their counters), and
-- call the functions. Nothing else. The role is lotwise_app unless the session says otherwise before running this file:
--     SET lotwise.app_role = 'another_role'
-- Where no such role exists nothing is granted, and only the owner can use the ledger.
DO $$
DECLARE
    v_role text := coalesce(nullif(current_setting('lotwise.app_role', true), ''), 'lotwise_app');
    v_function text;
BEGIN
    REVOKE ALL ON ALL FUNCTIONS IN SCHEMA ledger FROM PUBLIC;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = v_role) THEN
        RAISE WARNING 'role % does not exist: nothing in schema ledger was granted to it', v_role;
        RETURN;
    END IF;
    EXECUTE format('GRANT USAGE ON SCHEMA ledger TO %I', v_role);
    EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA ledger FROM %I', v_role);
    EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA ledger TO %I', v_role);
    EXECUTE format('GRANT INSERT (code, exponent) ON ledger.currency TO %I', v_role);
    EXECUTE format('GRANT INSERT (code, kind, currency, may_go_negative, client_id) ON ledger.account TO %I', v_role);
    FOREACH v_function IN ARRAY ARRAY[
        'post(text, text, timestamptz, text, text[], text[], bigint[], bigint[], jsonb, uuid)',
        'post_many(text[], text[], timestamptz[], text[], jsonb[], uuid[], integer[], text[], text[], bigint[], bigint[])',
        'place_hold(text, text, bigint, text, text, text, timestamptz)',
        'capture_hold(uuid, text, text, timestamptz, text, text[], text[], bigint[], bigint[], jsonb)',
        'resolve_hold(uuid, text, text)',
        'close_account(text)',
        'close_period(timestamptz, text)',
        'hold_up_postings()',
        'digests(bigint, bigint, bigint, bigint)',
        'seal_hash(bytea, bigint, bigint, bigint, bigint, bigint, bytea)',
        'seal(integer)',
        'counters_before(bigint, timestamptz)'
    ] LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION ledger.%s TO %I', v_function, v_role);
    END LOOP;
END $$;
