"""Months of IBs: which rules pay for a month that is over, and by how many active clients. Reads, and writes nothing.

Tree, plan and version are taken as they stood in the month's last moment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import or_, select, text
from sqlalchemy.orm import Session

from app.commissions.conditions import month_counts
from app.commissions.due import Due, rules_on
from app.commissions.engine import Upline, grant
from app.commissions.overrides import in_force
from app.commissions.plans import PlanSnapshot
from app.commissions.snapshots import PlanBook
from app.models.commissions import IBPlan

#: The last moment of a month lies so long before its end.
_INSTANT = timedelta(microseconds=1)

#: Whether a client was active is looked up once, however many IBs stand above.
_ACTIVE = text(
    """
    WITH RECURSIVE below (above_id, ib_id) AS (
        SELECT id, id FROM unnest(CAST(:ib_ids AS bigint[])) AS wanted (id)
        UNION
        SELECT below.above_id, p.ib_id FROM below
        JOIN ib_parent p ON p.parent_id = below.ib_id AND tstzrange(p.valid_from, p.valid_to) @> CAST(:at AS timestamptz)
    ), active AS (
        SELECT DISTINCT a.ib_id, a.client_id
        FROM attribution a
        JOIN trading_account t ON t.client_id = a.client_id
        JOIN product ON product.id = t.product_id AND NOT product.is_demo
        WHERE a.ib_id IN (SELECT ib_id FROM below) AND tstzrange(a.valid_from, a.valid_to) @> CAST(:at AS timestamptz)
          AND EXISTS (
            SELECT FROM deal d
            WHERE d.trading_account_id = t.id AND d.done_at >= :since AND d.done_at < :until AND d.entry IN (1, 2, 3)
              AND d.action IN (0, 1) AND d.is_current AND NOT d.is_void
          )
    )
    SELECT below.above_id, count(DISTINCT active.client_id) AS number FROM below JOIN active ON active.ib_id = below.ib_id
    GROUP BY below.above_id
    """
)


def month_ends(since: datetime, at: datetime) -> list[datetime]:
    """The ends (UTC) of the months that ended after `since` and until `at`, the oldest first."""
    end = at.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    ends = []
    while end > since:
        ends.append(end)
        end = (end - timedelta(days=1)).replace(day=1)
    return ends[::-1]


def name_of(end: datetime) -> str:
    """The month that ended then, such as "2026-11"."""
    return f"{end - _INSTANT:%Y-%m}"


def ibs_with_plans(session: Session, end: datetime) -> list[int]:
    """The IBs who had a plan of their own when a month ended, or should have had one."""
    last = end - _INSTANT
    had = select(IBPlan.ib_id).where(IBPlan.valid_from <= last, or_(IBPlan.valid_to.is_(None), IBPlan.valid_to > last))
    return sorted({*session.scalars(had), *(held.subject for one in in_force(session) for held in one.plans)})


def months(session: Session, end: datetime, ib_ids: Sequence[int], proposed: PlanSnapshot | None = None) -> Iterator[Due]:
    """What a month gives these IBs, each by its own plan; or as if `proposed` were the rules of its plan."""
    last = end - _INSTANT
    begin = last.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    book = PlanBook(session, (), ibs=ib_ids, proposed=proposed)
    paying: list[tuple[PlanSnapshot, tuple[Upline, ...]]] = []
    for ib_id in ib_ids:
        upline = book.levels(book.chain(ib_id, last), last)
        plan = book.plan(upline, last)
        if plan is not None and rules_on(plan, "month") and book.owner(upline, last) == ib_id:
            paying.append((plan, upline))
    active = active_clients(session, [upline[0].ib_id for _, upline in paying], end)
    for plan, upline in paying:
        number = active.get(upline[0].ib_id, 0)
        for rule in rules_on(plan, "month"):
            if rule.conditions is not None and month_counts(rule.conditions, number):
                said = {"active_clients": number, "from": begin.isoformat(), "until": end.isoformat()}
                yield Due("month", plan, rule, upline, last, said, grant(rule, plan, upline, last), month=name_of(end))


def active_clients(session: Session, ib_ids: Sequence[int], end: datetime) -> dict[int, int]:
    """How many clients of each IB's branch, as it stood when a month ended, closed a trade in it on a live account.

    An IB without any is left out.
    """
    if not ib_ids:
        return {}
    last = end - _INSTANT
    begin = last.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    rows = session.execute(_ACTIVE, {"ib_ids": list(ib_ids), "at": last, "since": begin, "until": end})
    return {row.above_id: row.number for row in rows}
