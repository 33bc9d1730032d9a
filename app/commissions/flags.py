"""Suspicions about commission: raised with their evidence, and decided by a person. Nothing is held back by them.

margin: a deal pays more than it earned; cascade: an IB has a higher rate than the one above it; the other kinds are found by
app/commissions/abuse.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
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

DECISIONS = ("dismissed", "confirmed")

HEDGED = "hedged"
LONGEST_WINDOW_S = 3600


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


def set_kind(
    session: Session, kind: str, *, is_on: bool, window_s: int | None, tolerance_percent: Decimal | None, actor: Actor
) -> None:
    """Say whether a kind is looked for and, of hedges, how near two openings must be. Raises NotFound, InvalidInput."""
    with unit_of_work(session, actor) as unit:
        setting = session.get(FlagSetting, kind, with_for_update=True, populate_existing=True)
        if setting is None:
            raise NotFound
        before = _values(setting)
        setting.is_on = is_on
        if kind == HEDGED:
            problems = {}
            if window_s is None or not 0 <= window_s <= LONGEST_WINDOW_S:
                problems["window_s"] = N_("A whole number of seconds, up to one hour.")
            if tolerance_percent is None or not 0 <= tolerance_percent <= 100:
                problems["tolerance_percent"] = N_("A percentage from 0 to 100.")
            if problems or window_s is None or tolerance_percent is None:
                raise InvalidInput(problems)
            setting.window_s, setting.tolerance_percent = window_s, tolerance_percent
        session.flush()
        unit.audit("commission_flag.set", f"commission_flag_setting:{kind}", before=before, after=_values(setting))


def _values(setting: FlagSetting) -> dict[str, Any]:
    return {
        "is_on": setting.is_on,
        "window_s": setting.window_s,
        "tolerance_percent": f"{setting.tolerance_percent:f}",
    }
