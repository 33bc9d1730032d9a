-- What was asked and answered stays as it was written: messages are added, never changed.
-- Repeatable: app/migrate.py runs this file after migrations.

CREATE OR REPLACE TRIGGER ticket_message_append_only BEFORE UPDATE OR DELETE ON ticket_message
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE OR REPLACE TRIGGER ticket_message_no_truncate BEFORE TRUNCATE ON ticket_message
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'lotwise_app') THEN
        REVOKE UPDATE, DELETE, TRUNCATE ON ticket_message FROM lotwise_app;
        -- What a question was about is frozen with it.
        REVOKE UPDATE, DELETE, TRUNCATE ON ticket FROM lotwise_app;
        GRANT UPDATE (state, assigned_to, closed_at, closed_by, close_reason) ON ticket TO lotwise_app;
    END IF;
END $$;
