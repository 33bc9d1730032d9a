"""Money in the portal: the wallet with its movements, deposit by card, transfer, withdrawal."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from flask import Blueprint, current_app, flash, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from sqlalchemy import select
from wtforms import HiddenField, RadioField, SelectField, StringField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import UUID, InputRequired, Length

from app.core.actor import Actor
from app.core.errors import N_, AppError, NotFound
from app.core.money import InvalidMoney, Money
from app.extensions import db, limiter
from app.jobs import gateways
from app.ledger import queries
from app.models.fx import FXQuote
from app.models.metatrader import TradingAccount
from app.models.payments import Deposit, Transfer, Withdrawal
from app.payments import deposits, janitor, transfers, withdrawals
from app.payments.errors import KeyReused
from app.portal.guards import client_required
from app.surfaces.errors import sentence
from app.surfaces.formats import decimals, money

blueprint = Blueprint("portal_money", __name__, url_prefix="/portal/money")

CONNECTOR = "stripe"
CURRENCIES = ("USD", "EUR")
MOVEMENTS = 25


#: A plain number, or one with thousands grouped by commas or spaces; a comma never stands for the decimal point, because
#: "1,5" read as 15 would be another amount than the one meant.
_PLAIN = re.compile(r"[0-9]+(\.[0-9]+)?")
_GROUPED = re.compile(r"[0-9]{1,3}([, \N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}])[0-9]{3}(\1[0-9]{3})*(\.[0-9]+)?")


def plain_number(typed: str) -> str:
    """The number as typed, without grouping and in Latin digits. Raises InvalidMoney for anything that could be misread."""
    text = typed.strip().translate(ARABIC_DIGITS)
    if _PLAIN.fullmatch(text):
        return text
    if _GROUPED.fullmatch(text):
        return re.sub(r"[^0-9.]", "", text)
    raise InvalidMoney(message=N_("Please write the amount as in 1000.50, with a point before the decimals."))


class AmountForm(FlaskForm):
    """An amount; `key` is drawn when the page is made, so that sending twice is one request."""

    amount = StringField(_l("Amount"), validators=[InputRequired(_l("Please enter an amount.")), Length(max=30)])
    key = HiddenField(validators=[InputRequired(), UUID()])

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.key.data:
            self.key.data = str(uuid.uuid4())

    def refused(self, error: AppError) -> str:
        """Why, in words. Where the key is spent, the next try is a request of its own."""
        if isinstance(error, KeyReused):
            self.key.data = str(uuid.uuid4())
        return sentence(error)

    def money(self, currency: str) -> Money:
        """The amount typed, with grouping taken out. Raises InvalidMoney."""
        amount = Money.parse(plain_number(self.amount.data or ""), currency)
        if amount.amount_minor <= 0:
            raise InvalidMoney(message=N_("Please enter an amount above zero."))
        return amount


#: Arabic-Indic digits and decimal sign, as Arabic keyboards type them.
ARABIC_DIGITS = str.maketrans("٠١٢٣٤٥٦٧٨٩٫٬", "0123456789.,")


class DepositForm(AmountForm):
    currency = SelectField(_l("Currency"), choices=[SelectChoice(code, code) for code in CURRENCIES])


class TransferForm(AmountForm):
    direction = RadioField(
        _l("Direction"),
        choices=[
            SelectChoice("to_account", _l("From the wallet to the account")),
            SelectChoice("to_wallet", _l("From the account to the wallet")),
        ],
        default="to_account",
    )
    account = SelectField(_l("Trading account"), coerce=int)

    def __init__(self, accounts: list[TradingAccount]) -> None:
        """The address may fill it in: ?account=7&direction=to_wallet&amount=10.50."""
        super().__init__(**({} if request.method == "POST" else {"formdata": request.args}))
        self.account.choices = [SelectChoice(account.id, _account_words(account)) for account in accounts]


class WithdrawalForm(AmountForm):
    currency = SelectField(_l("Currency"), choices=[SelectChoice(code, code) for code in CURRENCIES])


@blueprint.get("/")
@client_required
def index() -> ResponseReturnValue:
    return render_template("portal/money.html", **overview())


@blueprint.get("/live")
@client_required
def live() -> ResponseReturnValue:
    """The part of the page that changes by itself."""
    return render_template("portal/money_live.html", **overview())


@blueprint.route("/deposit", methods=["GET", "POST"])
@client_required
@limiter.limit("30 per hour", methods=["POST"])
def deposit() -> ResponseReturnValue:
    """Ask for an amount, then send the browser to the provider's page."""
    form = DepositForm()
    problem = ""
    if form.validate_on_submit():
        try:
            started = deposits.start_deposit(
                db.session(),
                gateways.connector_of(current_app.extensions["settings"], CONNECTOR),
                client_id=g.client.id,
                amount=form.money(form.currency.data),
                key=form.key.data,
                return_url=outside("portal_money.deposit_done") + "?deposit={deposit}",
                cancel_url=outside("portal_money.deposit") + "?cancelled=1",
                actor=actor(),
            )
            if started.redirect_url:
                return redirect(started.redirect_url, 303)
            problem = gettext("The payment page did not answer. Nothing was charged. Please press the button again.")
        except AppError as error:
            problem = form.refused(error)
    if request.args.get("cancelled"):
        flash(gettext("You left the payment page. Nothing was charged."), "info")
    return render_template("portal/deposit.html", form=form, problem=problem), 422 if request.method == "POST" else 200


@blueprint.get("/deposit/done")
@client_required
def deposit_done() -> ResponseReturnValue:
    """Where the provider sends the browser. Nothing is credited here: the page shows what we know and asks the provider."""
    found = deposit_by_public_id(request.args.get("deposit", ""))
    if found.state in ("created", "pending", "unknown"):
        janitor.ask_about_deposit(
            db.session(), lambda name: gateways.connector_of(current_app.extensions["settings"], name), found.id
        )
        db.session.refresh(found)
    return render_template("portal/deposit_done.html", deposit=found, amount=Money(found.amount_minor, found.currency))


@blueprint.route("/transfer", methods=["GET", "POST"])
@client_required
@limiter.limit("60 per hour", methods=["POST"])
def transfer() -> ResponseReturnValue:
    """Between the wallet and one of the client's live accounts. Where they count in different units, both amounts are shown
    before anything moves.
    """
    accounts = live_accounts()
    form = TransferForm(accounts)
    problem = ""
    if form.validate_on_submit():
        chosen = next(account for account in accounts if account.id == form.account.data)
        try:
            amount = form.money(transfers.wallet_currency(chosen.currency))
            wanted = {"trading_account_id": chosen.id, "direction": form.direction.data, "amount": amount}
            if amount.currency != chosen.currency and "confirmed" not in request.form:
                account, there = transfers.preview_transfer(db.session(), client_id=g.client.id, **wanted)
                return render_template("portal/transfer_confirm.html", form=form, account=account, amount=amount, there=there)
            transfers.request_transfer(db.session(), client_id=g.client.id, key=form.key.data, actor=actor(), **wanted)
            flash(gettext("Your transfer is on its way. It usually takes a few seconds."), "success")
            return redirect(url_for("portal_money.index"))
        except AppError as error:
            problem = form.refused(error)
    status = 422 if request.method == "POST" else 200
    page = render_template(
        "portal/transfer.html",
        form=form,
        accounts=accounts,
        currencies=sorted({transfers.wallet_currency(account.currency) for account in accounts}),
        balances=balances(),
        problem=problem,
    )
    return page, status


@blueprint.route("/withdraw", methods=["GET", "POST"])
@client_required
@limiter.limit("30 per hour", methods=["POST"])
def withdraw() -> ResponseReturnValue:
    """Ask to be paid out to the card that was paid in with."""
    form = WithdrawalForm()
    problem = ""
    if form.validate_on_submit():
        try:
            withdrawals.request_withdrawal(
                db.session(), client_id=g.client.id, amount=form.money(form.currency.data), key=form.key.data, actor=actor()
            )
            flash(gettext("We have your request. The amount is reserved until we have looked at it."), "success")
            return redirect(url_for("portal_money.index"))
        except AppError as error:
            problem = form.refused(error)
    status = 422 if request.method == "POST" else 200
    return render_template("portal/withdraw.html", form=form, balances=balances(), problem=problem), status


@blueprint.post("/withdrawals/<int:withdrawal_id>/cancel")
@client_required
def cancel(withdrawal_id: int) -> ResponseReturnValue:
    try:
        withdrawals.cancel_withdrawal(db.session(), client_id=g.client.id, withdrawal_id=withdrawal_id, actor=actor())
        flash(gettext("Cancelled. The money is free in your wallet again."), "success")
    except AppError as error:
        if isinstance(error, NotFound):
            raise
        flash(sentence(error), "warning")
    return redirect(url_for("portal_money.index"))


def actor() -> Actor:
    return Actor.client(g.client.id, request.remote_addr or "")


def outside(endpoint: str) -> str:
    """The public address of a page, for a provider to send the browser back to."""
    return str(current_app.extensions["settings"].base_url) + url_for(endpoint)


def _account_words(account: TradingAccount) -> str:
    """A trading account with its type and what is on it; a cent account also with what that is in its wallet."""
    words = f"{account.login} · {account.product.name} · {decimals(account.balance)} {account.currency}"
    if transfers.wallet_currency(account.currency) != account.currency:
        words += f" = {money(transfers.at_wallet(account.balance, account.currency))}"
    return f"\N{LEFT-TO-RIGHT ISOLATE}{words}\N{POP DIRECTIONAL ISOLATE}"  # figures keep their order in every language


def balances() -> list[queries.Balance]:
    """The client's wallets that were ever used."""
    return [found.balance for found in queries.client_balances(db.session(), g.client.id) if ":wallet:" in found.code]


def live_accounts() -> list[TradingAccount]:
    accounts = db.session.scalars(
        select(TradingAccount)
        .where(TradingAccount.client_id == g.client.id, TradingAccount.status == "active")
        .order_by(TradingAccount.id)
    )
    return [account for account in accounts if not account.product.is_demo]


def deposit_by_public_id(public_id: str) -> Deposit:
    try:
        wanted = uuid.UUID(public_id)
    except ValueError:
        raise NotFound() from None
    found = db.session.scalars(
        select(Deposit).where(Deposit.public_id == wanted, Deposit.client_id == g.client.id)
    ).one_or_none()
    if found is None:
        raise NotFound()
    return found


def overview() -> dict[str, Any]:
    """Wallets, what is under way, and the last movements of all kinds in one list, newest first."""
    client_id = g.client.id
    movements: list[tuple[datetime, Deposit | Withdrawal | Transfer | FXQuote]] = []
    for table in (Deposit, Withdrawal, Transfer):
        found: Iterable[Deposit | Withdrawal | Transfer] = db.session.scalars(
            select(table).where(table.client_id == client_id).order_by(table.id.desc()).limit(MOVEMENTS)
        )
        movements += [(movement.created_at, movement) for movement in found]
    converted = db.session.scalars(
        select(FXQuote)
        .where(FXQuote.client_id == client_id, FXQuote.txn_id.is_not(None))
        .order_by(FXQuote.id.desc())
        .limit(MOVEMENTS)
    )
    movements += [(quote.converted_at, quote) for quote in converted if quote.converted_at]
    movements.sort(key=lambda movement: movement[0], reverse=True)
    return {
        "balances": balances(),
        "movements": [(type(movement).__tablename__, at, movement) for at, movement in movements[:MOVEMENTS]],
    }
