"""Partners desk: applications to become an introducing broker."""

from __future__ import annotations

from typing import Any

from flask import abort, flash, redirect, url_for
from flask.typing import ResponseReturnValue
from flask_appbuilder import AppBuilder, expose, has_access, permission_name
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from sqlalchemy import select
from sqlalchemy.orm import joinedload
from wtforms import TextAreaField

from app.core.errors import AppError
from app.extensions import db
from app.models.partner_joining import IBApplication
from app.models.partners import IntroducingBroker
from app.partners import joining
from app.surfaces.errors import sentence
from app.views.columns import client_link, person
from app.views.guarded import DeskPage, staff_actor
from app.views.ledger_request_forms import Needed

RIGHTS = "IB applications"
DECIDED = 50


class RejectForm(FlaskForm):
    reason = TextAreaField(
        _l("Reason"), description=_l("The client reads it."), validators=[Needed()], render_kw={"rows": 2, "maxlength": 1000}
    )


class IBApplicationPage(DeskPage):
    """The queue of applications, each with its decision."""

    class_permission_name = RIGHTS
    route_base = "/ib-applications"
    extra_args = {"person": person, "client_link": client_link}

    @expose("/")
    @has_access
    @permission_name("list")
    def index(self) -> ResponseReturnValue:
        session, query = db.session(), select(IBApplication).options(joinedload(IBApplication.client))
        waiting = session.scalars(query.where(IBApplication.status == "pending").order_by(IBApplication.id)).all()
        decided = session.scalars(
            query.where(IBApplication.status != "pending").order_by(IBApplication.decided_at.desc()).limit(DECIDED)
        ).all()
        return self.render_template("office/ib_applications.html", waiting=waiting, decided=decided)

    @expose("/<int:pk>")
    @has_access
    @permission_name("list")
    def show(self, pk: int) -> ResponseReturnValue:
        return self._application(pk, RejectForm())

    @expose("/<int:pk>/approve", methods=["POST"])
    @has_access
    @permission_name("decide")
    def approve(self, pk: int) -> ResponseReturnValue:
        try:
            joining.approve_application(db.session(), pk, actor=staff_actor())
        except AppError as error:
            return self._application(pk, RejectForm(formdata=None), sentence(error)), error.http_status
        flash(gettext("The client is an introducing broker now. Give it a plan."), "success")
        return redirect(url_for("IBApplicationPage.index"))

    @expose("/<int:pk>/reject", methods=["POST"])
    @has_access
    @permission_name("decide")
    def reject(self, pk: int) -> ResponseReturnValue:
        form = RejectForm()
        if not form.validate_on_submit():
            return self._application(pk, form), 422
        try:
            joining.reject_application(db.session(), pk, reason=form.reason.data or "", actor=staff_actor())
        except AppError as error:
            return self._application(pk, form, sentence(error)), error.http_status
        flash(gettext("Rejected. The client reads the reason."), "success")
        return redirect(url_for("IBApplicationPage.index"))

    def _application(self, pk: int, form: RejectForm, problem: str = "") -> Any:
        session = db.session()
        row = session.get(IBApplication, pk)
        if row is None:
            abort(404)
        inviter = session.get(IntroducingBroker, row.invitation.ib_id) if row.invitation else None
        return self.render_template("office/ib_application.html", application=row, inviter=inviter, form=form, problem=problem)


def register(appbuilder: AppBuilder) -> None:
    appbuilder.add_view(
        IBApplicationPage,
        RIGHTS,
        href="/ib-applications/",
        label=_l("Applications"),
        icon="user-check",
        category="Partners desk",
        category_label=_l("Partners"),
    )
