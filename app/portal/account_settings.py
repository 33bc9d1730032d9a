"""Settings of a trading account in the portal: leverage, passwords, closing it. A job has the trading server do it."""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, current_app, flash, g, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from sqlalchemy import select
from wtforms import PasswordField, SelectChoice, SelectField
from wtforms.validators import InputRequired

from app.core.clock import now
from app.core.errors import AppError, NotFound
from app.extensions import db, limiter
from app.jobs import gateways
from app.metatrader import changes, rules
from app.models.metatrader import AccountChange, Position, TradingAccount
from app.portal import guards
from app.portal.accounts import own_account
from app.portal.forms import show_problems
from app.portal.guards import client_actor, client_required
from app.surfaces.errors import sentence

blueprint = Blueprint("portal_account_settings", __name__, url_prefix="/portal/accounts/<int:account_id>/settings")

CHANGES_SHOWN = 5


class LeverageForm(FlaskForm):
    leverage = SelectField(
        _l("Leverage"),
        coerce=lambda value: int(value) if str(value).isdecimal() else 0,
        validators=[InputRequired(_l("Please choose a leverage."))],
        invalid_choice_message=_l("Please choose one of the offered leverages."),
    )

    def __init__(self, account: TradingAccount, offer: rules.Offer) -> None:
        super().__init__(prefix="leverage")
        choices = sorted({*offer.leverages, account.leverage})
        self.leverage.choices = [SelectChoice(value, f"1:{value}") for value in choices]
        if not self.leverage.raw_data:
            self.leverage.data = account.leverage


class NewPasswordForm(FlaskForm):
    password = PasswordField(
        _l("New password"),
        description=_l("8 to 15 characters with small and capital letters, a digit and a sign such as # or !."),
        validators=[InputRequired(_l("Please choose a password."))],
    )


@blueprint.get("/")
@client_required
def index(account_id: int) -> ResponseReturnValue:
    account = own_account(account_id)
    if account.status not in ("active", "disabled"):
        return redirect(url_for("portal_accounts.show", account_id=account_id))
    return _page(account)


@blueprint.get("/live")
@client_required
def live(account_id: int) -> ResponseReturnValue:
    """The part of the page that changes by itself."""
    return render_template("portal/account_settings_live.html", **_changes(own_account(account_id)))


@blueprint.post("/leverage")
@client_required
@limiter.limit("30 per hour", key_func=guards.by_client)
def leverage(account_id: int) -> ResponseReturnValue:
    account = own_account(account_id)
    form = LeverageForm(account, _offer(account))
    if not form.validate_on_submit():
        return _page(account, leverage_form=form), 422
    wanted = form.leverage.data
    return _ask(
        account,
        lambda: changes.change_leverage(db.session(), account_id=account_id, leverage=wanted, actor=client_actor()),
        leverage_form=form,
    )


@blueprint.post("/password/<which>")
@client_required
@limiter.limit("10 per hour", key_func=guards.by_client)
def password(account_id: int, which: str) -> ResponseReturnValue:
    account = own_account(account_id)
    if which not in ("main", "investor"):
        raise NotFound()
    form = NewPasswordForm(prefix=which)
    if not form.validate_on_submit():
        return _page(account, **{f"{which}_form": form}), 422
    vault, typed = gateways.password_vault(current_app.extensions["settings"]), form.password.data
    return _ask(
        account,
        lambda: changes.set_password(
            db.session(),
            vault,
            account_id=account_id,
            which="main" if which == "main" else "investor",
            password=typed,
            actor=client_actor(),
        ),
        **{f"{which}_form": form},
    )


@blueprint.post("/close")
@client_required
@limiter.limit("10 per hour", key_func=guards.by_client)
def close(account_id: int) -> ResponseReturnValue:
    account = own_account(account_id)
    return _ask(account, lambda: changes.archive(db.session(), account_id=account_id, actor=client_actor()))


def _ask(account: TradingAccount, ask: Callable[[], AccountChange], **forms: FlaskForm) -> ResponseReturnValue:
    """Ask for a change and go back to the page; a refusal stands beside its field, with what was typed."""
    account_id = account.id
    try:
        ask()
    except AppError as error:
        if isinstance(error, NotFound):
            raise
        form = next(iter(forms.values()), None)
        problems = show_problems(form, error) if form is not None else [sentence(error)]
        for problem in problems:
            flash(problem, "warning")
        return _page(own_account(account_id), **forms), 422
    flash(gettext("The trading server is asked for this now. It takes a few seconds."), "success")
    return redirect(url_for("portal_account_settings.index", account_id=account_id))


def _page(
    account: TradingAccount,
    *,
    leverage_form: FlaskForm | None = None,
    main_form: FlaskForm | None = None,
    investor_form: FlaskForm | None = None,
) -> str:
    session, offer = db.session(), _offer(account)
    has_positions = session.scalar(select(Position.id).where(Position.trading_account_id == account.id).limit(1)) is not None
    return render_template(
        "portal/account_settings.html",
        offer=offer,
        has_positions=has_positions,
        is_closable=changes.is_closable(session, account),
        leverage_form=leverage_form or LeverageForm(account, offer),
        main_form=main_form or NewPasswordForm(formdata=None, prefix="main"),
        investor_form=investor_form or NewPasswordForm(formdata=None, prefix="investor"),
        **_changes(account),
    )


def _changes(account: TradingAccount) -> dict[str, object]:
    """What is under way, and what became of the last changes."""
    recent = (
        select(AccountChange)
        .where(AccountChange.trading_account_id == account.id)
        .order_by(AccountChange.id.desc())
        .limit(CHANGES_SHOWN)
    )
    return {
        "account": account,
        "under_way": changes.open_change(db.session(), account.id),
        "recent": db.session.scalars(recent).all(),
    }


def _offer(account: TradingAccount) -> rules.Offer:
    return rules.offer_of(db.session(), account.product, g.client, now().date())
