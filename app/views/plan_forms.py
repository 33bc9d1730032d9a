"""The forms of commission plans: rules as a document that comes back as typed, and a deal to try them on."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from wtforms import IntegerField, SelectField, StringField, TextAreaField
from wtforms.fields import SelectChoice
from wtforms.validators import InputRequired, Length, NumberRange, Optional

from app.commissions.deals import BUY, ENTRY_IN, ENTRY_OUT, SELL, DealFacts
from app.commissions.drafts import LONGEST_REASON
from app.core.clock import now
from app.core.errors import AppError
from app.surfaces.errors import sentence
from app.views.labels import CATEGORIES
from app.views.ledger_request_forms import Needed, NumberField, UTCField
from app.views.rule_editor import RuleEditor

MAX_DEPTH = 20
_BOUNDS = NumberRange(min=-1_000_000_000, max=1_000_000_000)


def amount(label: str, default: str, **options: Any) -> NumberField:
    """A number that an example begins with."""
    return NumberField(label, default=Decimal(default), places=None, validators=[InputRequired(), _BOUNDS], **options)


class PlanForm(FlaskForm):
    """A plan without rules."""

    name = StringField(_l("Name"), validators=[Needed(), Length(max=100)])
    currency = StringField(_l("Currency"), default="USD", validators=[Needed(), Length(max=8)])


class AssignmentForm(FlaskForm):
    """Who is paid by a plan from when on."""

    ib = SelectField(_l("Introducing broker"), coerce=int, validators=[InputRequired()])
    since = UTCField(_l("From (UTC)"), validators=[Needed()])


class CascadeForm(FlaskForm):
    """What happens to personal rates above those of the IB above."""

    guard = SelectField(
        _l("A personal rate above that of the IB above"),
        default="refuse",
        choices=[
            SelectChoice("refuse", _l("is refused")),
            SelectChoice("flag", _l("is allowed and raises a flag")),
        ],
    )


class ExampleForm(FlaskForm):
    """When rules begin and why, what guards them; and one deal to try them on."""

    margin_guard = SelectField(
        _l("When a deal pays more than it earned"),
        description=_l("It earned the spread and the commission that the client paid."),
        default="off",
        choices=[
            SelectChoice("off", _l("pay it all")),
            SelectChoice("flag", _l("pay it all and raise a flag")),
            SelectChoice("cap", _l("cut all payouts to what it earned")),
        ],
    )
    valid_from = UTCField(_l("Valid from (UTC)"), validators=[Optional()])
    reason = TextAreaField(
        _l("Reason"),
        description=_l("What changes and why. Whoever decides reads it."),
        render_kw={"rows": 2, "maxlength": LONGEST_REASON},
    )
    symbol = StringField(_l("Symbol"), default="EURUSD", validators=[Length(max=32)])
    position = SelectField(
        _l("Position"), default="buy", choices=[SelectChoice("buy", _l("Buy")), SelectChoice("sell", _l("Sell"))]
    )
    side = SelectField(
        _l("Deal"), default="close", choices=[SelectChoice("close", _l("closes it")), SelectChoice("open", _l("opens it"))]
    )
    lots = amount(_l("Lots"), "1")
    held_s = IntegerField(_l("Held, seconds"), default=3600, validators=[InputRequired(), NumberRange(min=0, max=10**9)])
    currency = StringField(_l("Account's currency"), default="USD", validators=[Length(max=8)])
    product = StringField(_l("Account product"), default="standard-usd", validators=[Length(max=40)])
    country = StringField(_l("Client's country"), default="CY", validators=[Length(max=2)])
    category = SelectField(
        _l("Client's category"), choices=[SelectChoice(value, label) for value, label in CATEGORIES.items()], default="retail"
    )
    opened = amount(_l("Opened at"), "1.07950")
    price = amount(_l("Closed at"), "1.08000")
    credit_percent = IntegerField(
        _l("Credit, percent of the account's money"), default=0, validators=[InputRequired(), NumberRange(min=0, max=100)]
    )
    digits = IntegerField(_l("Digits of its prices"), default=5, validators=[InputRequired(), NumberRange(min=0, max=8)])
    bid = amount(_l("Bid"), "1.08000")
    ask = amount(_l("Ask"), "1.08012")
    contract = amount(_l("Contract size"), "100000")
    rate_profit = amount(_l("Profit currency in the account's"), "1")
    commission = amount(_l("Commission charged"), "-3.50")
    profit = amount(_l("Profit"), "-25.00")
    swap = amount(_l("Swap"), "0")
    stands = NumberField(_l("Where tiers stand before it"), default=Decimal(0), places=None, validators=[Optional(), _BOUNDS])
    depth = IntegerField(_l("IBs above the client"), default=2, validators=[InputRequired(), NumberRange(min=1, max=MAX_DEPTH)])

    def __init__(self) -> None:
        super().__init__()
        self.elsewhere: list[str] = []

    def show(self, error: AppError, editor: RuleEditor) -> None:
        """Write a refusal beside its field, of the rules by the editor."""
        problems = {path: gettext(problem) for path, problem in getattr(error, "problems", {}).items()}
        for name in ("reason", "margin_guard"):
            if name in problems:
                self[name].errors = [problems.pop(name)]
        editor.show(problems)
        if not getattr(error, "problems", {}):
            self.elsewhere.append(sentence(error))

    def deal(self) -> DealFacts:
        """The typed deal as one done now."""
        closes, at = self.side.data == "close", now()
        return DealFacts(
            deal_id=0,
            action=BUY if (self.position.data == "buy") != closes else SELL,
            entry=ENTRY_OUT if closes else ENTRY_IN,
            reason=0,
            symbol=(self.symbol.data or "").strip(),
            volume=int(Decimal(self.lots.data or 0).scaleb(8)),
            volume_closed=0,
            done_at=at,
            opened_at=at - timedelta(seconds=self.held_s.data or 0),
            product=(self.product.data or "").strip(),
            country=(self.country.data or "").strip().upper(),
            category=self.category.data,
            price=self.price.data or Decimal(0),
            price_position=self.opened.data or Decimal(0),
            digits=self.digits.data,
            credit_percent=Decimal(self.credit_percent.data or 0),
            currency=(self.currency.data or "").strip().upper(),
            profit=self.profit.data or Decimal(0),
            swap=self.swap.data or Decimal(0),
            commission=self.commission.data or Decimal(0),
            bid=self.bid.data or Decimal(0),
            ask=self.ask.data or Decimal(0),
            contract_size=self.contract.data or Decimal(0),
            rate_profit=self.rate_profit.data or Decimal(0),
        )
