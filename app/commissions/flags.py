"""Suspicions about commission: raised with their evidence, and decided by a person. Nothing is held back by them.

margin: a deal pays more than it earned; cascade: an IB has a higher rate than the one above it; the other kinds are found by
app/commissions/abuse.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.commissions.cascade import Breach
from app.commissions.errors import FlagDecided
from app.commissions.margin import Excess
from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import N_, InvalidInput, NotFound
from app.core.uow import unit_of_work
from app.models.commission_flags import CommissionFlag, FlagSetting

LONGEST_REASON = 500

DISMISSED, CONFIRMED = DECISIONS = ("dismissed", "confirmed")


@dataclass(frozen=True)
class Suspicion:
    """One thing that looks wrong about an IB. `key` tells within a kind whether it is the same that was found before."""

    kind: str
    key: str
    ib_id: int
    details: Mapping[str, Any]


def raise_flags(session: Session, found: Iterable[Suspicion]) -> int:
    """Keep suspicions, in the caller's transaction; returns how many are new.

    One that is open already gets the newest evidence; one that was decided stays as it is. Kinds that are switched off are
    left out.
    """
    switched_on = set(session.scalars(select(FlagSetting.kind).where(FlagSetting.is_on)))
    rows = {
        (one.kind, one.key): {"kind": one.kind, "key": one.key, "ib_id": one.ib_id, "details": dict(one.details)}
        for one in found
        if one.kind in switched_on
    }
    if not rows:
        return 0
    before = session.scalar(select(func.count(CommissionFlag.id))) or 0
    statement = insert(CommissionFlag)
    statement = statement.on_conflict_do_update(
        index_elements=["kind", "key"],
        set_={"details": statement.excluded.details, "seen_at": func.now()},
        where=CommissionFlag.status == "open",
    )
    session.execute(statement, [rows[key] for key in sorted(rows)])
    return (session.scalar(select(func.count(CommissionFlag.id))) or 0) - before


def raise_cascade(session: Session, breaches: Iterable[Breach]) -> None:
    """Keep that IBs have higher rates than those above them."""
    raise_flags(
        session,
        [
            Suspicion(
                "cascade",
                f"{one.lower_id}:{one.plan_id}:{one.rule}",
                one.lower_id,
                {
                    "ibs": [one.lower_id, one.upper_id],
                    "plan_id": one.plan_id,
                    "rule": one.rule,
                    "rate": f"{one.lower_rate:f}",
                    "rate_above": f"{one.upper_rate:f}",
                },
            )
            for one in breaches
        ],
    )


def raise_margin(session: Session, found: Mapping[int, Excess]) -> None:
    """Keep that deals, by their ids, pay more than they earned."""
    raise_flags(
        session,
        [
            Suspicion(
                "margin",
                str(deal_id),
                one.ib_id,
                {
                    "deals": [deal_id],
                    "earned": f"{one.earned:f}",
                    "paid": f"{one.paid:f}",
                    "currency": one.currency,
                },
            )
            for deal_id, one in found.items()
        ],
    )


def decide_flag(session: Session, flag_id: int, *, decision: str, reason: str, actor: Actor) -> CommissionFlag:
    """Dismiss or confirm a suspicion. Raises NotFound, FlagDecided, InvalidInput for another decision or without a reason."""
    with unit_of_work(session, actor) as unit:
        flag = session.get(CommissionFlag, flag_id, with_for_update=True, populate_existing=True)
        if flag is None:
            raise NotFound
        if flag.status != "open":
            raise FlagDecided
        said = " ".join(reason.split())
        problems = {} if said else {"reason": N_("Please give a reason.")}
        if decision not in DECISIONS:
            problems["decision"] = N_("This is not one of the choices.")
        if problems:
            raise InvalidInput(problems)
        flag.status, flag.reason = decision, said[:LONGEST_REASON]
        flag.decided_by, flag.decided_at = str(actor), now()
        session.flush()
        unit.audit(
            f"commission_flag.{decision}",
            f"commission_flag:{flag.id}",
            before={"status": "open"},
            after={"status": decision},
            reason=flag.reason,
        )
        unit.emit(f"commission_flag.{decision}", subject_id=flag.id, ib_id=flag.ib_id, kind=flag.kind)
        return flag
