"""The IB's payouts: what can be paid, what was, asking for more, and the statement of each."""

from __future__ import annotations

import uuid
from io import BytesIO
from typing import Any

from flask import flash, g, redirect, render_template, request, send_file, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from sqlalchemy import select
from wtforms import SelectField
from wtforms.fields.choices import SelectChoice

from app.commissions import payables, payout_figures, payout_statements
from app.commissions import payouts as paying
from app.commissions.errors import AskedTwice
from app.core.clock import now
from app.core.errors import AppError, InvalidInput, NotFound
from app.core.money import Money
from app.extensions import db, limiter
from app.models.payouts import Payout, PayoutStatement
from app.partners.links import IB
from app.payments import transfers, withdrawals
from app.portal.guards import client_actor, client_required
from app.portal.money import AmountForm, live_accounts
from app.portal.partner import blueprint, own_ib
from app.surfaces.filters import Filters
from app.surfaces.formats import money

#: Rows of a page.
PAGE = 25

#: What chooses a trading account, before its number.
_ACCOUNT = "account-"


class PayoutForm(AmountForm):
    """How much, and where to; the money always passes the wallet."""

    destination = SelectField(_l("Where to"), default="wallet")

    def __init__(self, choices: list[SelectChoice]) -> None:
        super().__init__()
        self.destination.choices = choices

    def refused(self, error: AppError) -> str:
        """Why, in words. Where the key is spent, the next try is a request of its own."""
        if isinstance(error, AskedTwice):
            self.key.data = str(uuid.uuid4())
        return super().refused(error)

    @property
    def way(self) -> tuple[str, int | None]:
        """The destination, and the trading account where it is one."""
        chosen = self.destination.data
        return ("account", int(chosen.removeprefix(_ACCOUNT))) if chosen.startswith(_ACCOUNT) else (chosen, None)


@blueprint.get("/payouts", endpoint="payouts")
@client_required
def show_payouts() -> ResponseReturnValue:
    """What can be paid, what waits, and every payout."""
    return render_template("portal/partner_payouts.html", **_overview())


@blueprint.get("/payouts/live")
@client_required
def payouts_live() -> ResponseReturnValue:
    """The part of the page that changes by itself."""
    return render_template("portal/partner_payouts_live.html", **_overview())


@blueprint.route("/payouts/new", methods=["GET", "POST"])
@client_required
@limiter.limit("30 per hour", methods=["POST"])
def ask_payout() -> ResponseReturnValue:
    """Ask for commission; the amount is kept aside until it is looked at."""
    ib = own_ib()
    form = PayoutForm(_choices(ib))
    problem = ""
    if form.validate_on_submit():
        destination, account_id = form.way
        try:
            paying.request_payout(
                db.session(),
                ib_id=ib.id,
                amount=form.money(ib.currency),
                destination=destination,
                trading_account_id=account_id,
                key=form.key.data,
                actor=client_actor(),
            )
            flash(gettext("We have your request. The amount is kept aside until we have looked at it."), "success")
            return redirect(url_for("portal_partner.payouts"))
        except InvalidInput as error:
            for name, words in error.problems.items():
                form[name].errors = [gettext(words)]
            problem = "" if error.problems else form.refused(error)
        except AppError as error:
            problem = form.refused(error)
    page = render_template(
        "portal/partner_payout_new.html",
        form=form,
        problem=problem,
        found=payables.payable(db.session(), ib.id, now()),
        waiting=paying.waiting_request(db.session(), ib.id),
    )
    return page, 422 if request.method == "POST" else 200


@blueprint.post("/payouts/<int:payout_id>/cancel")
@client_required
def cancel_payout(payout_id: int) -> ResponseReturnValue:
    """Take a request back while nobody has taken it up."""
    try:
        paying.cancel_payout(db.session(), ib_id=own_ib().id, payout_id=payout_id, actor=client_actor())
        flash(gettext("Cancelled. You can ask for this commission again at any time."), "success")
    except NotFound:
        raise
    except AppError:
        flash(gettext("This payout is being looked at already and cannot be cancelled any more."), "warning")
    return redirect(url_for("portal_partner.payouts"))


@blueprint.get("/payouts/<int:payout_id>/statement.pdf")
@client_required
def payout_statement(payout_id: int) -> ResponseReturnValue:
    """The frozen statement of an own payout. Another IB's is not found."""
    payout = db.session.get(Payout, payout_id)
    if payout is None or payout.ib_id != own_ib().id:
        raise NotFound
    kept = payout_statements.document(db.session(), payout_id)
    if kept.pdf is None:
        raise NotFound
    name = f"commission-{payout_id}.pdf"
    return send_file(BytesIO(kept.pdf), mimetype="application/pdf", as_attachment=True, download_name=name)


def _choices(ib: IB) -> list[SelectChoice]:
    """The wallet, the live accounts that take its currency, and the card while something can be paid back to it."""
    accounts = [account for account in live_accounts() if transfers.wallet_currency(account.currency) == ib.currency]
    choices = [SelectChoice("wallet", gettext("Your wallet"))]
    choices += [
        SelectChoice(f"{_ACCOUNT}{account.id}", gettext("Trading account %(login)s", login=account.login))
        for account in accounts
    ]
    most = withdrawals.most_refundable(db.session(), g.client.id, ib.currency)
    if most:
        words = gettext("What you paid in with, up to %(most)s", most=money(most))
        choices.append(SelectChoice("withdrawal", words))
    return choices


def _overview() -> dict[str, Any]:
    ib, session, filters = own_ib(), db.session(), Filters("portal_partner.payouts")
    before = filters.after_number("after")
    query = payout_figures.payouts().where(Payout.ib_id == ib.id)
    shown = session.scalars((query if before is None else query.where(Payout.id < before)).limit(PAGE + 1)).all()
    made = select(PayoutStatement.payout_id).where(
        PayoutStatement.payout_id.in_([one.id for one in shown]), PayoutStatement.pdf.is_not(None)
    )
    paid = {one.currency: one.paid for one in payout_figures.figures(session, ib.id)}
    every = payables.payables(session, now(), [ib.id])
    return {
        "found": payables.payable(session, ib.id, now()),
        "paid": paid.pop(ib.currency, Money.zero(ib.currency)),
        "paid_before": " · ".join(money(amount) for amount in paid.values() if amount),
        "before": [one for one in every if one.currency != ib.currency and one.balance],
        "payouts": shown[:PAGE],
        "has_statement": set(session.scalars(made)),
        "waiting": paying.waiting_request(session, ib.id),
        "older": filters.address(after=shown[PAGE - 1].id) if len(shown) > PAGE else None,
        "newer": filters.address() if before is not None else None,
    }
