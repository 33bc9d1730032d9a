"""What is still open in a period that somebody wants to close: what forbids it, and what they should know before.

What the world says later about the period is then booked in the next one. That is no loss, but it is no surprise either
when it stands here: warnings. What could never be carried out any more, or throws doubt on the books, is a blocker.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core.clock import now
from app.core.errors import N_, AppError, InvalidInput
from app.ledger import revaluation
from app.ledger.errors import PeriodClosed, PeriodNotOver
from app.models.commissions import AccrualSum, AccrualUnit
from app.models.controls import ExternalLine, LedgerRequest, ProofRun
from app.models.ledger import Account, PeriodClose
from app.models.metatrader import BalanceOperation, Deal, TradingAccount
from app.models.payments import Deposit, Transfer, Withdrawal

#: States in which the money of a payment has not come to rest (the machines themselves: app/payments/state.py).
OPEN_DEPOSITS = ("created", "pending", "unknown")
OPEN_WITHDRAWALS = ("requested", "approved", "submitting", "pending", "unknown")
OPEN_TRANSFERS = ("requested", "held", "sending", "unknown")
OPEN_OPERATIONS = ("new", "sending", "unknown")


@dataclass(frozen=True)
class Finding:
    """One thing that is open. `message` is a message id that names values of `data`; `code` says what it is about."""

    code: str
    message: str
    data: dict[str, Any] = field(default_factory=dict)
    is_blocker: bool = False


@dataclass(frozen=True)
class PeriodReview:
    """`last_close` is the close before this one. A period with blockers cannot be closed."""

    closed_through: datetime
    last_close: PeriodClose | None
    findings: tuple[Finding, ...]

    @property
    def blockers(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.is_blocker)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if not finding.is_blocker)


def review(session: Session, closed_through: datetime) -> PeriodReview:
    """What is open in the time before `closed_through`."""
    return PeriodReview(closed_through, last_close(session), tuple(_findings(session, closed_through)))


def last_close(session: Session) -> PeriodClose | None:
    """The close that reaches furthest."""
    return session.scalars(select(PeriodClose).order_by(PeriodClose.closed_through.desc()).limit(1)).one_or_none()


def judge_end(session: Session, closed_through: datetime | None) -> list[AppError]:
    """Why the books cannot be closed up to this moment: no end of a UTC day, not over, or closed before."""
    if closed_through is None or closed_through.tzinfo is None:
        return [InvalidInput(message=N_("Please choose the last day of the period."))]
    moment = closed_through.astimezone(UTC)
    if (moment.hour, moment.minute, moment.second, moment.microsecond) != (0, 0, 0, 0):
        return [InvalidInput(message=N_("Books are closed at the end of a day in UTC."))]
    if moment > now():
        return [PeriodNotOver(N_("This day is not over yet in UTC. Please choose one that is."))]
    before = last_close(session)
    if before is not None and moment <= before.closed_through:
        known = N_("The books are closed already up to %(moment)s UTC. Please choose a later day.")
        return [PeriodClosed(known, moment=f"{before.closed_through.astimezone(UTC):%Y-%m-%d %H:%M}")]
    return []


def _findings(session: Session, end: datetime) -> Iterator[Finding]:
    yield from _proofs(session, end)
    yield from _rates(session, end)
    yield from _requests(session, end)
    for code, message, query in (
        (
            "deals",
            N_("%(count)s deals of the period are not in the books yet."),
            select(func.count())
            .select_from(Deal)
            .join(TradingAccount, TradingAccount.id == Deal.trading_account_id)
            .where(Deal.ledger_txn_id.is_(None), Deal.is_current, Deal.done_at < end),
        ),
        (
            "operations",
            N_("%(count)s operations on trading accounts have no known outcome."),
            select(func.count())
            .select_from(BalanceOperation)
            .where(BalanceOperation.status.in_(OPEN_OPERATIONS), BalanceOperation.created_at < end),
        ),
        (
            "deposits",
            N_("%(count)s deposits have not come to an end."),
            select(func.count()).select_from(Deposit).where(Deposit.state.in_(OPEN_DEPOSITS), Deposit.created_at < end),
        ),
        (
            "withdrawals",
            N_("%(count)s withdrawals have not come to an end."),
            select(func.count())
            .select_from(Withdrawal)
            .where(Withdrawal.state.in_(OPEN_WITHDRAWALS), Withdrawal.created_at < end),
        ),
        (
            "transfers",
            N_("%(count)s transfers have not come to an end."),
            select(func.count()).select_from(Transfer).where(Transfer.state.in_(OPEN_TRANSFERS), Transfer.created_at < end),
        ),
        (
            "commissions",
            N_("%(count)s accruals of commission are not settled; they will be posted in the next period."),
            select(func.coalesce(func.sum(AccrualSum.accruals), 0))
            .join(AccrualUnit, AccrualUnit.id == AccrualSum.unit_id)
            .where(AccrualSum.settlement_id.is_(None), AccrualUnit.created_at < end),
        ),
        (
            "statements",
            N_("%(count)s lines of bank and provider statements have no entry in the books."),
            select(func.count())
            .select_from(ExternalLine)
            .where(ExternalLine.matched_at.is_(None), ExternalLine.booked_on < end.astimezone(UTC).date()),
        ),
        (
            "suspense",
            N_("%(count)s suspense accounts hold money that nobody has explained."),
            select(func.count())
            .select_from(Account)
            .where(Account.code.startswith("suspense:"), Account.balance != 0, Account.opened_at < end),
        ),
    ):
        if count := session.scalar(query):
            yield Finding(code, message, {"count": count})


def _proofs(session: Session, end: datetime) -> Iterator[Finding]:
    """The newest finished run counts; one from before the end of the period says nothing about all of it."""
    run = session.scalars(
        select(ProofRun).where(ProofRun.holds.is_not(None)).order_by(ProofRun.id.desc()).limit(1)
    ).one_or_none()
    if run is None:
        yield Finding("proofs", N_("The proofs of the ledger have not been run yet."))
    elif not run.holds:
        failed = ", ".join(result.name for result in run.results if result.break_count)
        broken = N_("The newest proofs of the ledger found something broken: %(failed)s. It must be explained first.")
        yield Finding("proofs", broken, {"failed": failed or "?"}, is_blocker=True)
    elif run.started_at < end:
        yield Finding("proofs", N_("The proofs of the ledger have not been run since the end of the period."))


def _rates(session: Session, end: datetime) -> Iterator[Finding]:
    """The close posts the result of the FX positions, which takes a rate for each."""
    missing = [one.currency for one in revaluation.position_report(session, end) if one.result is None]
    if missing:
        unknown = N_("There is no exchange rate for %(currencies)s, so the result of the FX positions cannot be posted.")
        yield Finding("rates", unknown, {"currencies": ", ".join(missing)}, is_blocker=True)


def _requests(session: Session, end: datetime) -> Iterator[Finding]:
    """Requests that count in the period could not be approved once it is closed."""
    ids = session.scalars(
        select(LedgerRequest.id)
        .where(LedgerRequest.status == "proposed", LedgerRequest.kind != "period_close", LedgerRequest.effective_at < end)
        .order_by(LedgerRequest.id)
    ).all()
    if ids:
        waiting = N_(
            "These requests count in the period and wait for a decision: %(numbers)s. They could not be approved later."
        )
        numbers = ", ".join(map(str, ids[:10])) + (" …" if len(ids) > 10 else "")
        yield Finding("requests", waiting, {"numbers": numbers, "count": len(ids)}, is_blocker=True)
