"""What staff decide about balance operations of others: what each was, and where its money belongs.

The mirror put the money against suspense. A decision that moves it from there to the right account is a request to adjust the
ledger, which another person approves; a decision that moves nothing is written down as it is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import N_, Conflict, InvalidInput, NotFound
from app.core.money import Money
from app.core.uow import UnitOfWork, unit_of_work
from app.ledger import adjustments, chart, requests
from app.ledger.adjustments import DraftLeg
from app.ledger.requests import Evidence
from app.metatrader import mirror
from app.metatrader.foreign import CLASSES
from app.models.controls import LedgerRequest
from app.models.ledger import Transaction
from app.models.metatrader import Deal, DealHead, TradingAccount
from app.models.trading_desk import ForeignOperation

#: They move nothing in the ledger, so a look is all they need.
HARMLESS = ("demo", "credit")
LONGEST_NOTE = 1_000
MOST_AT_ONCE = 500


class AlreadyReviewed(Conflict):
    code = "foreign.already_reviewed"
    message = N_("This operation was reviewed by somebody else in the meantime. Nothing was changed.")


class NothingInSuspense(Conflict):
    code = "foreign.nothing_in_suspense"
    message = N_(
        "The ledger holds nothing of this operation in suspense, so there is nothing to move. Please choose no account."
    )


@dataclass(frozen=True)
class InSuspense:
    """What the ledger holds of an operation in suspense: positive where the account got money. `since` it counts."""

    account: str
    amount: Money
    since: datetime


@dataclass(frozen=True)
class Reviewed:
    """The review, and the request that moves the money, where one was asked for."""

    operation_id: int
    request_id: int | None


def review(
    session: Session,
    operation_id: int,
    *,
    class_: str,
    note: str,
    actor: Actor,
    account: str = "",
    effective_at: datetime | None = None,
    evidence: Evidence | None = None,
) -> Reviewed:
    """Say what an operation was. With an account, its money is asked to be moved there from suspense.

    Raises NotFound, AlreadyReviewed, NothingInSuspense, InvalidInput, and what requests.propose_adjustment raises.
    """
    words = " ".join(note.split())
    problems = {}
    if class_ not in CLASSES or class_ == "unknown":
        problems["class_"] = N_("Please say what this operation was.")
    if not 0 < len(words) <= LONGEST_NOTE:
        problems["reason"] = N_("Please say how you know, in a sentence or two (at most 1,000 characters).")
    if problems:
        raise InvalidInput(problems)
    with unit_of_work(session, actor) as unit:
        one = _open(session, operation_id)
        request_id = None
        if account:
            held = in_suspense(session, one)
            if held is None:
                raise NothingInSuspense()
            request_id = requests.propose_adjustment(
                session,
                legs=clearing_legs(held, account),
                effective_at=effective_at or best_moment(session, held),
                reason=words,
                evidence=evidence,
                key=request_key(one.id),
                actor=actor,
            ).request_id
        _decide(unit, one, class_, words, request_id)
        return Reviewed(one.id, request_id)


def review_harmless(session: Session, operation_ids: Collection[int], *, note: str, actor: Actor) -> int:
    """Review at once those of these that move nothing and stand as such; returns how many."""
    words = " ".join(note.split())
    if not 0 < len(words) <= LONGEST_NOTE:
        raise InvalidInput({"note": N_("Please say how you know, in a sentence or two (at most 1,000 characters).")})
    with unit_of_work(session, actor) as unit:
        rows = session.scalars(
            select(ForeignOperation)
            .where(
                ForeignOperation.id.in_(list(operation_ids)[:MOST_AT_ONCE]),
                ForeignOperation.reviewed_at.is_(None),
                ForeignOperation.classed_as.in_(HARMLESS),
            )
            .order_by(ForeignOperation.id)
            .with_for_update()
        ).all()
        for one in rows:
            _decide(unit, one, one.classed_as, words, None)
        return len(rows)


def in_suspense(session: Session, one: ForeignOperation) -> InSuspense | None:
    """What lies in suspense because of this operation; None where nothing does: of credit and play money, of what was given
    back after a stop-out, of a deal that is void, of one that the mirror has not posted yet.
    """
    row = session.execute(
        select(Deal, TradingAccount, Transaction)
        .join(DealHead, (DealHead.server_id == Deal.server_id) & (DealHead.ticket == Deal.ticket))
        .join(TradingAccount, TradingAccount.id == Deal.trading_account_id)
        .join(Transaction, Transaction.id == Deal.ledger_txn_id)
        .where(
            Deal.server_id == one.server_id,
            Deal.ticket == one.deal_ticket,
            Deal.revision == DealHead.revision,
            Deal.filed_at == DealHead.filed_at,
        )
    ).one_or_none()
    if row is None or row.Transaction.kind != mirror.UNMATCHED or not (result := mirror.result(row.Deal)):
        return None
    currency = row.TradingAccount.currency
    account = chart.suspense(f"mt-{row.TradingAccount.server.code}", currency)
    return InSuspense(str(account), Money.parse(result, currency), row.Transaction.effective_at)


def clearing_legs(held: InSuspense, account: str) -> list[DraftLeg]:
    """The legs that take an operation's money out of suspense and put it where it belongs."""
    amount = abs(held.amount)
    suspense, other = ("credit", "debit") if held.amount.amount_minor > 0 else ("debit", "credit")
    return [DraftLeg(held.account, suspense, amount), DraftLeg(account, other, amount)]


def best_moment(session: Session, held: InSuspense) -> datetime:
    """When it counts: with the operation itself, or now where the books are closed behind it."""
    return now().replace(microsecond=0) if adjustments.judge_moment(session, held.since) else held.since


def usual_accounts(one: ForeignOperation, currency: str, client_bank: str) -> Sequence[tuple[str, str]]:
    """(class, account) where the money of such an operation usually belongs."""
    known = [
        *((class_, chart.bank_client_money(client_bank, currency)) for class_ in ("deposit", "withdrawal")),
        ("rebate", chart.commission_expense(currency)),
        ("bonus", chart.bonus_expense(currency)),
        *((class_, chart.mt_trading_counter(one.server.code, currency)) for class_ in ("correction", "dividend")),
        ("charge", chart.fees(currency)),
        ("compensation", chart.negative_balance_expense(currency)),
        ("opening", chart.migration_opening(currency)),
    ]
    if one.trading_account is not None:
        known.append(("transfer", chart.client_wallet(one.trading_account.client_id, currency)))
    return [(class_, str(account)) for class_, account in known]


def request_key(operation_id: int) -> str:
    """The key of the request that moves an operation's money, by which the two are found from each other."""
    return f"foreign-operation:{operation_id}"


def request_of(session: Session, one: ForeignOperation) -> LedgerRequest | None:
    """The request that the review of this operation made."""
    return session.scalars(
        select(LedgerRequest).where(
            LedgerRequest.idempotency_key == request_key(one.id), LedgerRequest.proposed_by == one.reviewed_by
        )
    ).one_or_none()


def _open(session: Session, operation_id: int) -> ForeignOperation:
    one = session.get(ForeignOperation, operation_id, with_for_update=True)
    if one is None:
        raise NotFound()
    if one.reviewed_at is not None:
        raise AlreadyReviewed()
    if one.trading_account_id is None:  # the login may have found its owner since
        of_login = select(TradingAccount.id).where(TradingAccount.server_id == one.server_id, TradingAccount.login == one.login)
        one.trading_account_id = session.scalar(of_login)
    return one


def _decide(unit: UnitOfWork, one: ForeignOperation, class_: str, note: str, request_id: int | None) -> None:
    before = {"class": one.classed_as}
    one.classed_as, one.note, one.reviewed_by, one.reviewed_at = class_, note, str(unit.actor), now()
    unit.session.flush()
    unit.audit(
        "foreign_operation.review",
        f"foreign_operation:{one.id}",
        before=before,
        after={"class": class_, "request_id": request_id},
        reason=note,
    )
    unit.emit(
        "foreign_operation.reviewed",
        subject_id=one.id,
        client_id=one.trading_account.client_id if one.trading_account else None,
        class_=class_,
        request_id=request_id,
    )
