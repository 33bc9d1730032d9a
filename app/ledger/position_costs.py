"""What FX positions cost: the worth of what was given for them, when it was given, in the reporting currency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.money import Money, exponent
from app.ledger.rates import RateBook

#: The entries of positions with the cost of each that its transaction tells: two positions, of which the other is in the
#: reporting currency, or whose worth was written down when they were exchanged. The rest is summed by day.
_ENTRIES = text(
    """
    WITH moved AS (
        SELECT e.txn_id, e.currency, e.effective_at, e.credit - e.debit AS minor, count(*) OVER txn AS legs,
               sum(e.credit - e.debit) FILTER (WHERE e.currency = :reporting) OVER txn AS reporting_minor
          FROM ledger.entry e
         WHERE e.account_id = ANY(:accounts) AND e.effective_at >= :since AND e.effective_at < :until
        WINDOW txn AS (PARTITION BY e.txn_id)
    ), costed AS (
        SELECT m.currency, m.minor, m.effective_at,
               CASE WHEN m.legs <> 2 THEN NULL
                    WHEN m.reporting_minor IS NOT NULL THEN m.reporting_minor * CAST(:unit AS numeric) * -1
                    WHEN worth.value ->> 'currency' = :reporting
                         THEN sign(CAST(m.minor AS numeric)) * CAST(worth.value ->> 'amount' AS numeric)
                END AS cost
          FROM moved m
          JOIN ledger.txn t ON t.id = m.txn_id
          LEFT JOIN ledger.txn o ON o.id = t.reverses
         CROSS JOIN LATERAL (SELECT coalesce(t.metadata -> 'value', o.metadata -> 'value') AS value) AS worth
         WHERE m.currency <> :reporting
    )
    SELECT currency, CASE WHEN cost IS NULL THEN date_trunc('day', effective_at, 'UTC') END AS day,
           sum(minor) AS minor, sum(cost) AS cost
      FROM costed GROUP BY 1, 2 ORDER BY 1, 2
    """
)
_BEGINNING = datetime(1900, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Settled:
    """The costs of all entries before a moment, which no entry can join any more."""

    through: datetime = _BEGINNING
    costs: Mapping[str, Decimal] = field(default_factory=dict)


def costs(session: Session, accounts: Sequence[int], settled: Settled, book: RateBook) -> dict[str, Decimal]:
    """The cost of each position other than the reporting currency's own, as it stood before the book's moment.

    What did not come from an exchange of two currencies costs what it was worth at the end of its day; and what nobody
    could value then, what it is worth at the book's moment.
    """
    rows = session.execute(
        _ENTRIES,
        {
            "accounts": list(accounts),
            "reporting": book.currency,
            "unit": str(Decimal(1).scaleb(-exponent(book.currency))),
            "since": settled.through,
            "until": book.at,
        },
    )
    found = dict(settled.costs)
    for row in rows.all():
        cost = row.cost if row.day is None else _worth(session, Money(int(row.minor), row.currency), row.day, book)
        found[row.currency] = found.get(row.currency, Decimal(0)) + cost
    return found


def _worth(session: Session, money: Money, day: datetime, book: RateBook) -> Decimal:
    then = RateBook(session, book.currency, min(day + timedelta(days=1), book.at)).value(money).amount
    return then if then is not None else book.value(money).amount or Decimal(0)
