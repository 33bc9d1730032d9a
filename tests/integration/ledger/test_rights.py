"""Who may do what to the ledger's tables: the application little, the owner no more than the guards allow."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.core.uow import unit_of_work
from app.ledger import definitions, errors

TABLES = ("currency", "account", "txn", "entry", "hold", "hold_resolution", "period_close")
GENERATED = {"seq", "balance"}
JOURNAL = ("currency", "txn", "entry", "hold", "hold_resolution", "period_close")


def _refused(session, statement):
    """The SQLSTATE by which a statement is refused."""
    with pytest.raises(DBAPIError) as caught, session.begin_nested():
        session.execute(text(statement))
    return caught.value.orig.sqlstate


@pytest.mark.parametrize("table", TABLES)
def test_the_application_reads_and_does_not_write(session, table):
    for column in session.execute(text(f"SELECT * FROM ledger.{table}")).keys() - GENERATED:
        assert _refused(session, f"UPDATE ledger.{table} SET {column} = {column}") == "42501"
    assert _refused(session, f"DELETE FROM ledger.{table}") == "42501"
    assert _refused(session, f"TRUNCATE ledger.{table} CASCADE") == "42501"
    if table not in {"account", "currency"}:
        assert _refused(session, f"INSERT INTO ledger.{table} DEFAULT VALUES") == "42501"


@pytest.mark.parametrize("column", ["debits", "credits", "held", "version", "id", "opened_at", "closed_at"])
def test_the_application_opens_accounts_with_nothing_in_them(book, column):
    book.wallet(1)
    columns, values = "code, kind, currency", "'x', 'liability', 'USD'"
    assert _refused(book.session, f"INSERT INTO ledger.account ({columns}, {column}) VALUES ({values}, DEFAULT)") == "42501"


@pytest.mark.parametrize(
    "call",
    [
        "ledger.refuse_other_request(NULL, 'k', NULL, '{}', '{}', '{}', '{}')",
        "ledger.refuse_account('a', 'USD')",
        "ledger.refuse_change()",
        "ledger.refuse_stray_entry()",
        "ledger.refuse_unbalanced()",
    ],
)
def test_the_application_calls_the_public_functions_only(session, call):
    assert _refused(session, f"SELECT {call}") in {"42501", "0A000"}


@pytest.mark.parametrize("kind", ["asset ", "Liability", "", "wallet"])
def test_no_account_of_an_unknown_kind(book, kind):
    book.wallet(1)
    statement = f"INSERT INTO ledger.account (code, kind, currency) VALUES ('x', '{kind}', 'USD')"
    assert _refused(book.session, statement) == "23502"


@pytest.mark.parametrize("exponent", [-1, 9])
def test_no_currency_beyond_eight_digits(session, exponent):
    assert _refused(session, f"INSERT INTO ledger.currency (code, exponent) VALUES ('ZZZ', {exponent})") == "23514"


def test_a_temporary_table_does_not_stand_in_for_a_ledger_table(book):
    """The functions run with the owner's rights: nothing the caller makes may come between."""
    giver, taker = book.wallet(1, "100"), book.wallet(2)
    book.session.execute(text("CREATE TEMPORARY TABLE account (LIKE ledger.account)"))
    book.session.execute(text("CREATE FUNCTION pg_temp.uuidv7() RETURNS uuid LANGUAGE sql AS 'SELECT NULL::uuid'"))
    book.session.execute(text("SET LOCAL search_path = pg_temp, public"))
    assert book.pay(giver, taker, "1")
    assert book.broken_proofs() == []


@pytest.fixture
def posted(database, book_of):
    """A database in which something was posted, held, released and closed."""
    with database.session() as session:
        book = book_of(session)
        with unit_of_work(session, book.actor):
            book.pay(book.wallet(1, "100"), book.wallet(2), "1")
            held = "ledger.place_hold('client:1:wallet:USD', 'USD', 1, 'h', 'r', 'a')"
            session.execute(text(f"SELECT ledger.resolve_hold({held}, 'released', 'a')"))
            session.execute(text("SELECT ledger.close_period('2020-01-01', 'a')"))
    return database


def test_the_owner_does_not_change_what_is_written(posted):
    with posted.owner_session() as session:
        for table in JOURNAL:
            for column in session.execute(text(f"SELECT * FROM ledger.{table}")).keys() - GENERATED:
                assert _refused(session, f"UPDATE ledger.{table} SET {column} = {column}") == "LG006"
            assert _refused(session, f"DELETE FROM ledger.{table}") == "LG006"
            assert _refused(session, f"TRUNCATE ledger.{table} CASCADE") == "LG006"


def test_the_owner_does_not_change_what_an_account_is(posted):
    with posted.owner_session() as session:
        for change in ("code = 'x'", "kind = 'asset'", "side = -1", "may_go_negative = true"):
            assert _refused(session, f"UPDATE ledger.account SET {change} WHERE code = 'client:1:wallet:USD'") == "LG006"
        for change in ("id = 77", "currency = 'EUR'"):
            refusal = _refused(session, f"UPDATE ledger.account SET {change} WHERE code = 'client:1:wallet:USD'")
            assert refusal in {"LG006", "23503"}, "foreign keys are asked at the same time"
        assert _refused(session, "DELETE FROM ledger.account") == "LG006"
        assert _refused(session, "TRUNCATE ledger.account CASCADE") == "LG006"
        session.execute(text("UPDATE ledger.account SET kind = kind"))


_LATE = (
    "INSERT INTO ledger.entry (account_id, account_version, txn_id, effective_at,"
    " debit, credit, debits_after, credits_after, currency)"
    " SELECT a.id, 100, t.id, t.effective_at, {side}, 1, 1, 'USD' FROM ledger.txn t, ledger.account a"
    " WHERE t.kind = 'test' AND a.code = 'psp:stripe:clearing:USD' LIMIT 1"
)


_STRAY = (
    "WITH header AS (INSERT INTO ledger.txn (idempotency_key, kind, effective_at, actor)"
    " VALUES ('stray', 'stray', now(), 'owner') RETURNING id)"
    " SELECT id FROM header"
)


@pytest.mark.parametrize(
    ("account", "currency", "debit", "credit", "sqlstate"),
    [
        ("client:1:wallet:USD", "EUR", 1, 0, "LG008"),
        ("nobody", "USD", 1, 0, "LG008"),
        ("client:1:wallet:USD", "USD", 0, 0, "LG001"),
        ("client:1:wallet:USD", "USD", 1, 1, "LG001"),
        ("client:1:wallet:USD", "USD", -1, 0, "LG001"),
    ],
)
def test_no_stray_leg_past_the_functions(posted, account, currency, debit, credit, sqlstate):
    """Foreign keys of entries are declared only; what they would refuse is refused all the same."""
    with posted.owner_session() as session:
        txn_id = session.scalar(text(_STRAY))
        known = session.scalar(text("SELECT id FROM ledger.account WHERE code = :code"), {"code": account}) or 404
        assert (
            _refused(
                session,
                "INSERT INTO ledger.entry (account_id, account_version, txn_id, effective_at, debit, credit, debits_after,"
                f" credits_after, currency) VALUES ({known}, 100, '{txn_id}', now(), {debit}, {credit}, 1, 1, '{currency}')",
            )
            == sqlstate
        )


def test_no_leg_joins_a_finished_transaction(posted):
    with posted.owner_session() as session:
        assert _refused(session, _LATE.format(side="1, 0")) == "LG006"
        with pytest.raises(errors.JournalSealed), errors.typed_errors():
            session.execute(text(_LATE.format(side="0, 1")))


def test_unmapped_errors_stay_what_they_are(session):
    with pytest.raises(DBAPIError, match="division by zero"), errors.typed_errors():
        session.execute(text("SELECT 1 / 0"))


@pytest.mark.parametrize("outcome", ["captured", "lost", ""])
def test_a_hold_is_resolved_as_released_or_expired_only(book, outcome):
    book.wallet(1, "100")
    held = "ledger.place_hold('client:1:wallet:USD', 'USD', 1, 'h', 'r', 'a')"
    assert _refused(book.session, f"SELECT ledger.resolve_hold({held}, '{outcome}', 'a')") == "LG001"


_DEFINITIONS = text(
    """
    SELECT p.oid::regprocedure::text AS name, pg_get_functiondef(p.oid) || coalesce(p.proacl::text, '') AS definition
      FROM pg_proc p WHERE p.pronamespace = 'ledger'::regnamespace
     UNION ALL
    SELECT t.tgrelid::regclass || '.' || t.tgname, pg_get_triggerdef(t.oid)
      FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
     WHERE c.relnamespace = 'ledger'::regnamespace AND NOT t.tgisinternal
     UNION ALL
    SELECT c.relname || coalesce('.' || a.attname, ''), coalesce(a.attacl, c.relacl)::text
      FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attacl IS NOT NULL
     WHERE c.relnamespace = 'ledger'::regnamespace
     ORDER BY name
    """
)


def test_the_live_definitions_are_those_of_the_files(database):
    with database.owner_session() as session:
        live = session.execute(_DEFINITIONS).all()
        assert len(live) > 30
        definitions.install(session.connection())
        assert session.execute(_DEFINITIONS).all() == live, "running the files again changes nothing"
        definitions.uninstall(session.connection())
        assert session.scalar(text("SELECT count(*) FROM pg_proc WHERE pronamespace = 'ledger'::regnamespace")) == 0
        definitions.install(session.connection())
        assert session.execute(_DEFINITIONS).all() == live, "and nothing is forgotten"


def test_another_role_can_be_named_and_an_absent_one_is_passed_over(database):
    with database.owner_session() as session:
        session.execute(text("SET LOCAL lotwise.app_role = 'nobody_of_this_name'"))
        definitions.install(session.connection())
        session.execute(text("SET LOCAL lotwise.app_role = 'pg_monitor'"))
        definitions.install(session.connection())
        granted = text("SELECT has_function_privilege('pg_monitor', 'ledger.seal(integer)', 'EXECUTE')")
        assert session.scalar(granted) is True


def test_files_run_in_the_order_of_their_names():
    names = [path.name for path in definitions.sql_files()]
    assert names == sorted(names)
    assert definitions.drop_file().name not in names
