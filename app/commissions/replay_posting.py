"""Posting an approved replay: its differences become accruals of kind adjust:<run>, in units like all others."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from app.commissions.accrual import tell
from app.commissions.engine import Accrued, Rate
from app.commissions.units import Line, lock_shard, write_unit
from app.core.actor import Actor
from app.core.arrays import any_of
from app.core.clock import now
from app.core.uow import unit_of_work
from app.models.commissions import PlanVersion
from app.models.plan_tiers import PlanPeriod
from app.models.replays import ReplayLine, ReplayRun

_ACTOR = Actor.system("replay")

#: Lines of one unit of a posting.
_UNIT = 10_000

#: Accruals are only ever added: as many as then are the same as then. What had none may have been replaced meanwhile.
_CHANGED = text(
    """
    SELECT EXISTS (
        SELECT FROM (SELECT DISTINCT deal_id, accruals, is_alive FROM replay_line WHERE run_id = :run) line
        WHERE line.accruals <> (SELECT count(*) FROM accrual WHERE accrual.deal_id = line.deal_id)
           OR line.is_alive <> (SELECT deal.is_current AND NOT deal.is_void FROM deal WHERE deal.id = line.deal_id)
    )
    """
)


def post_replay(session: Session, run_id: int) -> int:
    """Write the adjusting accruals of an approved run, all or none; returns how many. Harmless to repeat.

    When a deal of the run was touched since, nothing is posted and the run is stale.
    """
    with unit_of_work(session, _ACTOR) as unit:
        run = session.get(ReplayRun, run_id, with_for_update=True, populate_existing=True)
        if run is None or run.status != "approved":
            return 0
        of_run = ReplayLine.run_id == run_id
        parts = session.execute(
            select(ReplayLine.server_id, ReplayLine.shard)
            .where(of_run)
            .group_by(ReplayLine.server_id, ReplayLine.shard)
            .order_by(ReplayLine.server_id, ReplayLine.shard)
        ).all()
        for server_id, shard in parts:
            lock_shard(session, server_id, shard)
        if session.scalar(_CHANGED, {"run": run_id}):
            run.status, run.error = "stale", "commissions.replay_stale"
            unit.emit("replay.stale", subject_id=run_id)
            return 0
        written = 0
        for server_id, shard in parts:
            for lines in _units(session, run_id, server_id, shard):
                tell(unit, write_unit(session, server_id, shard, lines))
                written += len(lines)
        _true_up_later(session, run)
        run.status, run.posted_at = "posted", now()
        unit.audit("replay.post", f"replay_run:{run_id}", after={"lines": written, "overrides": run.overrides})
        unit.emit("replay.posted", subject_id=run_id, lines=written)
        return written


def _units(session: Session, run_id: int, server_id: int, shard: int) -> Iterator[list[Line]]:
    """The adjusting lines of a run for one shard, some at a time."""
    after = 0
    of_shard = (ReplayLine.run_id == run_id, ReplayLine.server_id == server_id, ReplayLine.shard == shard)
    while rows := session.scalars(
        select(ReplayLine).where(*of_shard, ReplayLine.id > after).order_by(ReplayLine.id).limit(_UNIT)
    ).all():
        after = rows[-1].id
        yield [Line(row.deal_id, f"adjust:{run_id}", adjusting(row)) for row in rows]
        for row in rows:
            session.expunge(row)


def adjusting(row: ReplayLine) -> Accrued:
    """What makes a line right: the difference of amount and lots, with what explains the recomputed one."""
    return Accrued(
        plan_version_id=row.plan_version_id,
        rule=row.rule,
        level=row.level,
        ib_id=row.ib_id,
        client_id=row.client_id if row.level == 0 else None,
        lots=row.recomputed_lots - row.stored_lots,
        rate=row.rate,
        share=Decimal(1),
        amount=row.recomputed - row.stored,
        currency=row.currency,
        base=row.base,
        base_currency=row.base_currency,
        fx=Rate(row.fx_rate, row.fx_source or "", row.fx_observed_at) if row.fx_rate is not None else None,
        uncapped=row.uncapped,
        multiplier=row.multiplier,
        part=row.part,
        earned=row.earned,
        tier_position=row.tier_position,
        cap_paid=row.cap_paid,
    )


def _true_up_later(session: Session, run: ReplayRun) -> None:
    """Where plans count volumes or caps, their counters are taken anew from what holds now."""
    versions = select(ReplayLine.plan_version_id).where(ReplayLine.run_id == run.id)
    plans = select(PlanVersion.plan_id).where(PlanVersion.id.in_(versions))
    # Held in the order in which accrual holds them, so that the two do not wait for each other.
    held = session.scalars(
        select(PlanPeriod.id)
        .where(PlanPeriod.plan_id.in_(plans), PlanPeriod.dirty_at.is_(None))
        .where(PlanPeriod.starts_on < run.until.date(), PlanPeriod.ends_on > run.since.date())
        .order_by(PlanPeriod.plan_id, PlanPeriod.owner_id, PlanPeriod.span, PlanPeriod.starts_on)
        .with_for_update()
    ).all()
    session.execute(
        update(PlanPeriod)
        .where(PlanPeriod.id == any_of(held))
        .values(dirty_at=now(), dirty_why="replay")
        .execution_options(synchronize_session=False)
    )
