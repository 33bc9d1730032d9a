"""Suspicions are found, kept once, and decided by a person."""

from __future__ import annotations

import uuid
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select, update

from app.commissions import flags
from app.commissions.abuse import find_abuse
from app.commissions.accrual import accrue_deals
from app.commissions.errors import FlagDecided
from app.core.errors import InvalidInput
from app.models.clients import Client, PortalSession
from app.models.commission_flags import CommissionFlag, FlagSetting
from app.models.partners import IntroducingBroker
from app.models.payments import Deposit
from tests.integration.commissions.brokerage import LOT, NOON, STAFF, Brokerage

BUY, SELL, OPENS = 0, 1, 0


def found(house: Brokerage, kind: str, ib_id: int) -> list[CommissionFlag]:
    query = select(CommissionFlag).where(CommissionFlag.kind == kind, CommissionFlag.ib_id == ib_id)
    return list(house.session.scalars(query.execution_options(populate_existing=True)))


def opened(house: Brokerage, account: int, action: int, lots: str = "1", **more: Any) -> int:
    return house.deal(account, lots, action=action, entry=OPENS, **more)


def signed_in(house: Brokerage, client_id: int, address: str, browser: str) -> None:
    house.add(
        PortalSession(
            client_id=client_id,
            secret_hash=f"{client_id}{address}{browser}".encode(),
            address=address,
            user_agent=browser,
            last_seen_at=NOON,
            expires_at=NOON,
        )
    )


def paid_in(house: Brokerage, client_id: int, card: str | None) -> int:
    return house.add(
        Deposit(
            public_id=uuid.uuid4(),
            client_id=client_id,
            connector="stripe",
            amount_minor=100,
            currency="USD",
            idempotency_key=uuid.uuid4().hex,
            card_fingerprint=card,
        )
    )


def own_client(house: Brokerage, ib_id: int) -> int:
    return house.session.scalars(select(IntroducingBroker.client_id).where(IntroducingBroker.id == ib_id)).one()


def test_accounts_that_open_against_each_other_are_one_suspicion(house: Brokerage) -> None:
    ib_id = house.ib()
    one, other = house.brought(ib_id), house.brought(ib_id)
    first = opened(house, one, BUY), opened(house, other, SELL, "1.04", done_at=NOON + timedelta(seconds=10))
    house.save()
    find_abuse(house.session)
    later = NOON + timedelta(hours=1)
    second = opened(house, one, SELL, done_at=later), opened(house, other, BUY, done_at=later)
    house.save()
    find_abuse(house.session)

    (flag,) = found(house, "hedged", ib_id)
    assert flag.details["accounts"] == [one, other]
    assert flag.details["pairs"] == [list(first), list(second)]


@pytest.mark.parametrize(
    "other",
    [
        {"done_at": NOON + timedelta(seconds=11)},
        {"volume": LOT * 106 // 100},
        {"action": BUY},
        {"symbol": "GBPUSD"},
        {"entry": 1},
        {"is_void": True},
    ],
)
def test_what_is_no_hedge_is_none(house: Brokerage, other: dict[str, Any]) -> None:
    ib_id = house.ib()
    opened(house, house.brought(ib_id), BUY)
    house.deal(house.brought(ib_id), **{"action": SELL, "entry": OPENS, **other})
    house.save()

    find_abuse(house.session)

    assert found(house, "hedged", ib_id) == []


def test_clients_of_different_ibs_may_trade_as_they_like(house: Brokerage) -> None:
    one, other = house.ib(), house.ib()
    opened(house, house.brought(one), BUY)
    opened(house, house.brought(other), SELL)
    house.save()

    find_abuse(house.session)

    assert found(house, "hedged", one) + found(house, "hedged", other) == []


def test_an_ib_that_is_its_own_client(house: Brokerage) -> None:
    ib_id, twin = house.ib(), house.client("INES", "Broker")
    house.brought(ib_id, client_id=twin)
    house.brought(ib_id)
    own = own_client(house, ib_id)
    house.session.execute(update(Client).where(Client.id.in_([own, twin])).values(birth_date=date(1980, 5, 1)))
    house.session.execute(update(Client).where(Client.id == own).values(phone="+357 22 000 111"))
    house.session.execute(update(Client).where(Client.id == twin).values(phone="+35722000111"))
    house.save()

    find_abuse(house.session)

    (flag,) = found(house, "self_referral", ib_id)
    assert flag.details == {"clients": [own, twin], "same": ["phone", "person"]}


def test_one_device_and_one_address(house: Brokerage) -> None:
    ib_id = house.ib()
    clients = [house.client() for _ in range(4)]
    for client_id in clients:
        house.brought(ib_id, client_id=client_id)
    signed_in(house, clients[0], "192.0.2.7", "Firefox")
    signed_in(house, own_client(house, ib_id), "192.0.2.7", "Firefox")
    signed_in(house, clients[1], "192.0.2.8", "Safari")
    signed_in(house, clients[2], "192.0.2.8", "Chrome")
    for client_id, address in ((clients[2], "1 Main St., Limassol"), (clients[3], "1 main st, limassol")):
        house.session.execute(update(Client).where(Client.id == client_id).values(address=address))
    house.save()

    find_abuse(house.session)

    (device,) = found(house, "same_device", ib_id)
    assert device.details["clients"] == sorted([clients[0], own_client(house, ib_id)])
    addresses = {flag.details["what"]: flag.details["clients"] for flag in found(house, "same_address", ib_id)}
    assert addresses == {"network": clients[1:3], "postal": clients[2:]}


def test_one_card(house: Brokerage) -> None:
    ib_id = house.ib()
    first, second, third = (house.client() for _ in range(3))
    for client_id in (first, second, third):
        house.brought(ib_id, client_id=client_id)
    stranger = house.client()
    paid = [
        paid_in(house, client_id, card)
        for client_id, card in (
            (first, "A"),
            (second, "A"),
            (second, "B"),
            (third, "C"),
            (third, "C"),
            (stranger, "C"),
            (third, None),
        )
    ]
    house.save()

    find_abuse(house.session)
    find_abuse(house.session)

    (flag,) = found(house, "same_card", ib_id)
    assert flag.details == {"clients": [first, second], "connector": "stripe", "deposits": paid[:2]}


def test_a_deal_that_pays_more_than_it_earned(house: Brokerage) -> None:
    ib_id = house.ib(margin_guard="flag")
    quoted = {"market_bid": Decimal(1), "market_ask": Decimal("1.00002"), "contract_size": 100_000, "rate_profit": 1}
    deal = house.deal(house.brought(ib_id), **quoted)

    accrue_deals(house.session, [deal])

    (flag,) = found(house, "margin", ib_id)
    assert (flag.details["deals"], Decimal(flag.details["earned"]), Decimal(flag.details["paid"])) == ([deal], 2, 7)
    assert house.amounts(ib_id) == [("accrue", Decimal(7))]


def test_what_was_decided_stays_decided(house: Brokerage) -> None:
    ib_id = house.ib()
    suspicion = flags.Suspicion("same_device", f"{ib_id}:x", ib_id, {"clients": [1]})
    assert flags.raise_flags(house.session, [suspicion]) == 1
    house.save()
    (flag,) = found(house, "same_device", ib_id)

    with pytest.raises(InvalidInput) as refused:
        flags.decide_flag(house.session, flag.id, decision="forgotten", reason=" ", actor=STAFF)
    assert sorted(refused.value.problems) == ["decision", "reason"]
    flags.decide_flag(house.session, flag.id, decision="dismissed", reason="A family", actor=STAFF)
    with pytest.raises(FlagDecided):
        flags.decide_flag(house.session, flag.id, decision="confirmed", reason="No", actor=STAFF)

    assert flags.raise_flags(house.session, [suspicion]) == 0
    assert found(house, "same_device", ib_id)[0].status == "dismissed"


def test_what_is_switched_off_is_not_looked_for(house: Brokerage) -> None:
    ib_id = house.ib()
    house.session.execute(update(FlagSetting).where(FlagSetting.kind == "same_device").values(is_on=False))

    assert flags.raise_flags(house.session, [flags.Suspicion("same_device", f"{ib_id}:y", ib_id, {"clients": []})]) == 0
    house.session.rollback()
