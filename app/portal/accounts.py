"""Trading accounts in the portal: open one, see its password once, balance, positions and history, live."""

from __future__ import annotations

import uuid
from typing import Any

from flask import Blueprint, current_app, flash, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from sqlalchemy import select
from wtforms import HiddenField, IntegerField, RadioField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import UUID, InputRequired

from app.core.clock import now
from app.core.errors import AppError, NotFound
from app.core.money import Money
from app.extensions import db, limiter
from app.jobs import gateways
from app.metatrader import accounts, changes, rules
from app.models.metatrader import AccountChange, Deal, Position, Product, TradingAccount
from app.payments import transfers
from app.portal.forms import show_problems
from app.portal.guards import client_actor, client_required
from app.surfaces.errors import sentence
from app.surfaces.formats import money

blueprint = Blueprint("portal_accounts", __name__, url_prefix="/portal/accounts")

DEALS_PER_PAGE = 25


class OpenAccountForm(FlaskForm):
    """`key` is drawn when the page is made, so that sending twice opens one account."""

    product = RadioField(_l("Account type"), coerce=int, validators=[InputRequired(_l("Please choose an account type."))])
    leverage = IntegerField(_l("Leverage"), validators=[InputRequired(_l("Please choose a leverage."))])
    key = HiddenField(validators=[InputRequired(), UUID()])

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.key.data:
            self.key.data = str(uuid.uuid4())


@blueprint.get("/")
@client_required
def index() -> ResponseReturnValue:
    return render_template("portal/accounts.html", accounts=own_accounts(), in_wallet=in_wallet)


@blueprint.route("/open", methods=["GET", "POST"])
@client_required
@limiter.limit("20 per hour", methods=["POST"])
def open_account() -> ResponseReturnValue:
    """Choose a product and a leverage; the account is opened by a job. Offered is what the rules of the client's country
    allow; what they keep back is named with the reason.
    """
    products = db.session.scalars(select(Product).where(Product.is_open).order_by(Product.is_demo, Product.id)).all()
    today = now().date()
    offers = [(product, rules.offer_of(db.session(), product, g.client, today)) for product in products]
    form = OpenAccountForm()
    form.product.choices = [SelectChoice(product.id, product.name) for product in products]
    problems: list[str] = []
    if form.validate_on_submit():
        try:
            account = accounts.request_account(
                db.session(),
                client_id=g.client.id,
                product_id=form.product.data,
                leverage=form.leverage.data,
                key=form.key.data,
                actor=client_actor(),
            )
            return redirect(url_for("portal_accounts.show", account_id=account.id))
        except AppError as error:
            if isinstance(error, accounts.OtherWish):
                form.key.data = str(uuid.uuid4())
            problems = show_problems(form, error)
    status = 422 if request.method == "POST" else 200
    page = render_template(
        "portal/account_open.html",
        form=form,
        offers=offers,
        leverages=sorted({leverage for _, offer in offers for leverage in offer.leverages}),
        problems=problems,
    )
    return page, status


@blueprint.get("/<int:account_id>")
@client_required
def show(account_id: int) -> ResponseReturnValue:
    return render_template("portal/account.html", **details(account_id))


@blueprint.get("/<int:account_id>/live")
@client_required
def live(account_id: int) -> ResponseReturnValue:
    """The part of the page that changes by itself."""
    return render_template("portal/account_live.html", **details(account_id))


@blueprint.post("/<int:account_id>/password")
@client_required
@limiter.limit("10 per hour")
def password(account_id: int) -> ResponseReturnValue:
    """Show the first password, once. The answer is never stored by the browser."""
    try:
        shown = accounts.reveal_password(
            db.session(),
            gateways.password_vault(current_app.extensions["settings"]),
            client_id=g.client.id,
            account_id=account_id,
            actor=client_actor(),
        )
    except AppError as error:
        if isinstance(error, NotFound):
            raise
        flash(sentence(error), "warning")
        return redirect(url_for("portal_accounts.show", account_id=account_id))
    return render_template(
        "portal/account_password.html", account=own_account(account_id), password=shown, kind="main_password"
    )


@blueprint.post("/changes/<int:change_id>/password")
@client_required
@limiter.limit("10 per hour")
def changed_password(change_id: int) -> ResponseReturnValue:
    """Show a password that was made anew, once."""
    vault = gateways.password_vault(current_app.extensions["settings"])
    try:
        account, kind, shown = changes.reveal_password(db.session(), vault, change_id=change_id, actor=client_actor())
    except AppError as error:
        if isinstance(error, NotFound):
            raise
        flash(sentence(error), "warning")
        return redirect(url_for("portal_accounts.index"))
    return render_template("portal/account_password.html", account=account, password=shown, kind=kind)


@blueprint.post("/<int:account_id>/top-up")
@client_required
@limiter.limit("20 per hour")
def top_up(account_id: int) -> ResponseReturnValue:
    """Fill a practice account up again."""
    try:
        coming = accounts.top_up(db.session(), client_id=g.client.id, account_id=account_id, actor=client_actor())
        flash(gettext("%(amount)s of practice money are on their way.", amount=money(coming)), "success")
    except AppError as error:
        if isinstance(error, NotFound):
            raise
        flash(sentence(error), "warning")
    return redirect(url_for("portal_accounts.show", account_id=account_id))


def in_wallet(account: TradingAccount) -> Money | None:
    """What the balance of a cent account is in the wallet; None where both count in the same unit."""
    if transfers.wallet_currency(account.currency) == account.currency:
        return None
    return transfers.at_wallet(account.balance, account.currency)


def own_accounts() -> list[TradingAccount]:
    """The signed-in client's accounts, oldest first."""
    return list(
        db.session.scalars(select(TradingAccount).where(TradingAccount.client_id == g.client.id).order_by(TradingAccount.id))
    )


def own_account(account_id: int) -> TradingAccount:
    """One of the signed-in client's accounts; NotFound for anybody else's."""
    account = db.session.scalars(
        select(TradingAccount).where(TradingAccount.id == account_id, TradingAccount.client_id == g.client.id)
    ).one_or_none()
    if account is None:
        raise NotFound()
    return account


def details(account_id: int) -> dict[str, object]:
    """What the page of one account shows; `before` in the address pages through older deals."""
    account = own_account(account_id)
    before = request.args.get("before", type=int)
    history = select(Deal).where(Deal.trading_account_id == account.id, Deal.is_current, Deal.is_void.is_(False))
    if before:
        history = history.where(Deal.id < before)
    deals = list(db.session.scalars(history.order_by(Deal.id.desc()).limit(DEALS_PER_PAGE + 1)))
    positions = db.session.scalars(
        select(Position).where(Position.trading_account_id == account.id).order_by(Position.id)
    ).all()
    more = len(deals) > DEALS_PER_PAGE
    unseen = select(AccountChange).where(
        AccountChange.trading_account_id == account.id,
        AccountChange.status == "done",
        AccountChange.password_sealed.is_not(None),
    )
    return {
        "account": account,
        "worth": in_wallet(account),
        "missing": accounts.missing_practice_money(account) if account.product.is_demo else None,
        "under_way": changes.open_change(db.session(), account.id),
        "new_passwords": db.session.scalars(unseen.order_by(AccountChange.id)).all(),
        "positions": positions,
        "deals": deals[:DEALS_PER_PAGE],
        "older": url_for("portal_accounts.show", account_id=account.id, before=deals[DEALS_PER_PAGE - 1].id) if more else None,
        "newer": url_for("portal_accounts.show", account_id=account.id) if before else None,
    }
