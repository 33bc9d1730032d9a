"""Proofs: silent on whole books, and each finds the damage it is there for."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from app.core.uow import unit_of_work
from app.ledger import chart, holds, proofs
from app.ledger.posting import credit, debit


@pytest.fixture
def whole(database, book_of):
    """Books with postings in two currencies, an open, a released and a captured hold."""
    with database.session() as session:
        book = book_of(session)
        with unit_of_work(session, book.actor):
            wallet, other = book.wallet(1, "1000"), book.wallet(2, "50")
            book.wallet(3, "70", currency="EUR")
            book.pay(wallet, other, "10")
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
    return database


def test_whole_books(whole):
    with whole.session() as session:
        found = proofs.prove(session)
    assert [proof.name[:2] for proof in found] == ["P1", "P2", "P3", "P4", "P5"]
    assert [proof.compared for proof in found] == [10, 6, 5, 10, 7]
    assert all(proof.holds and proof.breaks == () and proof.seconds > 0 for proof in found)


def test_empty_books(session):
    assert [(proof.compared, proof.breaks) for proof in proofs.prove(session)] == [(0, ())] * 5


_WALLET = "(SELECT id FROM ledger.account WHERE code = 'client:1:wallet:USD')"
_EUROS = "(SELECT id FROM ledger.account WHERE code = 'client:3:wallet:EUR')"
_CAPTURE = "(SELECT id FROM ledger.txn WHERE idempotency_key = 'capture')"
_PAYMENT = "(SELECT id FROM ledger.txn WHERE kind = 'test')"

#: What is done to a copy of the books, with all guards off, and the proofs that must notice.
DAMAGE = {
    "an amount in an entry": (f"UPDATE ledger.entry SET debit = debit + 1 WHERE txn_id = {_PAYMENT} AND debit > 0", "1234"),
    "an entry gone": (f"DELETE FROM ledger.entry WHERE account_id = {_WALLET} AND account_version = 2", "1234"),
    "a whole transaction gone": (f"DELETE FROM ledger.entry WHERE txn_id = {_PAYMENT}", "234"),
    "a balance made up": (f"UPDATE ledger.account SET credits = credits + 100 WHERE id = {_WALLET}", "2"),
    "a version made up": (f"UPDATE ledger.account SET version = version + 1 WHERE id = {_WALLET}", "2"),
    "an entry moved to another account": (
        f"UPDATE ledger.entry SET account_id = {_EUROS}, account_version = 9 WHERE txn_id = {_PAYMENT} AND debit > 0",
        "24",
    ),
    "a leg in another currency": (
        f"UPDATE ledger.entry SET currency = 'EUR' WHERE txn_id = {_PAYMENT} AND debit > 0",
        "13",
    ),
    "an entry's date": (f"UPDATE ledger.entry SET effective_at = '2020-01-01' WHERE account_id = {_WALLET}", "3"),
    "a header without entries": (
        "INSERT INTO ledger.txn (idempotency_key, request_hash, kind, effective_at, actor) VALUES ('x', '', 'x', now(), 'x')",
        "3",
    ),
    "counters in an entry": (
        f"UPDATE ledger.entry SET credits_after = credits_after + 1 WHERE account_id = {_WALLET} AND account_version = 1",
        "4",
    ),
    "a held amount made up": (f"UPDATE ledger.account SET held = held + 1 WHERE id = {_WALLET}", "5"),
    "a hold's amount": ("UPDATE ledger.hold SET amount = amount + 1 WHERE idempotency_key = 'open'", "5"),
    "a hold gone": ("DELETE FROM ledger.hold WHERE idempotency_key = 'open'", "5"),
    "a resolution gone": ("DELETE FROM ledger.hold_resolution WHERE outcome = 'captured'", "5"),
    "a capture pointing elsewhere": (
        f"UPDATE ledger.hold_resolution SET txn_id = {_PAYMENT} WHERE outcome = 'captured'",
        "5",
    ),
    "a capture turned round": (
        f"UPDATE ledger.entry SET debit = credit, credit = debit WHERE txn_id = {_CAPTURE}",
        "245",
    ),
    "a captured hold made smaller": ("UPDATE ledger.hold SET amount = 1 WHERE idempotency_key = 'captured'", "5"),
}


def test_each_damage_is_found_by_its_proofs(whole):
    found = {}
    for case, (statement, _) in DAMAGE.items():
        with whole.owner_session() as session:
            for table in ("account", "txn", "entry", "hold", "hold_resolution"):
                session.execute(text(f"ALTER TABLE ledger.{table} DISABLE TRIGGER USER"))
            session.execute(text("ALTER TABLE ledger.entry DROP CONSTRAINT fk_entry_account_id"))
            session.execute(text(statement))
            broken = [proof for proof in proofs.prove(session) if not proof.holds]
            assert all(isinstance(words, str) and words for proof in broken for words in proof.breaks)
            found[case] = "".join(proof.name[1] for proof in broken)
    assert found == {case: expected for case, (_, expected) in DAMAGE.items()}


def test_a_break_names_what_is_broken(whole):
    with whole.owner_session() as session:
        session.execute(text(DAMAGE["a balance made up"][0]))
        broken = [proof.breaks for proof in proofs.prove(session) if not proof.holds]
    assert broken == [
        ("account client:1:wallet:USD: counters 1700/100100 at version 3, entries 1700/100000, 3 of them up to version 3",)
    ]
