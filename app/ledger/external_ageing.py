"""Differences between us and the outside, by age: lines without an entry, entries without a line, money in suspense.

An entry counts as open only on days that imported statements cover; a transaction and its reversal that both have no line
cancel each other. In suspense the oldest receipts are cleared first, so what is left are the newest credits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.core.clock import now
from app.core.money import Money
from app.models.ledger import Account

#: The last day of each class of age but the last, which has none.
CLASSES = (3, 7, 30)
KINDS = ("line", "entry", "suspense")


@dataclass(frozen=True)
class Bucket:
    """One class of age."""

    count: int
    amount: Money


@dataclass(frozen=True)
class AgedRow:
    """One account and direction; `buckets` has one more than CLASSES."""

    account: str
    is_receipt: bool
    buckets: tuple[Bucket, ...]
    oldest: date

    @property
    def count(self) -> int:
        return sum(bucket.count for bucket in self.buckets)

    @property
    def amount(self) -> Money:
        return sum((bucket.amount for bucket in self.buckets[1:]), self.buckets[0].amount)


@dataclass(frozen=True)
class Ageing:
    """Everything open on a day. `overdrawn` are suspense accounts from which more was taken than came, with their balances."""

    today: date
    lines: tuple[AgedRow, ...]
    entries: tuple[AgedRow, ...]
    suspense: tuple[AgedRow, ...]
    overdrawn: tuple[tuple[str, Money], ...]


@dataclass(frozen=True)
class Difference:
    """One thing that is open. `line_id` is set for lines, and for receipts that came from one; `txn_id` for what is booked."""

    kind: str
    account: str
    day: date
    age_days: int
    amount: Money
    reference: str
    words: str
    line_id: int | None
    txn_id: UUID | None


def aged(session: Session, today: date | None = None) -> Ageing:
    """What is open, by account, direction and age."""
    day = today or now().astimezone(UTC).date()
    below_zero = session.execute(
        select(Account.code, Account.balance, Account.currency)
        .where(Account.code.startswith("suspense:"), Account.balance < 0)
        .order_by(Account.code)
    )
    return Ageing(
        day,
        lines=_rows(session, "line", day),
        entries=_rows(session, "entry", day),
        suspense=_rows(session, "suspense", day),
        overdrawn=tuple((row.code, Money(row.balance, row.currency)) for row in below_zero),
    )


def differences(session: Session, kind: str, today: date | None = None, limit: int | None = None) -> Iterator[Difference]:
    """Every difference of a kind (see KINDS), the oldest first. Read as it is consumed."""
    day = today or now().astimezone(UTC).date()
    result = session.execute(
        text(f"SELECT * FROM ({_OPEN[kind]}) AS open ORDER BY day, account, reference LIMIT :limit"),  # noqa: S608  our own text
        {"limit": limit},
        execution_options={"yield_per": 1000},
    )
    for row in result:
        yield Difference(
            kind=kind,
            account=row.account,
            day=row.day,
            age_days=(day - row.day).days,
            amount=Money(row.minor, row.currency),
            reference=row.reference,
            words=row.words,
            line_id=row.line_id,
            txn_id=row.txn_id,
        )


def class_of(age_days: int) -> int:
    """The number of an age's class, from 0."""
    return sum(age_days > last for last in CLASSES)


def _rows(session: Session, kind: str, day: date) -> tuple[AgedRow, ...]:
    found = session.execute(
        text(
            "SELECT account, currency, minor > 0 AS is_receipt, min(day) AS oldest,"  # noqa: S608  our own text
            " CAST(:today AS date) - day AS age, count(*) AS lines, sum(minor) AS minor"
            f" FROM ({_OPEN[kind]}) AS open GROUP BY account, currency, minor > 0, day"
        ),
        {"today": day},
    ).all()
    made = []
    for key in sorted({(row.account, not row.is_receipt, row.currency) for row in found}):
        of_key = [row for row in found if (row.account, not row.is_receipt, row.currency) == key]
        buckets = []
        for number in range(len(CLASSES) + 1):
            members = [row for row in of_key if class_of(row.age) == number]
            total = Money(sum(int(row.minor) for row in members), key[2])
            buckets.append(Bucket(sum(row.lines for row in members), total))
        made.append(AgedRow(key[0], not key[1], tuple(buckets), min(row.oldest for row in of_key)))
    return tuple(made)


_HAS_NO_LINE = (
    "NOT EXISTS (SELECT FROM external_line AS has"
    " WHERE has.account_id = {entry}.account_id AND has.account_version = {entry}.account_version)"
)
_OPEN = {
    "line": """
        SELECT s.account_code || ':' || l.currency AS account, l.booked_on AS day, l.amount_minor AS minor, l.currency,
               l.reference, l.description AS words, l.id AS line_id, CAST(NULL AS uuid) AS txn_id
          FROM external_line AS l JOIN external_statement AS s ON s.id = l.statement_id
         WHERE l.matched_at IS NULL
    """,
    "entry": f"""
        SELECT a.code AS account, CAST(timezone('UTC', e.effective_at) AS date) AS day, e.debit - e.credit AS minor, e.currency,
               t.idempotency_key AS reference, t.kind AS words, CAST(NULL AS bigint) AS line_id, t.id AS txn_id
          FROM (SELECT s.account_code || ':' || l.currency AS code, min(l.booked_on) AS first, max(l.booked_on) AS last
                  FROM external_line AS l JOIN external_statement AS s ON s.id = l.statement_id
                 GROUP BY 1) AS covered
          JOIN ledger.account AS a ON a.code = covered.code
          JOIN ledger.entry AS e ON e.account_id = a.id
               AND e.effective_at >= timezone('UTC', CAST(covered.first AS timestamp))
               AND e.effective_at < timezone('UTC', CAST(covered.last + 1 AS timestamp))
          JOIN ledger.txn AS t ON t.id = e.txn_id
         WHERE {_HAS_NO_LINE.format(entry="e")}
           AND NOT EXISTS (SELECT FROM ledger.txn AS undo
                             JOIN ledger.entry AS mirror ON mirror.txn_id = undo.id AND mirror.account_id = e.account_id
                            WHERE undo.reverses = t.id AND {_HAS_NO_LINE.format(entry="mirror")})
           AND NOT EXISTS (SELECT FROM ledger.entry AS undone
                            WHERE undone.txn_id = t.reverses AND undone.account_id = e.account_id
                              AND {_HAS_NO_LINE.format(entry="undone")})
    """,  # noqa: S608  our own text
    "suspense": """
        SELECT a.code AS account, CAST(timezone('UTC', e.effective_at) AS date) AS day,
               least(e.credit, e.credits_after - a.debits) AS minor, e.currency,
               coalesce(l.reference, t.idempotency_key) AS reference, coalesce(l.description, t.kind) AS words,
               l.id AS line_id, t.id AS txn_id
          FROM ledger.account AS a
          JOIN ledger.entry AS e ON e.account_id = a.id AND e.credit > 0 AND e.credits_after > a.debits
          JOIN ledger.txn AS t ON t.id = e.txn_id
          LEFT JOIN external_line AS l
            ON l.id = CASE WHEN t.kind = 'suspense_receipt' THEN CAST(t.metadata ->> 'external_line_id' AS bigint) END
         WHERE a.code LIKE 'suspense:%'
    """,
}
