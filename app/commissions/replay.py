"""Replays: a period recomputed by a job, what differs looked at, proposed, approved by somebody else, and posted.

What is posted are accruals of kind adjust:<run>, in units like all others, so that settlements take them. History is not
rewritten: of what should have stood the run itself is the record.
"""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import Any

from sqlalchemy import delete, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.commissions.errors import ReplayMoved
from app.commissions.overrides import Overrides
from app.commissions.recompute import PAGE, Compared, Difference, Scope, book_for, count_deals, differences, recompute
from app.commissions.units import shard_of
from app.core.actor import Actor
from app.core.clock import now
from app.core.copying import NULL, copy, escaped
from app.core.errors import N_, AppError, InvalidInput, NotFound
from app.core.locks import try_lock
from app.core.uow import UnitOfWork, unit_of_work
from app.ledger import four_eyes
from app.models.clients import Client
from app.models.commissions import Plan, PlanVersion
from app.models.metatrader import Server
from app.models.partners import IntroducingBroker
from app.models.replays import ReplayLine, ReplayRun

log = logging.getLogger("lotwise.commissions")

LONGEST_REASON = 500
_ACTOR = Actor.system("replay")

EXPLAINING = (
    *("rate", "base", "base_currency", "fx_rate", "fx_source", "fx_observed_at", "uncapped"),
    *("multiplier", "part", "earned", "tier_position", "cap_paid"),
)
_COLUMNS = (
    *("run_id", "deal_id", "server_id", "shard", "accruals", "is_alive", "plan_version_id", "rule", "level", "ib_id"),
    *("client_id", "currency", "stored", "recomputed", "stored_lots", "recomputed_lots", *EXPLAINING),
)


def start_replay(session: Session, scope: Scope, overrides: Overrides, reason: str, actor: Actor) -> ReplayRun:
    """Have a period recomputed by a job. Emits replay.requested. Raises InvalidInput with all that cannot be."""
    with unit_of_work(session, actor) as unit:
        problems = _problems(session, scope, overrides)
        said = " ".join(reason.split())[:LONGEST_REASON]
        if not said:
            problems["reason"] = N_("Please give a reason.")
        if problems:
            raise InvalidInput(problems)
        run = ReplayRun(
            since=scope.since,
            until=scope.until,
            plan_id=scope.plan_id,
            branch_id=scope.branch_id,
            server_id=scope.server_id,
            overrides=overrides.document(),
            status="computing",
            reason=said,
            proposed_by=str(actor),
        )
        session.add(run)
        session.flush()
        unit.audit("replay.start", f"replay_run:{run.id}", after=described(run), reason=said)
        unit.emit("replay.requested", subject_id=run.id)
        return run


def compute_replay(session: Session, snapshot: Session, run_id: int, page: int = PAGE) -> None:
    """Recompute a run that waits for it and keep what differs. Harmless to repeat; call it outside a unit of work.

    Everything is read in `snapshot`, a session of its own whose transaction shows one moment (REPEATABLE READ).
    """
    if not try_lock(snapshot, f"replay:{run_id}"):
        return
    run = session.get(ReplayRun, run_id, populate_existing=True)
    if run is None or run.status != "computing":
        session.rollback()
        return
    scope, overrides = scope_of(run), Overrides.of(run.overrides, run.until)
    session.rollback()
    try:
        _compute(session, snapshot, run_id, scope, overrides, page)
    except (AppError, SQLAlchemyError) as error:
        session.rollback()
        log.exception("replay failed run=%s", run_id)
        with unit_of_work(session, _ACTOR) as unit:
            _set(session, run_id, status="failed", error=getattr(error, "code", type(error).__name__))
            unit.emit("replay.failed", subject_id=run_id)


def propose_replay(session: Session, run_id: int, *, actor: Actor) -> ReplayRun:
    """Ask that what differs be posted. Raises NotFound, ReplayMoved unless computed, InvalidInput when nothing differs."""
    with unit_of_work(session, actor) as unit:
        run = _locked(session, run_id, "computed")
        if not run.sums.get("lines"):
            raise InvalidInput({"reason": N_("Nothing differs, so there is nothing to post.")})
        run.status, run.proposed_by, run.proposed_at = "proposed", str(actor), now()
        _told(unit, run, "propose", "computed")
        return run


def approve_replay(session: Session, run_id: int, *, actor: Actor) -> ReplayRun:
    """Have a job post what differs. Raises NotFound, ReplayMoved, OwnRequest for the one who proposed."""
    with unit_of_work(session, actor) as unit:
        run = _locked(session, run_id, "proposed")
        four_eyes.require_other(run, actor)
        _decide(unit, run, "approved", "approve", "")
        return run


def reject_replay(session: Session, run_id: int, *, reason: str, actor: Actor) -> ReplayRun:
    """Turn it down; nothing is posted. Raises NotFound, ReplayMoved, OwnRequest, InvalidInput without a reason."""
    with unit_of_work(session, actor) as unit:
        run = _locked(session, run_id, "proposed")
        four_eyes.require_other(run, actor)
        said = " ".join(reason.split())[:LONGEST_REASON]
        if not said:
            raise InvalidInput({"reason": N_("Please give a reason.")})
        _decide(unit, run, "rejected", "reject", said)
        return run


def withdraw_replay(session: Session, run_id: int, *, actor: Actor) -> ReplayRun:
    """Stop a run that is computed, or take back what one proposed oneself. Raises NotFound, ReplayMoved, NotYourRequest."""
    with unit_of_work(session, actor) as unit:
        run = _locked(session, run_id, "computing", "computed", "proposed")
        four_eyes.require_proposer(run, actor)
        _decide(unit, run, "withdrawn", "withdraw", "")
        return run


def scope_of(run: ReplayRun) -> Scope:
    """What a run looks at."""
    return Scope(run.since, run.until, run.plan_id, run.branch_id, run.server_id)


def described(run: ReplayRun) -> dict[str, Any]:
    """A run's question, as the audit trail keeps it."""
    return {
        "since": run.since.isoformat(),
        "until": run.until.isoformat(),
        "plan_id": run.plan_id,
        "branch_id": run.branch_id,
        "server_id": run.server_id,
        "overrides": run.overrides,
    }


def _problems(session: Session, scope: Scope, overrides: Overrides) -> dict[str, str]:
    problems: dict[str, str] = {}
    if scope.since >= scope.until:
        problems["until"] = N_("The end must lie after the beginning.")
    elif scope.since >= now():
        problems["since"] = N_("Nothing has happened yet that could be recomputed.")
    for name, table, wanted in (
        ("plan", Plan, scope.plan_id),
        ("branch", IntroducingBroker, scope.branch_id),
        ("server", Server, scope.server_id),
    ):
        if wanted is not None and session.get(table, wanted) is None:
            problems[name] = N_("There is no such one.")
    for one in overrides.versions:
        version = session.get(PlanVersion, one.value)
        if version is None or version.plan_id != one.subject:
            problems["version"] = N_("There is no such one.")
    for one in overrides.plans:
        if session.get(IntroducingBroker, one.subject) is None:
            problems["paid_ib"] = N_("There is no such introducing broker.")
        if session.get(Plan, one.value) is None:
            problems["paid_plan"] = N_("There is no such one.")
    for one in overrides.clients:
        ib = session.get(IntroducingBroker, one.value) if one.value else None
        if session.get(Client, one.subject) is None:
            problems["client"] = N_("There is no such client.")
        if one.value and ib is None:
            problems["client_ib"] = N_("There is no such introducing broker.")
        elif ib is not None and ib.client_id == one.subject:
            problems["client_ib"] = N_("An introducing broker is not their own client.")
    names = {"versions": "version_since", "plans": "paid_since", "clients": "client_since"}
    for kind, name in names.items():
        if any(one.since >= scope.until for one in getattr(overrides, kind)):
            problems[name] = N_("This moment lies after the period.")
    return problems


def _compute(session: Session, snapshot: Session, run_id: int, scope: Scope, overrides: Overrides, page: int) -> None:
    with unit_of_work(session, _ACTOR):
        session.execute(delete(ReplayLine).where(ReplayLine.run_id == run_id))
        _set(session, run_id, deals=count_deals(snapshot, scope), deals_done=0)
    found = _Sums()
    done = 0
    for looked_at, compared in recompute(snapshot, scope, book_for(snapshot, overrides), page):
        done += looked_at
        lines = [line for one in compared for line in found.add(one)]
        with unit_of_work(session, _ACTOR):
            if not _set(session, run_id, deals_done=done):
                return  # withdrawn meanwhile
            copy(session, "replay_line", _COLUMNS, (_row(run_id, line) for line in lines))
    with unit_of_work(session, _ACTOR) as unit:
        if _set(session, run_id, status="computed", computed_at=now(), sums=found.document(), deals=done):
            unit.emit("replay.computed", subject_id=run_id, lines=found.lines)


class _Sums:
    """What a run compared, counted while it goes."""

    def __init__(self) -> None:
        self.deals = self.left_out = self.lines = self.touched = 0
        self._amounts: dict[str, list[Decimal]] = {}

    def add(self, one: Compared) -> list[Difference]:
        """Count a deal; returns what differs."""
        if one.is_left_out:
            self.left_out += 1
            return []
        self.deals += 1
        for key, net in one.stored.nets.items():
            self._of(key.currency)[0] += net.amount
        for made in one.outcome.accruals:
            self._of(made.currency)[1] += made.amount
        found = differences(one)
        self.lines += len(found)
        self.touched += bool(found)
        return found

    def document(self) -> dict[str, Any]:
        """As the run keeps it: counts, and by currency what is stored and what it should be."""
        return {
            "deals": self.deals,
            "left_out": self.left_out,
            "lines": self.lines,
            "touched": self.touched,
            "currencies": {
                code: {"stored": f"{stored:f}", "recomputed": f"{due:f}"}
                for code, (stored, due) in sorted(self._amounts.items())
            },
        }

    def _of(self, currency: str) -> list[Decimal]:
        return self._amounts.setdefault(currency, [Decimal(0), Decimal(0)])


def _set(session: Session, run_id: int, **values: Any) -> bool:
    """Change a run that is still computing; False when it is not any more."""
    changed = update(ReplayRun).where(ReplayRun.id == run_id, ReplayRun.status == "computing").values(**values)
    return session.scalar(changed.returning(ReplayRun.id), execution_options={"synchronize_session": False}) is not None


def _row(run_id: int, line: Difference) -> str:
    key, made, deal = line.key, line.made, line.deal
    fx = made.fx if made else None
    explaining: tuple[object, ...] = (line.stored.rate, *[None] * (len(EXPLAINING) - 1))
    if made:
        explaining = (
            *(made.rate, made.base, made.base_currency, fx and fx.rate, fx and escaped(fx.source)),
            *(fx and fx.observed_at and fx.observed_at.isoformat(), made.uncapped),
            *(made.multiplier, made.part, made.earned, made.tier_position, made.cap_paid),
        )
    values = (
        *(run_id, deal.id, deal.server_id, shard_of(deal.ticket), line.accruals, not deal.is_dead),
        *(key.plan_version_id, key.rule, key.level, key.ib_id, key.client_id or deal.client_id, key.currency),
        *(line.stored.amount, made.amount if made else 0, line.stored.lots, made.lots if made else 0, *explaining),
    )
    return "\t".join(NULL if value is None else str(value) for value in values) + "\n"


def _locked(session: Session, run_id: int, *states: str) -> ReplayRun:
    run = session.get(ReplayRun, run_id, with_for_update=True, populate_existing=True)
    if run is None:
        raise NotFound
    if run.status not in states:
        raise ReplayMoved(state=run.status)
    return run


def _decide(unit: UnitOfWork, run: ReplayRun, status: str, verb: str, reason: str) -> None:
    before = run.status
    run.status, run.decided_by, run.decided_at, run.decision_reason = status, str(unit.actor), now(), reason
    _told(unit, run, verb, before)


def _told(unit: UnitOfWork, run: ReplayRun, verb: str, before: str) -> None:
    unit.session.flush()
    unit.audit(
        f"replay.{verb}",
        f"replay_run:{run.id}",
        before={"status": before},
        after={"status": run.status},
        reason=run.decision_reason,
    )
    unit.emit(f"replay.{run.status}", subject_id=run.id)
