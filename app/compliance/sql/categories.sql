-- Of which category a client was and when is known for ever: rows are added, never changed.
-- Repeatable: app/migrate.py runs this file after migrations.

CREATE OR REPLACE TRIGGER client_category_append_only BEFORE UPDATE OR DELETE ON client_category
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE OR REPLACE TRIGGER client_category_no_truncate BEFORE TRUNCATE ON client_category
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'lotwise_app') THEN
        REVOKE UPDATE, DELETE, TRUNCATE ON client_category FROM lotwise_app;
    END IF;
END $$;
