"""Balance operations of others: written down once, kept up to date, reviewed with four eyes where money moves."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select

from app.core.clock import now
from app.core.uow import unit_of_work
from app.metatrader import foreign
from app.models.metatrader import Server
from app.models.trading_desk import ForeignOperation
from tests.integration.trading.house import SYSTEM, House
from tests.unit.metatrader.test_foreign import operation


def note(house: House, *deals, at=None) -> None:
    with unit_of_work(house.session, SYSTEM) as unit:
        foreign.note(unit, house.server_id, [(deal, at or now()) for deal in deals])


def noted(house: House) -> list[tuple[int, str, Decimal]]:
    house.session.rollback()
    rows = select(ForeignOperation).order_by(ForeignOperation.deal_ticket)
    return [(row.deal_ticket, row.classed_as, row.amount) for row in house.session.scalars(rows)]


@pytest.fixture
def login(house: House) -> int:
    return house.add_account().login


def own(login: int, ticket: int, *words, **more):
    from dataclasses import replace

    return replace(operation(*words, **more), ticket=ticket, login=login)


def test_trades_and_the_servers_own_charges_are_left_out(house, login):
    note(house, own(login, 1, action=0), own(login, 2, action=8), own(login, 3, action=13), own(login, 4, "Deposit"))
    assert noted(house) == [(4, "deposit", 100)]


def test_again_is_the_same_and_an_edit_is_followed_until_the_review(house, login):
    note(house, own(login, 1, "Deposit"))
    note(house, own(login, 1, "Deposit"))
    note(house, own(login, 1, "IB rebate", "90"))
    assert noted(house) == [(1, "rebate", 90)]
    with unit_of_work(house.session, SYSTEM):
        row = house.session.scalars(select(ForeignOperation)).one()
        row.reviewed_at, row.reviewed_by = now(), "staff:1"
    note(house, own(login, 1, "Bonus", "80"))
    assert noted(house) == [(1, "rebate", 90)]


def test_whose_it_is(house, login):
    demo = house.add_account(product="demo").login
    note(house, own(login, 1), own(demo, 2), own(777, 3))
    rows = house.session.execute(
        select(ForeignOperation.trading_account_id.is_not(None), ForeignOperation.currency, ForeignOperation.classed_as)
        .order_by(ForeignOperation.deal_ticket)
    )  # fmt: skip
    assert [tuple(row) for row in rows] == [(True, "USD", "unknown"), (True, "USD", "demo"), (False, "", "unknown")]


def test_what_leaves_one_login_and_enters_another_is_a_transfer(house, login):
    other, at = house.add_account().login, now()
    note(house, own(login, 1, "", "-70"), at=at)
    note(house, own(other, 2, "", "70"), own(other, 3, "", "71"), at=at + timedelta(seconds=90))
    note(house, own(other, 4, "", "71"), own(login, 5, "", "-71"), at=at + timedelta(hours=1))
    assert [class_ for _, class_, _ in noted(house)] == ["transfer", "transfer", "unknown", "transfer", "transfer"]


def test_a_server_has_words_of_its_own(house, login):
    with unit_of_work(house.session, SYSTEM):
        server = house.session.get_one(Server, house.server_id)
        server.options = {"comment_classes": [["(", "bonus"], ["^PRAEMIE", "bonus"], ["^X", "no such class"], "nonsense"]}
    note(house, own(login, 1, "Praemie 7"), own(login, 2, "X"))
    assert [class_ for _, class_, _ in noted(house)] == ["bonus", "unknown"]
