"""P6: what the house keeps for its clients is enough for what it owes them (docs/ledger.md, "Client money").

Per currency: what is at hand (clients' money at banks, what payment providers owe us) beside what is owed (wallets, positive
trading balances, commissions of introducing brokers, payouts in flight, receipts whose owner is being looked for). No
client's negative balance makes up for another one's money, and what a client owes us is not counted.

A conversion moves what is owed from one currency to another and no money between banks, so a shortage in one currency may be
covered by another one, at the rates of the moment: judged is the sum in the reporting currency.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from time import perf_counter
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from app.core.money import Money, reporting_currency
from app.ledger.proofs.proof import Proof, found
from app.ledger.rates import RateBook, Valued

NAME = "P6 clients' money at hand covers what is owed to clients"

#: Account codes by what they are to clients. Suspense that mirrors a trading server's corrections holds nobody's receipt,
#: but where it is positive the house owes it until somebody has found out.
_PURPOSES = {
    "bank": "^bank:[^:]+:client_money:",
    "clearing": "^psp:[^:]+:clearing:",
    "wallets": "^client:[^:]+:wallet:",
    "trading": "^mt:[^:]+:[^:]+:balance:",
    "commission": "^ib:[^:]+:commission:",
    "payouts": "^psp:[^:]+:payouts:",
    "suspense": "^suspense:",
    "position": "^fx:position:",
}
_AT_HAND = ("bank", "clearing")
_OWED = ("wallets", "trading", "commission", "payouts", "suspense")

_SUMS = """
SELECT purpose, currency, count(*) AS accounts,
       sum(CASE WHEN purpose IN ('trading', 'suspense') THEN greatest(balance, 0) ELSE balance END) AS balance
  FROM (SELECT CASE {purposes} END AS purpose, a.currency, (a.credits - a.debits - {later}) * a.side AS balance
          FROM ledger.account a {join}) AS classed
 WHERE purpose IS NOT NULL
 GROUP BY purpose, currency
"""
_WHENS = " ".join(f"WHEN a.code ~ '{pattern}' THEN '{purpose}'" for purpose, pattern in _PURPOSES.items())
_NOW = text(_SUMS.format(purposes=_WHENS, later="0", join=""))
#: As of a moment: the counters less what is effective from it on, which most accounts do not have.
_THEN = text(
    _SUMS.format(
        purposes=_WHENS,
        later="coalesce(later.credited, 0)",
        join="LEFT JOIN LATERAL (SELECT sum(e.credit - e.debit) AS credited FROM ledger.entry e"
        " WHERE e.account_id = a.id AND e.effective_at >= :at) AS later ON a.effective_through >= :at",
    )
)


@dataclass(frozen=True)
class CurrencyLine:
    """One currency. `position` is what conversions have left the house holding: it explains surpluses and shortages.

    `valued` is the surplus in the reporting currency.
    """

    currency: str
    bank: Money
    clearing: Money
    wallets: Money
    trading: Money
    commission: Money
    payouts: Money
    suspense: Money
    position: Money
    valued: Valued
    resources_value: Decimal | None
    requirement_value: Decimal | None

    @property
    def has_value(self) -> bool:
        """Whether the line is in the sums of the reporting currency."""
        return self.resources_value is not None and self.requirement_value is not None

    @property
    def resources(self) -> Money:
        """What is at hand."""
        return self.bank + self.clearing

    @property
    def requirement(self) -> Money:
        """What is owed."""
        return self.wallets + self.trading + self.commission + self.payouts + self.suspense

    @property
    def surplus(self) -> Money:
        """What is at hand beyond what is owed; negative when it is short."""
        return self.resources - self.requirement


@dataclass(frozen=True)
class ClientMoney:
    """All currencies, and their sums in the reporting currency, unrounded; None when a currency has no rate at all."""

    lines: tuple[CurrencyLine, ...]
    resources: Decimal | None
    requirement: Decimal | None
    surplus: Decimal | None
    reporting_currency: str
    at: datetime
    accounts: int

    @property
    def without_rate(self) -> tuple[str, ...]:
        """Currencies that cannot be valued, and are therefore in no sum."""
        return tuple(line.currency for line in self.lines if not line.has_value)

    @property
    def is_covered(self) -> bool:
        """Whether what is at hand is shown to be enough."""
        return self.surplus is not None and self.surplus >= 0


def client_money(session: Session, at: datetime | None = None) -> ClientMoney:
    """Clients' money as it stands now, or by what is effective before a moment, at the rates of that moment.

    An old rate counts too: it is better than none, and marked in the line.
    """
    rows = session.execute(_NOW).all() if at is None else session.execute(_THEN, {"at": at}).all()
    book = RateBook(session, reporting_currency(), at)
    lines = tuple(_line([row for row in rows if row.currency == code], book) for code in sorted({row.currency for row in rows}))
    resources, requirement = (
        _sum([line.resources_value for line in lines]),
        _sum([line.requirement_value for line in lines]),
    )
    surplus = None if resources is None or requirement is None else resources - requirement
    accounts = sum(row.accounts for row in rows)
    return ClientMoney(lines, resources, requirement, surplus, book.currency, book.at, accounts)


def prove_one(session: Session) -> Proof:
    started = perf_counter()
    state = client_money(session)
    breaks = [
        f"currency {line.currency}: no rate to {state.reporting_currency}; at hand {line.resources}, owed {line.requirement}"
        for line in state.lines
        if not line.has_value
    ]
    if state.surplus is not None and state.surplus < 0:
        by_currency = ", ".join(f"{line.surplus}" for line in state.lines)
        breaks.append(
            f"client money in {state.reporting_currency}: at hand {state.resources:.4f}, owed {state.requirement:.4f},"
            f" short by {-state.surplus:.4f}; by currency {by_currency}"
        )
    return found(NAME, state.accounts, breaks, started)


def _line(rows: list[Row[Any]], book: RateBook) -> CurrencyLine:
    currency = rows[0].currency
    sums = {row.purpose: int(row.balance) for row in rows}
    amounts = {purpose: Money(sums.get(purpose, 0), currency) for purpose in _PURPOSES}
    at_hand = Money(sum(sums.get(purpose, 0) for purpose in _AT_HAND), currency)
    owed = Money(sum(sums.get(purpose, 0) for purpose in _OWED), currency)
    return CurrencyLine(
        currency,
        **amounts,
        valued=book.value(at_hand - owed),
        resources_value=_value(book, at_hand),
        requirement_value=_value(book, owed),
    )


def _value(book: RateBook, money: Money) -> Decimal | None:
    """Nothing is worth nothing at any rate."""
    return book.value(money).amount if money else Decimal(0)


def _sum(values: list[Decimal | None]) -> Decimal | None:
    known = [value for value in values if value is not None]
    return sum(known, Decimal(0)) if len(known) == len(values) else None
