"""Taking in a statement: look at what a file holds first, then store it, whole or not at all.

Banks give out files whose days overlap. What an earlier import of the same account has already (day, reference and amount)
is left out, as often as it stands there: a receipt that came once must not be found twice.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from datetime import date

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import N_, InvalidInput
from app.core.money import Money
from app.core.uow import unit_of_work
from app.ledger.errors import StatementKnown, StatementRefused
from app.ledger.external import one_at_a_time, outside_accounts
from app.ledger.external_formats import FORMATS, Movement, latest_day
from app.models.controls import ExternalLine, ExternalStatement

SAMPLE_LINES = 20
_LONGEST_NAME = 200
_COLUMNS = ("statement_id", "line", "booked_on", "reference", "amount_minor", "currency", "description")


@dataclass(frozen=True)
class Total:
    """What came and what went in one currency."""

    currency: str
    line_count: int
    received: Money
    sent: Money


@dataclass(frozen=True)
class Preview:
    """What an import of this file would store now."""

    account: str
    sha256: str
    line_count: int
    known_count: int
    first: date
    last: date
    totals: tuple[Total, ...]
    sample: tuple[Movement, ...]


@dataclass(frozen=True)
class Imported:
    """What was stored, and how many lines of the file were known from earlier imports."""

    statement_id: int
    line_count: int
    known_count: int


def preview_statement(session: Session, *, account: str, format_name: str, content: bytes) -> Preview:
    """What the file holds; nothing is stored.

    Raises StatementRefused with everything that is wrong with it, StatementKnown, and InvalidInput for an account or
    format that there is not.
    """
    movements, known = _read(session, account, format_name, content)
    days = [movement.booked_on for movement in movements]
    return Preview(
        account=account,
        sha256=fingerprint(content),
        line_count=len(movements),
        known_count=known,
        first=min(days),
        last=max(days),
        totals=_totals(movements),
        sample=tuple(movements[:SAMPLE_LINES]),
    )


def import_statement(
    session: Session, *, account: str, format_name: str, file_name: str, content: bytes, actor: Actor
) -> Imported:
    """Store the lines of a file, numbered from 1 in the order of the file. Raises as `preview_statement`."""
    with unit_of_work(session, actor) as unit:
        one_at_a_time(session, account)
        movements, known = _read(session, account, format_name, content)
        statement = ExternalStatement(
            account_code=account,
            file_name=_file_name(file_name),
            sha256=fingerprint(content),
            imported_by=str(actor),
        )
        session.add(statement)
        session.flush()
        _store(session, statement.id, movements)
        after = {
            "account": account,
            "file": statement.file_name,
            "sha256": statement.sha256,
            "lines": len(movements),
            "known_lines": known,
        }
        unit.audit("external_statement.import", f"external_statement:{statement.id}", after=after)
        unit.emit("statement.imported", subject_id=statement.id, account=account, lines=len(movements))
        return Imported(statement.id, len(movements), known)


def fingerprint(content: bytes) -> str:
    """What a file is recognised by."""
    return hashlib.sha256(content).hexdigest()


def _read(session: Session, account: str, format_name: str, content: bytes) -> tuple[list[Movement], int]:
    """The movements that are new, and how many are not."""
    if account not in outside_accounts(session):
        raise InvalidInput({"account": N_("Please choose one of the accounts.")})
    if format_name not in FORMATS:
        raise InvalidInput({"format": N_("Please choose one of the formats.")})
    earlier = session.scalar(select(ExternalStatement.id).where(ExternalStatement.sha256 == fingerprint(content)))
    if earlier is not None:
        raise StatementKnown(earlier)
    decoded = FORMATS[format_name].decode(content, latest_day(now()))
    if decoded.problem_count:
        raise StatementRefused(decoded.problems, problem_count=decoded.problem_count)
    stored = _stored(session, account, decoded.movements)
    movements = []
    for movement in decoded.movements:
        if stored[_same(movement)] > 0:
            stored[_same(movement)] -= 1
        else:
            movements.append(movement)
    if not movements:
        raise StatementRefused(message=N_("All lines of this file were imported before, with other files. Nothing was stored."))
    return movements, len(decoded.movements) - len(movements)


def _stored(session: Session, account: str, movements: tuple[Movement, ...]) -> Counter[tuple[date, str, int, str]]:
    """How often earlier imports of the account have each movement, within the days of these."""
    days = [movement.booked_on for movement in movements]
    what = (ExternalLine.booked_on, ExternalLine.reference, ExternalLine.amount_minor, ExternalLine.currency)
    rows = session.execute(
        select(*what, func.count())
        .join(ExternalStatement, ExternalStatement.id == ExternalLine.statement_id)
        .where(ExternalStatement.account_code == account, ExternalLine.booked_on.between(min(days), max(days)))
        .group_by(*what)
    )
    return Counter({(row[0], row[1], row[2], row[3]): row[4] for row in rows})


def _same(movement: Movement) -> tuple[date, str, int, str]:
    return movement.booked_on, movement.reference, movement.amount.amount_minor, movement.amount.currency


def _store(session: Session, statement_id: int, movements: list[Movement]) -> None:
    """Stream the lines into the table; 50,000 of them take about a second."""
    cursor = session.connection().connection.cursor()
    with cursor.copy(f"COPY external_line ({', '.join(_COLUMNS)}) FROM STDIN") as copy:
        for number, movement in enumerate(movements, start=1):
            amount = movement.amount
            copy.write_row(
                (
                    statement_id,
                    number,
                    movement.booked_on,
                    movement.reference,
                    amount.amount_minor,
                    amount.currency,
                    movement.description,
                )
            )


def _totals(movements: list[Movement]) -> tuple[Total, ...]:
    counts: Counter[str] = Counter()
    received: Counter[str] = Counter()
    sent: Counter[str] = Counter()
    for movement in movements:
        currency, minor = movement.amount.currency, movement.amount.amount_minor
        counts[currency] += 1
        (received if minor > 0 else sent)[currency] += minor
    return tuple(
        Total(currency, counts[currency], Money(received[currency], currency), Money(sent[currency], currency))
        for currency in sorted(counts)
    )


def _file_name(name: str) -> str:
    """The name for people: its last part, on one line."""
    shown = "".join(sign for sign in name.replace("\\", "/").rpartition("/")[2] if sign.isprintable()).strip()
    return shown[:_LONGEST_NAME] or "statement"
