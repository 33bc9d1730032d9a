-- The months of deals. Deals lie in one partition per month of their first revision; rows of months that were never asked for
-- lie in the default partition. Repeatable: app/migrate.py runs this file after migrations.

-- Make the month's partition, if it is not there. Returns whether it is there now: a month that already has rows in the default
-- partition stays in it. With its owner's rights, because the application's role makes no tables.
CREATE OR REPLACE FUNCTION deal_month(p_moment timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
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
END $$;
REVOKE ALL ON FUNCTION deal_month(timestamptz) FROM PUBLIC;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'lotwise_app') THEN
        GRANT EXECUTE ON FUNCTION deal_month(timestamptz) TO lotwise_app;
    END IF;
    PERFORM deal_month(now()), deal_month(now() + interval '1 month');
END $$;
