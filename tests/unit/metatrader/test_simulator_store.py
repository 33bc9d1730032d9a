"""The simulator's memory: all or nothing, in the file and beside it; files of an older form."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from decimal import Decimal

import pytest

from app.metatrader.fields import write_deal
from app.metatrader.simulator.store import Account, OpenPosition, Store
from tests.unit.metatrader.samples import DEAL

EVER = (0, 2**62)


def account(login=7, balance=0):
    return Account(login, "real\\std\\usd", 100, 355, balance, 0, 0, "b00t", {"FirstName": "Ann"}, "m", "i")


def position(ticket=1, login=7):
    return OpenPosition(ticket, login, "EURUSD", 0, 100, Decimal(110_000), 0, Decimal("1.5"), 0, 1, 2, "", stop_loss=5)


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "state.sqlite3")
    yield made
    made.close()


def everything(store):
    """What the store says, and what its file says."""
    ours = (store.accounts(), store.positions(), store.holders(), store.guarded(), store.number("n"), store.logins())
    return (*ours, store.deals(None, *EVER), [fields for _, _, fields in store.outbox(100)])


def reopened(store):
    other = Store(store.path)
    try:
        return everything(other)
    finally:
        other.close()


def change(store, login=7):
    store.save_account(account(login, balance=5))
    store.save_position(position(login, login))
    store.add_deal(replace(DEAL, ticket=login, login=login))
    store.put_in_outbox("s", {"login": str(login)})
    store.next_number("n", 1)


def test_what_is_committed_is_in_the_file(store):
    with store.transaction():
        change(store)
    assert everything(store) == reopened(store)
    assert store.accounts() == [account(balance=5)]
    assert store.positions(7) == [position(7)]
    assert store.guarded() == [position(7)]


def test_what_fails_leaves_no_trace(store):
    change(store, login=3)
    before = everything(store)

    def fail():
        with store.transaction():
            change(store)
            store.delete_account(3)
            store.delete_position(3)
            assert store.positions() == [position(7, 7)]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert everything(store) == before == reopened(store)


def test_an_inner_part_fails_alone(store):
    def fail():
        with store.transaction():
            change(store, login=4)
            with store.transaction():
                change(store, login=5)
            raise ZeroDivisionError

    with store.transaction():
        change(store, login=3)
        with pytest.raises(ZeroDivisionError):
            fail()
        with store.transaction():
            change(store, login=6)
    assert store.logins() == [3, 6]
    assert [deal.login for deal in store.deals(None, *EVER)] == [3, 6]
    assert store.number("n") == 2
    assert everything(store) == reopened(store)


def test_records_that_are_handed_out_are_copies(store):
    change(store)
    store.account(7).balance = 99
    store.positions(7)[0].volume = 99
    kept = account(balance=1)
    store.save_account(kept)
    kept.balance = 99
    assert (store.account(7).balance, store.position(7).volume) == (1, 100)


def test_an_archived_login_is_no_login(store):
    store.save_account(replace(account(), archived_ms=5))
    assert store.account(7) is None
    assert (store.accounts(), store.logins()) == ([], [])
    assert store.archived(7) == store.archived_accounts()[0] == replace(account(), archived_ms=5)


def test_sums_of_deals(store):
    """Balance: 10.00, then -1.50 with a swap of -0.25, a commission of -0.10 and a fee of -0.05. Credit: 3.00 less 1.00."""
    for ticket, login, action, *amounts in (
        (1, 7, 2, "10.00", "0.00", "0.00", "0.00"),
        (2, 7, 3, "3.00", "-1.00", "0.00", "0.00"),
        (3, 7, 0, "-1.50", "-0.25", "-0.10", "-0.05"),
        (4, 8, 0, "1.00", "0.00", "0.00", "0.00"),
    ):
        money = dict(zip(("profit", "swap", "commission", "fee"), map(Decimal, amounts), strict=True))
        store.add_deal(replace(DEAL, ticket=ticket, login=login, action=action, **money))
    assert store.sums(7) == (810, 200)
    assert store.sums(9) == (0, 0)


def test_a_file_of_the_first_form_is_brought_up_to_date(tmp_path):
    path = tmp_path / "state.sqlite3"
    old = sqlite3.connect(path)
    old.executescript("""
CREATE TABLE account (login INTEGER PRIMARY KEY, group_name TEXT, leverage INTEGER, rights INTEGER, balance INTEGER,
    credit INTEGER, registered_ms INTEGER, active_boot TEXT, profile TEXT, main_hash TEXT, investor_hash TEXT);
CREATE TABLE deal (ticket INTEGER PRIMARY KEY, login INTEGER, time_ms INTEGER, fields TEXT);
CREATE INDEX deal_login_time ON deal (login, time_ms);
CREATE INDEX deal_time ON deal (time_ms);
CREATE TABLE position (ticket INTEGER PRIMARY KEY, login INTEGER, symbol TEXT, action INTEGER, volume INTEGER,
    opened INTEGER, swap INTEGER, rate_margin TEXT, reason INTEGER, created_ms INTEGER, update_ms INTEGER, comment TEXT);
CREATE INDEX position_login ON position (login);
CREATE TABLE number (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, stream TEXT NOT NULL, fields TEXT NOT NULL);
""")
    old.execute(
        "INSERT INTO account VALUES (7, 'real\\std\\usd', 100, 355, 5, 0, 0, 'b00t', '{\"FirstName\": \"Ann\"}', 'm', 'i')"
    )
    old.execute("INSERT INTO deal VALUES (?, ?, ?, ?)", (DEAL.ticket, 7, DEAL.server_time_ms, json.dumps(write_deal(DEAL))))
    old.execute("INSERT INTO position VALUES (1, 7, 'EURUSD', 0, 100, 110000, 0, '1.5', 0, 1, 2, '')")
    old.execute("INSERT INTO number VALUES ('n', 41)")
    old.commit()
    old.close()
    for _ in range(2):
        store = Store(path)
        assert store.accounts() == [account(balance=5)]
        assert store.positions() == [replace(position(), stop_loss=0)]
        assert store.deals(None, *EVER) == [DEAL]
        assert store.number("n") == 41
        store.close()
