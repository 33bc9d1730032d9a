"""What a second pair of eyes should look at before an IB is paid. A warning stops nothing; somebody must say pay or hold.

They are looked for when a payout is proposed and again when it is decided; what was found once stays with it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.commissions.payables import payables
from app.core.errors import N_
from app.core.money import Money
from app.core.tables import Event
from app.models.clients import Client
from app.models.commission_flags import CommissionFlag
from app.models.compliance import DOCUMENT_KINDS, Document
from app.models.partners import IntroducingBroker
from app.models.payments import Deposit
from app.models.payouts import Payout
from app.partners.agreements import holding

#: Days in which a change of the way in, or of how the client pays, stands out.
RECENT_DAYS = 14
#: More than so many times the mean of the last payouts is unusual; of so many.
GROWTH, LAST = 3, 3

#: Facts after which the one who asks may be somebody else than before.
_CHANGES = ("client.password_changed", "client.profile_changed", "client.password_reset_requested")
_PAID = ("paying", "paid", "failed")

#: Who is stopped in this way after the approval is not paid by it.
_STOPS = ("inactive", "not_approved", "agreement")

#: One warning as it is stored: `code`, and the values of its sentence as `data`.
Warned = dict[str, Any]

#: Warnings by code, as message ids; `data` of a warning fills them.
WARNINGS: dict[str, str] = {
    "inactive": N_("The IB is not active."),
    "not_approved": N_("The client behind it is not approved: %(status)s."),
    "agreement": N_("Held until the IB accepts the partner agreement, version %(version)s. It was asked to by %(day)s."),
    "documents": N_("No approved document: %(kinds)s."),
    "details_changed": N_("Sign-in or personal details changed %(days)s days ago or less."),
    "new_means": N_("A means of payment was used for the first time in the last %(days)s days."),
    "flags": N_("Suspicions about this IB that nobody has decided: %(count)s."),
    "owes": N_("The IB owes %(amount)s beyond what is left on its commission accounts."),
    "no_rate": N_("An exchange rate is missing: what the IB owes, or the least that is paid, cannot be told."),
    "new_destination": N_("It goes somewhere else than the last payout."),
    "growth": N_("More than %(times)s times the mean of the last payouts, %(mean)s."),
}


@dataclass(frozen=True)
class Planned:
    """A payout that is about to be proposed."""

    ib_id: int
    client_id: int
    amount: Money
    destination: str
    trading_account_id: int | None = None

    @classmethod
    def of(cls, payout: Payout) -> Planned:
        """What an IB has asked for, or a run has found."""
        return cls(payout.ib_id, payout.client_id, payout.amount, payout.destination, payout.trading_account_id)


def warnings(session: Session, planned: Sequence[Planned], at: datetime) -> list[list[Warned]]:
    """The warnings of each payout, in the order given. Stored as they are."""
    client_ids, ib_ids = [one.client_id for one in planned], [one.ib_id for one in planned]
    people = _people(session, ib_ids)
    approved = _approved_documents(session, client_ids)
    changed = _changed(session, client_ids, at)
    new_means = _new_means(session, client_ids, at)
    flags = _open_flags(session, ib_ids)
    agreements = holding(session, client_ids, at)
    before, owes = _last_payouts(session, ib_ids), _owes(session, ib_ids, at)
    found = []
    for one in planned:
        is_active, status = people[one.ib_id]
        mine: list[Warned] = []
        if not is_active:
            mine.append(_warning("inactive"))
        if status != "approved":
            mine.append(_warning("not_approved", status=status))
        if (asked := agreements.get(one.client_id)) is not None:
            mine.append(_warning("agreement", version=asked.version, day=str(asked.accept_by)))
        missing = [kind for kind in DOCUMENT_KINDS if kind not in approved[one.client_id]]
        if missing:
            mine.append(_warning("documents", kinds=", ".join(missing)))
        if one.client_id in changed:
            mine.append(_warning("details_changed", days=RECENT_DAYS))
        if one.client_id in new_means and one.destination == "withdrawal":
            mine.append(_warning("new_means", days=RECENT_DAYS))
        if flags.get(one.ib_id):
            mine.append(_warning("flags", count=flags[one.ib_id]))
        mine += owes.get(one.ib_id, [])
        mine += _unlike_before(one, before[one.ib_id])
        found.append(mine)
    return found


def warnings_now(session: Session, payouts: Sequence[Payout], at: datetime) -> dict[int, list[Warned]]:
    """By payout, what was found when it was proposed, and what there is to know of it by now."""
    told = warnings(session, [Planned.of(one) for one in payouts], at)
    return {
        one.id: list({known["code"]: known for known in (*one.warnings, *found)}.values())
        for one, found in zip(payouts, told, strict=True)
    }


def stops(session: Session, payout: Payout, at: datetime) -> list[Warned]:
    """The warnings of an approved payout, if its IB was stopped since somebody approved it; else nothing."""
    known = {one["code"] for one in payout.warnings}
    told = warnings_now(session, [payout], at)[payout.id]
    return told if any(one["code"] in _STOPS and one["code"] not in known for one in told) else []


def _warning(code: str, **data: str | int) -> Warned:
    return {"code": code, "data": data}


def _unlike_before(one: Planned, last: Sequence[Payout]) -> list[dict[str, Any]]:
    """Newest first. The first payout of all has nothing that it could differ from."""
    found = []
    if last and (last[0].destination, last[0].trading_account_id) != (one.destination, one.trading_account_id):
        found.append(_warning("new_destination"))
    same = [payout.amount_minor for payout in last if payout.currency == one.amount.currency]
    if same and one.amount.amount_minor * len(same) > GROWTH * sum(same):
        found.append(_warning("growth", times=GROWTH, mean=str(Money(sum(same) // len(same), one.amount.currency))))
    return found


def _owes(session: Session, ib_ids: Sequence[int], at: datetime) -> dict[int, list[Warned]]:
    """What each IB owes that none of its money covers; the last one of its currencies has the rest of it."""
    found: dict[int, list[Warned]] = {}
    for one in payables(session, at, ib_ids):
        if not one.is_priced:
            found[one.ib_id] = [_warning("no_rate")]
        else:
            found[one.ib_id] = [_warning("owes", amount=str(one.uncovered))] if one.uncovered else []
    return found


def _people(session: Session, ib_ids: Sequence[int]) -> dict[int, tuple[bool, str]]:
    query = (
        select(IntroducingBroker.id, IntroducingBroker.is_active, Client.status)
        .join(Client, Client.id == IntroducingBroker.client_id)
        .where(IntroducingBroker.id.in_(ib_ids))
    )
    return {row.id: (row.is_active, row.status) for row in session.execute(query)}


def _approved_documents(session: Session, client_ids: Sequence[int]) -> dict[int, set[str]]:
    query = select(Document.client_id, Document.kind).where(Document.client_id.in_(client_ids), Document.status == "approved")
    found: dict[int, set[str]] = defaultdict(set)
    for client_id, kind in session.execute(query):
        found[client_id].add(kind)
    return found


def _changed(session: Session, client_ids: Sequence[int], at: datetime) -> set[int]:
    since = at - timedelta(days=RECENT_DAYS)
    query = select(Event.client_id).where(Event.client_id.in_(client_ids), Event.type.in_(_CHANGES), Event.occurred_at >= since)
    return {client_id for client_id in session.scalars(query) if client_id is not None}


def _new_means(session: Session, client_ids: Sequence[int], at: datetime) -> set[int]:
    """Clients whose first settled payment by one of their connectors is recent."""
    query = (
        select(Deposit.client_id)
        .where(Deposit.client_id.in_(client_ids), Deposit.settled_at.is_not(None))
        .group_by(Deposit.client_id, Deposit.connector)
        .having(func.min(Deposit.settled_at) >= at - timedelta(days=RECENT_DAYS))
    )
    return set(session.scalars(query))


def _open_flags(session: Session, ib_ids: Sequence[int]) -> dict[int, int]:
    """How many suspicions of commission wait for a decision, by IB."""
    query = (
        select(CommissionFlag.ib_id, func.count())
        .where(CommissionFlag.ib_id.in_(ib_ids), CommissionFlag.status == "open")
        .group_by(CommissionFlag.ib_id)
    )
    return {row[0]: row[1] for row in session.execute(query)}


def _last_payouts(session: Session, ib_ids: Sequence[int]) -> dict[int, list[Payout]]:
    """The newest payouts that each IB got, newest first."""
    place = func.row_number().over(partition_by=Payout.ib_id, order_by=Payout.id.desc())
    numbered = (
        select(Payout.id, place.label("place")).where(Payout.ib_id.in_(ib_ids), Payout.state.in_(_PAID)).subquery("numbered")
    )
    query = select(Payout).join(numbered, numbered.c.id == Payout.id).where(numbered.c.place <= LAST).order_by(Payout.id.desc())
    found: dict[int, list[Payout]] = defaultdict(list)
    for payout in session.scalars(query):
        found[payout.ib_id].append(payout)
    return found
