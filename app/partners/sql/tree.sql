-- The tree of introducing brokers: what no sequence of changes, at no moment in time, may bring about.
-- Repeatable: app/migrate.py runs this file after migrations.

-- Whether walking up from an IB, during a span of time, meets another; an IB meets itself.
CREATE OR REPLACE FUNCTION ib_stands_below(p_ib bigint, p_above bigint, p_span tstzrange) RETURNS boolean
LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    WITH RECURSIVE up (ib_id, span) AS (
        SELECT p_ib, p_span
        UNION
        SELECT p.parent_id, up.span * tstzrange(p.valid_from, p.valid_to)
        FROM up JOIN ib_parent p ON p.ib_id = up.ib_id AND tstzrange(p.valid_from, p.valid_to) && up.span
        WHERE up.ib_id <> p_above
    )
    SELECT EXISTS (SELECT FROM up WHERE up.ib_id = p_above)
$$;

CREATE OR REPLACE FUNCTION ib_parent_check() RETURNS trigger
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    v_span tstzrange := tstzrange(NEW.valid_from, NEW.valid_to);
BEGIN
    -- One change at a time: two that are each right could be a circle together.
    PERFORM pg_advisory_xact_lock(7202, 0);
    IF EXISTS (
        SELECT FROM ib_parent p
        WHERE p.ib_id = NEW.ib_id AND p.id <> NEW.id AND tstzrange(p.valid_from, p.valid_to) && v_span
    ) THEN
        RAISE 'an IB stands under two at once' USING ERRCODE = '23P01', CONSTRAINT = 'ib_parent_overlap';
    ELSIF ib_stands_below(NEW.parent_id, NEW.ib_id, v_span) THEN
        RAISE 'an IB stands below itself' USING ERRCODE = '23514', CONSTRAINT = 'ib_parent_circle';
    ELSIF EXISTS (
        WITH RECURSIVE up (ib_id, span) AS (
            SELECT NEW.parent_id, v_span
            UNION
            SELECT p.parent_id, up.span * tstzrange(p.valid_from, p.valid_to)
            FROM up JOIN ib_parent p ON p.ib_id = up.ib_id AND tstzrange(p.valid_from, p.valid_to) && up.span
        )
        SELECT FROM up
        JOIN introducing_broker ib ON ib.id = up.ib_id
        JOIN attribution a ON a.client_id = ib.client_id AND tstzrange(a.valid_from, a.valid_to) && up.span
        WHERE ib_stands_below(a.ib_id, up.ib_id, up.span * tstzrange(a.valid_from, a.valid_to))
    ) THEN
        RAISE 'a client belongs to its own downline' USING ERRCODE = '23514', CONSTRAINT = 'attribution_own_downline';
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION attribution_check() RETURNS trigger
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    -- Only who is an IB has a downline; everybody else registers without waiting.
    IF EXISTS (SELECT FROM introducing_broker WHERE client_id = NEW.client_id) THEN
        PERFORM pg_advisory_xact_lock(7202, 0);
        IF EXISTS (
            SELECT FROM introducing_broker ib
            WHERE ib.client_id = NEW.client_id
              AND ib_stands_below(NEW.ib_id, ib.id, tstzrange(NEW.valid_from, NEW.valid_to))
        ) THEN
            RAISE 'a client belongs to its own downline' USING ERRCODE = '23514', CONSTRAINT = 'attribution_own_downline';
        END IF;
    END IF;
    RETURN NULL;
END $$;

DROP TRIGGER IF EXISTS ib_parent_check ON ib_parent;
CREATE CONSTRAINT TRIGGER ib_parent_check AFTER INSERT OR UPDATE ON ib_parent
    FOR EACH ROW EXECUTE FUNCTION ib_parent_check();
DROP TRIGGER IF EXISTS attribution_check ON attribution;
CREATE CONSTRAINT TRIGGER attribution_check AFTER INSERT OR UPDATE ON attribution
    FOR EACH ROW EXECUTE FUNCTION attribution_check();

-- History is not rewritten: of a span only its end may be set, once. A move is the end of one span and the beginning of another.
-- What has not come yet is no history: a span that has not begun may go, and an end that has not come may be taken back.
CREATE OR REPLACE FUNCTION partner_span_guard() RETURNS trigger
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    v_at timestamptz := clock_timestamp();
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.valid_from > v_at THEN
            RETURN OLD;
        END IF;
        RAISE 'spans of % that have begun are never removed', TG_TABLE_NAME USING ERRCODE = 'LW001';
    ELSIF TG_OP = 'TRUNCATE' THEN
        RAISE 'spans of % are never removed', TG_TABLE_NAME USING ERRCODE = 'LW001';
    ELSIF to_jsonb(NEW) - 'valid_to' <> to_jsonb(OLD) - 'valid_to'
        OR (OLD.valid_to IS NULL) = (NEW.valid_to IS NULL)
        OR OLD.valid_to <= v_at
    THEN
        RAISE 'of a span of % only the end may be set, once, or taken back before it comes', TG_TABLE_NAME
            USING ERRCODE = 'LW001';
    END IF;
    RETURN NEW;
END $$;

CREATE OR REPLACE TRIGGER ib_parent_guard BEFORE UPDATE OR DELETE ON ib_parent
    FOR EACH ROW EXECUTE FUNCTION partner_span_guard();
CREATE OR REPLACE TRIGGER ib_parent_no_truncate BEFORE TRUNCATE ON ib_parent
    FOR EACH STATEMENT EXECUTE FUNCTION partner_span_guard();
CREATE OR REPLACE TRIGGER attribution_guard BEFORE UPDATE OR DELETE ON attribution
    FOR EACH ROW EXECUTE FUNCTION partner_span_guard();
CREATE OR REPLACE TRIGGER attribution_no_truncate BEFORE TRUNCATE ON attribution
    FOR EACH STATEMENT EXECUTE FUNCTION partner_span_guard();

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'lotwise_app') THEN
        REVOKE UPDATE, TRUNCATE ON ib_parent, attribution FROM lotwise_app;
        GRANT UPDATE (valid_to), DELETE ON ib_parent, attribution TO lotwise_app;
    END IF;
END $$;
