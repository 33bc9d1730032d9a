"""What the engine needs beside the deals, for a batch of them read in a handful of queries.

Everything is taken as it stood when each deal was done: whose client, which plan, which version of its rules.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from app.commissions.agreed import AgreedTerms
from app.commissions.deals import DealFacts
from app.commissions.engine import Rate, Rates, Upline
from app.commissions.errors import InvalidPlan
from app.commissions.overrides import Overrides, in_force
from app.commissions.plans import MAX_LEVELS, PlanSnapshot, Rule, parse_rules, with_groups
from app.commissions.symbol_groups import NO_GROUPS, Groups, load_groups
from app.core.arrays import any_of
from app.ledger import rates as fx
from app.ledger.known_rates import KnownRates
from app.models.clients import CLIENT_CATEGORIES, ClientCategory
from app.models.commissions import IBPlan, Plan, PlanVersion
from app.models.partners import Attribution
from app.partners import tree

log = logging.getLogger("lotwise.commissions")


#: In place of an IB's id: the client belonged to nobody.
_NOBODY = 0


@dataclass(frozen=True, slots=True)
class _Span:
    """That something held from one moment until another, or still does."""

    value: int
    valid_from: datetime
    valid_to: datetime | None


#: Uplines that a book remembers: deals come in the order of time, so old ones are not asked for again.
_UPLINES_KEPT = 10_000


class PlanBook:
    """Whose client each deal's owner was, and by which rules that IB was paid, at the moment of the deal."""

    def __init__(
        self,
        session: Session,
        client_ids: Iterable[int],
        *,
        ibs: Iterable[int] = (),
        overrides: Overrides | None = None,
        proposed: PlanSnapshot | None = None,
    ) -> None:
        """Read all spans of these clients, the plans of their IBs, and the versions of those plans; also of further `ibs`.

        `overrides` and those in force stand before what was written; the newest counts. `proposed` stands in place of all
        versions of its plan.
        """
        self._proposed = proposed
        client_ids = set(client_ids)
        instead = [*([overrides] if overrides else []), *in_force(session)]
        #: Clients who belonged to another IB than was written.
        self.moved = {held.subject for one in instead for held in one.clients}
        self._ibs = _spans(
            session,
            select(Attribution.client_id, Attribution.ib_id, Attribution.valid_from, Attribution.valid_to).where(
                Attribution.client_id == any_of(client_ids)
            ),
        )
        for one in reversed(instead):
            _insert(self._ibs, ((held.subject, held.value, held.since) for held in one.clients), one.until, client_ids)
        named = (_values(self._ibs) | set(ibs)) - {_NOBODY}
        self._above = tree.uplines(session, named, MAX_LEVELS)
        ibs = named | {span.parent_id for spans in self._above.values() for span in spans}
        self._plans = _spans(
            session, select(IBPlan.ib_id, IBPlan.plan_id, IBPlan.valid_from, IBPlan.valid_to).where(IBPlan.ib_id == any_of(ibs))
        )
        for one in reversed(instead):
            _insert(self._plans, ((held.subject, held.value, held.since) for held in one.plans), one.until, ibs)
        versions = session.execute(
            select(PlanVersion, Plan.currency)
            .join(Plan, Plan.id == PlanVersion.plan_id)
            .where(PlanVersion.plan_id.in_(_values(self._plans)))
            .order_by(PlanVersion.valid_from.desc())
        )
        parsed = [(version, _parsed(version, currency)) for version, currency in versions]
        self._versions = _in_time(parsed, load_groups(session) if any(_groups_of(rules) for _, rules in parsed) else NO_GROUPS)
        asks_category = any(rule.filter.categories for _, rules in parsed for rule in rules or ())
        asks_category |= proposed is not None and proposed.needs_category
        self._categories = _categories(session, client_ids) if asks_category else {}
        self._instead: dict[int, list[_Span]] = {}
        for one in reversed(instead):
            _insert(self._instead, ((held.subject, held.value, held.since) for held in one.versions), one.until, self._versions)
        self._by_id: dict[int, list[tuple[datetime, PlanSnapshot]]] = defaultdict(list)
        for begins, plan in (held for known in self._versions.values() for held in known):
            self._by_id[plan.version_id].append((begins, plan))
        self._terms = AgreedTerms(session, ibs)
        placed = (moment for spans in self._above.values() for span in spans for moment in (span.valid_from, span.valid_to))
        #: Between two of these moments nothing above any IB changes.
        self._changes = sorted({moment for moment in (*placed, *self._terms.moments()) if moment is not None})
        self._uplines: dict[tuple[int, int], tuple[Upline, ...]] = {}

    @property
    def snapshots(self) -> Collection[PlanSnapshot]:
        """Every version of every plan that pays somebody here."""
        known = [plan for held in self._by_id.values() for _, plan in held]
        return [*known, self._proposed] if self._proposed else known

    def upline(self, client_id: int | None, at: datetime) -> tuple[Upline, ...]:
        """The IBs above a client, nearest first; empty when nobody brought the client."""
        ib_id = _value_at(self._ibs.get(client_id or 0, ()), at)
        if ib_id is None or ib_id == _NOBODY:
            return ()
        key = (ib_id, bisect_right(self._changes, at))
        if key not in self._uplines:
            if len(self._uplines) == _UPLINES_KEPT:
                self._uplines.clear()
            self._uplines[key] = self.levels(self.chain(ib_id, at), at)
        return self._uplines[key]

    def levels(self, ib_ids: Iterable[int], at: datetime) -> tuple[Upline, ...]:
        """These IBs as an upline, the first of them nearest to the client, with the terms that each had at a moment."""
        return tuple(Upline(level, ib_id, self._terms.of(ib_id, at)) for level, ib_id in enumerate(ib_ids, start=1))

    def chain(self, ib_id: int, at: datetime) -> tuple[int, ...]:
        """An IB and those above it at a moment, nearest first."""
        return tree.upline_at(self._above, ib_id, at, MAX_LEVELS)

    def plan(self, upline: Sequence[Upline], at: datetime) -> PlanSnapshot | None:
        """The rules that paid at a moment: those of the nearest IB that had a plan. A sub-IB without one is paid by its
        upline's. None when nobody had one, or it had no version yet.
        """
        plan_id = self._nearest(upline, at)[1]
        if self._proposed is not None and plan_id == self._proposed.plan_id:
            return self._proposed
        instead = _value_at(self._instead.get(plan_id, ()), at)
        if instead is not None and instead in self._by_id:
            held = self._by_id[instead]
            return held[max(bisect_right(held, at, key=lambda version: version[0]) - 1, 0)][1]
        versions = self._versions.get(plan_id, [])
        index = bisect_right(versions, at, key=lambda version: version[0])
        return versions[index - 1][1] if index else None

    def owner(self, upline: Sequence[Upline], at: datetime) -> int:
        """The IB whose plan paid at a moment; 0 when nobody had one."""
        return self._nearest(upline, at)[0]

    def _nearest(self, upline: Sequence[Upline], at: datetime) -> tuple[int, int]:
        """The nearest IB that had a plan, and the plan."""
        for above in upline:
            plan_id = _value_at(self._plans.get(above.ib_id, ()), at)
            if plan_id is not None:
                return above.ib_id, plan_id
        return 0, 0

    def category(self, client_id: int | None, at: datetime) -> str:
        """Of which category a client was at a moment; known where a rule asks for it."""
        rows = self._categories.get(client_id or 0, [])
        index = bisect_right(rows, at, key=lambda row: row[0])
        return rows[index - 1][1] if index else CLIENT_CATEGORIES[0]


class DayRates:
    """Rates by which deals of a day are converted: those known when its UTC day began, so that a replay finds the same."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._known: dict[date, KnownRates] = {}
        self._found: dict[tuple[date, str, str], Rate | None] = {}

    def of(self, deal: DealFacts, plan: PlanSnapshot | None) -> Rates:
        """From the deal's currency to those of the plan's rules that take a part of money; what is not known is left out."""
        if plan is None or not deal.currency or not plan.needs_rates:
            return {}
        wanted = {rule.currency for rule in plan.for_deals} - {deal.currency}
        found = {currency: self.between(deal.done_at, deal.currency, currency) for currency in wanted}
        return {currency: rate for currency, rate in found.items() if rate is not None}

    def between(self, at: datetime, base: str, quote: str) -> Rate | None:
        """1 `base` in `quote` on the UTC day of a moment; None when no rate was known."""
        return self._rate(at.astimezone(UTC).date(), base, quote)

    def _rate(self, day: date, base: str, quote: str) -> Rate | None:
        if (day, base, quote) not in self._found:
            if day not in self._known:
                self._known[day] = fx.known(self._session, datetime.combine(day, time(), UTC))
            found = self._known[day].find(base, quote)
            self._found[day, base, quote] = Rate(found.rate, found.source, found.observed_at) if found else None
        return self._found[day, base, quote]


def _spans(session: Session, query: Select[int, int, datetime, datetime | None]) -> dict[int, list[_Span]]:
    """The spans of a query of (owner, value, from, to), by owner."""
    spans: dict[int, list[_Span]] = defaultdict(list)
    for owner, value, valid_from, valid_to in session.execute(query):
        spans[owner].append(_Span(value, valid_from, valid_to))
    return spans


def _insert(
    spans: dict[int, list[_Span]], held: Iterable[tuple[int, int, datetime]], until: datetime, owners: Collection[int]
) -> None:
    """Have these stand before what is there, as far as they are of these owners."""
    for owner, value, since in held:
        if owner in owners and since < until:
            spans.setdefault(owner, []).insert(0, _Span(value, since, until))


def _values(spans: Mapping[int, Iterable[_Span]]) -> set[int]:
    return {span.value for owned in spans.values() for span in owned}


def _value_at(spans: Iterable[_Span], at: datetime) -> int | None:
    for span in spans:
        if span.valid_from <= at and (span.valid_to is None or at < span.valid_to):
            return span.value
    return None


def _categories(session: Session, client_ids: Collection[int]) -> dict[int, list[tuple[datetime, str]]]:
    """From when on clients were of a category, by client, in order of time."""
    found: dict[int, list[tuple[datetime, str]]] = defaultdict(list)
    for row in session.scalars(
        select(ClientCategory).where(ClientCategory.client_id == any_of(client_ids)).order_by(ClientCategory.valid_from)
    ):
        found[row.client_id].append((row.valid_from, row.category))
    return found


def _parsed(version: PlanVersion, currency: str) -> tuple[Rule, ...] | None:
    """A version's rules. One that cannot be read stops its own plan, not the batch: its deals wait until it is mended."""
    try:
        return parse_rules(version.rules, currency)
    except InvalidPlan as error:
        log.error("plan version cannot be read version=%s fields=%s", version.id, ",".join(error.problems))
        return None


def _groups_of(rules: tuple[Rule, ...] | None) -> set[str]:
    return {code for rule in rules or () for code in rule.filter.symbol_groups}


def _in_time(
    versions: Sequence[tuple[PlanVersion, tuple[Rule, ...] | None]], groups: Groups
) -> dict[int, list[tuple[datetime, PlanSnapshot]]]:
    """What plans said from when on, in order of time. Where a group of symbols changes while a version holds, what it says
    changes with it. `versions` come the latest first.
    """
    found: dict[int, list[tuple[datetime, PlanSnapshot]]] = defaultdict(list)
    for version, rules in versions:
        of_plan = found[version.plan_id]
        ends = of_plan[-1][0] if of_plan else datetime.max.replace(tzinfo=UTC)
        changes = [moment for moment in groups.changes(_groups_of(rules)) if version.valid_from < moment < ends]
        for begins in reversed([version.valid_from, *changes]):
            of_plan.append((begins, _snapshot(version, rules, groups.at(begins))))
    return {plan_id: of_plan[::-1] for plan_id, of_plan in found.items()}


def _snapshot(version: PlanVersion, rules: tuple[Rule, ...] | None, groups: Mapping[str, Sequence[str]]) -> PlanSnapshot:
    try:
        known = with_groups(rules, groups) if rules is not None else None
    except InvalidPlan as error:
        log.error("symbol group is missing version=%s fields=%s", version.id, ",".join(error.problems))
        known = None
    return PlanSnapshot(
        version.id, known or (), is_broken=known is None, plan_id=version.plan_id, margin_guard=version.margin_guard
    )
