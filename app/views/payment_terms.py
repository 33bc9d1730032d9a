"""Money desk: when the commission of each plan is settled and paid out."""

from __future__ import annotations

from flask import abort, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_appbuilder import AppBuilder, expose, has_access, permission_name
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from sqlalchemy import select
from wtforms import IntegerField, SelectField, StringField, TextAreaField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import InputRequired, Length, NumberRange

from app.commissions import payment_terms
from app.core.errors import InvalidInput
from app.core.money import InvalidMoney, Money
from app.extensions import db
from app.models.commissions import Plan
from app.surfaces.errors import sentence
from app.views.guarded import DeskPage, staff_actor
from app.views.ledger_request_forms import Needed

RIGHTS = "Payment terms"

EVERY = {
    "minutes": _l("Every five minutes"),
    "hour": _l("Every hour"),
    "day": _l("Every day"),
    "week": _l("Every week"),
    "month": _l("Every month"),
}


class TermsForm(FlaskForm):
    """The terms of one plan, as they stand until they are changed."""

    settle_every = SelectField(
        _l("Settled"),
        choices=[SelectChoice(key, label) for key, label in EVERY.items()],
        default="minutes",
        description=_l("How long commission is gathered before it stands on the commission account, rounded down once."),
    )
    hold_days = IntegerField(
        _l("Hold days"),
        description=_l("Days after its settlement before it is paid out."),
        validators=[InputRequired(_l("Please give a number of days from 0 to 366."))],
    )
    minimum = StringField(
        _l("Least payout"), description=_l("Less than this is left to the next run."), validators=[Needed(), Length(max=30)]
    )
    reason = TextAreaField(_l("Reason"), validators=[Needed()], render_kw={"rows": 2, "maxlength": 500})


class CurrencyForm(FlaskForm):
    """In which currency one IB is paid."""

    ib_id = IntegerField(
        _l("Number of the IB"), validators=[InputRequired(_l("Please give the number of an IB.")), NumberRange(1, 2**62)]
    )
    currency = StringField(
        _l("Currency"),
        description=_l("From its next settlement on. What is settled already is paid in the currency it stands in."),
        filters=[lambda text: (text or "").strip().upper()],
        validators=[Needed(), Length(max=8)],
    )
    reason = TextAreaField(_l("Reason"), validators=[Needed()], render_kw={"rows": 2, "maxlength": 500})


class PaymentTermsPage(DeskPage):
    """The plans with their terms, and the form of one."""

    class_permission_name = RIGHTS
    route_base = "/payment-terms"
    extra_args = {"every": EVERY}

    @expose("/")
    @has_access
    @permission_name("list")
    def index(self) -> ResponseReturnValue:
        plans = db.session.scalars(select(Plan).order_by(Plan.name)).all()
        return self.render_template("office/payment_terms.html", plans=plans)

    @expose("/currency", methods=["GET", "POST"])
    @has_access
    @permission_name("edit")
    def currency(self) -> ResponseReturnValue:
        """Change the currency that one IB is paid in, with a reason that the audit trail keeps."""
        form = CurrencyForm(ib_id=request.args.get("ib", type=int))
        if form.is_submitted() and form.validate():
            try:
                payment_terms.set_currency(
                    db.session(),
                    form.ib_id.data,
                    currency=form.currency.data,
                    reason=form.reason.data or "",
                    actor=staff_actor(),
                )
                flash(
                    gettext("Changed. The next settlement of this IB is in %(currency)s.", currency=form.currency.data),
                    "success",
                )
                return redirect(url_for("PaymentTermsPage.index"))
            except InvalidInput as error:
                for name, problem in error.problems.items():
                    form[name].errors = [gettext(problem)]
        page = self.render_template("office/ib_currency.html", form=form)
        return page, 422 if form.errors else 200

    @expose("/<int:pk>", methods=["GET", "POST"])
    @has_access
    @permission_name("edit")
    def edit(self, pk: int) -> ResponseReturnValue:
        """Change one plan's terms, with a reason that the audit trail keeps."""
        plan = db.session.get(Plan, pk)
        if plan is None:
            abort(404)
        minimum = Money(plan.min_payout_minor, plan.currency)
        form = TermsForm(
            data={"settle_every": plan.settle_every, "hold_days": plan.hold_days, "minimum": f"{minimum.decimal:f}"}
        )
        if form.is_submitted() and form.validate():
            try:
                payment_terms.set_terms(
                    db.session(),
                    pk,
                    settle_every=form.settle_every.data,
                    hold_days=form.hold_days.data,
                    minimum=Money.parse(form.minimum.data or "", plan.currency),
                    reason=form.reason.data or "",
                    actor=staff_actor(),
                )
                flash(gettext("Changed. It counts for everything that is not settled or paid yet."), "success")
                return redirect(url_for("PaymentTermsPage.index"))
            except InvalidMoney as error:
                form.minimum.errors = [sentence(error)]
            except InvalidInput as error:
                for name, problem in error.problems.items():
                    form[name].errors = [gettext(problem)]
        page = self.render_template("office/payment_terms_edit.html", plan=plan, form=form)
        return page, 422 if form.errors else 200


def register(appbuilder: AppBuilder) -> None:
    appbuilder.add_view(
        PaymentTermsPage,
        RIGHTS,
        href="/payment-terms/",
        label=_l("Payment terms"),
        icon="calendar",
        category="Partners desk",
        category_label=_l("Partners"),
    )
