"""Proofs of the books, P1 to P5: silent on whole books, and each finds the damage it is there for."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text

from app.core.uow import unit_of_work
from app.ledger import chart, holds, posting, proofs
from app.ledger.posting import Posting, credit, debit


@pytest.fixture
def whole(database, book_of):
    """Books with postings in two currencies and out of order, a reversal, an open, a released and a captured hold."""
    with database.session() as session:
        book = book_of(session)
        with unit_of_work(session, book.actor):
            wallet, other = book.wallet(1, "1000"), book.wallet(2, "50")
            book.wallet(3, "70", currency="EUR")
            paid = book.pay(wallet, other, "10")
            (payouts,) = book.open(chart.psp_payouts("stripe", "USD"))
            for name, amount in (("open", "5"), ("released", "6"), ("captured", "7")):
                hold_id = holds.place_hold(
                    session, account=wallet, money=book.money(amount), key=name, reason="", actor=book.actor
                )
                if name == "released":
                    holds.release_hold(session, hold_id, actor=book.actor)
                elif name == "captured":
                    holds.capture_hold(
                        session,
                        hold_id,
                        key="capture",
                        kind="withdrawal",
                        effective_at=book.noon,
                        actor=book.actor,
                        legs=[debit(wallet, book.money("7")), credit(payouts, book.money("7"))],
                    )
            posting.reverse(session, paid, key="undo", actor=book.actor, at=book.noon + timedelta(hours=1), reason="r")
            legs = [debit(wallet, book.money("1")), credit(other, book.money("1"))]
            late = [("late", timedelta(minutes=57)), ("later", timedelta(minutes=50)), ("in time", timedelta(hours=2))]
            posting.post_many(session, [Posting(name, "test", book.noon + after, book.actor, legs) for name, after in late])
    return database


def test_whole_books(whole):
    with whole.session() as session:
        found = proofs.prove(session)
        marks = session.scalars(
            text(f"SELECT lateness FROM ledger.entry WHERE account_id = {_WALLET} ORDER BY account_version")
        ).all()
    assert [proof.code for proof in found] == ["P1", "P2", "P3", "P4", "P5", "P9"]
    assert [proof.compared for proof in found] == [18, 6, 9, 18, 7, 0]
    assert all(proof.holds and proof.breaks == () and proof.seconds > 0 for proof in found)
    assert marks == [0, 0, 0, 0, 1, 2, 0]


def test_empty_books(session):
    assert [(proof.compared, proof.breaks) for proof in proofs.prove(session)] == [(0, ())] * 6


_WALLET = "(SELECT id FROM ledger.account WHERE code = 'client:1:wallet:USD')"
_EUROS = "(SELECT id FROM ledger.account WHERE code = 'client:3:wallet:EUR')"
_CAPTURE = "(SELECT id FROM ledger.txn WHERE idempotency_key = 'capture')"
_PAYMENT = "(SELECT id FROM ledger.txn WHERE idempotency_key = 'late')"
_UNDO = "(SELECT id FROM ledger.txn WHERE idempotency_key = 'undo')"

#: What is done to a copy of the books, with all guards off, and the proofs that must notice.
DAMAGE = {
    "an amount in an entry": (f"UPDATE ledger.entry SET debit = debit + 1 WHERE txn_id = {_PAYMENT} AND debit > 0", "1234"),
    "an entry gone": (f"DELETE FROM ledger.entry WHERE account_id = {_WALLET} AND account_version = 2", "1234"),
    "a whole transaction's entries gone": (f"DELETE FROM ledger.entry WHERE txn_id = {_PAYMENT}", "234"),
    "a header gone": (f"DELETE FROM ledger.txn WHERE id = {_PAYMENT}", "3"),
    "a balance made up": (f"UPDATE ledger.account SET credits = credits + 100 WHERE id = {_WALLET}", "2"),
    "a version made up": (f"UPDATE ledger.account SET version = version + 1 WHERE id = {_WALLET}", "2"),
    "an available amount made up": (f"UPDATE ledger.account SET available = available + 1 WHERE id = {_WALLET}", "2"),
    "an account free to go below zero": (f"UPDATE ledger.account SET may_go_negative = true WHERE id = {_WALLET}", "2"),
    "an account of another kind": (f"UPDATE ledger.account SET kind = 'asset' WHERE id = {_WALLET}", "25"),
    "an account's latest moment": (
        f"UPDATE ledger.account SET effective_through = effective_through + interval '1 day' WHERE id = {_WALLET}",
        "2",
    ),
    "an account gone": (f"DELETE FROM ledger.account WHERE id = {_EUROS}", "4"),
    "an account in another currency": (f"UPDATE ledger.account SET currency = 'USD' WHERE id = {_EUROS}", "4"),
    "an entry moved to another account": (
        f"UPDATE ledger.entry SET account_id = {_EUROS}, account_version = 9 WHERE txn_id = {_PAYMENT} AND debit > 0",
        "24",
    ),
    "a leg in another currency": (
        f"UPDATE ledger.entry SET currency = 'EUR' WHERE txn_id = {_PAYMENT} AND debit > 0",
        "134",
    ),
    "an entry that is both debit and credit": (
        f"UPDATE ledger.entry SET debit = debit + 5, credit = credit + 5 WHERE txn_id = {_PAYMENT} AND debit > 0",
        "24",
    ),
    "an entry's date": (f"UPDATE ledger.entry SET effective_at = '2020-01-01' WHERE account_id = {_WALLET}", "234"),
    "an entry marked in time": (f"UPDATE ledger.entry SET lateness = 0 WHERE txn_id = {_PAYMENT}", "4"),
    "a header without entries": (
        "INSERT INTO ledger.txn (idempotency_key, kind, effective_at, actor) VALUES ('x', 'x', now(), 'x')",
        "3",
    ),
    "a reversal of something else": (f"UPDATE ledger.txn SET reverses = {_CAPTURE} WHERE id = {_UNDO}", "3"),
    "a reversal of another amount": (
        f"UPDATE ledger.entry SET debit = 2 * debit, credit = 2 * credit WHERE txn_id = {_UNDO}",
        "234",
    ),
    "counters in an entry": (
        f"UPDATE ledger.entry SET credits_after = credits_after + 1 WHERE account_id = {_WALLET} AND account_version = 1",
        "4",
    ),
    "a held amount made up": (f"UPDATE ledger.account SET held = held + 1 WHERE id = {_WALLET}", "25"),
    "a hold's amount": ("UPDATE ledger.hold SET amount = amount + 1 WHERE idempotency_key = 'open'", "5"),
    "a hold gone": ("DELETE FROM ledger.hold WHERE idempotency_key = 'open'", "5"),
    "a captured hold gone": ("DELETE FROM ledger.hold WHERE idempotency_key = 'captured'", "5"),
    "a resolution gone": ("DELETE FROM ledger.hold_resolution WHERE outcome = 'captured'", "5"),
    "a capture pointing elsewhere": (
        f"UPDATE ledger.hold_resolution SET txn_id = {_UNDO} WHERE outcome = 'captured'",
        "5",
    ),
    "a capture turned round": (
        f"UPDATE ledger.entry SET debit = credit, credit = debit WHERE txn_id = {_CAPTURE}",
        "245",
    ),
    "a captured hold made smaller": ("UPDATE ledger.hold SET amount = 1 WHERE idempotency_key = 'captured'", "5"),
}


_KEYS = text(
    "SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) FROM pg_constraint"
    " WHERE contype = 'f' AND connamespace = 'ledger'::regnamespace"
)


def damage(session, statement):
    """Change a copy behind the ledger's back: with guards, keys and checks off. It is rolled back with the session."""
    for table in ("account", "txn", "entry", "hold", "hold_resolution"):
        session.execute(text(f"ALTER TABLE ledger.{table} DISABLE TRIGGER USER"))
    session.execute(text("ALTER TABLE ledger.account DROP CONSTRAINT IF EXISTS sufficient_funds"))
    for drop in session.scalars(_KEYS).all():
        session.execute(text(drop))
    session.execute(text(statement))


def test_each_damage_is_found_by_its_proofs(whole):
    found = {}
    for case, (statement, _) in DAMAGE.items():
        with whole.owner_session() as session:
            damage(session, statement)
            broken = [proof for proof in proofs.prove(session) if not proof.holds]
            assert all(isinstance(words, str) and words for proof in broken for words in proof.breaks)
            found[case] = "".join(proof.name[1] for proof in broken)
    assert found == {case: expected for case, (_, expected) in DAMAGE.items()}


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (
            "a balance made up",
            (
                "account client:1:wallet:USD: counters 2000/101100 at version 7, entries 2000/101000, 7 of them up to version 7"
                "; available is not the balance less what is held"
            ),
        ),
        ("a header gone", "transaction {late}: its header is missing"),
        ("a whole transaction's entries gone", "transaction {late}: 0 legs"),
        ("a reversal of something else", "transaction {undo}: does not mirror {capture}, which it reverses"),
        ("an entry's date", "transaction {late}: an entry has another date"),
        ("an account in another currency", "account client:3:wallet:EUR, version 1: in EUR, its account in USD"),
        ("an entry marked in time", "account client:1:wallet:USD, version 5: lateness 0 instead of 1"),
        ("an entry gone", "account client:1:wallet:USD, version 3: counters 1700/100000 do not follow from version 1"),
        ("a hold gone", "account client:1:wallet:USD: held 500, open holds 0"),
        ("a captured hold made smaller", "hold {hold}: captured by transaction {capture}, which does not take up to 1"),
    ],
)
def test_a_break_names_what_is_broken(whole, case, words):
    with whole.owner_session() as session:
        ids = {
            key.replace(" ", "_"): str(id_) for key, id_ in session.execute(text("SELECT idempotency_key, id FROM ledger.txn"))
        }
        ids["hold"] = str(session.scalar(text("SELECT id FROM ledger.hold WHERE idempotency_key = 'captured'")))
        damage(session, DAMAGE[case][0])
        assert words.format_map(ids) in [found for proof in proofs.prove(session) for found in proof.breaks]


def test_proofs_change_nothing(whole):
    def picture(session):
        tables = ("account", "txn", "entry", "hold", "hold_resolution", "seal")
        return [session.execute(text(f"SELECT * FROM ledger.{table} ORDER BY 1, 2")).all() for table in tables]

    with whole.owner_session() as session:
        damage(session, DAMAGE["a balance made up"][0])
        before = picture(session)
        proofs.prove(session)
        assert picture(session) == before
