"""Clients' money for the people who look after it: what is held and owed, why the two differ, and what the house has paid.

What is held and owed is proof P6's (app/ledger/proofs). Because the books balance, the difference is explained in full by
all other accounts: clients' trading, fees, commission, own money brought in and so on; docs/decisions/0005-funding.md.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from app.core.errors import N_
from app.core.money import Money
from app.ledger import tree
from app.ledger.proofs.segregation import ClientMoney, CurrencyLine, client_money
from app.models.clients import Client
from app.models.controls import ExternalLine
from app.models.ledger import DEBIT_KINDS, Account, Entry, Transaction
from app.models.payments import Withdrawal

#: Why held and owed differ: what it is called, and the groups of the chart of accounts that it is made of.
REASONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "own": (N_("Own money brought in"), ("migration_opening", "bank_own_money")),
    "results": (N_("Clients' trading"), ("trading_result",)),
    "income": (N_("Fees and spreads"), ("fx_spread", "fees")),
    "fx": (N_("Conversions and rates"), ("fx_position", "fx_revaluation", "fx_result")),
    "commission": (N_("Commission of introducing brokers"), ("commission_expense",)),
    "psp_fees": (N_("Fees of payment providers"), ("psp_fees",)),
    "bonus": (N_("Bonuses"), ("client_bonuses", "bonus_expense")),
    "negative": (N_("Trading balances below zero"), ("trading_balances", "negative_balance")),
    "receivable": (N_("Owed to us by clients"), ("client_receivables",)),
    "suspense": (N_("Paid out, not yet explained"), ("suspense",)),
    "other": (N_("Other accounts"), ()),
}
_REASON_OF = {group: reason for reason, (_, groups) in REASONS.items() for group in groups}
#: Of these groups proof P6 counts what is above zero, the rest is a reason; the others it counts whole, so they are none.
_ABOVE_ZERO = {"trading_balances": "trading", "suspense": "suspense"}
_COUNTED = ("bank_client_money", "psp_clearing", "client_wallets", "ib_commission", "payouts")


@dataclass(frozen=True)
class Position:
    """One currency. `reasons`: minor units by which each raises the surplus, or lowers it. `own`: on the house's accounts."""

    line: CurrencyLine
    reasons: dict[str, int]
    own: Money

    @property
    def shortage(self) -> Money:
        """What the house has to add. Zero when clients' money is enough."""
        return Money(max(0, -self.line.surplus.amount_minor), self.line.currency)

    @property
    def unfunded_profits(self) -> Money:
        """The part of the shortage that comes from clients having won, over all, and the house not having paid it in."""
        return Money(min(self.shortage.amount_minor, max(0, -self.reasons["results"])), self.line.currency)


@dataclass(frozen=True)
class Report:
    """All currencies, and their sums in the reporting currency."""

    state: ClientMoney
    positions: tuple[Position, ...]


@dataclass(frozen=True)
class Paid:
    """The house's part of one withdrawal: a transfer that the bank has to make, and whether its statement shows it."""

    txn_id: UUID
    withdrawal_id: int
    client: str
    account: str
    amount: Money
    of: Money
    posted_at: datetime
    is_given_back: bool
    is_seen: bool


def report(session: Session, at: datetime | None = None) -> Report:
    """What is held and owed now, or by what is effective before a moment, and why the two differ.

    Two statements: give a session that sees one moment (REPEATABLE READ), or they may differ by what commits between them.
    """
    state, chart = client_money(session, at), tree.chart(session, at)
    lines = {line.currency: line for line in state.lines}
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    own: Counter[str] = Counter()
    for kind in chart.nodes:
        for group in kind.children:
            for money in group.sums:
                raises = -money.amount_minor if kind.key in DEBIT_KINDS else money.amount_minor
                if group.key in _ABOVE_ZERO:
                    raises -= getattr(lines[money.currency], _ABOVE_ZERO[group.key]).amount_minor
                if group.key not in _COUNTED:
                    reasons[money.currency][_REASON_OF.get(group.key, "other")] += raises
                if group.key == "bank_own_money":
                    own[money.currency] += money.amount_minor
    return Report(
        state,
        tuple(
            Position(line, {reason: reasons[code][reason] for reason in REASONS}, Money(own[code], code))
            for code, line in lines.items()
        ),
    )


def paid_by_house(session: Session, *, limit: int = 25) -> list[Paid]:
    """The newest withdrawals of which the house paid a part."""
    reversal = aliased(Transaction)
    rows = session.execute(
        select(
            Transaction.id,
            Transaction.posted_at,
            Account.code,
            Entry.credit,
            Entry.currency,
            Withdrawal.id.label("withdrawal_id"),
            Withdrawal.amount_minor,
            Client.first_name,
            Client.last_name,
            reversal.id.label("reversal_id"),
            ExternalLine.id.label("line_id"),
        )
        .join(Entry, Entry.txn_id == Transaction.id)
        .join(Account, Account.id == Entry.account_id)
        .join(Withdrawal, Withdrawal.capture_txn_id == Transaction.id)
        .join(Client, Client.id == Withdrawal.client_id)
        .outerjoin(reversal, reversal.reverses == Transaction.id)
        .outerjoin(
            ExternalLine,
            (ExternalLine.account_id == Entry.account_id) & (ExternalLine.account_version == Entry.account_version),
        )
        .where(Account.code.like(r"bank:%:own\_money:%"), Entry.credit > 0)
        .order_by(Transaction.seq.desc())
        .limit(limit)
    )
    return [
        Paid(
            txn_id=row.id,
            withdrawal_id=row.withdrawal_id,
            client=f"{row.first_name} {row.last_name}",
            account=row.code,
            amount=Money(row.credit, row.currency),
            of=Money(row.amount_minor, row.currency),
            posted_at=row.posted_at,
            is_given_back=row.reversal_id is not None,
            is_seen=row.line_id is not None,
        )
        for row in rows
    ]
