"""A small brokerage around one IB, written straight into the tables."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import case, func, select, update
from sqlalchemy.orm import Session

from app.commissions import publishing
from app.core.actor import Actor
from app.core.clock import now
from app.core.tables import Event
from app.core.uow import unit_of_work
from app.ledger import rates
from app.models.clients import Client
from app.models.commissions import Accrual, DealOutcome
from app.models.metatrader import Deal, Product, Server, TradingAccount
from app.models.partners import Attribution
from app.partners import links
from tests.conftest import tamper

STAFF = Actor.staff(1)
START = datetime(2026, 1, 1, tzinfo=UTC)
NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
LOT = 10**8
RULES = [{"key": "fx", "component": "per_lot", "rate": "7.00"}]

_numbers = itertools.count(1)


@dataclass
class Brokerage:
    """One server, one live and one demo product; clients, deals and IBs are added by the tests."""

    session: Session
    server_id: int = 0
    live_id: int = 0
    demo_id: int = 0
    ids: dict[str, int] = field(default_factory=dict)

    def add(self, row: Any) -> int:
        self.session.add(row)
        self.session.flush()
        return row.id

    def client(self, first: str = "Amira", last: str = "Haddad") -> int:
        return self.add(
            Client(
                email=f"client{next(_numbers)}@example.com",
                password_hash="x",
                first_name=first,
                last_name=last,
                country="AE",
                terms_version="1",
                terms_accepted_at=START,
            )
        )

    def account(self, client_id: int, *, demo: bool = False) -> int:
        number = next(_numbers)
        return self.add(
            TradingAccount(
                client_id=client_id,
                product_id=self.demo_id if demo else self.live_id,
                server_id=self.server_id,
                login=1000 + number,
                currency="USD",
                leverage=100,
                status="active",
                token=f"A-{number}",
            )
        )

    def ib(self, rules: list[dict[str, Any]] | None = None, margin_guard: str = "off") -> int:
        """An IB who is paid by a plan of its own from the start."""
        made = links.make_ib(self.session, self.client("Ines", "Broker"), "USD", STAFF)
        plan_id = publishing.create_plan(self.session, f"Plan {next(_numbers)}", "USD", STAFF)
        publishing.publish_version(self.session, plan_id, rules or RULES, START, STAFF, margin_guard)
        publishing.assign_plan(self.session, made.id, plan_id, START, STAFF)
        self.ids["plan"] = plan_id
        return made.id

    def brought(
        self, ib_id: int, *, since: datetime = START, until: datetime | None = None, client_id: int | None = None
    ) -> int:
        """An account of a client whom this IB brought."""
        client_id = client_id or self.client()
        self.add(Attribution(client_id=client_id, ib_id=ib_id, source="manual", valid_from=since, valid_to=until))
        return self.account(client_id)

    def deal(self, account_id: int | None, lots: str = "1", **changes: Any) -> int:
        number = next(_numbers)
        values: dict[str, Any] = {
            "server_id": self.server_id,
            "ticket": number,
            "revision": 1,
            "fingerprint": b"f",
            "is_current": True,
            "is_void": False,
            "login": 1,
            "trading_account_id": account_id,
            "action": 1,
            "entry": 1,
            "reason": 0,
            "order_ticket": number,
            "position_ticket": number,
            "symbol": "EURUSD",
            "volume": int(Decimal(lots) * LOT),
            "price": Decimal("1.1"),
            "profit": Decimal(0),
            "server_time_ms": 0,
            "utc_offset_min": 0,
            "done_at": NOON,
        }
        return self.add(Deal(**values | changes))

    def revise(self, deal_id: int, lots: str, **changes: Any) -> int:
        """What ingest does with an edit: the old row is no longer current, a new revision is."""
        old = self.session.get(Deal, deal_id)
        assert old is not None
        self.session.execute(update(Deal).where(Deal.id == deal_id).values(is_current=False))
        return self.deal(
            old.trading_account_id,
            lots,
            **{"ticket": old.ticket, "revision": old.revision + 1, "position_ticket": old.position_ticket} | changes,
        )

    def rate(self, base: str, quote: str, rate: str) -> None:
        """A rate by hand, as of an hour ago."""
        observed_at = now() - timedelta(hours=1)
        rates.record(self.session, [rates.Observation("manual", base, quote, Decimal(rate), observed_at)])

    def save(self) -> None:
        with unit_of_work(self.session, STAFF):
            self.session.flush()

    def amounts(self, ib_id: int) -> list[tuple[str, Decimal]]:
        query = select(Accrual.kind, Accrual.amount).where(Accrual.ib_id == ib_id).order_by(Accrual.id)
        return [(kind, amount) for kind, amount in self.session.execute(query)]

    def outcome(self, deal_id: int) -> tuple[int, str]:
        """How many accruals of a deal stand, those that were reversed left out, and why it pays nothing."""
        accruals = select(func.sum(case((Accrual.kind == "reverse", -1), else_=1))).where(Accrual.deal_id == deal_id)
        reason = select(DealOutcome.reason).where(DealOutcome.deal_id == deal_id)
        return self.session.scalar(accruals) or 0, self.session.scalar(reason) or ""

    def events(self, type_: str) -> list[Event]:
        return list(self.session.scalars(select(Event).where(Event.type == type_).order_by(Event.id)))


def without_plan(session: Session, ib_id: int) -> None:
    """Let an IB never have had a plan of its own."""
    tamper(session, f"DELETE FROM ib_plan WHERE ib_id = {ib_id}")


def build(session: Session) -> Brokerage:
    house = Brokerage(session)
    number = next(_numbers)
    house.server_id = house.add(
        Server(code=f"t{number}", name="Test", platform="mt5_web", url="https://x", manager_login=1, time_zone="UTC")
    )
    for name, demo in (("live", False), ("demo", True)):
        product = Product(
            code=f"{name}{number}",
            name=name,
            server_id=house.server_id,
            group=name,
            currency="USD",
            leverages=[100],
            is_demo=demo,
        )
        setattr(house, f"{name}_id", house.add(product))
    return house
