"""Partners desk: what introducing brokers see of their clients, who decided it, and the form that changes it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from flask import flash, redirect, url_for
from flask.typing import ResponseReturnValue
from flask_appbuilder import AppBuilder, expose, has_access, permission_name
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from wtforms import BooleanField, RadioField, TextAreaField
from wtforms.fields.choices import SelectChoice

from app.core.errors import AppError, InvalidInput
from app.extensions import db
from app.partners import privacy
from app.partners.privacy import Privacy
from app.surfaces.errors import sentence
from app.views.columns import person
from app.views.guarded import DeskPage, staff_actor
from app.views.ledger_request_forms import Needed

RIGHTS = "Partner privacy"

NAMES = {
    "full": _l("Full name, such as Amira Haddad"),
    "short": _l("First name and initial, such as Amira H."),
    "number": _l("Number only, such as Client 1042"),
}


class PrivacyForm(FlaskForm):
    names = RadioField(_l("Clients are shown with"), choices=[SelectChoice(value, label) for value, label in NAMES.items()])
    shows_email = BooleanField(_l("Mail addresses"))
    shows_balance = BooleanField(_l("What the trading accounts hold"))
    shows_lots = BooleanField(_l("How much each client traded"))
    shows_sub_clients = BooleanField(
        _l("Clients of the IBs below"),
        description=_l("Listed in the same way as own clients. Without it an IB sees how many there are, and what it earned."),
    )
    reason = TextAreaField(_l("Reason"), description=_l("Stands in the audit trail."), validators=[Needed()])


class PartnerPrivacyPage(DeskPage):
    class_permission_name = RIGHTS
    route_base = "/partner-privacy"
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
        """The form; what is saved holds at once."""
        form = PrivacyForm(obj=privacy.current_privacy(db.session()))
        if not form.validate_on_submit():
            return self._page(form), 422 if form.errors else 200
        wanted = Privacy(**{field.name: form[field.name].data for field in fields(Privacy)})
        try:
            privacy.set_privacy(db.session(), wanted, form.reason.data or "", staff_actor())
        except InvalidInput as error:
            for name, problem in error.problems.items():
                form[name].errors = [gettext(problem)]
            return self._page(form), 422
        except AppError as error:
            return self._page(form, sentence(error)), error.http_status
        flash(gettext("Saved. It holds from now on."), "success")
        return redirect(url_for("PartnerPrivacyPage.index"))

    def _page(self, form: PrivacyForm | None, problem: str = "") -> Any:
        session = db.session()
        return self.render_template(
            "office/partner_privacy.html",
            form=form,
            problem=problem,
            policy=privacy.current_privacy(session),
            history=privacy.privacy_history(session),
            names=NAMES,
        )


def register(appbuilder: AppBuilder) -> None:
    desk = {"category": "Partners desk", "category_label": _l("Partners")}
    appbuilder.add_view(PartnerPrivacyPage, RIGHTS, label=_l("Privacy"), icon="lock", **desk)
