"""Balance operations at a trading server whose outcome may be unknown.

No MetaTrader interface has an idempotency key. So: the operation's row comes first, its token stands first in the deal's
comment, it is sent once; a lost answer leaves the state "unknown", and only finding, or twice not finding, the token in
the login's deals decides. The rules: section "Commands" of docs/metatrader.md.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from sqlalchemy import exists, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import N_, Conflict
from app.core.ids import new_token
from app.core.locks import try_lock
from app.core.money import Money
from app.core.uow import UnitOfWork, unit_of_work
from app.metatrader.errors import AccessDenied, BusinessError, NotKnown, NotSent, PlatformError, ServerBusy
from app.metatrader.platform import TradingPlatform
from app.models.metatrader import BalanceOperation, Server

log = logging.getLogger("lotwise.metatrader")

#: A "sending" row older than this belongs to a process that died between sending and recording.
LOST_AFTER = timedelta(seconds=60)
#: What the server certainly did not get goes out again after so long.
RETRY_AFTER = timedelta(seconds=10)
#: The least time between two looks for a token.
LOOK_INTERVAL = timedelta(seconds=60)
LOOKS_BEFORE_RESEND = 2
#: Operations of one server that one run of the resolver looks after.
MOST_AT_ONCE = 50
#: How far beside an operation's time its deal is looked for. A whole day: the time zone that we know of a server may be wrong,
#: and a deal that is looked for in the wrong hour would be sent again.
SEARCH_MARGIN = timedelta(hours=25)


class NotResendable(Conflict):
    code = "operations.not_resendable"
    message = N_("This operation was not yet looked for twice, or is no longer unknown. Nothing was sent.")


def create_operation(
    unit: UnitOfWork, *, server_id: int, login: int, amount: Money, prefix: str, purpose: str = "transfer"
) -> BalanceOperation:
    """Write an operation down; a positive amount puts in, a negative one takes out. Nothing is sent yet."""
    operation = BalanceOperation(
        server_id=server_id,
        login=login,
        token=new_token(prefix),
        amount_minor=amount.amount_minor,
        currency=amount.currency,
        purpose=purpose,
        status="new",
    )
    unit.session.add(operation)
    unit.session.flush()
    unit.emit("operation.new", subject_id=operation.id, server_id=operation.server_id)
    return operation


def send_operation(session: Session, platform: TradingPlatform, operation_id: int) -> str:
    """Send a new operation once and record what came of it. Safe to repeat; returns the status afterwards.

    "sending" is committed before the call. Another operation in flight for the same login leaves this one "new". While the
    call lasts a lock shows that the sender lives; a sender that was given up for dead meanwhile sends nothing.
    """
    actor = Actor.system("send_operation")
    try:
        with unit_of_work(session, actor) as unit:
            attempt = session.execute(
                update(BalanceOperation)
                .where(BalanceOperation.id == operation_id, BalanceOperation.status == "new")
                .values(status="sending", sends=BalanceOperation.sends + 1, sent_at=now(), looks=0, looked_at=None)
                .returning(BalanceOperation.sends)
            ).scalar_one_or_none()
            if attempt is None:
                return session.scalars(select(BalanceOperation.status).where(BalanceOperation.id == operation_id)).one()
            unit.emit("operation.sending", subject_id=operation_id)
    except IntegrityError:
        log.info("another operation is in flight operation=%s", operation_id)
        return "new"
    with unit_of_work(session, actor) as unit:
        is_alone = try_lock(session, _lock_name(operation_id))
        operation = session.get_one(BalanceOperation, operation_id, populate_existing=True)
        if not is_alone or operation.status != "sending" or operation.sends != attempt:
            return operation.status
        ticket, status, error = _ask_server(platform, operation)
        if ticket is not None:
            finish_operation(unit, operation_id, ticket)
            return "done"
        return _record(unit, operation_id, attempt, status, error)


def _ask_server(platform: TradingPlatform, operation: BalanceOperation) -> tuple[int | None, str, str]:
    """The deal's ticket, or the status that follows and why. Before a repeated sending the token is looked for once more."""
    login, token = operation.login, operation.token
    amount = Money(operation.amount_minor, operation.currency)
    if operation.sends > 1:
        try:
            ticket = find_token(platform, login, token, operation.created_at - SEARCH_MARGIN)
        except PlatformError as error:  # nothing goes out in this attempt, and earlier ones were cleared or never left
            return None, "new", type(error).__name__
        if ticket is not None:
            return ticket, "done", ""
    try:
        return platform.balance_operation(login, amount.decimal, token), "done", ""
    except (NotSent, ServerBusy, AccessDenied) as error:
        return None, "new", type(error).__name__
    except (BusinessError, NotKnown) as error:
        return None, "failed", str(error)
    except PlatformError as error:
        return None, "unknown", type(error).__name__


def finish_operation(unit: UnitOfWork, operation_id: int, deal_ticket: int) -> bool:
    """The server has done it: proven by its answer, or by a deal that carries the token. The first proof wins.

    Returns whether this deal is the operation's. A second deal with its token, or one after a refusal, is told to staff.
    """
    done = unit.session.execute(
        update(BalanceOperation)
        .where(BalanceOperation.id == operation_id, BalanceOperation.status.in_(("new", "sending", "unknown")))
        .values(status="done", deal_ticket=deal_ticket, finished_at=now(), error="")
        .returning(BalanceOperation.id)
    ).scalar_one_or_none()
    if done is not None:
        unit.emit("operation.done", subject_id=operation_id, deal_ticket=deal_ticket)
        return True
    known = unit.session.scalars(select(BalanceOperation.deal_ticket).where(BalanceOperation.id == operation_id)).one()
    if known != deal_ticket:
        log.error("contradicted operation=%s deal=%s known=%s", operation_id, deal_ticket, known)
        unit.emit("operation.contradicted", subject_id=operation_id, deal_ticket=deal_ticket)
    return known == deal_ticket


def resolve_operation(session: Session, platform: TradingPlatform, operation_id: int) -> str:
    """Look for a lost operation's token in the login's deals. Returns the status afterwards.

    Found: done. Not found in two looks at least a minute apart: new again, to be sent once more, unless the amount is
    large; then it stays unknown until a person decides. `platform` must be a fresh session.
    """
    actor = Actor.system("resolve_operation")
    with unit_of_work(session, actor) as unit:
        operation = session.get_one(BalanceOperation, operation_id, with_for_update=True)
        moment = now()
        if operation.status == "sending" and _is_lost(session, operation, moment):
            operation.status, operation.error = "unknown", "the sending process died"
            unit.emit("operation.unknown", subject_id=operation.id)
        if operation.status != "unknown":
            return operation.status
        if operation.looked_at is not None and moment - operation.looked_at < LOOK_INTERVAL:
            return operation.status
        login, token, since = operation.login, operation.token, operation.created_at - SEARCH_MARGIN
        attempt, looked_at = operation.sends, operation.looked_at
    ticket = find_token(platform, login, token, since)
    with unit_of_work(session, actor) as unit:
        operation = session.get_one(BalanceOperation, operation_id, with_for_update=True)
        if ticket is not None:
            finish_operation(unit, operation_id, ticket)
            session.refresh(operation)
            return operation.status
        # Two who looked at the same time have looked once.
        if operation.status != "unknown" or operation.sends != attempt or operation.looked_at != looked_at:
            return operation.status
        operation.looks += 1
        operation.looked_at = now()
        if operation.looks >= LOOKS_BEFORE_RESEND and abs(operation.amount_minor) <= operation.server.resend_limit_minor:
            operation.status = "new"
            unit.emit("operation.new", subject_id=operation.id, server_id=operation.server_id)
        return operation.status


def _is_lost(session: Session, operation: BalanceOperation, moment: datetime) -> bool:
    """Whether the process that was sending has died: it is long ago, and nobody holds the sender's lock."""
    assert operation.sent_at is not None
    return moment - operation.sent_at > LOST_AFTER and try_lock(session, _lock_name(operation.id))


def _lock_name(operation_id: int) -> str:
    return f"operation:{operation_id}"


def find_token(platform: TradingPlatform, login: int, token: str, since: datetime) -> int | None:
    """The ticket of the balance deal whose comment begins with the token, or None."""
    for deal in platform.deals(login, since, now() + SEARCH_MARGIN):
        if deal.comment.startswith(token):
            return deal.ticket
    return None


def resend_operation(session: Session, operation_id: int, actor: Actor, reason: str) -> None:
    """A person's decision on an unknown operation that was looked for twice and not found: send it once more."""
    with unit_of_work(session, actor) as unit:
        operation = session.get_one(BalanceOperation, operation_id, with_for_update=True)
        if operation.status != "unknown" or operation.looks < LOOKS_BEFORE_RESEND:
            raise NotResendable()
        operation.status = "new"
        unit.audit(
            "operation.resend",
            f"balance_operation:{operation.id}",
            before={"status": "unknown"},
            after={"status": "new"},
            reason=reason,
        )
        unit.emit("operation.new", subject_id=operation.id, server_id=operation.server_id)


def unresolved_operations(session: Session) -> list[tuple[int, int, str]]:
    """(operation id, server id, status) of everything that is lost, or waits to be sent longer than it should.

    A few of each server, so that one with many leaves room for the others. What waits at a server whose commands are paused
    goes on waiting.
    """
    moment = now()
    is_overdue = or_(BalanceOperation.created_at < moment - LOST_AFTER, BalanceOperation.sent_at < moment - RETRY_AFTER)
    other = aliased(BalanceOperation)
    is_blocked = exists().where(
        other.server_id == BalanceOperation.server_id,
        other.login == BalanceOperation.login,
        other.status.in_(("sending", "unknown")),
    )
    waits = (BalanceOperation.status == "new") & is_overdue & ~is_blocked
    touched_at = func.coalesce(BalanceOperation.looked_at, BalanceOperation.sent_at, BalanceOperation.created_at)
    order = (touched_at, BalanceOperation.id)
    place = func.row_number().over(partition_by=BalanceOperation.server_id, order_by=order)
    ranked = (
        select(BalanceOperation.id, BalanceOperation.server_id, BalanceOperation.status, place.label("place"))
        .join(Server, Server.id == BalanceOperation.server_id)
        .where(BalanceOperation.status.in_(("unknown", "sending")) | (waits & Server.commands_paused_at.is_(None)))
        .subquery()
    )
    rows = session.execute(select(ranked).where(ranked.c.place <= MOST_AT_ONCE).order_by(ranked.c.place, ranked.c.id)).all()
    session.rollback()
    return [(row.id, row.server_id, row.status) for row in rows]


#: The fact told when sending ends in a status. "waiting" is not sent again at once, but by the resolver.
_FACTS = {"new": "operation.waiting", "unknown": "operation.unknown", "failed": "operation.failed"}


def _record(unit: UnitOfWork, operation_id: int, attempt: int, status: str, error: str) -> str:
    """Write down how this sending ended, unless somebody proved in the meantime that it was done."""
    operation = unit.session.get_one(BalanceOperation, operation_id, with_for_update=True)
    if operation.status == "sending" and operation.sends == attempt:
        operation.status, operation.error = status, error[:300]
        operation.finished_at = now() if status == "failed" else None
        unit.emit(_FACTS[status], subject_id=operation.id)
    return operation.status
