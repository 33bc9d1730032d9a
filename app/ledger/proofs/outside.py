"""P8: the books beside the statements of banks and payment providers (docs/reconciliation.md).

What is open is read as the ageing page reads it (app/ledger/external_ageing.py); here it is judged. Several statements, one
after the other: what is matched while they run may be seen before or after.
"""

from __future__ import annotations

from datetime import UTC
from time import perf_counter

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from app.core.clock import now
from app.ledger import external_ageing
from app.ledger.external_ageing import Difference
from app.ledger.proofs.proof import Proof, found
from app.models.controls import ExternalLine

NAME = "P8 the statements of banks and providers say what the books say"

#: A payment may reach the bank's file some days after the books, or before: over a weekend up to this many.
OPEN_DAYS = 3
#: Nobody's money is not left lying: after this many days its owner must be found, or it goes back.
SUSPENSE_DAYS = 30

_MATCHED_OTHERWISE = text(
    """
    SELECT l.id, l.amount_minor, l.currency, s.account_code || ':' || l.currency AS account, l.account_version,
           a.code, e.debit - e.credit AS booked, l.account_id
      FROM external_line l
      JOIN external_statement s ON s.id = l.statement_id
      LEFT JOIN ledger.account a ON a.id = l.account_id
      LEFT JOIN ledger.entry e ON e.account_id = l.account_id AND e.account_version = l.account_version
     WHERE l.matched_at IS NOT NULL
       AND (a.code, e.debit - e.credit) IS DISTINCT FROM (s.account_code || ':' || l.currency, l.amount_minor)
     ORDER BY l.id
    """
)


def prove_one(session: Session) -> Proof:
    started = perf_counter()
    breaks = [
        f"line {row.id}: {row.amount_minor} on {row.account}, matched with {'no entry' if row.booked is None else row.booked}"
        f" on {row.code or f'account {row.account_id}'}, version {row.account_version}"
        for row in session.execute(_MATCHED_OTHERWISE)
    ]
    today = now().astimezone(UTC).date()
    for kind, days in (("line", OPEN_DAYS), ("entry", OPEN_DAYS), ("suspense", SUSPENSE_DAYS)):
        aged = external_ageing.differences(session, kind, today)
        breaks.extend(_words(one) for one in aged if one.age_days > days)
    lines = session.scalar(select(func.count(ExternalLine.id))) or 0
    return found(NAME, lines, breaks, started)


def _words(one: Difference) -> str:
    since = f"{one.amount.amount_minor} of {one.day.isoformat()} on {one.account}"
    if one.kind == "line":
        return f"line {one.line_id}: {since} has no entry"
    if one.kind == "entry":
        return f"transaction {one.txn_id}: {since} is in no statement"
    return f"transaction {one.txn_id}: {since} has no owner yet"
