"""A plan version's rules document: from JSON to frozen rules and back, strictly. Pure: no database, no clock.

The document is a list of rules; every rule that fits a deal pays. docs/commissions.md shows one with all its fields.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import pairwise
from typing import Any

from app.commissions.components import COMPONENTS, When
from app.commissions.conditions import Conditions, conditions_document, parse_conditions
from app.commissions.deals import EXACT
from app.commissions.errors import InvalidPlan
from app.commissions.fields import Fields
from app.commissions.rule_filter import ALL_CREDIT, USUAL, RuleFilter, filter_document, parse_filter
from app.commissions.tiers import PERIODS, Caps, Tiers, caps_document, parse_caps, parse_tiers, tiers_document
from app.core.errors import N_, InvalidInput
from app.core.money import exponent

#: Whom a rule pays: the IBs above the client, or the client who traded.
BENEFICIARIES = ("ibs", "trader")

#: What happens when a deal pays out more than it earned: nothing, the deal is flagged, or all payouts are cut to it.
MARGIN_GUARDS = ("off", "flag", "cap")
SIDES: tuple[When, ...] = ("close", "each")

#: How the levels of the tree share what a rule gives; `terms_of` says what the values of each mean.
MODES = ("shares", "rates", "override", "below")

MAX_RULES = 100
MAX_LEVELS = 20
MAX_RATE = Decimal(100_000)
MAX_PERCENT = Decimal(100)

_KEY = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


@dataclass(frozen=True, slots=True)
class Term:
    """What one level gets of what a rule measured: measured x `rate` x `share`; `factor` is the product of both, exact, and
    a hundredth of it where the rate is a percentage, and times the IB's `multiplier` where it has one.
    The rate of one that `is_personal` was agreed with an IB: bands of tiers do not change it.
    """

    rate: Decimal
    share: Decimal
    factor: Decimal
    multiplier: Decimal | None = None
    is_personal: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """One way of paying. `levels` are the values of the tiers of the tree, the client's own IB first, and `mode` says what
    they are. `when` is "close" or "each"; `cap` is the most that the rule pays for one deal over all levels. With `tiers`
    the rate is that of a band, and `rate` the first one's; `caps` are the most that one IB gets in a period. `beneficiary` is
    "ibs", or "trader": then the rule is a rebate with one value. A rule with `conditions` is not for deals.
    """

    key: str
    component: str
    rate: Decimal
    currency: str
    levels: tuple[Decimal, ...] = (Decimal(1),)
    filter: RuleFilter = USUAL
    mode: str = "shares"
    when: When = "close"
    cap: Decimal | None = None
    tiers: Tiers | None = None
    caps: Caps | None = None
    beneficiary: str = "ibs"
    conditions: Conditions | None = None
    terms: tuple[Term, ...] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Work out once what every deal needs."""
        object.__setattr__(self, "terms", tuple(terms_of(self)))

    @property
    def is_counted(self) -> bool:
        """Whether what it pays depends on other deals of a period."""
        return self.tiers is not None or self.caps is not None

    @property
    def periods(self) -> tuple[str, ...]:
        """The periods it counts in."""
        of_caps = tuple(self.caps.periods) if self.caps else ()
        return (self.tiers.period, *of_caps) if self.tiers else of_caps


@dataclass(frozen=True, slots=True)
class PlanSnapshot:
    """The rules of the plan version that was valid when a deal was done; none when the stored version cannot be read.

    `span` is the longest period that one of its rules counts in; None: no rule counts.
    """

    version_id: int
    rules: tuple[Rule, ...]
    is_broken: bool = False
    plan_id: int = 0
    margin_guard: str = "off"
    span: str | None = field(init=False, compare=False)
    for_deals: tuple[Rule, ...] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Work out once what every deal needs."""
        found = {period for rule in self.rules for period in rule.periods}
        object.__setattr__(self, "span", max(found, key=PERIODS.index, default=None))
        object.__setattr__(self, "for_deals", tuple(rule for rule in self.rules if rule.conditions is None))

    @property
    def needs_opening(self) -> bool:
        """Whether a rule asks how long a position was held."""
        return any(rule.filter.min_holding_s for rule in self.rules)

    @property
    def needs_rates(self) -> bool:
        """Whether amounts of money may have to be converted: those that a rule takes a part of, or what the deal earned."""
        return self.margin_guard != "off" or any(COMPONENTS[rule.component].is_money for rule in self.rules)

    @property
    def needs_credit(self) -> bool:
        """Whether a rule asks how much of the account's money was credit."""
        return any(rule.filter.max_credit_percent < ALL_CREDIT for rule in self.rules)

    @property
    def needs_category(self) -> bool:
        """Whether a rule asks what category the client was of."""
        return any(rule.filter.categories for rule in self.rules)


def parse_rules(document: object, currency: str) -> tuple[Rule, ...]:
    """The rules of a document; `currency` is the plan's and stands in for a rule's own when it names none.

    Raises InvalidPlan with all problems at once, each under its path, such as rules[0].filter.symbols.
    """
    problems: dict[str, str] = {}
    if not isinstance(document, list) or not document:
        raise InvalidPlan({"rules": N_("A plan needs at least one rule.")})
    if len(document) > MAX_RULES:
        raise InvalidPlan({"rules": N_("A plan has 100 rules at most.")})
    rules = [_parse_rule(Fields(raw, f"rules[{index}]", problems), currency) for index, raw in enumerate(document)]
    seen: set[str] = set()
    for index, rule in enumerate(rules):
        if rule.key in seen:
            problems.setdefault(f"rules[{index}].key", N_("Two rules have this key."))
        seen.add(rule.key)
    _one_calendar(rules, problems)
    if problems:
        raise InvalidPlan(problems)
    return tuple(rules)


def with_groups(rules: Sequence[Rule], groups: Mapping[str, Sequence[str]]) -> tuple[Rule, ...]:
    """The rules with the symbols of their groups written out; `groups` are patterns by code. Raises InvalidPlan when one is
    missing.
    """
    problems: dict[str, str] = {}
    resolved = []
    for index, rule in enumerate(rules):
        named = rule.filter.symbol_groups
        if not all(code in groups for code in named):
            problems[f"rules[{index}].filter.symbol_groups"] = N_("There is no symbol group of this code at that moment.")
            continue
        symbols = dict.fromkeys((*rule.filter.symbols, *(pattern for code in named for pattern in groups[code])))
        resolved.append(replace(rule, filter=replace(rule.filter, symbols=tuple(symbols), symbol_groups=())) if named else rule)
    if problems:
        raise InvalidPlan(problems)
    return tuple(resolved)


def rules_document(rules: Sequence[Rule]) -> list[dict[str, Any]]:
    """The document of rules with every default written out, so that a stored version never changes its meaning."""
    return [
        {
            "key": rule.key,
            "component": rule.component,
            **({"rate": f"{rule.rate:f}"} if rule.mode in _OF_ONE_RATE and not rule.tiers else {}),
            "currency": rule.currency,
            "when": rule.when,
            "levels": {"mode": rule.mode, "values": [f"{value:f}" for value in rule.levels]},
            "cap": f"{rule.cap:f}" if rule.cap is not None else None,
            "tiers": tiers_document(rule.tiers),
            "caps": caps_document(rule.caps),
            "beneficiary": rule.beneficiary,
            **_conditions(rule),
            "filter": filter_document(rule.filter),
        }
        for rule in rules
    ]


def _conditions(rule: Rule) -> dict[str, Any]:
    if rule.conditions is None:
        return {}
    return {"conditions": conditions_document(rule.conditions, COMPONENTS[rule.component].on)}


#: The modes whose values are parts of the rule's own rate; in the others they are the rates.
_OF_ONE_RATE = ("shares", "below")


def terms_of(rule: Rule, own: Sequence[Decimal | None] = ()) -> Iterator[Term]:
    """What each level gets, the client's own IB first. `own` are rates in place of the rule's, by level; None: the rule's.

    shares: its part of what the rule gives; below: its part of what the level below gets (of the first: of the rule's rate);
    rates: its own rate; override: the difference between its own rate and the highest of the levels below.
    """
    hundredth = Decimal("0.01") if COMPONENTS[rule.component].is_percentage else Decimal(1)
    highest, share, running, is_personal = Decimal(0), Decimal(1), rule.rate, False
    for level, value in enumerate(rule.levels):
        personal = own[level] if level < len(own) else None
        is_personal = personal is not None or (is_personal and rule.mode == "below")
        rate, part = rule.rate if personal is None else personal, value
        if rule.mode == "below":
            rate = running = running if personal is None else personal
            part = share = EXACT.multiply(share, value)
        elif rule.mode in ("rates", "override"):
            rate, part = value if personal is None else personal, Decimal(1)
        if rule.mode == "override":
            rate, highest = max(rate - highest, Decimal(0)), max(highest, rate)
        yield Term(rate, part, EXACT.multiply(EXACT.multiply(rate, part), hundredth), None, is_personal)


def _one_calendar(rules: Sequence[Rule], problems: dict[str, str]) -> None:
    """Weeks lie across months: a plan that counted in both would never come to the end of a period."""
    by_period = {period: index for index, rule in enumerate(rules) for period in rule.periods}
    if "week" in by_period and by_period.keys() & {"month", "quarter"}:
        problems.setdefault(
            f"rules[{by_period['week']}].tiers.period", N_("A plan counts in weeks, or in months and quarters.")
        )


def _parse_rule(fields: Fields, currency: str) -> Rule:
    fields.only(
        *(
            "key",
            "component",
            "rate",
            "currency",
            "when",
            "levels",
            "cap",
            "tiers",
            "caps",
            "filter",
            "beneficiary",
            "conditions",
        )
    )
    key = fields.text("key", "", _KEY, N_("Use 1 to 40 small letters, digits, - or _."))
    name = fields.choice("component", "", COMPONENTS)
    kind = COMPONENTS.get(name)
    when: When = "each" if fields.choice("when", kind.when if kind else "close", SIDES) == "each" else "close"
    highest = MAX_PERCENT if kind and kind.is_percentage else MAX_RATE
    mode, values = _levels(fields, highest)
    tiers = parse_tiers(fields, highest, _too_high(highest))
    if tiers and mode not in _OF_ONE_RATE:
        fields.problem("tiers", N_("Tiers need a rule with one rate: levels that are shares, or parts of the level below."))
    if tiers:
        rate = tiers.bands[0].rate
    else:
        rate = _rate(fields, "rate", fields.get("rate"), highest) if mode in _OF_ONE_RATE else Decimal(0)
    if mode not in _OF_ONE_RATE and fields.get("rate") is not None:
        fields.problem("rate", N_("Each level has a rate of its own here; leave this one out."))
    criteria = parse_filter(fields.inner("filter"))
    if when == "each" and criteria.min_holding_s:
        fields.problem("filter.min_holding_s", N_("How long a position was held is known at its closing only."))
    if when == "each" and criteria.min_points:
        fields.problem("filter.min_points", N_("How far the price moved is known at the closing only."))
    if kind and kind.needs_countries and not criteria.countries:
        fields.problem("filter.countries", N_("Name the countries in which this way of paying is allowed."))
    if kind and kind.closing_only and when == "each":
        fields.problem("when", N_("This is known at the closing only."))
    conditions = parse_conditions(fields, kind.on if kind else "deal")
    if conditions is not None and criteria != RuleFilter(countries=criteria.countries):
        fields.problem("filter", N_("Only countries can be chosen here: the rest is about deals."))
    if conditions is not None and (fields.get("tiers") is not None or fields.get("caps") is not None):
        fields.problem("tiers", N_("Tiers and caps of a period are for deals."))
    if kind is None:
        return Rule(key, "per_lot", rate, currency)
    beneficiary = fields.choice("beneficiary", "ibs", BENEFICIARIES)
    if beneficiary == "trader" and len(values) > 1:
        fields.problem("levels", N_("A rebate goes to the trader alone; give it one value."))
    if beneficiary == "trader" and conditions is not None:
        fields.problem("beneficiary", N_("A rebate is for deals."))
    if beneficiary == "trader" and fields.get("caps") is not None:
        fields.problem("caps", N_("Caps of a period are for IBs, not for a rebate."))
    return Rule(
        key,
        name,
        rate,
        _currency(fields, currency),
        values,
        criteria,
        mode,
        when,
        _cap(fields),
        tiers,
        parse_caps(fields),
        beneficiary,
        conditions,
    )


def _rate(fields: Fields, name: str, value: object, highest: Decimal) -> Decimal:
    rate = fields.number(name, value)
    if not 0 < rate <= highest:
        fields.problem(name, _too_high(highest))
    return rate


def _too_high(highest: Decimal) -> str:
    if highest == MAX_PERCENT:
        return N_("A percentage must be above 0 and at most 100.")
    return N_("The rate must be above 0 and at most 100,000.")


def _cap(fields: Fields) -> Decimal | None:
    if fields.get("cap") is None:
        return None
    cap = fields.number("cap", fields.get("cap"))
    if not cap > 0:
        fields.problem("cap", N_("A cap must be above 0."))
    return cap


def _levels(fields: Fields, highest_rate: Decimal) -> tuple[str, tuple[Decimal, ...]]:
    """The mode and its values. A bare list is the short form of shares."""
    raw = fields.get("levels", ["1"])
    if isinstance(raw, list):
        inner, name, mode = fields, "levels", "shares"
    else:
        inner, name = fields.inner("levels"), "values"
        inner.only("mode", "values")
        mode = inner.choice("mode", "shares", MODES)
    items = inner.items(name, ["1"], MAX_LEVELS)
    if not items:
        inner.problem(name, N_("A rule needs at least one level."))
    if mode in _OF_ONE_RATE:
        values = tuple(inner.number(f"{name}[{index}]", value, harmless="0") for index, value in enumerate(items))
        for index, share in enumerate(values):
            if not 0 < share <= 1:
                inner.problem(f"{name}[{index}]", N_("A share must be above 0 and at most 1."))
        if mode == "shares" and all(share <= 1 for share in values) and sum(values) > 1:
            inner.problem(name, N_("The shares of all levels are more than the whole."))
        return mode, values
    values = tuple(_rate(inner, f"{name}[{index}]", value, highest_rate) for index, value in enumerate(items))
    if mode == "rates" and highest_rate == MAX_PERCENT and sum(values) > MAX_PERCENT:
        inner.problem(name, N_("The percentages of all levels are more than the whole."))
    for index, (below, value) in enumerate(pairwise(values), start=1):
        if mode == "override" and value < below:
            inner.problem(f"{name}[{index}]", N_("This level's rate is below that of the level under it."))
    return mode, values


def _currency(fields: Fields, default: str) -> str:
    currency = fields.get("currency", default)
    try:
        if not isinstance(currency, str):
            raise InvalidInput
        exponent(currency)
    except InvalidInput:
        fields.problem("currency", N_("Nobody knows this currency."))
        return default
    return currency
