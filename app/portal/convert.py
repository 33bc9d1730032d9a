"""Conversion in the portal: the client asks what an amount would buy, has half a minute to say yes, and sees the result.

One address for each quote shows it while it is open, when it has expired, and what it became; so reloading, going back and
pressing twice do no harm.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from flask import Blueprint, flash, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from sqlalchemy import select
from wtforms import SelectField, StringField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import InputRequired, Length, ValidationError

from app.core.clock import now
from app.core.errors import N_, AppError, NotFound
from app.core.money import InvalidMoney, Money, exponent
from app.core.uow import retried
from app.extensions import db, limiter
from app.ledger import chart, fx, fx_currencies, queries
from app.ledger.errors import InsufficientFunds, NoRate, QuoteExpired
from app.models.fx import FXQuote
from app.portal.guards import client_required
from app.portal.money import CURRENCIES, actor, balances, plain_number
from app.surfaces.errors import sentence
from app.surfaces.formats import money

blueprint = Blueprint("portal_convert", __name__, url_prefix="/portal/money/convert")

#: What everybody may convert into, whatever the house offers beside it: what is paid in and out, and sterling.
MAJOR = (*CURRENCIES, "GBP")

#: What the sources of rates are called to clients.
SOURCES = {
    "ecb": _l("European Central Bank"),
    "mt": _l("trading servers"),
    "manual": _l("set by us"),
    "fixed": _l("fixed"),
}


class ConversionForm(FlaskForm):
    """What to give and what to get. The names in the address fill it in: ?sell_currency=USD&amount=100.50&buy_currency=EUR."""

    sell_currency = SelectField(_l("From your wallet"), validate_choice=False)
    amount = StringField(
        _l("You give"),
        validators=[InputRequired(_l("Please enter an amount.")), Length(max=30, message=_l("This is too long."))],
    )
    buy_currency = SelectField(_l("You get"), validate_choice=False)

    def __init__(self, wallets: list[queries.Balance]) -> None:
        super().__init__(**({} if request.method == "POST" else {"formdata": request.args}))
        self.elsewhere: list[str] = []
        sold = [wallet.available.currency for wallet in wallets]
        self.sell_currency.choices = [
            SelectChoice(wallet.available.currency, gettext("%(amount)s free", amount=money(wallet.available)))
            for wallet in wallets
        ]
        offered = fx_currencies.offered(db.session(), g.client.id, sold, MAJOR)
        self.buy_currency.choices = [SelectChoice(code, code) for code in offered]
        if request.method == "GET":
            if self.sell_currency.data not in sold:
                self.sell_currency.data = sold[0] if sold else None
            if self.buy_currency.data not in offered:
                self.buy_currency.data = next((code for code in offered if code != self.sell_currency.data), None)

    def validate_sell_currency(self, field: SelectField) -> None:
        if field.data not in [choice.value for choice in field.choices]:
            raise ValidationError(gettext("Please choose one of your wallets with money in it."))

    def validate_buy_currency(self, field: SelectField) -> None:
        if field.data not in [choice.value for choice in field.choices]:
            raise ValidationError(gettext("Please choose one of the currencies."))

    def money(self) -> Money:
        """The amount to give. Raises InvalidMoney."""
        return Money.parse(plain_number(self.amount.data or ""), self.sell_currency.data)

    def show(self, error: AppError) -> None:
        """Write what is wrong beside the field it belongs to."""
        problems = getattr(error, "problems", {})
        if isinstance(error, InsufficientFunds | InvalidMoney):
            self.amount.errors = [sentence(error)]
        elif isinstance(error, NoRate):
            self.buy_currency.errors = [sentence(error)]
        elif problems:
            for name, problem in problems.items():
                self[name].errors = [gettext(problem)]
        else:
            self.elsewhere = [sentence(error)]


@dataclass(frozen=True)
class Offer:
    """A quote as the page tells it. `percent` is what our fee is of the amount given, with two decimals."""

    state: str
    seconds_left: int
    percent: Decimal
    sources: list[tuple[str, datetime | None]]


@blueprint.route("/", methods=["GET", "POST"])
@client_required
@limiter.limit("240 per hour", methods=["POST"])
def ask() -> ResponseReturnValue:
    """From which wallet, how much, into what: leads to a quote, which has a page of its own."""
    form = ConversionForm(_wallets())
    if form.validate_on_submit():
        try:
            sold = form.money()
            _check_funds(sold)
            made = fx.quote(db.session(), client_id=g.client.id, sell=sold, buy_currency=form.buy_currency.data, actor=actor())
            return redirect(url_for("portal_convert.show", public_id=made.public_id), 303)
        except AppError as error:
            form.show(error)
    return _form_page(form), 422 if request.method == "POST" else 200


@blueprint.get("/<public_id>")
@client_required
def show(public_id: str) -> ResponseReturnValue:
    """The offer with its button, the way to a new one when it has expired, or what was converted."""
    quote = _own(public_id)
    wallets = (chart.client_wallet(g.client.id, one.currency) for one in (quote.sold, quote.bought))
    return render_template(
        "portal/conversion.html",
        quote=quote,
        offer=_offer(quote),
        balances=[queries.balance(db.session(), one) for one in wallets] if quote.txn_id else [],
        source_words=SOURCES,
        holds_s=int(fx.QUOTE_HOLDS.total_seconds()),
    )


@blueprint.post("/<public_id>")
@client_required
@limiter.limit("240 per hour")
def convert(public_id: str) -> ResponseReturnValue:
    """Carry the offer out, once: pressed again, the page shows what was done."""
    try:
        done = retried(lambda: fx.convert(db.session(), quote_public_id=public_id, client_id=g.client.id, actor=actor()))
    except NotFound:
        raise
    except QuoteExpired:
        pass  # the page says so, and has the way to a new one
    except AppError as error:
        quote = _own(public_id)
        form = ConversionForm(_wallets(quote.sell_currency))
        form.sell_currency.data, form.buy_currency.data = quote.sell_currency, quote.buy_currency
        form.amount.data = f"{quote.sold.decimal:f}"
        form.show(error)
        return _form_page(form), error.http_status
    else:
        flash(gettext("Converted: %(sold)s into %(bought)s.", sold=money(done.sold), bought=money(done.bought)), "success")
    return redirect(url_for("portal_convert.show", public_id=public_id), 303)


def _form_page(form: ConversionForm) -> str:
    """The form; `digits` is how many decimals can be typed, since the wallets may differ."""
    currencies = [choice.value for choice in form.sell_currency.choices]
    return render_template(
        "portal/convert.html",
        form=form,
        digits=max(map(exponent, currencies), default=2),
        is_approved=g.client.status == "approved",
    )


def _wallets(needed: str = "") -> list[queries.Balance]:
    """The wallets with something free in them, and the one that is needed to show what was asked."""
    return [one for one in balances() if one.available.amount_minor > 0 or one.available.currency == needed]


def _check_funds(sold: Money) -> None:
    """Say so before a rate is promised that cannot be used; the ledger decides when it converts."""
    free = next(one.available for one in balances() if one.available.currency == sold.currency)
    if sold > free:
        raise InsufficientFunds(N_("There are %(free)s free in this wallet."), free=money(free))


def _own(public_id: str) -> FXQuote:
    """The client's own quote; another client's does not exist."""
    try:
        wanted = UUID(public_id)
    except ValueError:
        raise NotFound() from None
    found = db.session.scalars(
        select(FXQuote).where(FXQuote.public_id == wanted, FXQuote.client_id == g.client.id)
    ).one_or_none()
    if found is None:
        raise NotFound()
    return found


def _offer(quote: FXQuote) -> Offer:
    at = now()
    return Offer(
        quote.state(at),
        max(0, int((quote.expires_at - at).total_seconds())),
        (Decimal(quote.spread_minor) * 100 / quote.sell_minor).quantize(Decimal("0.01")),
        _told(quote.sources),
    )


def _told(documents: list[dict[str, str]]) -> list[tuple[str, datetime | None]]:
    """Where the rate is from and from when, each once."""
    told = ((used["source"], used["observed_at"]) for used in documents)
    return [(source, datetime.fromisoformat(at) if at else None) for source, at in dict.fromkeys(told)]
