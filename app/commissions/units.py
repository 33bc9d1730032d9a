"""Writing accruals: those of one shard of a server's deals together, with the sums that settlements take.

A unit is written by COPY, whole or not at all, and never changed. Its sums carry the keys to other tables, so that not
every one of thousands of rows has to be checked against them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.commissions.deals import EXACT
from app.commissions.engine import Accrued
from app.core.copying import NULL, copy, escaped
from app.models.commissions import AccrualUnit

#: The application's rights on these tables; repeatable, run after migrations.
SQL = Path(__file__).parent / "sql" / "units.sql"

#: Into so many parts a server's deals fall, by ticket, so that as many workers can accrue side by side. Another number
#: needs new cursors.
SHARDS = 4

#: The advisory locks of accrual: this class, and the shard's number among those of all servers.
_LOCK_CLASS = 7_201_02

_RARE_COLUMNS = (
    *("occasion_id", "client_id", "base", "base_currency", "fx_rate", "fx_source", "fx_observed_at", "uncapped"),
    *("multiplier", "part", "earned", "tier_position", "cap_paid"),
)
#: What is written of an accrual; its id and moment are the table's own defaults. Most lines have nothing rare.
COLUMNS = (
    *("unit_id", "deal_id", "plan_version_id", "rule", "level", "ib_id", "kind", "amount", "currency", "lots", "rate"),
    *_RARE_COLUMNS,
)
_NOTHING_RARE = (None,) * len(_RARE_COLUMNS)
_NO_RARE_VALUES = "\t".join([NULL] * len(_RARE_COLUMNS))
_SUM_COLUMNS = ("unit_id", "ib_id", "client_id", "plan_version_id", "currency", "amount", "accruals")


@dataclass(frozen=True, slots=True)
class Line:
    """One accrual to be written; `kind` is accrue, reverse or adjust:<run>. Of a deal, or else of an occasion."""

    deal_id: int | None
    kind: str
    made: Accrued
    occasion_id: int | None = None


@dataclass(frozen=True, slots=True)
class Sum:
    """What a unit gives one IB or, of rebates, one client, by one plan version in one currency."""

    ib_id: int | None
    client_id: int | None
    plan_version_id: int
    currency: str
    amount: Decimal
    accruals: int


def shard_of(ticket: int) -> int:
    """The shard of a deal. All revisions of a ticket lie in the same one."""
    return ticket % SHARDS


def lock_shard(session: Session, server_id: int, shard: int) -> None:
    """One writer at a time per shard, until the transaction ends; whoever needs several takes them in ascending order.

    Two revisions of a deal may be judged by two workers at once. The second must see what the first accrued, or it would
    not reverse it; each statement after the lock sees all that was committed before it.
    """
    key = {"class": _LOCK_CLASS, "shard": server_id * SHARDS + shard}
    session.execute(text("SELECT pg_advisory_xact_lock(:class, CAST(:shard AS integer))"), key)


def write_unit(session: Session, server_id: int | None, shard: int | None, lines: Sequence[Line]) -> list[Sum]:
    """Write accruals of deals of one shard (none: of occasions) and their sums; returns the sums. The shard must be locked.

    Raises SQLAlchemy's IntegrityError, with nothing written, when one of them is there already.
    """
    if not lines:
        return []
    unit = AccrualUnit(server_id=server_id, shard=shard, accruals=len(lines))
    session.add(unit)
    session.flush()
    sums = _sums(lines)
    copy(session, "accrual", COLUMNS, _rows(unit.id, lines))
    copy(session, "accrual_sum", _SUM_COLUMNS, _sum_rows(unit.id, sums))
    return sums


def _rows(unit_id: int, lines: Sequence[Line]) -> Iterator[str]:
    for line in lines:
        made, fx = line.made, line.made.fx
        rare = (
            *(line.occasion_id, made.client_id, made.base, made.base_currency),
            *((fx.rate, escaped(fx.source), fx.observed_at) if fx else (None, None, None)),
            *(made.uncapped, made.multiplier, made.part, made.earned, made.tier_position, made.cap_paid),
        )
        yield (
            f"{unit_id}\t{_or_null(line.deal_id)}\t{made.plan_version_id}\t{made.rule}\t{made.level}\t{_or_null(made.ib_id)}"
            f"\t{line.kind}\t{made.amount!s}\t{made.currency}\t{made.lots!s}\t{made.rate!s}"
            f"\t{_NO_RARE_VALUES if rare == _NOTHING_RARE else _values(rare)}\n"
        )


def _values(values: Sequence[object]) -> str:
    return "\t".join([NULL if value is None else str(value) for value in values])


def _sums(lines: Sequence[Line]) -> list[Sum]:
    """In order of beneficiary, so that two units never lock what their keys point to crosswise."""
    amounts: dict[tuple[int | None, int | None, int, str], list[Decimal]] = defaultdict(list)
    for line in lines:
        made = line.made
        amounts[made.ib_id, made.client_id, made.plan_version_id, made.currency].append(made.amount)
    with localcontext(EXACT):
        sums = [Sum(*key, sum(given, Decimal(0)), len(given)) for key, given in amounts.items()]
    return sorted(sums, key=lambda one: (one.ib_id or 0, one.client_id or 0, one.plan_version_id, one.currency))


def _sum_rows(unit_id: int, sums: Sequence[Sum]) -> Iterator[str]:
    for one in sums:
        yield (
            f"{unit_id}\t{_or_null(one.ib_id)}\t{_or_null(one.client_id)}\t{one.plan_version_id}\t{one.currency}"
            f"\t{one.amount!s}\t{one.accruals}\n"
        )


def _or_null(value: object) -> object:
    return NULL if value is None else value
