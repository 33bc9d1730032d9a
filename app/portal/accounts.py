"""Trading accounts in the portal: open one, see its password once, balance, positions and history, live."""

from __future__ import annotations

from flask import Blueprint, current_app, flash, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from sqlalchemy import select
from wtforms import IntegerField, RadioField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import InputRequired

from app.core.actor import Actor
from app.core.errors import AppError, NotFound
from app.extensions import db, limiter
from app.jobs import gateways
from app.metatrader import accounts
from app.models.metatrader import Deal, Position, Product, TradingAccount
from app.portal.guards import client_required
from app.surfaces.errors import sentence

blueprint = Blueprint("portal_accounts", __name__, url_prefix="/portal/accounts")

DEALS_PER_PAGE = 25


class OpenAccountForm(FlaskForm):
    product = RadioField(_l("Account type"), coerce=int, validators=[InputRequired(_l("Please choose an account type."))])
    leverage = IntegerField(_l("Leverage"), validators=[InputRequired(_l("Please choose a leverage."))])


@blueprint.get("/")
@client_required
def index() -> ResponseReturnValue:
    return render_template("portal/accounts.html", accounts=own_accounts())


@blueprint.route("/open", methods=["GET", "POST"])
@client_required
@limiter.limit("20 per hour", methods=["POST"])
def open_account() -> ResponseReturnValue:
    """Choose a product and a leverage; the account is opened by a job."""
    products = db.session.scalars(select(Product).where(Product.is_open).order_by(Product.is_demo, Product.id)).all()
    form = OpenAccountForm()
    form.product.choices = [SelectChoice(product.id, product.name) for product in products]
    problem = ""
    if form.validate_on_submit():
        try:
            account = accounts.request_account(
                db.session(),
                client_id=g.client.id,
                product_id=form.product.data,
                leverage=form.leverage.data,
                actor=Actor.client(g.client.id, request.remote_addr or ""),
            )
            return redirect(url_for("portal_accounts.show", account_id=account.id))
        except AppError as error:
            problem = sentence(error)
            for name, text in getattr(error, "problems", {}).items():
                form[name].errors = [*form[name].errors, gettext(text)]
    status = 422 if request.method == "POST" else 200
    return render_template("portal/account_open.html", form=form, products=products, problem=problem), status


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
            actor=Actor.client(g.client.id, request.remote_addr or ""),
        )
    except AppError as error:
        if isinstance(error, NotFound):
            raise
        flash(sentence(error), "warning")
        return redirect(url_for("portal_accounts.show", account_id=account_id))
    return render_template("portal/account_password.html", account=own_account(account_id), password=shown)


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
    return {
        "account": account,
        "positions": positions,
        "deals": deals[:DEALS_PER_PAGE],
        "older": url_for("portal_accounts.show", account_id=account.id, before=deals[DEALS_PER_PAGE - 1].id) if more else None,
        "newer": url_for("portal_accounts.show", account_id=account.id) if before else None,
    }
