"""The daily check: one server's whole day, in its own clock, beside what we booked of it; its logins, balances, positions.

What can be put right from the server's own word is booked at once and counted: deals that are missing, that differ, that
were deleted. What cannot, or comes in numbers that no dealer makes by hand, is left to staff as a break (breaks.py).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.uow import unit_of_work
from app.metatrader import balances, findings, sync
from app.metatrader.backfill import asked_now, is_gone, our_groups
from app.metatrader.balances import Look
from app.metatrader.codes import DealAction
from app.metatrader.compare import COMPARED, DayComparison, Differences, ServerDay, What, comparing
from app.metatrader.errors import NotKnown
from app.metatrader.findings import Finding
from app.metatrader.open_positions import replace_positions
from app.metatrader.platform import Deal as ReportedDeal
from app.metatrader.platform import exact_text
from app.metatrader.servertime import server_zone
from app.models.metatrader import Deal, Server, TradingAccount
from app.models.trading_desk import ServerBreak, ServerCheck

log = logging.getLogger("lotwise.metatrader")

ACTOR = Actor.system("check_server")
#: So many deals are asked for one by one. Of more than that the day is read again; or people decide, where it is about
#: changing or voiding what stands.
ONE_BY_ONE = 100
#: Of a login with more differences than this, one break tells of all.
BREAKS_PER_LOGIN = 20
#: How long after its midnight a server's day is read: what is entered late is in then.
SETTLED_AFTER = timedelta(minutes=20)
MOST_TRIES = 5
#: So far back days are made up for that no check has seen.
MADE_UP_FOR = timedelta(days=7)
#: Breaks of earlier days that are looked at again.
MOST_LOOKED_AT_AGAIN = 200

DEAL_KINDS = ("deal_vanished", "deal_differs", "deal_count")
OTHER_KINDS = ("ghost_position", "missing_position", "unknown_login", "login_vanished", "balance", "credit")
_KIND: dict[What, str] = {"differs": "deal_differs", "vanished": "deal_vanished"}
_LEFT: tuple[What, ...] = ("differs", "vanished")


@dataclass(frozen=True)
class Checked:
    """What a check found: deals on both sides, how many it booked or voided, breaks open afterwards."""

    check_id: int
    deals_there: int
    deals_here: int
    booked: int
    breaks: int


def check_server(look: Look, day: date) -> Checked | None:
    """Check one day of a server and record what was found. None while another check of the server is under way.

    Raises the PlatformError that stopped it; the check then stands as failed.
    """
    session = look.session
    with sync.alone(session, f"check:{look.server_id}") as is_alone:
        if not is_alone:
            return None
        check_id = _begin(session, look, day)
        try:
            return _check(look, check_id, ServerDay.of(day, look.zone))
        except Exception as error:
            session.rollback()
            with unit_of_work(session, look.actor):
                session.execute(
                    update(ServerCheck)
                    .where(ServerCheck.id == check_id)
                    .values(status="failed", finished_at=now(), error=f"{type(error).__name__}: {error}"[:500])
                )
            raise


def due_day(session: Session, server_id: int, at: datetime) -> date | None:
    """The oldest of the server's days that is over and was not checked since: yesterday in its own clock, or one that was
    left out while we were down. None when there is nothing to do, or all failed often enough.
    """
    zone = server_zone(session.get_one(Server, server_id).time_zone)
    wall = datetime.fromtimestamp(zone.wall_ms(at - SETTLED_AFTER) / 1000, at.tzinfo)
    yesterday = wall.date() - timedelta(days=1)
    checks = session.execute(
        select(ServerCheck.day, ServerCheck.status, ServerCheck.started_at).where(
            ServerCheck.server_id == server_id, ServerCheck.day >= yesterday - MADE_UP_FOR
        )
    ).all()
    session.rollback()
    # What staff had checked while the day lasted has not seen all of it.
    whole = [check for check in checks if check.started_at >= ServerDay.of(check.day, zone).ends_at]
    done = {check.day for check in whole if check.status == "done"}
    failures = Counter(check.day for check in whole if check.status == "failed")
    oldest = min(done, default=yesterday)
    days = [oldest + timedelta(days=number) for number in range((yesterday - oldest).days + 1)]
    return next((day for day in days if day not in done and failures[day] < MOST_TRIES), None)


def order_check(session: Session, server_id: int, day: date, actor: Actor) -> None:
    """Have a server's day checked by a job. Emits server.check_requested."""
    with unit_of_work(session, actor) as unit:
        unit.audit("mt_check.order", f"mt_server:{server_id}", after={"day": day.isoformat()})
        unit.emit("server.check_requested", subject_id=server_id, day=day.isoformat())


def _begin(session: Session, look: Look, day: date) -> int:
    with unit_of_work(session, look.actor):
        # What was under way when its process died is not any more: we have the lock.
        session.execute(
            update(ServerCheck)
            .where(ServerCheck.server_id == look.server_id, ServerCheck.status == "running")
            .values(status="failed", finished_at=now(), error="the process ended")
        )
        source = session.get_one(Server, look.server_id).backfill
        check = ServerCheck(server_id=look.server_id, day=day, source=source)
        session.add(check)
        session.flush()
        return check.id


def _check(look: Look, check_id: int, day: ServerDay) -> Checked:
    session, server_id = look.session, look.server_id
    groups = our_groups(session, server_id)
    session.rollback()
    deals, booked, found = _check_deals(look, day)
    placed = replace_positions(session, look.witness, look.source, server_id, look.zone, actor=look.actor)
    found += [Finding("ghost_position", str(ticket), login) for ticket, login in placed.ghosts_left.items()]
    found += [Finding("missing_position", str(ticket), login) for ticket, login in placed.missing_left.items()]
    asked_at = now()
    states = list(look.source.accounts())
    found += balances.logins(look, states, groups)
    with unit_of_work(session, look.actor) as unit:
        findings.record(unit, server_id, found)  # balances that differ because deals do can then say so
    found += (off := balances.mismatches(look, states))
    balances.keep_current(look, states, asked_at)
    gone = _gone_of_earlier_days(look, day, found)
    with unit_of_work(session, look.actor) as unit:
        findings.record(unit, server_id, off)
        findings.close_gone(unit, server_id, OTHER_KINDS, {(one.kind, one.subject) for one in found})
        findings.close(unit, gone)
        breaks = findings.count_open(session, server_id)
        check = session.get_one(ServerCheck, check_id)
        check.status, check.finished_at = "done", now()
        check.accounts, check.deals_there, check.deals_here = len(states), deals.there, deals.here
        check.booked, check.breaks = booked, breaks
        unit.emit("server.checked", subject_id=server_id, check_id=check_id, day=day.day.isoformat(), breaks=breaks)
    return Checked(check_id, deals.there, deals.here, booked, breaks)


# ── deals ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _check_deals(look: Look, day: ServerDay) -> tuple[Differences, int, list[Finding]]:
    """Compare the day's deals, put right what can be, and say what is left."""
    with comparing(look.session, look.server_id, day) as comparison:
        comparison.read(look.source)
        deals = comparison.compare()
        booked = _book_missing(look, day, deals)
        booked += _refetch(look, deals, "differs")
        booked += _void_vanished(look, deals)
        return deals, booked, _left(look, comparison, day, deals)


def _book_missing(look: Look, day: ServerDay, deals: Differences) -> int:
    if deals.count("missing") <= ONE_BY_ONE:
        return _refetch(look, deals, "missing")
    until = min(day.until, now())
    asked_at = asked_now(look.source)
    again = (deal for deal in look.source.deals(day.since, until) if day.holds(deal.server_time_ms))
    booked = sync.book(
        look.session, look.server_id, again, look.zone, not_before=day.since, actor=look.actor, asked_at=asked_at
    )
    deals.forget("missing")
    if asked_at is not None:
        deals.forget("differs")
    return booked


def _refetch(look: Look, deals: Differences, what: What) -> int:
    """Ask the server for each of these deals and book what it says; those that it does not show stay, as vanished."""
    tickets = dict(deals.first[what])
    if not tickets or deals.count(what) > ONE_BY_ONE:
        return 0
    booked, unseen = sync.refetch(look.session, look.witness, look.server_id, tickets, actor=look.actor)
    for ticket, login in tickets.items():
        deals.drop(ticket, what)
        if ticket in unseen and what == "differs":
            deals.add(ticket, login, "vanished")
    return booked


def _void_vanished(look: Look, deals: Differences) -> int:
    """Void what the server, asked for each, has no more. What it has after all is booked as it says."""
    tickets = dict(deals.first["vanished"])
    if not tickets or deals.count("vanished") > sync.MOST_BELIEVED_GONE:
        return 0
    booked, unseen = sync.refetch(look.session, look.witness, look.server_id, tickets, actor=look.actor)
    for_people = findings.left_to_people(look.session, look.server_id)
    look.session.rollback()
    asked = [ticket for ticket in unseen if tickets[ticket] not in for_people]
    gone = [ticket for ticket in asked if is_gone(look.witness, ticket, tickets[ticket])]
    booked += len(sync.void(look.session, look.server_id, gone, actor=look.actor)) if gone else 0
    for ticket in tickets:
        if ticket not in unseen or ticket in gone:
            deals.drop(ticket, "vanished")
    return booked


def _left(look: Look, comparison: DayComparison, day: ServerDay, deals: Differences) -> list[Finding]:
    """What remains of the differences: a break for each deal, or one for a login that has many."""
    archived = _archived(look)
    found: list[Finding] = []
    counted: set[int] = set()
    for what in _LEFT:
        counted |= {login for login, count in deals.by_login[what].items() if count > BREAKS_PER_LOGIN}
    for login in sorted(counted):
        totals = comparison.totals_of(login)
        found.append(
            Finding(
                "deal_count",
                f"{login}@{day.day.isoformat()}",
                login,
                here=f"{totals.deals_here}: {exact_text(totals.sum_here)}",
                there=f"{totals.deals_there}: {exact_text(totals.sum_there)}",
                cause="archived_login" if login in archived else "",
            )
        )
    for what in _LEFT:
        tickets = {ticket: login for ticket, login in deals.first[what].items() if login not in counted}
        here = _words_of(look.session, look.server_id, tickets)
        found += [
            Finding(_KIND[what], str(ticket), login, here=here.get(ticket, ""), cause=_cause(login, archived, what))
            for ticket, login in tickets.items()
        ]
    return found


def _cause(login: int, archived: set[int], what: What) -> str:
    if login in archived:
        return "archived_login"
    return "in_numbers" if what == "vanished" else "dealer_edit"


def _archived(look: Look) -> set[int]:
    rows = look.session.scalars(
        select(TradingAccount.login).where(TradingAccount.server_id == look.server_id, TradingAccount.status == "archived")
    )
    found = {login for login in rows if login is not None}
    look.session.rollback()
    return found


def _words_of(session: Session, server_id: int, tickets: Iterable[int]) -> dict[int, str]:
    rows = session.scalars(
        select(Deal).where(Deal.server_id == server_id, Deal.ticket.in_(list(tickets)), Deal.is_current)
    ).all()
    words = {row.ticket: words_of(row) for row in rows}
    session.rollback()
    return words


def words_of(deal: Deal | ReportedDeal) -> str:
    """A deal in one line, for comparing."""
    result = deal.profit + deal.swap + deal.commission + deal.fee
    where = f"{deal.symbol} {exact_text(deal.price)}" if deal.symbol else deal.comment
    return f"{exact_text(result)} ({where})"


# ── breaks of earlier days ──────────────────────────────────────────────────────────────────────────────────────────────


def _gone_of_earlier_days(look: Look, day: ServerDay, found: Iterable[Finding]) -> list[int]:
    """Open breaks of deals that this check did not find: those whose deal now stands the same on both sides."""
    known = {(one.kind, one.subject) for one in found}
    rows = look.session.scalars(
        select(ServerBreak)
        .where(ServerBreak.server_id == look.server_id, ServerBreak.closed_at.is_(None), ServerBreak.kind.in_(DEAL_KINDS))
        .order_by(ServerBreak.seen_at)
        .limit(MOST_LOOKED_AT_AGAIN)
    ).all()
    open_breaks = [(row.id, row.kind, row.subject) for row in rows if (row.kind, row.subject) not in known]
    look.session.rollback()
    return [id_ for id_, kind, subject in open_breaks if is_settled(look, kind, subject, checked=day.day)]


def is_settled(look: Look, kind: str, subject: str, *, checked: date | None = None) -> bool:
    """Whether a break of deals is none any more. `checked`: a day that was compared just now."""
    if kind == "deal_count":
        login, _, text = subject.partition("@")
        day = date.fromisoformat(text)
        return day == checked or _is_same_day(look, int(login), ServerDay.of(day, look.zone))
    ticket = int(subject)
    row = look.session.scalars(
        select(Deal).where(Deal.server_id == look.server_id, Deal.ticket == ticket, Deal.is_current)
    ).one_or_none()
    is_gone_here = row is None or row.is_void
    here = None if row is None or (row.is_void and not _is_cancelled(row)) else compared(row)
    look.session.rollback()
    try:
        return here == compared(look.witness.deal(ticket))
    except NotKnown:
        return is_gone_here


def compared(deal: Deal | ReportedDeal) -> tuple[Any, ...]:
    """What of a deal has to be the same on both sides."""
    return tuple(getattr(deal, name) for name in COMPARED)


def _is_cancelled(row: Deal) -> bool:
    """Void, but still at the server, which says so."""
    return row.action in (DealAction.BUY_CANCELED, DealAction.SELL_CANCELED)


def _deals_of(look: Look, login: int, day: ServerDay) -> list[ReportedDeal]:
    """A login's deals of a day at the server. Raises NotKnown where it does not show the login: that is no empty day."""
    look.witness.get_account(login)
    return look.witness.deals(login, day.since, min(day.until, now()))


def _is_same_day(look: Look, login: int, day: ServerDay) -> bool:
    try:
        deals = _differing(look, login, day, _deals_of(look, login, day))
    except NotKnown:
        return False
    return not any(deals.count(what) for what in ("missing", "differs", "vanished"))


def _differing(look: Look, login: int, day: ServerDay, there: Sequence[ReportedDeal]) -> Differences:
    with comparing(look.session, look.server_id, day) as comparison:
        comparison.load(there)
        return comparison.compare(login)


def settle_login(look: Look, login: int, day: date) -> int:
    """Make a login's day what the server has, whatever that changes: a person decided so. Returns how many deals changed.

    Raises NotKnown where the server does not show the login, such as one in its archive: then nothing is changed.
    """
    server_day = ServerDay.of(day, look.zone)
    ours = select(Deal.ticket).where(Deal.server_id == look.server_id, Deal.login == login, Deal.is_current)
    known = set(look.session.scalars(ours.where(Deal.filed_at.between(server_day.since, server_day.until))))
    look.session.rollback()
    asked_at = now()
    there = _deals_of(look, login, server_day)
    booked = sync.book(
        look.session, look.server_id, there, look.zone, not_before=server_day.since, actor=look.actor, asked_at=asked_at
    )
    # What we heard of since we asked has not vanished, and what the server still has stands at another time there.
    vanished = known.intersection(_differing(look, login, server_day, there).first["vanished"])
    moved, gone = sync.refetch(look.session, look.witness, look.server_id, vanished, actor=look.actor)
    return booked + moved + (len(sync.void(look.session, look.server_id, gone, actor=look.actor)) if gone else 0)
