"""Partners desk: versions of the partner agreement, whom they ask to accept them, and who has."""

from __future__ import annotations

from flask import abort, flash, redirect, url_for
from flask.typing import ResponseReturnValue
from flask_appbuilder import AppBuilder, expose, has_access, permission_name
from flask_babel import gettext, ngettext
from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from sqlalchemy import select
from wtforms import BooleanField, StringField, TextAreaField
from wtforms.validators import Optional

from app.core.clock import now
from app.core.errors import AppError, InvalidInput
from app.extensions import db
from app.models.partner_joining import PartnerAgreement
from app.partners import agreements
from app.surfaces.csv_files import Cell, csv_file
from app.surfaces.errors import sentence
from app.surfaces.filters import Filters
from app.views.columns import person
from app.views.guarded import DeskPage, staff_actor
from app.views.ledger_request_forms import DayField, Needed

RIGHTS = "Partner agreement"

#: IBs of one page.
PAGE = 50

#: How an IB stands to a version.
ACCEPTED, MISSING = STANDS = ("accepted", "missing")


class AgreementForm(FlaskForm):
    """The next version, beginning with the words of the present one."""

    version = StringField(_l("Version"), description=_l("Such as 2026-11."), validators=[Needed()])
    en = TextAreaField(_l("English"), validators=[Needed()], render_kw={"rows": 12, "dir": "ltr"})
    ar = TextAreaField(_l("Arabic"), render_kw={"rows": 12, "dir": "rtl"})
    accept_by = DayField(
        _l("To be accepted by present IBs until the end of"),
        description=_l("A UTC day. Each gets a mail. Left empty, they are not asked, and only whoever joins agrees to it."),
        validators=[Optional()],
    )
    holds_payouts = BooleanField(
        _l("After that day, hold the payouts of IBs that have not accepted"),
        description=_l("Otherwise the list marks them, and nothing else happens."),
    )


class PartnerAgreementPage(DeskPage):
    """The versions with the form of the next one, and how the IBs stand to one version."""

    class_permission_name = RIGHTS
    route_base = "/partner-agreements"
    extra_args = {"person": person}

    @expose("/", methods=["GET", "POST"])
    @has_access
    @permission_name("publish")
    def index(self) -> ResponseReturnValue:
        """The agreement that holds, and the form that publishes the next one; what was agreed to stays as it was."""
        session = db.session()
        current = agreements.current_agreement(session)
        form = AgreementForm(data=dict(current.texts) if current else {})
        problem = ""
        if form.validate_on_submit():
            try:
                row = agreements.publish_agreement(
                    session,
                    form.version.data or "",
                    {"en": form.en.data or "", "ar": form.ar.data or ""},
                    staff_actor(),
                    accept_by=form.accept_by.data,
                    holds_payouts=bool(form.holds_payouts.data),
                )
                flash(gettext("Published. Whoever joins from now on agrees to it."), "success")
                return redirect(url_for("PartnerAgreementPage.version", pk=row.id))
            except InvalidInput as error:
                for name, message in error.problems.items():
                    form[name].errors = [gettext(message)]
            except AppError as error:
                problem = sentence(error)
        history = session.scalars(select(PartnerAgreement).order_by(PartnerAgreement.id.desc()).limit(50)).all()
        page = self.render_template(
            "office/partner_agreements.html",
            form=form,
            problem=problem,
            history=history,
            counts={one.id: agreements.counts(session, one.id) for one in history},
        )
        return page, 422 if form.is_submitted() else 200

    @expose("/<int:pk>")
    @has_access
    @permission_name("list")
    def version(self, pk: int) -> ResponseReturnValue:
        """One version: its text, and which IBs have accepted it; as a file, too."""
        session, filters = db.session(), Filters()
        agreement = session.get(PartnerAgreement, pk)
        if agreement is None:
            abort(404)
        state, after = filters.choice("state", STANDS), filters.after_number("after")
        wanted = None if not state else state == ACCEPTED
        if filters.wants_csv and not filters.problems:
            return csv_file(f"agreement-{agreement.id}", _head(), map(_row, agreements.stands(session, pk, accepted=wanted)))
        shown = agreements.stands(session, pk, accepted=wanted, after_ib=after or 0, limit=PAGE + 1)
        accepted, missing = agreements.counts(session, pk)
        last_asked = agreements.last_asked(session, pk)
        return self.render_template(
            "office/partner_agreement.html",
            agreement=agreement,
            filters=filters,
            shown=shown[:PAGE],
            older=filters.address(after=shown[PAGE - 1].ib_id) if len(shown) > PAGE else None,
            newer=filters.address() if after is not None else None,
            accepted=accepted,
            missing=missing,
            is_late=agreement.accept_by is not None and agreement.accept_by < now().date(),
            last_asked=last_asked,
            is_due=bool(missing) and agreement.accept_by is not None and not agreements.was_asked_lately(last_asked),
        )

    @expose("/<int:pk>/remind", methods=["POST"])
    @has_access
    @permission_name("publish")
    def remind(self, pk: int) -> ResponseReturnValue:
        try:
            asked = agreements.remind(db.session(), pk, staff_actor())
            flash(ngettext("%(num)d IB is reminded by mail.", "%(num)d IBs are reminded by mail.", asked), "success")
        except AppError as error:
            if error.http_status == 404:
                raise
            flash(sentence(error), "warning")
        return redirect(url_for("PartnerAgreementPage.version", pk=pk, state=MISSING))


def _head() -> list[str]:
    return [gettext("IB"), gettext("Client"), gettext("Name"), gettext("Accepted version"), gettext("When"), gettext("Address")]


def _row(one: agreements.Stand) -> list[Cell]:
    return [one.ib_id, one.client_id, one.name, one.accepted, one.accepted_at, one.address]


def register(appbuilder: AppBuilder) -> None:
    appbuilder.add_view_no_menu(PartnerAgreementPage)
