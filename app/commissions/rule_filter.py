"""Which deals a rule of a plan is for: reading its filter, strictly, and writing it. Pure: no database, no clock."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from app.commissions.fields import Fields, is_whole
from app.core.errors import N_

#: Deals that no trader's decision made: the dealer's, rollover, variation margin, transfer, synchronisation, external
#: service, migration, split, corporate action (MetaTrader's numbers of a deal's reason).
EXCLUDED_REASONS = frozenset({2, 6, 8, 12, 13, 14, 15, 18, 19})

#: Deals count however much of the account's money is credit.
ALL_CREDIT = 100

DIRECTIONS = ("any", "buy", "sell")

#: Of clients, as rules of protection see them: those of app/models/clients.py.
CATEGORIES = ("retail", "professional", "eligible_counterparty")

MAX_SYMBOLS = 500
MAX_REASON = 255
MAX_HOLDING_S = 366 * 24 * 3600
MAX_POINTS = 1_000_000
MAX_NAMES = 250

_FIELDS = (
    *("symbols", "symbol_groups", "direction", "excluded_reasons", "min_holding_s", "min_points"),
    "max_credit_percent",
    *("products", "countries", "categories"),
)
#: Two stars at most keep matching fast.
_SYMBOL = re.compile(r"(?!.*\*.*\*.*\*)[A-Za-z0-9._#&/*-]{1,32}")
_COUNTRY = re.compile(r"[A-Z]{2}")
_PRODUCT = re.compile(r"[A-Za-z0-9._-]{1,40}")
#: Code of a symbol group.
GROUP = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_CATEGORY = re.compile("|".join(CATEGORIES))


@dataclass(frozen=True, slots=True)
class RuleFilter:
    """Which deals a rule pays for. `symbols` are names in which * stands for any characters.

    `products` are codes of account products, `countries` of the clients' countries and `categories` those of CATEGORIES;
    empty means all of them. Deals are left out while credit, which a bonus is, made up more than `max_credit_percent` of the
    account's money. `symbol_groups` are codes of groups that are still to be put in place of, by plans.with_groups.
    """

    symbols: tuple[str, ...] = ("*",)
    direction: str = "any"
    excluded_reasons: frozenset[int] = EXCLUDED_REASONS
    min_holding_s: int = 0
    products: frozenset[str] = frozenset()
    countries: frozenset[str] = frozenset()
    categories: frozenset[str] = frozenset()
    min_points: int = 0
    max_credit_percent: int = ALL_CREDIT
    symbol_groups: tuple[str, ...] = ()


#: The filter of a rule that has none.
USUAL = RuleFilter()


def parse_filter(fields: Fields) -> RuleFilter:
    """The filter of a rule; what is wrong is noted."""
    fields.only(*_FIELDS)
    groups = fields.items("symbol_groups", [], MAX_NAMES)
    if not all(isinstance(code, str) and GROUP.fullmatch(code) for code in groups):
        fields.problem("symbol_groups", N_("A symbol group is named by its code, such as metals."))
        groups = []
    symbols = symbols_of(fields, "symbols", [] if groups else ["*"])
    if not symbols and not groups:
        fields.problem("symbols", N_("Without symbols this rule matches nothing."))
    reasons = fields.items("excluded_reasons", sorted(EXCLUDED_REASONS), MAX_REASON + 1)
    if not all(is_whole(reason) and 0 <= reason <= MAX_REASON for reason in reasons):
        fields.problem("excluded_reasons", N_("Reasons are whole numbers from 0 to 255."))
        reasons = []
    holding_s = fields.get("min_holding_s", 0)
    if not is_whole(holding_s) or not 0 <= holding_s <= MAX_HOLDING_S:
        fields.problem("min_holding_s", N_("The holding time is a whole number of seconds, up to one year."))
        holding_s = 0
    points = fields.get("min_points", 0)
    if not is_whole(points) or not 0 <= points <= MAX_POINTS:
        fields.problem("min_points", N_("Points are a whole number up to 1,000,000."))
        points = 0
    credit_percent = fields.get("max_credit_percent", ALL_CREDIT)
    if not is_whole(credit_percent) or not 0 <= credit_percent <= ALL_CREDIT:
        fields.problem("max_credit_percent", N_("This is a whole number of percent from 0 to 100."))
        credit_percent = ALL_CREDIT
    direction = fields.choice("direction", "any", DIRECTIONS)
    products = _names(fields, "products", _PRODUCT, N_("A product is named by its code, such as standard-usd."))
    countries = _names(fields, "countries", _COUNTRY, N_("A country is named by two capital letters, such as CY."))
    categories = _names(fields, "categories", _CATEGORY, N_("A category is retail, professional or eligible_counterparty."))
    return RuleFilter(
        symbols,
        direction,
        frozenset(reasons),
        holding_s,
        products,
        countries,
        categories,
        points,
        credit_percent,
        tuple(groups),
    )


def filter_document(criteria: RuleFilter) -> dict[str, Any]:
    """A filter with every default written out."""
    return {
        "symbols": list(criteria.symbols),
        "direction": criteria.direction,
        "excluded_reasons": sorted(criteria.excluded_reasons),
        "min_holding_s": criteria.min_holding_s,
        "products": sorted(criteria.products),
        "countries": sorted(criteria.countries),
        "categories": sorted(criteria.categories),
        "min_points": criteria.min_points,
        "max_credit_percent": criteria.max_credit_percent,
        "symbol_groups": list(criteria.symbol_groups),
    }


def symbols_of(fields: Fields, name: str, default: list[Any]) -> tuple[str, ...]:
    """A list of names of symbols, in which * stands for any characters."""
    symbols = fields.items(name, default, MAX_SYMBOLS)
    if not all(isinstance(symbol, str) and _SYMBOL.fullmatch(symbol) for symbol in symbols):
        fields.problem(name, N_("A symbol has 1 to 32 letters, digits or . _ # & / - and up to two * for any characters."))
    return tuple(str(symbol) for symbol in symbols)


def _names(fields: Fields, name: str, pattern: re.Pattern[str], message: str) -> frozenset[str]:
    names = fields.items(name, [], MAX_NAMES)
    if not all(isinstance(value, str) and pattern.fullmatch(value) for value in names):
        fields.problem(name, message)
        return frozenset()
    return frozenset(names)
