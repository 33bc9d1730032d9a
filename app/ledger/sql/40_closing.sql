-- Closing: an account that is empty, and a period that is over.

-- Close an account. Nothing can be posted to it afterwards. Closing a closed account changes nothing.
CREATE OR REPLACE FUNCTION ledger.close_account(p_code text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
    v_account ledger.account;
BEGIN
    SELECT a.* INTO v_account FROM ledger.account a WHERE a.code = p_code FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no account %', p_code USING ERRCODE = 'LG005';
    ELSIF v_account.balance <> 0 OR v_account.held <> 0 THEN
        RAISE EXCEPTION 'account % is not empty', p_code USING ERRCODE = 'LG015';
    END IF;
    UPDATE ledger.account a SET closed_at = now() WHERE a.id = v_account.id AND a.closed_at IS NULL;
END $$;

-- Refuse every later posting that is effective before this moment. Waits for the postings under way, which hold a lock
-- on the table because they have read it; without that one of them could still commit into the closed period.
CREATE OR REPLACE FUNCTION ledger.close_period(p_through timestamptz, p_actor text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    LOCK TABLE ledger.period_close IN ACCESS EXCLUSIVE MODE;
    INSERT INTO ledger.period_close (closed_through, closed_at, actor) VALUES (p_through, clock_timestamp(), p_actor)
        ON CONFLICT (closed_through) DO NOTHING;
END $$;

-- Let no posting begin until this transaction ends, and wait for those under way. A unit that posts and then closes takes
-- this lock first: taken after its own postings, it would wait for others that wait for their accounts.
CREATE OR REPLACE FUNCTION ledger.hold_up_postings() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    LOCK TABLE ledger.period_close IN ACCESS EXCLUSIVE MODE;
END $$;
