"""Symbol groups: symbols that rules name together, each version of them from a moment on."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from app.commissions.errors import GroupCodeTaken, GroupOverlap
from app.commissions.fields import Fields
from app.commissions.plans import Rule, with_groups
from app.commissions.rule_filter import GROUP, symbols_of
from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import N_, InvalidInput, NotFound
from app.core.uow import unit_of_work
from app.models.symbol_groups import SymbolGroup, SymbolGroupVersion

#: That versions are never changed; repeatable, run after migrations.
SQL = Path(__file__).parent / "sql" / "symbol_groups.sql"

MAX_NAME = 100


@dataclass(frozen=True, slots=True)
class Groups:
    """The symbols of all groups, whenever they held."""

    versions: dict[str, list[tuple[datetime, tuple[str, ...]]]]

    def at(self, moment: datetime) -> dict[str, tuple[str, ...]]:
        """The symbols of each group that there was at a moment, by code."""
        found = {}
        for code, versions in self.versions.items():
            index = bisect_right(versions, moment, key=lambda version: version[0])
            if index:
                found[code] = versions[index - 1][1]
        return found

    def changes(self, codes: Iterable[str]) -> list[datetime]:
        """The moments at which one of these groups got other symbols."""
        return sorted({begin for code in codes for begin, _ in self.versions.get(code, ())})


NO_GROUPS = Groups({})


def load_groups(session: Session) -> Groups:
    """All groups with all their versions: a house has dozens."""
    found: dict[str, list[tuple[datetime, tuple[str, ...]]]] = defaultdict(list)
    rows = session.execute(
        select(SymbolGroup.code, SymbolGroupVersion.valid_from, SymbolGroupVersion.symbols)
        .join(SymbolGroup, SymbolGroup.id == SymbolGroupVersion.group_id)
        .order_by(SymbolGroupVersion.valid_from)
    )
    for code, valid_from, symbols in rows:
        found[code].append((valid_from, tuple(symbols)))
    return Groups(dict(found))


def resolved(session: Session, rules: Sequence[Rule], at: datetime) -> tuple[Rule, ...]:
    """The rules with the symbols that their groups have at a moment. Raises InvalidPlan for a group that there is not then."""
    if not any(rule.filter.symbol_groups for rule in rules):
        return tuple(rules)
    return with_groups(rules, load_groups(session).at(at))


def make_group(
    session: Session, *, code: str, name: str, symbols: list[str], valid_from: datetime, reason: str, actor: Actor
) -> int:
    """Make a group; returns its id. Rules that begin at `valid_from` or later may name it, so it may begin in the past.

    Raises InvalidInput with all problems, GroupCodeTaken. Emits symbol_group.changed.
    """
    name = " ".join(name.split())
    problems = _problems(symbols, reason)
    if not GROUP.fullmatch(code):
        problems["code"] = N_("Use 1 to 40 small letters, digits, - or _.")
    if not 0 < len(name) <= MAX_NAME or not name.isprintable():
        problems["name"] = N_("A group needs a name of 100 characters at most.")
    if problems:
        raise InvalidInput(problems)
    with unit_of_work(session, actor) as unit:
        if session.scalar(select(SymbolGroup.id).where(SymbolGroup.code == code)) is not None:
            raise GroupCodeTaken
        group = SymbolGroup(code=code, name=name)
        session.add(group)
        session.flush()
        session.add(_version(group.id, symbols, valid_from, reason, actor))
        after = {"code": code, "name": name, "symbols": symbols, "valid_from": valid_from.isoformat()}
        unit.audit("symbol_group.made", f"symbol_group:{group.id}", after=after, reason=reason)
        unit.emit("symbol_group.changed", subject_id=group.id, code=code)
        return group.id


def change_group(
    session: Session, group_id: int, *, symbols: list[str], valid_from: datetime | None, reason: str, actor: Actor
) -> None:
    """Give a group other symbols from a moment on, None: from now on. Deals done before keep the ones of then.

    Raises NotFound, InvalidInput with all problems, GroupOverlap when a later version is there already.
    Emits symbol_group.changed.
    """
    problems = _problems(symbols, reason)
    if valid_from is not None and valid_from < now():
        problems["valid_from"] = N_("What was paid by the symbols of then stays; please give a moment that is still to come.")
    if problems:
        raise InvalidInput(problems)
    with unit_of_work(session, actor) as unit:
        group = session.get(SymbolGroup, group_id, with_for_update=True)
        if group is None:
            raise NotFound
        last = session.scalars(history_of(group_id).limit(1)).one()
        begins = valid_from or now()
        if begins <= last.valid_from:
            raise GroupOverlap
        session.add(_version(group_id, symbols, begins, reason, actor))
        unit.audit(
            "symbol_group.changed",
            f"symbol_group:{group_id}",
            before={"symbols": last.symbols, "valid_from": last.valid_from.isoformat()},
            after={"symbols": symbols, "valid_from": begins.isoformat()},
            reason=reason,
        )
        unit.emit("symbol_group.changed", subject_id=group_id, code=group.code)


def history_of(group_id: int) -> Select[SymbolGroupVersion]:
    """The versions of a group, the newest first."""
    return (
        select(SymbolGroupVersion).where(SymbolGroupVersion.group_id == group_id).order_by(SymbolGroupVersion.valid_from.desc())
    )


def _problems(symbols: list[str], reason: str) -> dict[str, str]:
    found: dict[str, str] = {}
    symbols_of(Fields({"symbols": symbols}, "", found), "symbols", [])
    problems = {"symbols": next(iter(found.values()))} if found else {}
    if not symbols:
        problems["symbols"] = N_("A group needs at least one symbol.")
    if not reason.strip():
        problems["reason"] = N_("Please give a reason.")
    return problems


def _version(group_id: int, symbols: list[str], valid_from: datetime, reason: str, actor: Actor) -> SymbolGroupVersion:
    return SymbolGroupVersion(
        group_id=group_id, symbols=symbols, valid_from=valid_from, set_by=str(actor), reason=" ".join(reason.split())
    )
