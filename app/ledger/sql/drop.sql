-- Take back what the numbered files made, for a downgrade; the tables are the migration's.
DO $$
DECLARE
    v_trigger record;
    v_function regprocedure;
BEGIN
    FOR v_trigger IN
        SELECT t.tgname AS name, t.tgrelid::regclass AS on_table FROM pg_trigger t
          JOIN pg_proc p ON p.oid = t.tgfoid
         WHERE p.pronamespace = 'ledger'::regnamespace AND NOT t.tgisinternal
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', v_trigger.name, v_trigger.on_table);
    END LOOP;
    FOR v_function IN SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'ledger'::regnamespace LOOP
        EXECUTE format('DROP FUNCTION %s', v_function);
    END LOOP;
END $$;
