"""Partners desk: how clients and IBs come to the house, who decided it, and the form that changes it."""

from __future__ import annotations

from typing import Any

from flask import flash, redirect, url_for
from flask.typing import ResponseReturnValue
from flask_appbuilder import AppBuilder, expose, has_access, permission_name
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from wtforms import IntegerField, RadioField, TextAreaField
from wtforms.fields.choices import SelectChoice

from app.core.errors import AppError, InvalidInput
from app.extensions import db
from app.partners import policy
from app.partners.policy import Policy
from app.surfaces.errors import sentence
from app.views.columns import person
from app.views.guarded import DeskPage, staff_actor
from app.views.ledger_request_forms import Needed

RIGHTS = "Partner policy"

TOUCHES = {
    "first": _l("The first visit through a link"),
    "last": _l("The last visit through a link"),
}

JOIN_MODES = {
    "open": _l("Every approved client, at once"),
    "invited": _l("Whoever an introducing broker invited, at once"),
    "application": _l("Whoever staff approve"),
}


class PolicyForm(FlaskForm):
    touch = RadioField(_l("What counts"), choices=[SelectChoice(value, label) for value, label in TOUCHES.items()])
    window_days = IntegerField(
        _l("Days before the registration"),
        description=_l("A visit that lies longer back does not count. A promotion code that is typed counts before any visit."),
        validators=[Needed()],
    )
    join_mode = RadioField(
        _l("Who becomes an introducing broker"), choices=[SelectChoice(value, label) for value, label in JOIN_MODES.items()]
    )
    reason = TextAreaField(_l("Reason"), description=_l("Stands in the audit trail."), validators=[Needed()])


class PartnerPolicyPage(DeskPage):
    class_permission_name = RIGHTS
    route_base = "/partner-policy"
    extra_args = {"person": person}

    @expose("/")
    @has_access
    @permission_name("list")
    def index(self) -> ResponseReturnValue:
        return self._page(None)

    @expose("/edit", methods=["GET", "POST"])
    @has_access
    @permission_name("edit")
    def edit(self) -> ResponseReturnValue:
        """The form; what is saved holds for those who register from then on."""
        form = PolicyForm(obj=policy.policy_at(db.session()))
        if not form.validate_on_submit():
            return self._page(form), 422 if form.errors else 200
        wanted = Policy(form.touch.data, form.window_days.data or 0, form.join_mode.data)
        try:
            policy.set_policy(db.session(), wanted, form.reason.data or "", staff_actor())
        except InvalidInput as error:
            for name, problem in error.problems.items():
                form[name].errors = [gettext(problem)]
            return self._page(form), 422
        except AppError as error:
            return self._page(form, sentence(error)), error.http_status
        flash(gettext("Saved. It holds from now on."), "success")
        return redirect(url_for("PartnerPolicyPage.index"))

    def _page(self, form: PolicyForm | None, problem: str = "") -> Any:
        session = db.session()
        return self.render_template(
            "office/partner_policy.html",
            form=form,
            problem=problem,
            policy=policy.policy_at(session),
            history=policy.policy_history(session),
            touches=TOUCHES,
            join_modes=JOIN_MODES,
        )


def register(appbuilder: AppBuilder) -> None:
    desk = {"category": "Partners desk", "category_label": _l("Partners")}
    appbuilder.add_view(PartnerPolicyPage, RIGHTS, label=_l("Policy"), icon="link", **desk)
