"""What exchange rates are judged and priced by: how long each source counts, and what converting a pair costs."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
from flask_babel import gettext, ngettext
from flask_babel import lazy_gettext as _l
from markupsafe import Markup
from sqlalchemy import select
from wtforms import Field, StringField
from wtforms.validators import InputRequired, Length

from app.core.errors import N_, InvalidInput
from app.core.money import InvalidMoney, exponent
from app.ledger.known_rates import rate_text
from app.models.fx import FXPair, FXSource
from app.surfaces import formats
from app.views.columns import figure
from app.views.guarded import AuditedInterface, BackOfficeView

#: What the sources are called to staff.
SOURCES = {
    "manual": _l("Manual"),
    "mt": _l("Trading servers"),
    "ecb": _l("European Central Bank"),
    "fixed": _l("Fixed"),
}
HOUR_S, DAY_S = 3600, 86_400
LONGEST_AGE_S = 31 * DAY_S
LARGEST_SPREAD_BP = 2000


def source_words(code: str) -> str:
    """A source, or several such as "mt+ecb", in words."""
    return ", ".join(str(SOURCES.get(one, one)) for one in code.split("+"))


def spread(basis_points: int) -> Markup:
    """Basis points and the percent that they are."""
    percent = formats.exact(Decimal(basis_points) / 100)
    return figure(gettext("%(percent)s %% (%(number)s bp)", percent=percent, number=basis_points))


def duration(seconds: int) -> str:
    """In the largest unit that it is a whole number of."""
    if seconds % DAY_S == 0:
        return ngettext("%(num)d day", "%(num)d days", seconds // DAY_S)
    if seconds % HOUR_S == 0:
        return ngettext("%(num)d hour", "%(num)d hours", seconds // HOUR_S)
    if seconds % 60 == 0:
        return ngettext("%(num)d minute", "%(num)d minutes", seconds // 60)
    return ngettext("%(num)d second", "%(num)d seconds", seconds)


class HoursField(Field):
    """Seconds, typed as hours: "144" or "0.5"."""

    widget = BS3TextFieldWidget()

    data: int | str | None

    def _value(self) -> str:
        if self.raw_data:
            return str(self.raw_data[0])
        return rate_text(Decimal(self.data) / HOUR_S) if isinstance(self.data, int) else ""

    def process_formdata(self, valuelist: list[str]) -> None:
        text = valuelist[0].strip() if valuelist else ""
        try:
            seconds = Decimal(text[:12]) * HOUR_S
        except InvalidOperation:
            seconds = Decimal("NaN")
        if not seconds.is_finite() or seconds != seconds.to_integral_value():
            self.data = text
            raise ValueError(gettext("Please give hours, such as 144 or 0.5."))
        self.data = int(seconds)


class FXSourceView(BackOfficeView):
    """Rank and age of each source. A source is added with the code that reads it, so there is no form for that."""

    class_permission_name = "FX sources"
    route_base = "/exchange-rates/sources"
    datamodel = AuditedInterface(FXSource)
    base_permissions = ["can_list", "can_show", "can_edit"]
    include_route_methods = {"list", "show", "edit"}
    list_template = "office/fx_reference_list.html"
    list_title, edit_title, show_title = _l("Sources of rates"), _l("Source of rates"), _l("Source of rates")
    list_columns = show_columns = ["code", "rank", "max_age_s"]
    edit_columns = ["rank", "max_age_s"]
    search_columns = ["code"]
    base_order = ("rank", "asc")
    label_columns = {"code": _l("Source"), "rank": _l("Rank"), "max_age_s": _l("Counts for")}
    formatters_columns = {"code": source_words, "rank": lambda value: figure(str(value)), "max_age_s": duration}
    description_columns = {"rank": _l("Of all sources whose newest rate is young enough, the one with the lowest rank counts.")}
    edit_form_extra_fields = {
        "max_age_s": HoursField(
            _l("Counts for, in hours"),
            description=_l("An older rate is too old: nothing is converted by it, and reports mark it. 24 is a day."),
            validators=[InputRequired()],
        )
    }

    def check(self, item: Any) -> None:
        problems = {}
        if not 1 <= (item.rank or 0) <= 1000:
            problems["rank"] = N_("Please give a whole number from 1 to 1000.")
        if not isinstance(item.max_age_s, int) or not 60 <= item.max_age_s <= LONGEST_AGE_S:
            problems["max_age_s"] = N_("Please give a minute at least and 31 days (744 hours) at most.")
        other = select(FXSource.code).where(FXSource.rank == item.rank, FXSource.code != item.code)
        if not problems and self.datamodel.session.scalar(other):
            problems["rank"] = N_("Another source has this rank. Give that one another rank first; ranks may have gaps.")
        if problems:
            raise InvalidInput(problems)


def _currency(label: str) -> StringField:
    return StringField(
        label,
        description=_l("Its code, such as EUR. Which of the two stands first does not matter."),
        validators=[InputRequired(), Length(max=8)],
        widget=BS3TextFieldWidget(),
    )


class FXPairView(BackOfficeView):
    """What clients pay for converting a pair, the same both ways. A pair without a row costs 1 %."""

    class_permission_name = "FX pairs"
    route_base = "/exchange-rates/spreads"
    datamodel = AuditedInterface(FXPair)
    list_template = "office/fx_reference_list.html"
    list_title, add_title, edit_title, show_title = _l("Spreads"), _l("New spread"), _l("Spread"), _l("Spread")
    list_columns = show_columns = ["base", "quote", "spread_bp"]
    add_columns = ["base", "quote", "spread_bp"]
    edit_columns = ["spread_bp"]
    search_columns = ["base", "quote"]
    base_order = ("base", "asc")
    label_columns = {"base": _l("Currency"), "quote": _l("Other currency"), "spread_bp": _l("Spread")}
    formatters_columns = {"spread_bp": spread}
    description_columns = {
        "spread_bp": _l(
            "In basis points, hundredths of a percent of the amount given: 50 is 0.5 %. It counts from the next quote on."
        )
    }
    add_form_extra_fields = {"base": _currency(_l("Currency")), "quote": _currency(_l("Other currency"))}

    def check(self, item: Any) -> None:
        problems = {}
        if item.id is None:
            for field in ("base", "quote"):
                code = (getattr(item, field) or "").strip().upper()
                setattr(item, field, code)
                if not is_currency(code):
                    problems[field] = N_("This currency is not known.")
            if not problems and item.base == item.quote:
                problems["quote"] = N_("Please choose two different currencies.")
            item.base, item.quote = sorted((item.base, item.quote))
            same = select(FXPair.id).where(FXPair.base == item.base, FXPair.quote == item.quote)
            if not problems and self.datamodel.session.scalar(same):
                problems["quote"] = N_("This pair has a spread already. Change that one.")
        if item.spread_bp is None or not 0 <= item.spread_bp <= LARGEST_SPREAD_BP:
            problems["spread_bp"] = N_("Please give a whole number from 0 to 2000.")
        if problems:
            raise InvalidInput(problems)


def is_currency(code: str) -> bool:
    try:
        exponent(code)
    except InvalidMoney:
        return False
    return True
