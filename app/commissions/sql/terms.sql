-- What was agreed with an IB and when is known for ever: of a span only its end may be set, once.
-- Repeatable: app/migrate.py runs this file after migrations; the guard's function is the tree's.

CREATE OR REPLACE TRIGGER ib_terms_guard BEFORE UPDATE OR DELETE ON ib_terms
    FOR EACH ROW EXECUTE FUNCTION partner_span_guard();
CREATE OR REPLACE TRIGGER ib_terms_no_truncate BEFORE TRUNCATE ON ib_terms
    FOR EACH STATEMENT EXECUTE FUNCTION partner_span_guard();

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'lotwise_app') THEN
        REVOKE UPDATE, DELETE, TRUNCATE ON ib_terms FROM lotwise_app;
        GRANT UPDATE (valid_to) ON ib_terms TO lotwise_app;
    END IF;
END $$;
