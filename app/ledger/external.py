"""Statements of banks and payment providers beside our books: imported, matched, and put into suspense when nobody knows.

A statement belongs to one account that we have with somebody outside. It is named without currency
(`bank:first:client_money`, `psp:stripe:clearing`), because one file may hold several: a line in USD is compared with
`bank:first:client_money:USD`. All of these are assets, so money that came to us (a positive line) is a debit there.

Whatever changes what is matched on an account happens one after the other (an advisory lock), so that two people, or a
person and the machine, never take the same line or entry; the database's unique constraint stands behind that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, BindParameter, bindparam, column, func, select, update
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import N_, InvalidInput, NotFound
from app.core.money import MAX_AMOUNT_MINOR
from app.core.uow import UnitOfWork, unit_of_work
from app.ledger import chart, posting
from app.ledger.errors import (
    EntryDiffers,
    EntryMatched,
    LineMatched,
    LineNotMatched,
    NotAReceipt,
    SuspenseReversed,
    SuspenseStands,
)
from app.ledger.external_entries import account_of, entries_for, open_lines
from app.ledger.external_matching import match
from app.models.controls import ExternalLine, ExternalStatement
from app.models.ledger import Account, Entry, PeriodClose, Transaction

MACHINE = Actor.system("match_statements")
LONGEST_REASON = 500
_ACCOUNT = re.compile(r"(bank:[^:]+:(client_money|own_money)|psp:[^:]+:clearing)")


@dataclass(frozen=True)
class Matched:
    """What a run of the machine found: how many lines it matched, and how many are open still."""

    count: int
    open_count: int


def outside_accounts(session: Session) -> list[str]:
    """The accounts that a statement can be of: banks and providers' clearing that are opened, without their currency."""
    codes = session.scalars(select(Account.code).where(Account.code.regexp_match(f"^{_ACCOUNT.pattern}:[^:]+$")))
    return sorted({code.rpartition(":")[0] for code in codes})


def match_lines(session: Session, statement_id: int) -> Matched:
    """Match what is certain of a statement's open lines (docs/reconciliation.md). Safe to repeat; raises NotFound."""
    with unit_of_work(session, MACHINE) as unit:
        statement = session.get(ExternalStatement, statement_id)
        if statement is None:
            raise NotFound()
        one_at_a_time(session, statement.account_code)
        lines = open_lines(session, ExternalLine.statement_id == statement_id)
        pairs = match(lines, entries_for(session, statement, lines))
        if pairs:
            _set_matched(session, [(line.id, entry.account_id, entry.version) for line, entry in pairs])
            unit.emit("statement.matched", subject_id=statement_id, lines=len(pairs), open=len(lines) - len(pairs))
        return Matched(len(pairs), len(lines) - len(pairs))


def match_open(session: Session) -> int:
    """Match the open lines of all statements again, for entries that came since. Returns how many were found."""
    waiting = session.scalars(
        select(ExternalLine.statement_id)
        .where(ExternalLine.matched_at.is_(None))
        .distinct()
        .order_by(ExternalLine.statement_id)
    ).all()
    session.rollback()
    return sum(match_lines(session, statement_id).count for statement_id in waiting)


def match_by_hand(session: Session, *, line_id: int, account_version: int, actor: Actor, reason: str) -> None:
    """A person says which entry of the line's account a line is. `account_version` names the entry.

    Raises NotFound, LineMatched and EntryMatched when somebody came first, EntryDiffers unless amount and direction are
    equal, InvalidInput without a reason.
    """
    reason = _reason(reason)
    with unit_of_work(session, actor) as unit:
        line, statement = _locked(unit, line_id)
        if line.matched_at is not None:
            raise LineMatched(by=line.matched_by)
        account_id = session.scalar(select(Account.id).where(Account.code == account_of(line, statement)))
        if account_id is None or not 0 < account_version <= MAX_AMOUNT_MINOR:
            raise NotFound()
        entry = session.get(Entry, (account_id, account_version))
        if entry is None:
            raise NotFound()
        if entry.debit - entry.credit != line.amount_minor:
            raise EntryDiffers()
        if session.scalar(
            select(ExternalLine.id).where(
                ExternalLine.account_id == account_id, ExternalLine.account_version == account_version
            )
        ):
            raise EntryMatched()
        _mark(line, entry, actor)
        unit.audit(
            "external_line.match",
            f"external_line:{line.id}",
            before={"entry": None},
            after={"entry": f"{account_of(line, statement)} #{account_version}", "txn": str(entry.txn_id)},
            reason=reason,
        )


def unmatch(session: Session, *, line_id: int, actor: Actor, reason: str) -> None:
    """Take a match back; line and entry are open again.

    Raises LineNotMatched, InvalidInput without a reason, and SuspenseStands for a receipt that is booked in suspense.
    """
    reason = _reason(reason)
    with unit_of_work(session, actor) as unit:
        line, statement = _locked(unit, line_id)
        if line.matched_at is None:
            raise LineNotMatched()
        entry = session.get_one(Entry, (line.account_id, line.account_version))
        txn = session.get_one(Transaction, entry.txn_id)
        if txn.idempotency_key == _suspense_key(line) and not _is_reversed(session, txn):
            raise SuspenseStands()
        unit.audit(
            "external_line.unmatch",
            f"external_line:{line.id}",
            before={
                "entry": f"{account_of(line, statement)} #{line.account_version}",
                "txn": str(txn.id),
                "matched_by": line.matched_by,
            },
            after={"entry": None},
            reason=reason,
        )
        line.account_id = line.account_version = line.matched_at = None
        line.matched_by = ""


def to_suspense(session: Session, *, line_id: int, actor: Actor) -> UUID:
    """Book a receipt that nobody knows: it is on the account outside, and owed to somebody yet to be found.

    Debits the line's account, credits `suspense:<bank or provider>:<currency>`, and matches the line with that. Effective
    on the line's day; where the books are closed for it, at the beginning of what is open. From there it goes on by an
    adjustment that two people make. Returns the transaction's id.
    Raises LineMatched, NotAReceipt, SuspenseReversed, and what posting refuses.
    """
    with unit_of_work(session, actor) as unit:
        line, statement = _locked(unit, line_id)
        if line.matched_at is not None:
            raise LineMatched(by=line.matched_by)
        if line.amount_minor < 0:
            raise NotAReceipt()
        booked = session.scalars(select(Transaction).where(Transaction.idempotency_key == _suspense_key(line))).one_or_none()
        if booked is not None and _is_reversed(session, booked):
            raise SuspenseReversed()
        outside = chart.spec_of(account_of(line, statement))
        assert outside is not None  # the import takes no other account or currency
        suspense = chart.suspense(statement.account_code.split(":")[1], line.currency)
        ids = chart.open_accounts(session, outside, suspense)
        txn_id = posting.post(
            session,
            key=_suspense_key(line),
            kind="suspense_receipt",
            effective_at=_effective_at(session, line),
            actor=actor,
            legs=[posting.debit(outside, line.amount), posting.credit(suspense, line.amount)],
            metadata={
                "external_line_id": line.id,
                "statement_id": statement.id,
                "external_reference": line.reference,
                "booked_on": line.booked_on.isoformat(),
            },
        )
        entry = session.scalars(select(Entry).where(Entry.txn_id == txn_id, Entry.account_id == ids[outside.code])).one()
        _mark(line, entry, actor)
        unit.audit(
            "external_line.suspense",
            f"external_line:{line.id}",
            before={"entry": None},
            after={"account": suspense.code, "amount_minor": line.amount_minor, "txn": str(txn_id)},
        )
        unit.emit("receipt.suspended", subject_id=line.id, amount_minor=line.amount_minor, currency=line.currency)
        return txn_id


def one_at_a_time(session: Session, account: str) -> None:
    """Wait until nobody else imports or matches statements of this account; until the transaction ends."""
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"external:{account}", 0))))


def is_outside(account: str) -> bool:
    """Whether this names an account (without currency) that statements can be of."""
    return _ACCOUNT.fullmatch(account) is not None


def _locked(unit: UnitOfWork, line_id: int) -> tuple[ExternalLine, ExternalStatement]:
    """The line as it stands now, and nobody changes it until the unit ends."""
    session = unit.session
    statement = session.scalars(
        select(ExternalStatement)
        .join(ExternalLine, ExternalLine.statement_id == ExternalStatement.id)
        .where(ExternalLine.id == line_id)
    ).one_or_none()
    if statement is None:
        raise NotFound()
    one_at_a_time(session, statement.account_code)
    return session.get_one(ExternalLine, line_id, with_for_update=True), statement


def _mark(line: ExternalLine, entry: Entry, actor: Actor) -> None:
    line.account_id, line.account_version = entry.account_id, entry.account_version
    line.matched_by, line.matched_at = str(actor), now()


def _set_matched(session: Session, found: list[tuple[int, int, int]]) -> None:
    """All pairs in one statement. The lock of the account is held, and the lines were read under it."""
    lines, accounts, versions = (list(values) for values in zip(*found, strict=True))
    pairs = (
        func.unnest(_array(lines), _array(accounts), _array(versions))
        .table_valued(
            column("line_id", BigInteger), column("account_id", BigInteger), column("version", BigInteger), name="pairs"
        )
        .render_derived()
    )
    session.execute(
        update(ExternalLine)
        .where(ExternalLine.id == pairs.c.line_id)
        .values(account_id=pairs.c.account_id, account_version=pairs.c.version, matched_by=str(MACHINE), matched_at=now())
        .execution_options(synchronize_session=False)
    )


def _array(values: list[int]) -> BindParameter[Any]:
    return bindparam(None, values, ARRAY(BigInteger))


def _effective_at(session: Session, line: ExternalLine) -> datetime:
    """Noon of the line's day, or where the open books begin if that is later; never a moment to come."""
    noon = datetime.combine(line.booked_on, time(12), UTC)
    closed = session.scalar(select(func.max(PeriodClose.closed_through)))
    return min(max(noon, closed or noon), now())


def _suspense_key(line: ExternalLine) -> str:
    return f"external-line:{line.id}"


def _is_reversed(session: Session, txn: Transaction) -> bool:
    return session.scalar(select(Transaction.id).where(Transaction.reverses == txn.id)) is not None


def _reason(reason: str) -> str:
    reason = " ".join(reason.split())
    if not reason or not reason.isprintable():
        raise InvalidInput(
            {"reason": N_("Please give the reason in a sentence.")}, message=N_("Please give the reason in a sentence.")
        )
    return reason[:LONGEST_REASON]
