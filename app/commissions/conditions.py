"""What must be true before a client counts as won, or a month is paid. Pure: no database, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from app.commissions.fields import Fields, is_whole
from app.core.errors import N_

MAX_DAYS = 366
MAX_ACTIVE = 1_000_000


@dataclass(frozen=True, slots=True)
class Conditions:
    """Of a client: the first deposit from (in the rule's currency), lots closed from, all within so many days of the
    registration, and with documents approved. Of a month: so many active clients in the IB's branch.
    """

    first_deposit: Decimal = Decimal(0)
    lots: Decimal = Decimal(0)
    within_days: int = 90
    approved: bool = True
    active_clients: int = 0


@dataclass(frozen=True, slots=True)
class ClientFacts:
    """What a client did that conditions ask for. `first_deposit` is in the rule's currency, None before there is one (or a
    rate for it); `closed` are the lots of each closing deal with its moment, in their order.
    """

    country: str
    registered_at: datetime
    approved_at: datetime | None
    deposited_at: datetime | None
    first_deposit: Decimal | None
    closed: Sequence[tuple[datetime, Decimal]] = ()


def parse_conditions(fields: Fields, on: str) -> Conditions | None:
    """The conditions of a rule that is not for deals; None for one that is. Problems are noted in `fields`."""
    if on == "deal":
        if fields.get("conditions") is not None:
            fields.problem("conditions", N_("A rule for deals has a filter instead."))
        return None
    inner = fields.inner("conditions")
    if on == "month":
        inner.only("active_clients")
        return Conditions(active_clients=_whole(inner, "active_clients", 0, 0, MAX_ACTIVE))
    inner.only("first_deposit", "lots", "within_days", "approved")
    approved = inner.get("approved", True)
    if not isinstance(approved, bool):
        inner.problem("approved", N_("This is true or false."))
    return Conditions(
        first_deposit=inner.number("first_deposit", inner.get("first_deposit", "0"), harmless="0"),
        lots=inner.number("lots", inner.get("lots", "0"), harmless="0"),
        within_days=_whole(inner, "within_days", 90, 1, MAX_DAYS),
        approved=approved is True,
    )


def conditions_document(conditions: Conditions, on: str) -> dict[str, object]:
    """The conditions as they are stored, every default written out."""
    if on == "month":
        return {"active_clients": conditions.active_clients}
    return {
        "first_deposit": f"{conditions.first_deposit:f}",
        "lots": f"{conditions.lots:f}",
        "within_days": conditions.within_days,
        "approved": conditions.approved,
    }


def won_at(conditions: Conditions, countries: frozenset[str], facts: ClientFacts) -> datetime | None:
    """The moment at which the last condition came true for a client of these countries (none named: of any).

    None when they have not come true, or only after the days were over.
    """
    if countries and facts.country not in countries:
        return None
    moments = [facts.registered_at]
    if conditions.approved:
        if facts.approved_at is None:
            return None
        moments.append(facts.approved_at)
    if conditions.first_deposit:
        if facts.deposited_at is None or facts.first_deposit is None or facts.first_deposit < conditions.first_deposit:
            return None
        moments.append(facts.deposited_at)
    if conditions.lots:
        reached = reached_at(conditions.lots, facts.closed)
        if reached is None:
            return None
        moments.append(reached)
    moment = max(moments)
    return moment if moment <= facts.registered_at + timedelta(days=conditions.within_days) else None


def month_counts(conditions: Conditions, active_clients: int) -> bool:
    """Whether a month with so many active clients is paid."""
    return active_clients >= conditions.active_clients


def reached_at(lots: Decimal, closed: Sequence[tuple[datetime, Decimal]]) -> datetime | None:
    """When so many lots had been closed; None while they are not."""
    total = Decimal(0)
    for moment, volume in closed:
        total += volume
        if total >= lots:
            return moment
    return None


def _whole(fields: Fields, name: str, default: int, least: int, most: int) -> int:
    value = fields.get(name, default)
    if not is_whole(value) or not least <= value <= most:
        fields.problem(name, N_("This is a whole number within its limits."))
        return default
    return int(value)
