"""P9: what is committed is sealed once, in order; what was sealed and is not the same any more is found."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.core.uow import unit_of_work
from app.ledger import chart, proofs
from app.ledger.posting import credit, debit
from app.ledger.proofs import seals
from tests.integration.ledger.test_proofs import damage


def _pay(session, book_of, *amounts):
    """One database transaction with several of the ledger's. Returns their ids."""
    book = book_of(session)
    with unit_of_work(session, book.actor):
        wallet, other = book.wallet(1, "100"), book.wallet(2)
        return [book.pay(wallet, other, amount) for amount in amounts]


def _begin(session, book_of):
    """Post something that touches no account of the others, and do not commit."""
    book = book_of(session)
    bank, own = book.open(chart.bank_client_money("apart", "USD"), chart.bank_own_money("apart", "USD"))
    book.post(debit(bank, book.money("1")), credit(own, book.money("1")))


def _seals(session):
    rows = session.execute(
        text("SELECT id, after_seq, txns, entries, encode(hash, 'hex') AS hash FROM ledger.seal ORDER BY id")
    )
    return rows.all()


@pytest.fixture
def sealed(database, book_of):
    """Three seals: of three, two and two transactions."""
    with database.session() as session:
        for amounts in (("1", "2"), ("3",), ("4",)):
            _pay(session, book_of, *amounts)
            seals.seal(session)
    return database


def test_what_is_committed_is_sealed_once(database, book_of):
    with database.session() as session:
        assert seals.seal(session) == 0
        assert seals.head(session) == ""
        _pay(session, book_of, "1", "2")
        assert seals.seal(session) == 3
        assert seals.seal(session) == 0
        _pay(session, book_of, "3")
        assert seals.seal(session) == 2
        found = _seals(session)
        assert [(row.txns, row.entries) for row in found] == [(3, 6), (2, 4)]
        assert seals.head(session) == found[-1].hash
        proof = seals.prove_one(session, bytes.fromhex(found[0].hash))
        assert (proof.compared, proof.breaks) == (5, ())


def test_a_seal_keeps_what_one_database_transaction_wrote_together(database, book_of):
    with database.session() as session:
        for amounts in (("1", "2"), ("3", "4", "5"), ("6",), ("7",)):
            _pay(session, book_of, *amounts)
        with unit_of_work(session, book_of(session).actor):
            assert session.scalar(text("SELECT ledger.seal(2)")) == 3 + 4 + 2 + 2
        assert [row.txns for row in _seals(session)] == [3, 4, 2, 2]
        assert seals.prove_one(session).holds


def test_a_transaction_that_commits_late_is_not_skipped(database, book_of):
    """It took its id first, others committed meanwhile: nothing behind it is sealed before it has ended."""
    with database.session() as early, database.session() as others, database.session() as sealer:
        _pay(others, book_of, "1")
        assert seals.seal(sealer) == 2
        _begin(early, book_of)
        _pay(others, book_of, "1")
        assert seals.seal(sealer) == 0
        early.commit()
        assert seals.seal(sealer) == 3
        assert seals.prove_one(sealer).holds


def test_own_unfinished_transactions_are_not_sealed(database, book_of):
    with database.session() as session:
        book = book_of(session)
        with unit_of_work(session, book.actor):
            book.wallet(1, "100")
            assert session.scalar(text("SELECT ledger.seal()")) == 0
        assert seals.seal(session) == 1


def test_many_sealers_and_posters_at_once(database, book_of):
    go = threading.Barrier(8)

    def post(number):
        with database.session() as session:
            go.wait()
            for _ in range(10):
                book = book_of(session)
                with unit_of_work(session, book.actor):
                    book.wallet(100 + number, "5")

    def seal(_number):
        with database.session() as session:
            go.wait()
            return sum(seals.seal(session) for _ in range(10))

    with ThreadPoolExecutor(8) as pool:
        posting, sealing = [pool.submit(post, n) for n in range(5)], [pool.submit(seal, n) for n in range(3)]
        for job in posting:
            job.result()
        total = sum(job.result() for job in sealing)
    with database.session() as session:
        total += seals.seal(session)
        assert total == 50
        proof = seals.prove_one(session)
        assert (proof.compared, proof.breaks) == (50, ())


def test_sealing_refuses_to_look_at_an_old_picture(database, book_of):
    with database.session() as session:
        _pay(session, book_of, "1")
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        with pytest.raises(DBAPIError, match="sealing must see"):
            session.execute(text("SELECT ledger.seal()"))


def test_hashes_do_not_depend_on_the_session(sealed):
    with sealed.session() as session:
        for setting in ("TimeZone = 'Asia/Kathmandu'", "DateStyle = 'German'", "bytea_output = 'escape'"):
            session.execute(text(f"SET LOCAL {setting}"))
        assert seals.prove_one(session).holds


_SECOND = "(SELECT id FROM ledger.txn WHERE xact = (SELECT through_xact FROM ledger.seal ORDER BY id OFFSET 1 LIMIT 1) LIMIT 1)"
#: What is done to a copy, and which seals (1, 2, 3) must be named.
DAMAGE = {
    "an amount, in balance": (f"UPDATE ledger.entry SET debit = debit * 2, credit = credit * 2 WHERE txn_id = {_SECOND}", "2"),
    "a day": (f"UPDATE ledger.txn SET effective_at = effective_at + interval '1 day' WHERE id = {_SECOND}", "2"),
    "a microsecond": (f"UPDATE ledger.txn SET posted_at = posted_at + interval '1 microsecond' WHERE id = {_SECOND}", "2"),
    "who did it": (f"UPDATE ledger.txn SET actor = 'staff:1' WHERE id = {_SECOND}", "2"),
    "why": (f"UPDATE ledger.txn SET metadata = '{{\"a\": 1}}' WHERE id = {_SECOND}", "2"),
    "its key": (f"UPDATE ledger.txn SET idempotency_key = 'other' WHERE id = {_SECOND}", "2"),
    "words moved from kind to key": (
        f"UPDATE ledger.txn SET idempotency_key = idempotency_key || ' ', kind = ' ' || kind WHERE id = {_SECOND}",
        "2",
    ),
    "whose account": ("UPDATE ledger.account SET code = 'client:9:wallet:USD' WHERE code = 'client:2:wallet:USD'", "123"),
    "a transaction gone": (
        f"DELETE FROM ledger.entry WHERE txn_id = {_SECOND}; DELETE FROM ledger.txn WHERE id = {_SECOND}",
        "2",
    ),
    "one slipped in": (
        """INSERT INTO ledger.txn (idempotency_key, kind, effective_at, actor, xact)
           SELECT 'new', 'gift', now(), 'x', through_xact FROM ledger.seal ORDER BY id LIMIT 1""",
        "1",
    ),
    "one moved to another seal": (
        f"UPDATE ledger.txn SET xact = (SELECT through_xact FROM ledger.seal ORDER BY id LIMIT 1) WHERE id = {_SECOND}",
        "12",
    ),
    "a hash made up": (
        "UPDATE ledger.seal SET hash = sha256('x') WHERE id = (SELECT id FROM ledger.seal ORDER BY id OFFSET 1 LIMIT 1)",
        "23",
    ),
    "a seal gone": ("DELETE FROM ledger.seal WHERE id = (SELECT id FROM ledger.seal ORDER BY id OFFSET 1 LIMIT 1)", "3"),
    "the first seal gone": ("DELETE FROM ledger.seal WHERE id = (SELECT min(id) FROM ledger.seal)", "2"),
    "its counts": ("UPDATE ledger.seal SET txns = 9 WHERE id = (SELECT id FROM ledger.seal ORDER BY id OFFSET 1 LIMIT 1)", "2"),
}


def test_each_damage_names_the_seals_that_no_longer_match(sealed):
    found = {}
    for case, (statement, _) in DAMAGE.items():
        with sealed.owner_session() as session:
            numbers = {row.id: str(position + 1) for position, row in enumerate(_seals(session))}
            session.execute(text("ALTER TABLE ledger.seal DISABLE TRIGGER USER"))
            damage(session, "SELECT 1")
            for part in statement.split("; "):
                session.execute(text(part))
            breaks = seals.prove_one(session).breaks
            assert all(words.startswith("seal ") for words in breaks)
            found[case] = "".join(sorted(numbers[int(words.split(",")[0].removeprefix("seal "))] for words in breaks))
    assert found == {case: expected for case, (_, expected) in DAMAGE.items()}


def test_a_chain_that_was_cut_and_computed_anew_lacks_the_head_that_was_kept(sealed, book_of):
    with sealed.session() as session:
        kept = bytes.fromhex(seals.head(session))
    with sealed.owner_session() as session:
        session.execute(text("ALTER TABLE ledger.seal DISABLE TRIGGER USER"))
        damage(session, "DELETE FROM ledger.txn WHERE xact = (SELECT max(through_xact) FROM ledger.seal)")
        session.execute(text("DELETE FROM ledger.entry WHERE txn_id NOT IN (SELECT id FROM ledger.txn)"))
        session.execute(text("DELETE FROM ledger.seal WHERE id = (SELECT max(id) FROM ledger.seal)"))
        assert seals.prove_one(session).holds, "by itself the shorter chain is a good one"
        proof = seals.prove_one(session, kept)
    assert proof.breaks == (f"head {kept.hex()}: kept outside, and no seal has it any more",)


def _as_from_elsewhere(database, by):
    """Make what is not sealed yet look as if it came with a dump from a server that has given more database ids than ours."""
    with database.owner_session() as session:
        session.execute(text("ALTER TABLE ledger.txn DISABLE TRIGGER USER"))
        session.execute(
            text(
                "UPDATE ledger.txn SET xact = (xact::text::bigint + :by)::text::xid8"
                " WHERE seq > (SELECT coalesce(max(through_seq), 0) FROM ledger.seal)"
            ),
            {"by": by},
        )
        session.execute(text("ALTER TABLE ledger.txn ENABLE TRIGGER USER"))
        session.commit()


def test_after_a_restore_old_and_new_transactions_are_told_apart(database, book_of):
    """Where a dump is restored into another server, database ids begin anew, below those of what came with it."""
    with database.session() as session:
        _pay(session, book_of, "1", "2")
        _as_from_elsewhere(database, 1_000_000)
        assert seals.seal(session) == 3, "what came along is sealed at once"
        assert seals.seal(session) == 0
        _pay(session, book_of, "3")
        _as_from_elsewhere(database, 2_000_000)
        _pay(session, book_of, "4", "5")
        assert seals.seal(session) == 2 + 3, "what came along and was not sealed there, and what is new"
        assert seals.prove_one(session).holds
        with database.session() as early:
            _begin(early, book_of)
            _pay(session, book_of, "6")
            assert seals.seal(session) == 0, "what is new is sealed when all before it has ended, as ever"
            early.commit()
        assert seals.seal(session) == 3
        found = _seals(session)
        assert [row.txns for row in found] == [3, 2, 3, 3]
        assert [row.after_seq > 0 for row in found] == [False, False, True, True]
        proof = seals.prove_one(session)
        assert (proof.compared, proof.breaks) == (11, ())


def test_proving_changes_no_seal(sealed):
    with sealed.session() as session:
        before = _seals(session)
        proofs.prove(session)
        assert _seals(session) == before
