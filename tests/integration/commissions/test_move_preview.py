"""The preview of a move against what the same deals really accrue where the tree was so from the start."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select

from app.commissions import move_preview, publishing
from app.commissions.accrual import accrue_deals
from app.commissions.move_preview import preview_move
from app.models.commissions import Accrual
from app.models.partners import Attribution
from app.partners import links, moves, tree
from tests.integration.commissions.brokerage import NOON, STAFF, START, Brokerage

AT = NOON + timedelta(days=30)
DAY = timedelta(days=1)


def rules(rate: str, *levels: str) -> list[dict[str, Any]]:
    return [{"key": "fx", "component": "per_lot", "rate": rate, "levels": list(levels)}]


@dataclass
class World:
    """Two IBs below a top, each with a plan of its own; a sub-IB without one below the first; clients and their deals.

    `moved`: of "client" (below the sub-IB), "clients" (of the sub-IB), or the sub-IB itself, to the second IB from the start.
    """

    top: int
    old: int
    new: int
    low: int
    clients: list[int]
    deals: list[int]

    def names(self) -> dict[int | None, str]:
        return {self.top: "top", self.old: "old", self.new: "new", self.low: "low"}


def world(house: Brokerage, moved: str = "") -> World:
    top = house.ib(rules("9", "1"))
    old, new = house.ib(rules("6", "0.5", "0.3", "0.2")), house.ib(rules("8", "0.5", "0.4"))
    low = links.make_ib(house.session, house.client("Lorin", "Low"), "USD", STAFF).id
    for ib_id, parent_id in ((old, top), (new, top), (low, new if moved == "ib" else old)):
        tree.place_ib(house.session, ib_id, parent_id, START, "agreed", STAFF)
    clients = [house.client() for _ in range(2)]
    deals = []
    for number, client_id in enumerate(clients):
        goes = moved == "clients" or (moved == "client" and number == 0)
        account = house.brought(new if goes else low, client_id=client_id)
        deals += [house.deal(account, lots, done_at=NOON + DAY * n) for n, lots in enumerate(("1", "0.37", "2.5"))]
    house.save()
    accrue_deals(house.session, deals)
    return World(top, old, new, low, clients, deals)


def drafted(house: Brokerage, kind: str, subject: int, target: int | None, at: datetime | None = None):
    return moves.draft_move(house.session, kind=kind, subject_id=subject, target_id=target, effective_at=at)


def accrued(house: Brokerage, one: World, clients: int) -> Counter[str]:
    """What the deals of the first clients gave, by the name of the IB."""
    found: Counter[str] = Counter()
    deals = one.deals[: 3 * clients]
    for ib_id, amount in house.session.execute(select(Accrual.ib_id, Accrual.amount).where(Accrual.deal_id.in_(deals))):
        found[one.names()[ib_id]] += amount
    return found


@pytest.mark.parametrize(("kind", "count"), [("client", 1), ("clients", 2), ("ib", 2)])
def test_the_preview_says_what_the_same_deals_give_where_the_tree_was_so_from_the_start(
    house: Brokerage, kind: str, count: int
) -> None:
    now, then = world(house), world(house, kind)
    subject = now.clients[0] if kind == "client" else now.low

    seen = preview_move(house.session, drafted(house, kind, subject, now.new), AT)

    got, would = Counter[str](), Counter[str]()
    for effect in seen.effects:
        for amounts in effect.amounts:
            assert amounts.currency == "USD"
            got[now.names()[effect.ib_id]] += amounts.got
            would[now.names()[effect.ib_id]] += amounts.would
    assert {name: amount for name, amount in got.items() if amount} == dict(accrued(house, now, count))
    assert {name: amount for name, amount in would.items() if amount} == dict(accrued(house, then, count))
    assert (seen.clients, seen.deals, seen.waiting, seen.is_cut) == (count, 3 * count, 0, False)
    assert seen.house[0].got == accrued(house, now, count).total()
    assert seen.house[0].would == accrued(house, then, count).total()
    network = {now.names()[effect.ib_id]: effect.clients for effect in seen.effects}
    expected = {"old": -count, "new": count, "top": 0}
    if kind != "ib":
        expected["low"] = -count
    assert {name: network[name] for name in expected} == expected


def test_a_client_given_to_an_ib_and_one_taken_from_all(house: Brokerage) -> None:
    one = world(house)
    stranger = house.client()
    house.deal(house.account(stranger), "3", done_at=NOON)
    house.save()

    given = preview_move(house.session, drafted(house, "client", stranger, one.new), AT)
    taken = preview_move(house.session, drafted(house, "clients", one.low, None), AT)

    assert [(effect.ib_id, effect.clients) for effect in given.effects] == [(one.new, 1), (one.top, 1)]
    assert [effect.amounts[0].difference for effect in given.effects] == [Decimal(12), Decimal("9.6")]
    assert [(effect.ib_id, effect.clients) for effect in taken.effects] == [(one.low, -2), (one.old, -2), (one.top, -2)]
    assert {amounts.would for effect in taken.effects for amounts in effect.amounts} == {Decimal(0)}


def test_only_deals_of_the_last_days_under_the_present_place_count(house: Brokerage) -> None:
    one = world(house)
    person, account = house.client(), 0
    account = house.brought(one.old, until=NOON, client_id=person)
    house.add(Attribution(client_id=person, ib_id=one.low, source="manual", valid_from=NOON))
    counted = [house.deal(account, "1", done_at=moment) for moment in (NOON, AT - DAY)]
    others = [house.deal(account, "1", done_at=moment) for moment in (NOON - DAY, AT - 91 * DAY)]
    house.save()
    accrue_deals(house.session, [*counted, *others])

    seen = preview_move(house.session, drafted(house, "client", person, one.new), AT)

    assert seen.deals == 2
    low = next(effect for effect in seen.effects if effect.ib_id == one.low)
    assert low.amounts[0].got == 2 * Decimal(3)


def test_a_corrected_deal_counts_once_as_it_stands_now(house: Brokerage) -> None:
    one = world(house)
    first = one.deals[0]
    revised = house.revise(first, "4", done_at=NOON)
    house.save()
    accrue_deals(house.session, [revised])

    seen = preview_move(house.session, drafted(house, "client", one.clients[0], one.new), AT)

    low = next(effect for effect in seen.effects if effect.ib_id == one.low)
    assert seen.deals == 3
    assert low.amounts[0].got == Decimal(3) * Decimal("6.87")


def test_of_very_many_deals_the_newest_count(house: Brokerage, monkeypatch: pytest.MonkeyPatch) -> None:
    one = world(house)
    monkeypatch.setattr(move_preview, "MOST_DEALS", 2)

    seen = preview_move(house.session, drafted(house, "client", one.clients[0], one.new), AT)

    assert (seen.deals, seen.is_cut, seen.since) == (2, True, NOON + DAY)


def test_a_move_in_the_past_tells_what_was_accrued_since(house: Brokerage) -> None:
    one = world(house)

    seen = preview_move(house.session, drafted(house, "clients", one.low, one.new, NOON + DAY), AT)
    ahead = preview_move(house.session, drafted(house, "clients", one.low, one.new, AT + DAY), AT)

    assert seen.accrued_deals == 4
    assert seen.accrued == (("USD", 2 * Decimal(6) * Decimal("2.87")),)
    assert (ahead.accrued_deals, ahead.accrued) == (0, ())


def test_deals_that_could_not_be_priced_there_are_told(house: Brokerage) -> None:
    one = world(house)
    other = links.make_ib(house.session, house.client(), "USD", STAFF).id
    plan_id = publishing.create_plan(house.session, "Spread", "USD", STAFF)
    publishing.publish_version(house.session, plan_id, [{"key": "s", "component": "spread_share", "rate": "10"}], START, STAFF)
    publishing.assign_plan(house.session, other, plan_id, START, STAFF)

    seen = preview_move(house.session, drafted(house, "client", one.clients[0], other), AT)

    assert seen.waiting == 3


def test_who_stays_behind_is_counted(house: Brokerage) -> None:
    one = world(house)
    own = house.client()
    house.brought(one.low, client_id=own)
    house.brought(one.low, since=AT + DAY)
    house.save()
    target = links.make_ib(house.session, own, "USD", STAFF).id

    seen = preview_move(house.session, drafted(house, "clients", one.low, target), AT)

    assert (seen.clients, seen.staying) == (2, 2)
