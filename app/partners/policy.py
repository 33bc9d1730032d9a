"""How clients and IBs come to the house: which visit through a link counts, and who may become an IB. With its history."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.errors import N_, InvalidInput
from app.core.uow import unit_of_work
from app.models.partner_joining import PartnerPolicy
from app.partners.errors import NothingToChange
from app.partners.touches import LAST, TOUCHES

#: That policies are never changed; repeatable, run after migrations.
SQL = Path(__file__).parent / "sql" / "policy.sql"

MAX_DAYS = 365

#: Who becomes an IB: every approved client; whoever an IB invited; whoever staff approve.
OPEN, INVITED, APPLICATION = "open", "invited", "application"
JOIN_MODES = (OPEN, INVITED, APPLICATION)


@dataclass(frozen=True)
class Policy:
    """The policy. The defaults hold until staff have decided something else."""

    touch: str = LAST
    window_days: int = 30
    join_mode: str = APPLICATION


def policy_at(session: Session, at: datetime | None = None) -> Policy:
    """The policy that held at a moment, or holds now."""
    query = select(PartnerPolicy).order_by(PartnerPolicy.id.desc()).limit(1)
    row = session.scalar(query if at is None else query.where(PartnerPolicy.created_at <= at))
    return Policy(**{field.name: getattr(row, field.name) for field in fields(Policy)}) if row else Policy()


def policy_history(session: Session, limit: int = 50) -> list[PartnerPolicy]:
    """The policies so far, the newest first."""
    return list(session.scalars(select(PartnerPolicy).order_by(PartnerPolicy.id.desc()).limit(limit)))


def set_policy(session: Session, wanted: Policy, reason: str, actor: Actor) -> None:
    """Have this policy hold for those who register from now on.

    Raises InvalidInput without a reason or with a wrong choice, and NothingToChange. Emits partner_policy.changed.
    """
    said = " ".join(reason.split())
    problems: dict[str, str] = {}
    if not said:
        problems["reason"] = N_("Please give a reason.")
    if wanted.touch not in TOUCHES:
        problems["touch"] = N_("Please choose one of the list.")
    if wanted.join_mode not in JOIN_MODES:
        problems["join_mode"] = N_("Please choose one of the list.")
    if not 1 <= wanted.window_days <= MAX_DAYS:
        problems["window_days"] = N_("Please give a number of days from 1 to 365.")
    if problems:
        raise InvalidInput(problems)
    with unit_of_work(session, actor) as unit:
        before = policy_at(session)
        if wanted == before:
            raise NothingToChange
        row = PartnerPolicy(**asdict(wanted), set_by=str(actor), reason=said)
        session.add(row)
        session.flush()
        unit.audit(
            "partner_policy.changed", f"partner_policy:{row.id}", before=asdict(before), after=asdict(wanted), reason=said
        )
        unit.emit("partner_policy.changed", subject_id=row.id, **asdict(wanted))
