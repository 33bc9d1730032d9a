"""A branch of IBs whose head can sign in: an own client who trades, a sub-IB with a client, and an IB elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy.orm import Session

from app.commissions import accrual, publishing, settlement
from app.core.clock import now
from app.partners import links, tree
from tests.integration.commissions.brokerage import STAFF, START, Brokerage, build

#: Seven dollars a lot for the client's own IB, two for the one above.
RULES = [{"key": "fx", "component": "per_lot", "levels": {"mode": "rates", "values": ["7.00", "2.00"]}}]


@dataclass
class PartnerHouse:
    """`ib_id` signs in; `sub_id` stands below it; `other_id` has nothing to do with them. Accounts of a client of each."""

    brokerage: Brokerage
    ib_id: int
    sub_id: int
    other_id: int
    own_account: int
    sub_account: int
    other_account: int

    @property
    def session(self) -> Session:
        return self.brokerage.session

    def trade(self, account_id: int, lots: str = "1", **changes: Any) -> int:
        """A closing deal, booked and accrued."""
        deal_id = self.brokerage.deal(account_id, lots, **changes)
        self.brokerage.save()
        accrual.accrue_deals(self.session, [deal_id])
        self.session.commit()
        return deal_id

    def settle(self) -> None:
        assert settlement.settle_all(self.session, now() + timedelta(minutes=5))


def partner_house(session: Session, client_id: int) -> PartnerHouse:
    """The client of this number becomes the IB that signs in."""
    house = build(session)
    plan_id = publishing.create_plan(session, "Standard IB", "USD", STAFF)
    publishing.publish_version(session, plan_id, RULES, START, STAFF)
    made = {}
    for name, person in (
        ("ib", client_id),
        ("sub", house.client("Sami", "Below")),
        ("other", house.client("Olga", "Elsewhere")),
    ):
        made[name] = links.make_ib(session, person, "USD", STAFF).id
        publishing.assign_plan(session, made[name], plan_id, START, STAFF)
    tree.place_ib(session, made["sub"], made["ib"], START, "joined", STAFF)
    accounts = {
        name: house.brought(made[name], client_id=house.client(first, last))
        for name, first, last in (("ib", "Carla", "Own"), ("sub", "Dario", "Under"), ("other", "Egon", "Foreign"))
    }
    house.save()
    return PartnerHouse(house, made["ib"], made["sub"], made["other"], accounts["ib"], accounts["sub"], accounts["other"])
