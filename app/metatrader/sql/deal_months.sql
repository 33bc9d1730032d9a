-- The months of deals. Deals lie in one partition per month of their first revision; rows of months that have no partition lie
-- in the default partition, until the nightly tidying. Repeatable: app/migrate.py runs this file after migrations.

-- Make the month's partition, if it is not there. Returns whether it is there now. It is not when the default partition has rows
-- of the month already, or when it is being read so long that waiting would hold up the booking and everybody behind it.
-- With its owner's rights, because the application's role makes no tables.
CREATE OR REPLACE FUNCTION deal_month(p_moment timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '200ms' AS $$
DECLARE
    v_from timestamptz := date_trunc('month', p_moment);
    v_to timestamptz := date_trunc('month', p_moment) + interval '1 month';
    v_name text := to_char(p_moment, '"deal_"YYYY"_"MM');
BEGIN
    IF to_regclass(format('public.%I', v_name)) IS NOT NULL THEN
        RETURN true;
    ELSIF p_moment NOT BETWEEN '2000-01-01 00:00+00' AND now() + interval '2 months' THEN
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock(7201, 0);
    IF to_regclass(format('public.%I', v_name)) IS NOT NULL THEN
        RETURN true;
    ELSIF EXISTS (SELECT FROM public.deal_other d WHERE d.filed_at >= v_from AND d.filed_at < v_to) THEN
        RETURN false;
    END IF;
    -- Attached and not created as a partition: that would lock out everybody who reads deals.
    EXECUTE format('CREATE TABLE public.%I (LIKE public.deal INCLUDING DEFAULTS INCLUDING COMMENTS INCLUDING STORAGE)', v_name);
    EXECUTE format('ALTER TABLE public.deal ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)', v_name, v_from, v_to);
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END $$;

-- Move the rows of months that can have a partition out of the default partition. Returns how many months it moved, NULL when
-- deals are read or booked without a pause. Nobody can book into the default partition meanwhile; reading goes on until the
-- very end.
CREATE OR REPLACE FUNCTION tidy_deal_months() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = '5s' AS $$
DECLARE
    v_from timestamptz;
    v_name text;
    v_months integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(7201, 0);
    LOCK TABLE public.deal_other IN SHARE ROW EXCLUSIVE MODE;
    FOR v_from IN
        SELECT DISTINCT date_trunc('month', d.filed_at) FROM public.deal_other d
        WHERE d.filed_at BETWEEN '2000-01-01 00:00+00' AND now() + interval '2 months'
    LOOP
        v_name := to_char(v_from, '"deal_"YYYY"_"MM');
        EXECUTE format('CREATE TABLE public.%I (LIKE public.deal INCLUDING DEFAULTS INCLUDING COMMENTS INCLUDING STORAGE)', v_name);
        EXECUTE format(
            'WITH moved AS (DELETE FROM public.deal_other WHERE filed_at >= %L AND filed_at < %L RETURNING *)'
            ' INSERT INTO public.%I SELECT * FROM moved', v_from, v_from + interval '1 month', v_name);
        EXECUTE format(
            'ALTER TABLE public.deal ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
            v_name, v_from, v_from + interval '1 month');
        v_months := v_months + 1;
    END LOOP;
    RETURN v_months;
EXCEPTION WHEN lock_not_available THEN
    RETURN NULL;
END $$;

REVOKE ALL ON FUNCTION deal_month(timestamptz), tidy_deal_months() FROM PUBLIC;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'lotwise_app') THEN
        GRANT EXECUTE ON FUNCTION deal_month(timestamptz), tidy_deal_months() TO lotwise_app;
        -- What a server said is never removed, and what it said of a deal never rewritten: an edit is a row of its own.
        REVOKE UPDATE, DELETE, TRUNCATE ON deal, deal_head, mt_order FROM lotwise_app;
        GRANT UPDATE (is_current, trading_account_id, ledger_txn_id) ON deal TO lotwise_app;
        GRANT UPDATE (revision, fingerprint, seen_at) ON deal_head TO lotwise_app;
        GRANT UPDATE ON mt_order TO lotwise_app;
    END IF;
    PERFORM deal_month(now()), deal_month(now() + interval '1 month');
END $$;

-- The months are reached through `deal` only.
DO $$
DECLARE
    v_month regclass;
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'lotwise_app') THEN
        FOR v_month IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'public.deal'::regclass LOOP
            EXECUTE format('REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON %s FROM lotwise_app', v_month);
        END LOOP;
    END IF;
END $$;
