"""A brokerage whose IBs have settled commission on their accounts."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import update
from sqlalchemy.orm import Session

from app.commissions import payouts
from app.commissions.accrual import accrue_deals
from app.commissions.settlement import settle_all
from app.core.actor import Actor
from app.core.clock import now
from app.core.money import Money
from app.ledger import chart, proofs, queries
from app.ledger.proofs import causes
from app.models.clients import Client
from app.models.commissions import Plan
from app.models.compliance import Document
from app.models.partners import IntroducingBroker
from app.models.payouts import Payout
from tests.conftest import tamper
from tests.integration.commissions.brokerage import Brokerage

FINANCE, OTHER = Actor.staff(1), Actor.staff(2)


def nowhere(payout: Payout, key: str) -> payouts.SentOn:
    """For payouts to the wallet, which go nowhere from there."""
    raise AssertionError("a payout to the wallet is not sent on")


def settled(session: Session, at: datetime) -> None:
    """Let all settlements be of this moment."""
    tamper(session, f"ALTER TABLE settlement DISABLE TRIGGER USER; UPDATE settlement SET settled_at = '{at.isoformat()}'")


@dataclass
class Earnings:
    """IBs of a brokerage, what they earned, and where their money is."""

    house: Brokerage
    minute: int = 0
    accounts: dict[int, int] = field(default_factory=dict)

    @property
    def session(self) -> Session:
        return self.house.session

    def ib(self, lots: str = "", *, documents: bool = True) -> int:
        """An approved IB at 7.00 USD a lot; with `lots`, it has earned and been settled for them."""
        ib_id = self.house.ib()
        client_id = self.client_of(ib_id)
        self.session.execute(update(Client).where(Client.id == client_id).values(status="approved"))
        for kind in ("identity", "address") if documents else ():
            self.house.add(
                Document(
                    client_id=client_id, kind=kind, status="approved", file_name="a.png", media_type="image/png",
                    size_bytes=1, sha256=b"x", storage_key=f"{kind}{client_id}", reviewed_at=now(),
                )
            )  # fmt: skip
        self.accounts[ib_id] = self.house.brought(ib_id)
        if lots:
            self.earn(ib_id, lots)
        self.house.save()
        return ib_id

    def earn(self, ib_id: int, lots: str, *, settled: bool = True) -> int:
        """Deals of the IB's client, accrued, and settled unless they are to wait. Returns the deal."""
        deal_id = self.house.deal(self.accounts[ib_id], lots)
        accrue_deals(self.session, [deal_id])
        if settled:
            self.settle()
        return deal_id

    def settle(self) -> None:
        """Each settlement has a minute of its own: a period is settled once."""
        self.minute += 1
        settle_all(self.session, now() + timedelta(minutes=self.minute))

    def lose(self, ib_id: int, deal_id: int) -> None:
        """The deal is taken back at the server: what it earned is owed."""
        accrue_deals(self.session, [self.house.revise(deal_id, "0.01", is_void=True)])

    def terms(self, **values: int) -> None:
        """Terms of the newest IB's plan."""
        self.session.execute(update(Plan).where(Plan.id == self.house.ids["plan"]).values(**values))
        self.house.save()

    def client_of(self, ib_id: int) -> int:
        return self.session.get_one(IntroducingBroker, ib_id).client_id

    def commission(self, ib_id: int) -> tuple[Money, Money]:
        """Posted on the IB's commission account, and held of it."""
        found = queries.balance(self.session, chart.ib_commission(ib_id, "USD"))
        return found.posted, found.held

    def wallet(self, ib_id: int) -> Money:
        found = queries.find_balance(self.session, chart.client_wallet(self.client_of(ib_id), "USD"))
        return found.posted if found else Money.zero("USD")

    def breaks(self) -> list[str]:
        """What the proofs of the books and of causes find."""
        self.session.expire_all()
        found = [*proofs.prove(self.session), causes.prove_one(self.session)]
        return [line for proof in found for line in proof.breaks]
