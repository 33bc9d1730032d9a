"""Breaks in the hands of people: repaired by a booked, audited action, or explained; and watched, so that none grows old.

A repair asks the server again and makes ours what it says. It is ordered here, and carried out by a job, because a server
may be slow. What only the ledger can put right is an adjustment, which another person approves.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import N_, Conflict, InvalidInput, NotFound
from app.core.money import Money
from app.core.uow import unit_of_work
from app.ledger import alerts, chart, requests
from app.ledger.adjustments import DraftLeg
from app.ledger.requests import Evidence, Proposed
from app.metatrader import balances, booking, cleaning, mirror, open_positions, reconcile, sync
from app.metatrader.backfill import our_groups
from app.metatrader.balances import Look
from app.metatrader.booking import LifeReport
from app.metatrader.errors import NotKnown, PlatformError
from app.metatrader.open_positions import positions_of
from app.models.metatrader import Server, TradingAccount
from app.models.trading_desk import ServerBreak

#: Breaks that a look at the server can put right.
REPAIRABLE = (
    *("deal_vanished", "deal_differs", "deal_count", "ghost_position", "missing_position", "login_vanished", "balance"),
    cleaning.KIND,
)
#: Breaks that an adjustment of the ledger can put right.
ADJUSTABLE = ("balance",)
ALERT = "server.breaks"
#: A break that is older is told as an alert; a server's options may say otherwise ({"break_alert_hours": 12}).
ALERT_AFTER_H = 24
LONGEST_NOTE = 1_000
#: No repair takes longer: its job has ten minutes. One that has said nothing until then has died, and may be ordered again.
UNDER_WAY_FOR = timedelta(minutes=15)
#: How far back the deals of a login are read whose balance differs.
RECENT = timedelta(days=7)


class BreakClosed(Conflict):
    code = "breaks.closed"
    message = N_("This break is closed already. Nothing was changed.")


class NotRepairable(Conflict):
    code = "breaks.not_repairable"
    message = N_("There is no repair for this kind of break. It can be explained.")


class RepairUnderWay(Conflict):
    code = "breaks.repair_under_way"
    message = N_("This repair was ordered before and is under way.")


@dataclass(frozen=True)
class Repaired:
    """What a repair did: whether the break is closed, and ids of what was booked."""

    is_closed: bool
    made: dict[str, Any]


def order_repair(session: Session, break_id: int, actor: Actor) -> None:
    """Have a break repaired by a job. Emits break.repair_ordered. Raises NotFound, BreakClosed, NotRepairable,
    RepairUnderWay.
    """
    with unit_of_work(session, actor) as unit:
        one = _open(session, break_id)
        if one.kind not in REPAIRABLE:
            raise NotRepairable()
        ordered_at = one.repair.get("ordered_at")
        if ordered_at and not one.repair.get("error") and now() - datetime.fromisoformat(ordered_at) < UNDER_WAY_FOR:
            raise RepairUnderWay()
        one.repair = {**_kept(one), "ordered_by": str(actor), "ordered_at": now().isoformat()}
        unit.audit("mt_break.repair", f"mt_break:{one.id}", before=_picture(one), reason=f"{one.kind} {one.subject}")
        unit.emit("break.repair_ordered", subject_id=one.id, server_id=one.server_id, kind=one.kind)


def repair(look: Look, break_id: int) -> Repaired | None:
    """Carry out a repair that was ordered: ask the server, book what it says, close the break where that settles it.

    None when the break is closed. What goes wrong at the server is written to the break, which stays open.
    """
    session = look.session
    one = session.get_one(ServerBreak, break_id)
    kind, subject, login, is_open = one.kind, one.subject, one.login, one.closed_at is None
    session.rollback()
    if not is_open:
        return None
    try:
        made, is_settled = _REPAIRS[kind](look, subject, login)
    except PlatformError as error:
        made, is_settled = {"error": f"{type(error).__name__}: {error}"}, False
    else:
        if not is_settled:
            made["error"] = "still_there"
    with unit_of_work(session, look.actor) as unit:
        row = session.get_one(ServerBreak, break_id, with_for_update=True)
        before = _picture(row)
        row.repair = {**row.repair, **made}
        if is_settled and row.closed_at is None:  # a check may have closed it meanwhile; what was made is told all the same
            row.state, row.closed_at, row.closed_by = "repaired", now(), str(look.actor)
        session.flush()
        unit.audit("mt_break.repaired" if is_settled else "mt_break.repair_failed", f"mt_break:{break_id}", before=before,
                   after=_picture(row))  # fmt: skip
        unit.emit("break.repaired" if is_settled else "break.repair_failed", subject_id=break_id, kind=kind)
    return Repaired(is_settled, made)


def explain(session: Session, break_id: int, note: str, actor: Actor) -> None:
    """Close a break with the reason why it may stand. It is opened again when the difference changes.

    Raises NotFound, BreakClosed, InvalidInput without a reason.
    """
    words = " ".join(note.split())
    if not 0 < len(words) <= LONGEST_NOTE:
        raise InvalidInput({"note": N_("Please explain it in a sentence or two (at most 1,000 characters).")})
    with unit_of_work(session, actor) as unit:
        one = _open(session, break_id)
        before = _picture(one)
        one.state, one.closed_at, one.closed_by, one.note = "explained", now(), str(actor), words
        session.flush()
        unit.audit("mt_break.explain", f"mt_break:{one.id}", before=before, after=_picture(one), reason=words)
        unit.emit("break.explained", subject_id=one.id, kind=one.kind)


def adjustment_legs(session: Session, one: ServerBreak, account: str = "") -> list[DraftLeg]:
    """What would make the ledger's mirror agree with the server: the account's balance against suspense, or another account."""
    trading_account = one.trading_account_id and session.get(TradingAccount, one.trading_account_id)
    if one.kind not in ADJUSTABLE or not trading_account or trading_account.login is None:
        raise NotRepairable()
    code, currency = trading_account.server.code, trading_account.currency
    off = Decimal(one.repair["difference"])
    amount = Money.parse(abs(off), currency)
    mirrored = str(chart.mt_balance(code, trading_account.login, currency))
    other = account or str(chart.suspense(f"mt-{code}", currency))
    sides = ("credit", "debit") if off > 0 else ("debit", "credit")
    return [DraftLeg(mirrored, sides[0], amount), DraftLeg(other, sides[1], amount)]


def propose_adjustment(
    session: Session,
    break_id: int,
    *,
    account: str,
    reason: str,
    evidence: Evidence | None,
    actor: Actor,
    effective_at: datetime | None = None,
) -> Proposed:
    """Ask for the ledger to follow the server's balance; another person approves. The break stays open until a check finds
    both sides equal.

    Raises NotFound, BreakClosed, NotRepairable, and what requests.propose_adjustment raises.
    """
    with unit_of_work(session, actor) as unit:
        one = _open(session, break_id)
        legs = adjustment_legs(session, one, account)
        if one.trading_account is not None:  # nothing of this server may ever have been in suspense
            chart.open_account(session, chart.suspense(f"mt-{one.server.code}", one.trading_account.currency))
        proposed = requests.propose_adjustment(
            session,
            legs=legs,
            effective_at=effective_at or now().replace(microsecond=0),
            reason=reason,
            evidence=evidence,
            key=f"mt-break:{one.id}:{one.repair['difference']}",
            actor=actor,
        )
        one.repair = {**one.repair, "request_id": proposed.request_id}
        unit.audit("mt_break.adjust", f"mt_break:{one.id}", after={"request_id": proposed.request_id}, reason=reason)
        return proposed


def watch(session: Session) -> None:
    """Raise an alert for every server that has breaks which are too old, and close the others."""
    at = now()
    with unit_of_work(session, Actor.system("watch_breaks")) as unit:
        rows = session.execute(
            select(Server.code, Server.options, func.count(), func.min(ServerBreak.found_at))
            .join(ServerBreak, ServerBreak.server_id == Server.id)
            .where(ServerBreak.closed_at.is_(None))
            .group_by(Server.id)
        ).all()
        late = {code: count for code, options, count, oldest in rows if oldest < at - _patience(options)}
        for code, count in late.items():
            alerts.raise_alert(unit, ALERT, code, {"breaks": count})
        alerts.close_others(unit, ALERT, list(late))


def _patience(options: dict[str, Any]) -> timedelta:
    hours = options.get("break_alert_hours", ALERT_AFTER_H)
    return timedelta(hours=hours if isinstance(hours, int | float) and hours > 0 else ALERT_AFTER_H)


# ── repairs, one for each kind: what was made, and whether the break is settled by it ──────────────────────────────────────

_Done = tuple[dict[str, Any], bool]


def _repair_deal(look: Look, subject: str, login: int | None) -> _Done:
    """The server's word on one deal: as it stands there, or void."""
    ticket = int(subject)
    booked = sync.follow(look.session, look.witness, look.server_id, [ticket], actor=look.actor)
    return {"booked": booked}, reconcile.is_settled(look, "deal_differs", subject)


def _repair_day(look: Look, subject: str, login: int | None) -> _Done:
    number, _, day = subject.partition("@")
    changed = reconcile.settle_login(look, int(number), date.fromisoformat(day))
    return {"booked": changed}, reconcile.is_settled(look, "deal_count", subject)


def _repair_position(look: Look, subject: str, login: int | None) -> _Done:
    """The server's word on one position: removed here, or brought here."""
    ticket = int(subject)
    assert login is not None
    there = [one for one in positions_of(look.witness, login) if one.ticket == ticket]
    if not there:
        removed = open_positions.remove_ghosts(look.session, look.witness, look.server_id, {ticket: login}, actor=look.actor)
        return {"removed": removed}, True
    with unit_of_work(look.session, look.actor):
        booking.lock_server(look.session, look.server_id)
        changes = [(one, False, look.zone.to_utc(one.created_ms).utc) for one in there]
        booking.book_positions(look.session, look.server_id, changes)
    is_here = open_positions.has_position(look.session, look.server_id, ticket)
    return {"added": int(is_here)}, is_here


def _repair_login(look: Look, subject: str, login: int | None) -> _Done:
    """A login that is in the server's archive is archived here, too; one that is back is no break."""
    number = int(subject)
    try:
        look.witness.get_account(number)
        return {}, True
    except NotKnown:
        pass
    groups = our_groups(look.session, look.server_id)
    look.session.rollback()
    state = next((one for group in groups for one in look.platform.archived(group) if one.login == number), None)
    if state is None:
        return {}, False
    with unit_of_work(look.session, look.actor) as unit:
        booking.lock_server(look.session, look.server_id)
        booking.book_lives(unit, look.server_id, [LifeReport(state, "archived", now())])
    return {"archived": number}, True


def _repair_cleaned(look: Look, subject: str, login: int | None) -> _Done:
    """The server's word on all deals of a login whose deals it wiped: they become void."""
    return {"booked": cleaning.settle(look, int(subject))}, True


def _repair_balance(look: Look, subject: str, login: int | None) -> _Done:
    """Book the login's deals of the last days once more, mirror them, and look whether the balances agree now."""
    number = int(subject)
    booked = look.read_deals(number, now() - RECENT)
    mirrored = mirror.mirror_deals(look.session)
    off = balances.beside(look.session, look.server_id, [look.witness.get_account(number)])
    return {"booked": booked, "mirrored": mirrored}, all("balance" not in one.off for one in off)


_REPAIRS = {
    "deal_vanished": _repair_deal,
    "deal_differs": _repair_deal,
    "deal_count": _repair_day,
    "ghost_position": _repair_position,
    "missing_position": _repair_position,
    "login_vanished": _repair_login,
    "balance": _repair_balance,
    cleaning.KIND: _repair_cleaned,
}


def _open(session: Session, break_id: int) -> ServerBreak:
    one = session.get(ServerBreak, break_id, with_for_update=True)
    if one is None:
        raise NotFound()
    if one.closed_at is not None:
        raise BreakClosed()
    return one


def _kept(one: ServerBreak) -> dict[str, Any]:
    """What a new order keeps of the last one."""
    return {name: value for name, value in one.repair.items() if name in ("difference", "request_id")}


def _picture(one: ServerBreak) -> dict[str, Any]:
    """What the audit trail keeps of a break."""
    plain = ("kind", "subject", "here", "there", "cause", "state", "note", "repair")
    return {name: getattr(one, name) for name in plain}
