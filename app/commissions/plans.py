"""A plan version's rules document: from JSON to frozen rules and back, strictly. Pure: no database, no clock.

The document is a list of rules; every rule that fits a deal pays. docs/commissions.md shows one with all its fields.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from app.commissions.components import COMPONENTS
from app.commissions.errors import InvalidPlan
from app.core.errors import N_, InvalidInput
from app.core.money import exponent

#: Deals that no trader's decision made: rollover, variation margin, transfer, synchronisation, external service,
#: migration, split, corporate action (MetaTrader's numbers of a deal's reason).
EXCLUDED_REASONS = frozenset({6, 8, 12, 13, 14, 15, 18, 19})

DIRECTIONS = ("any", "buy", "sell")

MAX_RULES = 100
MAX_LEVELS = 20
MAX_SYMBOLS = 500
MAX_RATE = Decimal(100_000)
MAX_REASON = 255
MAX_HOLDING_S = 366 * 24 * 3600

_KEY = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,10})?")
#: Two stars at most keep matching fast.
_SYMBOL = re.compile(r"(?!.*\*.*\*.*\*)[A-Za-z0-9._#&/*-]{1,32}")


@dataclass(frozen=True, slots=True)
class RuleFilter:
    """Which deals a rule pays for. `symbols` are names in which * stands for any characters."""

    symbols: tuple[str, ...] = ("*",)
    direction: str = "any"
    excluded_reasons: frozenset[int] = EXCLUDED_REASONS
    min_holding_s: int = 0


@dataclass(frozen=True, slots=True)
class Rule:
    """One way of paying. `levels` are the shares of the tiers of the tree, the client's own IB first; they sum to 1 at most."""

    key: str
    component: str
    rate: Decimal
    currency: str
    levels: tuple[Decimal, ...] = (Decimal(1),)
    filter: RuleFilter = RuleFilter()


@dataclass(frozen=True, slots=True)
class PlanSnapshot:
    """The rules of the plan version that was valid when a deal was done; none when the stored version cannot be read."""

    version_id: int
    rules: tuple[Rule, ...]
    is_broken: bool = False

    @property
    def needs_opening(self) -> bool:
        """Whether a rule asks how long a position was held."""
        return any(rule.filter.min_holding_s for rule in self.rules)


def parse_rules(document: object, currency: str) -> tuple[Rule, ...]:
    """The rules of a document; `currency` is the plan's and stands in for a rule's own when it names none.

    Raises InvalidPlan with all problems at once, each under its path, such as rules[0].filter.symbols.
    """
    problems: dict[str, str] = {}
    if not isinstance(document, list) or not document:
        raise InvalidPlan({"rules": N_("A plan needs at least one rule.")})
    if len(document) > MAX_RULES:
        raise InvalidPlan({"rules": N_("A plan has 100 rules at most.")})
    rules = [_parse_rule(_Fields(raw, f"rules[{index}]", problems), currency) for index, raw in enumerate(document)]
    seen: set[str] = set()
    for index, rule in enumerate(rules):
        if rule.key in seen:
            problems.setdefault(f"rules[{index}].key", N_("Two rules have this key."))
        seen.add(rule.key)
    if problems:
        raise InvalidPlan(problems)
    return tuple(rules)


def rules_document(rules: Sequence[Rule]) -> list[dict[str, Any]]:
    """The document of rules with every default written out, so that a stored version never changes its meaning."""
    return [
        {
            "key": rule.key,
            "component": rule.component,
            "rate": f"{rule.rate:f}",
            "currency": rule.currency,
            "levels": [f"{share:f}" for share in rule.levels],
            "filter": {
                "symbols": list(rule.filter.symbols),
                "direction": rule.filter.direction,
                "excluded_reasons": sorted(rule.filter.excluded_reasons),
                "min_holding_s": rule.filter.min_holding_s,
            },
        }
        for rule in rules
    ]


def _parse_rule(fields: _Fields, currency: str) -> Rule:
    fields.only("key", "component", "rate", "currency", "levels", "filter")
    key = fields.text("key", "", _KEY, N_("Use 1 to 40 small letters, digits, - or _."))
    component = fields.choice("component", "", COMPONENTS)
    rate = fields.number("rate", fields.get("rate"))
    if not 0 < rate <= MAX_RATE:
        fields.problem("rate", N_("The rate must be above 0 and at most 100,000."))
    return Rule(key, component, rate, _currency(fields, currency), _levels(fields), _parse_filter(fields.inner("filter")))


def _parse_filter(fields: _Fields) -> RuleFilter:
    fields.only("symbols", "direction", "excluded_reasons", "min_holding_s")
    symbols = fields.items("symbols", ["*"], MAX_SYMBOLS)
    if not symbols:
        fields.problem("symbols", N_("Without symbols this rule matches nothing."))
    if not all(isinstance(symbol, str) and _SYMBOL.fullmatch(symbol) for symbol in symbols):
        fields.problem("symbols", N_("A symbol has 1 to 32 letters, digits or . _ # & / - and up to two * for any characters."))
    reasons = fields.items("excluded_reasons", sorted(EXCLUDED_REASONS), MAX_REASON + 1)
    if not all(_is_whole(reason) and 0 <= reason <= MAX_REASON for reason in reasons):
        fields.problem("excluded_reasons", N_("Reasons are whole numbers from 0 to 255."))
        reasons = []
    holding_s = fields.get("min_holding_s", 0)
    if not _is_whole(holding_s) or not 0 <= holding_s <= MAX_HOLDING_S:
        fields.problem("min_holding_s", N_("The holding time is a whole number of seconds, up to one year."))
        holding_s = 0
    direction = fields.choice("direction", "any", DIRECTIONS)
    return RuleFilter(tuple(str(symbol) for symbol in symbols), direction, frozenset(reasons), holding_s)


def _levels(fields: _Fields) -> tuple[Decimal, ...]:
    raw = fields.items("levels", ["1"], MAX_LEVELS)
    if not raw:
        fields.problem("levels", N_("A rule needs the share of at least one level."))
    shares = tuple(fields.number(f"levels[{index}]", value, harmless="0") for index, value in enumerate(raw))
    for index, share in enumerate(shares):
        if not 0 < share <= 1:
            fields.problem(f"levels[{index}]", N_("A share must be above 0 and at most 1."))
    if all(share <= 1 for share in shares) and sum(shares) > 1:
        fields.problem("levels", N_("The shares of all levels are more than the whole."))
    return shares


def _currency(fields: _Fields, default: str) -> str:
    currency = fields.get("currency", default)
    try:
        if not isinstance(currency, str):
            raise InvalidInput
        exponent(currency)
    except InvalidInput:
        fields.problem("currency", N_("Nobody knows this currency."))
        return default
    return currency


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


class _Fields:
    """One JSON object being read. What is wrong is noted under its path; reading goes on with a harmless value."""

    def __init__(self, raw: object, path: str, problems: dict[str, str]) -> None:
        self._path = path
        self._problems = problems
        self._raw: Mapping[str, Any] = {}
        if isinstance(raw, dict):
            self._raw = raw
        else:
            problems[path] = N_("This must be an object with named fields.")

    def problem(self, name: str, message: str) -> None:
        """Note what is wrong with a field; the first problem of a field stands."""
        self._problems.setdefault(f"{self._path}.{name}", message)

    def only(self, *known: str) -> None:
        """Refuse every field that is not known: a misspelt filter would otherwise pay too much."""
        for name in self._raw:
            if name not in known:
                self.problem(str(name)[:40], N_("There is no such field."))

    def get(self, name: str, default: Any = None) -> Any:
        return self._raw.get(name, default)

    def inner(self, name: str) -> _Fields:
        return _Fields(self._raw.get(name, {}), f"{self._path}.{name}", self._problems)

    def text(self, name: str, default: str, pattern: re.Pattern[str], message: str) -> str:
        value = self._raw.get(name, default)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            self.problem(name, message)
            return default
        return value

    def choice(self, name: str, default: str, choices: Sequence[str] | Mapping[str, object]) -> str:
        value = self._raw.get(name, default)
        if not isinstance(value, str) or value not in choices:
            self.problem(name, N_("This is not one of the choices."))
            return default
        return value

    def number(self, name: str, value: object, harmless: str = "1") -> Decimal:
        """A decimal from its text. JSON's own numbers are refused: on their way they may have been rounded as floats."""
        if not isinstance(value, str) or not _NUMBER.fullmatch(value):
            self.problem(name, N_('Write this number as text with up to 10 decimals, such as "7.50".'))
            return Decimal(harmless)
        return Decimal(value)

    def items(self, name: str, default: list[Any], most: int) -> list[Any]:
        value = self._raw.get(name, default)
        if not isinstance(value, list):
            self.problem(name, N_("This must be a list."))
            return default
        if len(value) > most:
            self.problem(name, N_("This list is too long."))
            return default
        return value
