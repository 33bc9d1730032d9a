-- Which symbols a group had and when is known for ever: versions are added, never changed.
-- Repeatable: app/migrate.py runs this file after migrations.

CREATE OR REPLACE TRIGGER symbol_group_version_append_only BEFORE UPDATE OR DELETE ON symbol_group_version
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE OR REPLACE TRIGGER symbol_group_version_no_truncate BEFORE TRUNCATE ON symbol_group_version
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'lotwise_app') THEN
        REVOKE UPDATE, DELETE, TRUNCATE ON symbol_group_version FROM lotwise_app;
    END IF;
END $$;
