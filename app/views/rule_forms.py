"""One rule of a commission plan as a form: a table of its parts, each with its place in the rules document.

The data of a field is the value that stands in the document; an empty one is left out there. A new part of a rule is one more
line in PARTS.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from markupsafe import Markup
from wtforms import BooleanField, Field, Form, SelectField, SelectMultipleField, StringField
from wtforms.fields import SelectChoice
from wtforms.widgets import html_params

from app.commissions.components import COMPONENTS
from app.commissions.rule_filter import EXCLUDED_REASONS
from app.metatrader.codes import DealReason
from app.views.labels import CATEGORIES

#: What each way of paying means; a component that is not here is called by its label.
EXPLAINED = {
    "per_lot": _l("A fixed amount for each lot: a round turn when a position is closed, or each side."),
    "per_deal": _l("A fixed amount for each deal, whatever its size."),
    "commission_share": _l("Percent of commission and fee that the trading server charged on this very deal."),
    "markup_points": _l("So many points of mark-up. A point is the smallest step of the symbol's prices."),
    "spread_share": _l("Percent of the spread: all of the closing deal's, or half of each deal's own."),
    "revenue_share": _l("Percent of spread, commission and fee."),
    "loss_share": _l("Percent of what the client lost; what a client won is taken back. Name the countries that allow it."),
    "cpa": _l("A fixed amount, once for each client who was won."),
    "retainer": _l("A fixed amount for each month."),
}

_MODES = {
    "shares": _l("shares of the whole"),
    "below": _l("part of what the level below gets"),
    "rates": _l("a rate of its own for each level"),
    "override": _l("own rates, the difference to the level below is paid"),
}
_REASONS = {
    DealReason.CLIENT: _l("Terminal"),
    DealReason.EXPERT: _l("Expert advisor"),
    DealReason.DEALER: _l("Dealer"),
    DealReason.STOP_LOSS: _l("Stop loss"),
    DealReason.TAKE_PROFIT: _l("Take profit"),
    DealReason.STOP_OUT: _l("Stop out"),
    DealReason.ROLLOVER: _l("Rollover"),
    DealReason.EXTERNAL_CLIENT: _l("External client"),
    DealReason.VARIATION_MARGIN: _l("Variation margin"),
    DealReason.GATEWAY: _l("Gateway"),
    DealReason.SIGNAL: _l("Signal"),
    DealReason.SETTLEMENT: _l("Settlement"),
    DealReason.TRANSFER: _l("Transfer"),
    DealReason.SYNC: _l("Synchronisation"),
    DealReason.EXTERNAL_SERVICE: _l("External service"),
    DealReason.MIGRATION: _l("Migration"),
    DealReason.MOBILE: _l("Mobile"),
    DealReason.WEB: _l("Web"),
    DealReason.SPLIT: _l("Split"),
    DealReason.CORPORATE_ACTION: _l("Corporate action"),
    DealReason.ULTENCY: _l("Ultency"),
    DealReason.COVERAGE: _l("Coverage"),
}


class Line(StringField):
    """One line of text without blanks around it."""

    data: Any

    def process_formdata(self, valuelist: list[str]) -> None:
        self.data = valuelist[0].strip() if valuelist else ""


class Whole(Line):
    """A whole number. What is none stays as it was typed, and is refused with the rules."""

    def process_formdata(self, valuelist: list[str]) -> None:
        super().process_formdata(valuelist)
        if self.data and self.data.isascii() and self.data.isdigit():
            self.data = int(self.data)

    def _value(self) -> str:
        return "" if self.data is None else str(self.data)


class Words(StringField):
    """Names in one line, with commas or blanks between them."""

    def process_formdata(self, valuelist: list[str]) -> None:
        self.data = valuelist[0].replace(",", " ").split() if valuelist else []

    def _value(self) -> str:
        return ", ".join(self.data or ())


class Checks(SelectMultipleField):
    """Boxes to tick. What is ticked and not on the list is kept: it may have been taken off since."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, validate_choice=False, **options)

    def boxes(self) -> Iterator[tuple[object, object, bool]]:
        """Each value with its label, and whether it is ticked."""
        listed = {choice.value: choice.label for choice in self.choices or ()}
        for value, label in {**{value: value for value in self.data or ()}, **listed}.items():
            yield value, label, value in (self.data or ())


class Row(Field):
    """Values side by side, one for each level; those left empty are left out."""

    least = 4

    def process_formdata(self, valuelist: list[str]) -> None:
        self.data = [value.strip() for value in valuelist if value.strip()]

    def widget(self, field: Field, **given: Any) -> Markup:
        """The inputs, with one more than there are values."""
        values = [*(self.data or ()), ""]
        values += [""] * (self.least - len(values))
        given = {**given, "type": "text", "inputmode": "decimal", "autocomplete": "off"}
        inputs = []
        for index, value in enumerate(values):
            own = {"id": f"{self.id}-{index}" if index else self.id, "name": self.name, "value": value}
            about = {"aria_label": gettext("%(what)s, level %(number)s", what=self.label.text, number=index + 1)}
            inputs.append(f"<input {html_params(**given, **own, **about)}>")
        return Markup('<div class="value-row">{}</div>').format(Markup("".join(inputs)))  # noqa: S704  html_params escapes


class Bands(Line):
    """Bands of tiers in one line, such as 0: 5.00, 100: 6.00."""

    def process_formdata(self, valuelist: list[str]) -> None:
        parts = [part.strip() for part in (valuelist[0] if valuelist else "").split(",")]
        pairs = (part.partition(":") for part in parts if part)
        self.data = [{"from": start.strip(), "rate": rate.strip()} for start, _, rate in pairs]

    def _value(self) -> str:
        return ", ".join(f"{band['from']}: {band['rate']}" for band in self.data or ())


@dataclass(frozen=True)
class Part:
    """A part of a rule: the name of its field, where its value stands in the document, and in which group it is shown."""

    name: str
    path: str
    group: str
    field: Any


def _select(label: str, choices: Mapping[str, object], **options: Any) -> Any:
    options.setdefault("default", next(iter(choices)))
    return SelectField(label, choices=[SelectChoice(value, text) for value, text in choices.items()], **options)


PARTS = (
    Part("key", "key", "pays", Line(_l("Name of the rule"), description=_l("Small letters, digits, - and _."))),
    Part(
        "component",
        "component",
        "pays",
        _select(_l("Pays for"), {name: _l(kind.label) for name, kind in sorted(COMPONENTS.items())}, default="per_lot"),
    ),
    Part(
        "rate",
        "rate",
        "pays",
        Line(_l("Rate paid"), description=_l("An amount, or percent. Empty where levels or tiers have rates.")),
    ),
    Part("currency", "currency", "pays", Line(_l("Currency"), description=_l("Empty: the plan's."))),
    Part(
        "when",
        "when",
        "pays",
        _select(
            _l("When"),
            {"": _l("as usual for it"), "close": _l("when a position is closed"), "each": _l("on each side")},
        ),
    ),
    Part(
        "beneficiary",
        "beneficiary",
        "pays",
        _select(_l("Who gets it"), {"ibs": _l("the IBs above the client"), "trader": _l("the trader, as a rebate")}),
    ),
    Part("mode", "levels.mode", "levels", _select(_l("Levels get"), _MODES)),
    Part(
        "values",
        "levels.values",
        "levels",
        Row(_l("Values"), description=_l("The client's own IB first, then those above it.")),
    ),
    Part("cap", "cap", "levels", Line(_l("At most for one deal"), description=_l("Over all levels. Empty: no cap."))),
    Part("day", "caps.day", "levels", Line(_l("At most for an IB a day"))),
    Part("month", "caps.month", "levels", Line(_l("At most for an IB a month"))),
    Part(
        "symbols",
        "filter.symbols",
        "for",
        Words(
            _l("Symbols"),
            default=["*"],
            description=_l("Such as EURUSD, XAU*. * stands for any characters."),
            render_kw={"dir": "ltr"},
        ),
    ),
    Part("symbol_groups", "filter.symbol_groups", "for", Checks(_l("Symbol groups"))),
    Part(
        "direction",
        "filter.direction",
        "for",
        _select(_l("Direction"), {"any": _l("buys and sells"), "buy": _l("only buys"), "sell": _l("only sells")}),
    ),
    Part("min_holding_s", "filter.min_holding_s", "for", Whole(_l("Held at least, seconds"), default=0)),
    Part("min_points", "filter.min_points", "for", Whole(_l("Price moved at least, points"), default=0)),
    Part(
        "max_credit_percent",
        "filter.max_credit_percent",
        "for",
        Whole(
            _l("Credit at most, percent"),
            default=100,
            description=_l("Of the account's money; above it a bonus paid."),
        ),
    ),
    Part("products", "filter.products", "for", Checks(_l("Account products"), description=_l("None ticked: all."))),
    Part(
        "countries", "filter.countries", "for", Words(_l("Clients' countries"), description=_l("Such as CY, AE. Empty: all."))
    ),
    Part(
        "categories",
        "filter.categories",
        "for",
        Checks(
            _l("Clients' categories"),
            description=_l("None ticked: all."),
            choices=[SelectChoice(value, label) for value, label in CATEGORIES.items()],
        ),
    ),
    Part(
        "excluded_reasons",
        "filter.excluded_reasons",
        "reasons",
        Checks(
            _l("Deals that are not paid for, by their reason"),
            coerce=int,
            default=sorted(EXCLUDED_REASONS),
            choices=[SelectChoice(int(reason), label) for reason, label in _REASONS.items()],
        ),
    ),
    Part(
        "bands",
        "tiers.bands",
        "tiers",
        Bands(_l("Bands"), description=_l("From: rate, such as 0: 5.00, 100: 6.00. Empty: one rate.")),
    ),
    Part(
        "measure",
        "tiers.measure",
        "tiers",
        _select(
            _l("Measured by"),
            {"lots": _l("lots"), "net_deposits": _l("net deposits"), "active_clients": _l("active clients")},
        ),
    ),
    Part(
        "period",
        "tiers.period",
        "tiers",
        _select(
            _l("Over a"),
            {"day": _l("day"), "week": _l("week"), "month": _l("month"), "quarter": _l("quarter")},
            default="month",
        ),
    ),
    Part(
        "tier_mode",
        "tiers.mode",
        "tiers",
        _select(
            _l("Paid"),
            {"whole": _l("all of the period at the rate it reached"), "marginal": _l("each lot at the rate of its band")},
        ),
    ),
    Part(
        "basis",
        "tiers.basis",
        "tiers",
        _select(_l("By"), {"current": _l("the current period"), "previous": _l("the period before")}),
    ),
    Part("first_deposit", "conditions.first_deposit", "client", Line(_l("First deposit from"))),
    Part("lots", "conditions.lots", "client", Line(_l("Lots closed from"))),
    Part("within_days", "conditions.within_days", "client", Whole(_l("Within days of the registration"), default=90)),
    Part("approved", "conditions.approved", "client", BooleanField(_l("Documents approved"), default=True)),
    Part("active_clients", "conditions.active_clients", "month", Whole(_l("Active clients in the branch from"))),
)

_Fields: Any = type("_Fields", (Form,), {part.name: part.field for part in PARTS})


class RuleForm(_Fields):  # its fields are those of PARTS
    """One rule; `number` is its place in the list."""

    def __init__(self, number: int, formdata: Any = None, rule: Mapping[str, Any] | None = None) -> None:
        values = {part.name: _at(rule, part.path) for part in PARTS} if rule is not None else {}
        super().__init__(formdata, prefix=f"rules-{number}", data={name: v for name, v in values.items() if v is not None})
        self.number = number
        for group in ("client", "month"):
            if formdata is not None and not any(field.name in formdata for field in self.group(group)):
                for field in self.group(group):  # it was not on the page, so its usual values stand
                    field.process(None)

    def offer(self, groups: Sequence[tuple[str, str]], products: Sequence[tuple[str, str]]) -> None:
        """Give the boxes of symbol groups and products their choices: codes and names."""
        self.symbol_groups.choices = [SelectChoice(code, name) for code, name in groups]
        self.products.choices = [SelectChoice(code, name) for code, name in products]

    @property
    def on(self) -> str:
        """What the component is paid for: deals, clients who were won, or months."""
        kind = COMPONENTS.get(self.component.data or "")
        return kind.on if kind else "deal"

    @property
    def explanation(self) -> object:
        return EXPLAINED.get(self.component.data or "", "")

    def group(self, name: str) -> list[Any]:
        """The fields of a group, in their order."""
        return [self[part.name] for part in PARTS if part.group == name]

    def is_used(self, name: str) -> bool:
        """Whether a group says something other than its defaults, or something wrong."""
        if name == "tiers":
            return bool(self.bands.data or self.bands.errors)
        fresh = RuleForm(self.number)
        return any(field.errors or (field.data or None) != (fresh[field.short_name].data or None) for field in self.group(name))

    def document(self) -> dict[str, Any]:
        """The rule as it stands in a document; only conditions and tiers that it has."""
        rule: dict[str, Any] = {}
        for part in PARTS:
            value = self[part.name].data
            if part.group in ("client", "month") and part.group != self.on:
                continue
            if part.group == "tiers" and not self.bands.data:
                continue
            if value in (None, "") or (value == [] and part.path == "levels.values" and self.mode.data == "shares"):
                continue
            *above, last = part.path.split(".")
            place = rule
            for name in above:
                place = place.setdefault(name, {})
            place[last] = value
        return rule

    def show(self, path: str, problem: str) -> object:
        """Write a problem beside the field of its path; the field's label, or the path when no field is for it."""
        within = (part for part in PARTS if path == part.path or path.startswith((f"{part.path}[", f"{part.path}.")))
        above = (part for part in PARTS if part.path.startswith(f"{path}."))
        part = next(within, None) or next(above, None)
        if part is None:
            return path
        field = self[part.name]
        field.errors = [*field.errors, problem]
        return field.label.text


def _at(rule: Mapping[str, Any], path: str) -> Any:
    """The value at a path of a rule; None where there is none."""
    value: Any = rule
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
