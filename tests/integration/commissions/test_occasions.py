"""Clients who were won, and months: paid once, as tree and plan stood when the last condition came true."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from sqlalchemy import func, select, update

from app.commissions import publishing
from app.commissions.accrual import accrue_server
from app.commissions.explain import explain_accrual
from app.commissions.lines import accrual_lines
from app.commissions.occasions import accrue_occasions
from app.commissions.settlement import settle_all
from app.core.clock import now
from app.core.money import Money
from app.models.clients import Client
from app.models.commissions import Accrual, IBPlan
from app.models.metatrader import TradingAccount
from app.models.occasions import Occasion
from app.models.partners import Attribution
from app.models.payments import Deposit
from tests.integration.commissions.brokerage import STAFF, START, Brokerage

REGISTERED = now() - timedelta(days=20)
WON = {"key": "won", "component": "cpa", "rate": "400", "conditions": {"first_deposit": "200", "lots": "3", "within_days": 15}}
MONTH = {"key": "fixed", "component": "retainer", "rate": "1500", "conditions": {"active_clients": 1}}


@pytest.fixture
def winner(house: Brokerage) -> int:
    return house.ib([WON])


def client_of(house: Brokerage, ib_id: int, *, approved: int | None = 1, deposit: str = "250", closed: str = "3") -> int:
    """A client who registered 20 days ago, was approved and paid in on these days, and closed lots on day 5."""
    account = house.brought(ib_id)
    client_id = house.session.scalar(select(TradingAccount.client_id).where(TradingAccount.id == account)) or 0
    approved_at = REGISTERED + timedelta(days=approved) if approved is not None else None
    changes = {"created_at": REGISTERED, "approved_at": approved_at}
    house.session.execute(update(Client).where(Client.id == client_id).values(**changes))
    if deposit:
        minor = Money.parse(deposit, "USD").amount_minor
        house.add(
            Deposit(
                public_id=uuid4(),
                client_id=client_id,
                connector="stripe",
                amount_minor=minor,
                currency="USD",
                state="settled",
                idempotency_key="d",
                settled_minor=minor,
                settled_at=REGISTERED + timedelta(days=2),
            )
        )
    if closed:
        house.deal(account, closed, done_at=REGISTERED + timedelta(days=5))
    house.save()
    return client_id


def test_a_client_is_won_once_and_the_ib_sees_why(house: Brokerage, winner: int) -> None:
    client_id = client_of(house, winner)

    assert accrue_occasions(house.session, now()) == 1
    assert accrue_occasions(house.session, now()) == 0

    (line,) = accrual_lines(house.session, winner)
    assert (line.amount, line.occasion, line.ticket, line.client_id) == (Decimal(400), "client", None, client_id)
    explained = explain_accrual(house.session, line.id, winner)
    assert explained.occasion is not None
    assert explained.occasion.happened_at == REGISTERED + timedelta(days=5)
    assert explained.occasion.facts["first_deposit"] == "250.00"
    assert [step.value for step in explained.steps][-1] == Decimal(400)
    (settled,) = settle_all(house.session, now() + timedelta(minutes=1))
    assert settled.amount == Money(40000, "USD")


@pytest.mark.parametrize(
    "short", [{"approved": None}, {"deposit": "199"}, {"closed": "2.99"}, {"deposit": ""}, {"approved": 16}]
)
def test_what_did_not_come_true_in_time_pays_nothing(house: Brokerage, winner: int, short: dict[str, str]) -> None:
    client_of(house, winner, **short)
    assert accrue_occasions(house.session, now()) == 0


def test_a_new_version_does_not_pay_the_same_client_again(house: Brokerage, winner: int) -> None:
    client_of(house, winner)
    assert accrue_occasions(house.session, now()) == 1
    publishing.publish_version(house.session, house.ids["plan"], [WON | {"rate": "900"}], now() + timedelta(minutes=1), STAFF)
    assert accrue_occasions(house.session, now() + timedelta(days=1)) == 0


def test_whoever_gets_a_won_client_later_is_not_paid_for_it(house: Brokerage, winner: int) -> None:
    client_id = client_of(house, winner)
    assert accrue_occasions(house.session, now()) == 1
    other = house.ib([WON | {"conditions": {"first_deposit": "1"}}])
    moved = REGISTERED + timedelta(days=3)
    mine = Attribution.client_id == client_id
    house.session.execute(update(Attribution).where(mine).values(valid_to=moved))
    house.add(Attribution(client_id=client_id, ib_id=other, source="manual", valid_from=moved))
    house.save()
    assert accrue_occasions(house.session, now()) == 0


def test_the_ib_of_the_moment_counts(house: Brokerage, winner: int) -> None:
    client_id = client_of(house, winner)
    other = house.ib([WON])
    moved = REGISTERED + timedelta(days=4)
    house.session.execute(update(Attribution).where(Attribution.client_id == client_id).values(valid_to=moved))
    house.add(Attribution(client_id=client_id, ib_id=other, source="manual", valid_from=moved))
    house.save()

    assert accrue_occasions(house.session, now()) == 1

    assert list(house.session.scalars(select(Accrual.ib_id))) == [other]


def test_a_deal_is_not_paid_by_a_rule_for_clients(house: Brokerage, winner: int) -> None:
    client_of(house, winner)
    assert accrue_server(house.session, house.server_id) == 0
    assert house.session.scalar(select(func.count()).select_from(Accrual)) == 0


def test_a_month_is_paid_once_when_it_is_over(house: Brokerage) -> None:
    ib_id = house.ib([MONTH])
    house.deal(house.brought(ib_id), done_at=datetime(2026, 9, 10, tzinfo=UTC))
    idle = house.ib([MONTH])
    house.session.execute(update(IBPlan).values(valid_from=START))
    house.save()
    in_september = datetime(2026, 9, 30, 23, tzinfo=UTC)

    assert accrue_occasions(house.session, in_september) == 0
    assert accrue_occasions(house.session, in_september + timedelta(hours=2)) == 1
    assert accrue_occasions(house.session, in_september + timedelta(days=3)) == 0

    (line,) = accrual_lines(house.session, ib_id)
    assert (line.amount, line.occasion, line.month, line.client_id) == (Decimal(1500), "month", "2026-09", None)
    row = house.session.scalars(select(Occasion)).one()
    assert (row.ib_id, row.facts["active_clients"]) == (ib_id, 1)
    assert accrual_lines(house.session, idle) == []
