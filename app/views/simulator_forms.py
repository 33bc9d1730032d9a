"""The forms of the simulator's page. Choices that come from a simulated server are given when a form is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from flask import request
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from wtforms import DecimalField, IntegerField, SelectChoice, SelectField
from wtforms.validators import InputRequired, NumberRange, Optional

from app.core.errors import AppError
from app.surfaces.errors import sentence

MOVE_MAX = 100_000
MONEY_MAX = 1_000_000
MINUTES_MAX = 43_200

_NUMBER = _l("Please enter a number.")
_CHOOSE = _l("Please choose one of the list.")

Choices = Sequence[tuple[str, str]]


class Part(FlaskForm):
    """A form that is one of several on its page, told apart by its prefix; only what was sent to it is read."""

    name = ""

    def __init__(self, **choices: Choices) -> None:
        self.is_asked = request.endpoint == f"SimulatorPage.{self.name}"
        super().__init__(prefix=f"{self.name}-", **({} if self.is_asked else {"formdata": None}))
        self.elsewhere: list[str] = []
        for field, pairs in choices.items():
            self[field].choices = [SelectChoice(*pair) for pair in pairs]

    def leave_out(self, *unknown: str) -> None:
        """Of what can happen, leave out what this server does not know."""
        self["do"].choices = [choice for choice in self["do"].choices if choice.value not in unknown]

    def show(self, error: AppError) -> None:
        self.elsewhere = [sentence(error)]


def _points(label: Any, description: Any, *validators: Any) -> IntegerField:
    return IntegerField(
        label,
        description=description,
        validators=[*validators, NumberRange(-MOVE_MAX, MOVE_MAX, _l("At most 100,000 points up or down."))],
        render_kw={"inputmode": "text"},
    )


def _choice(label: Any, **kwargs: Any) -> SelectField:
    return SelectField(label, validators=[InputRequired(_CHOOSE)], **kwargs)


def _lots() -> DecimalField:
    return DecimalField(
        _l("Lots"),
        places=None,
        default=Decimal("0.10"),
        validators=[InputRequired(_NUMBER), NumberRange(Decimal("0.01"), 100, _l("From 0.01 to 100 lots."))],
        render_kw={"inputmode": "decimal"},
    )


def _money(label: Any, description: Any, *validators: Any) -> DecimalField:
    limits = NumberRange(-MONEY_MAX, MONEY_MAX, _l("At most 1,000,000 either way."))
    return DecimalField(
        label, places=None, description=description, validators=[*validators, limits], render_kw={"inputmode": "text"}
    )


class MoveForm(Part):
    name = "move"
    symbol = _choice(_l("Symbol"))
    points = _points(_l("Points"), _l("Up, or down with a minus. 100 points of EURUSD are 0.00100."), InputRequired(_NUMBER))


class TradeForm(Part):
    name = "trade"
    login = _choice(_l("Account"))
    symbol = _choice(_l("Symbol"))
    side = _choice(_l("Direction"), choices=[SelectChoice("buy", _l("Buy")), SelectChoice("sell", _l("Sell"))])
    lots = _lots()
    then = _choice(
        _l("And then"), choices=[SelectChoice("close", _l("Close it at once")), SelectChoice("leave", _l("Leave it open"))]
    )
    points = _points(_l("Price moves before closing"), _l("In points; empty or 0 for none."), Optional())


class DealForm(Part):
    name = "deal"
    ticket = _choice(_l("Deal"))
    do = _choice(
        _l("What happens to it"),
        choices=[
            SelectChoice("edit", _l("Its result is changed")),
            SelectChoice("cancel", _l("It is declared void")),
            SelectChoice("delete", _l("It is deleted")),
        ],
    )
    profit = _money(_l("New result"), _l("Only when the result is changed, in the account's currency."), Optional())


class LateForm(Part):
    name = "late"
    login = _choice(_l("Account"))
    symbol = _choice(_l("Symbol"))
    side = _choice(_l("Direction"), choices=[SelectChoice("buy", _l("Buy")), SelectChoice("sell", _l("Sell"))])
    lots = _lots()
    profit = _money(_l("Result"), _l("In the account's currency; a loss with a minus."), InputRequired(_NUMBER))
    minutes = IntegerField(
        _l("Minutes ago"),
        default=60,
        validators=[InputRequired(_NUMBER), NumberRange(0, MINUTES_MAX, _l("At most 30 days ago."))],
        render_kw={"inputmode": "numeric"},
    )


class AccountForm(Part):
    name = "account"
    login = _choice(_l("Account"))
    do = _choice(
        _l("What happens to it"),
        choices=[
            SelectChoice("archive", _l("It is archived")),
            SelectChoice("restore", _l("It is brought back from the archive")),
            SelectChoice("drift", _l("Its balance is wrong by the amount below")),
            SelectChoice("clean", _l("Its whole history is wiped, as with old demo accounts")),
        ],
    )
    amount = _money(_l("Amount"), _l("Only for a wrong balance, in the account's currency."), Optional())


_OFF = SelectChoice("", _l("Off"))
_OFTEN = [_OFF, SelectChoice("5%", _l("1 in 20")), SelectChoice("25%", _l("1 in 4"))]
_SELDOM = [_OFF, SelectChoice("1%", _l("1 in 100")), SelectChoice("5%", _l("1 in 20"))]


class FaultForm(Part):
    """Each field is a word of the line of faults that the simulator reads; its choices are values of that word."""

    name = "faults"
    duplicates = SelectField(_l("Messages come twice"), choices=_OFTEN)
    reorder = SelectField(
        _l("Messages come in the wrong order"),
        choices=[
            _OFF,
            SelectChoice("2s", _l("Within 2 seconds")),
            SelectChoice("5s", _l("Within 5 seconds")),
            SelectChoice("15s", _l("Within 15 seconds")),
        ],
    )
    late = SelectField(
        _l("Messages come a minute late"),
        choices=[_OFF, SelectChoice("1%/60s", _l("1 in 100")), SelectChoice("5%/60s", _l("1 in 20"))],
    )
    gap = SelectField(
        _l("The connection breaks, and messages are lost"),
        choices=[
            _OFF,
            SelectChoice("10s/120s", _l("10 seconds in every 2 minutes")),
            SelectChoice("30s/120s", _l("30 seconds in every 2 minutes")),
        ],
    )
    garbage = SelectField(_l("Nonsense comes in between"), choices=_SELDOM)
    edits = SelectField(_l("The broker's dealer corrects closed deals"), choices=_SELDOM)
    deletes = SelectField(_l("The broker's dealer deletes closed deals"), choices=_SELDOM)
    drop_after_execute = SelectField(
        _l("What we ask for is done, but the answer is lost"),
        choices=[_OFF, SelectChoice("2%", _l("1 in 50")), SelectChoice("20%", _l("1 in 5"))],
    )
    slow = SelectField(
        _l("Answers take 3 seconds"),
        choices=[_OFF, SelectChoice("5%/3s", _l("1 in 20")), SelectChoice("50%/3s", _l("Every second one"))],
    )
    too_frequent = SelectField(
        _l("The server is too busy for us"),
        choices=[_OFF, SelectChoice("5%", _l("1 in 20")), SelectChoice("25%", _l("1 in 4"))],
    )
    unavailable = SelectField(
        _l("The server is out of order for us"),
        choices=[_OFF, SelectChoice("5%", _l("1 in 20")), SelectChoice("25%", _l("1 in 4"))],
    )

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.set_now = chosen(state) if state else {}
        for field in self.switches:
            now = self.set_now.get(field.short_name, "")
            field.choices = list(field.choices)
            if now not in [choice.value for choice in field.choices]:
                field.choices.append(SelectChoice(now, gettext("As it is set now: %(value)s", value=now)))
            if not self.is_asked:
                field.data = now

    @property
    def switches(self) -> list[SelectField]:
        return [field for field in self if isinstance(field, SelectField)]

    @property
    def line(self) -> str:
        """What the simulator reads."""
        return ",".join(f"{field.short_name}={field.data}" for field in self.switches if field.data)


#: Where the simulator's state has the chance of a fault of commands: word, kind of rule, return codes (MT5's and MT4's).
_RULES: tuple[tuple[str, str, tuple[int, ...]], ...] = (
    ("drop_after_execute", "execute_then_drop", ()),
    ("slow", "slow", ()),
    ("too_frequent", "retcode", (12, 8)),
    ("unavailable", "http_503", ()),
)


def chosen(state: Mapping[str, Any]) -> dict[str, str]:
    """The values that are on at a simulated server, as the form spells them."""
    events = state["event_faults"]
    values = {name: _percent(events[name]) for name in ("duplicates", "garbage", "edits", "deletes") if events[name]}
    if events["reorder_s"]:
        values["reorder"] = _time(events["reorder_s"])
    if events["late"]:
        values["late"] = f"{_percent(events['late'])}/{_time(events['late_s'])}"
    if events["gap_s"]:
        values["gap"] = f"{_time(events['gap_s'])}/{_time(events['gap_every_s'])}"
    for word, kind, codes in _RULES:
        for rule in state["faults"]:
            if rule["kind"] == kind and rule["chance"] < 1 and (not codes or rule["code"] in codes):
                values[word] = _percent(rule["chance"]) + (f"/{_time(rule['seconds'])}" if kind == "slow" else "")
    return values


def _percent(part: float) -> str:
    return f"{part * 100:g}%"


def _time(seconds: float) -> str:
    return f"{seconds:g}s"
