"""Trading desk: the import of a server's existing logins: what matched, what a person decides, and carrying it out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flask import abort, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_appbuilder import AppBuilder, expose, has_access, permission_name
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from sqlalchemy import func, select
from wtforms import SelectChoice, SelectField, StringField

from app.core.errors import AppError, InvalidInput, NotFound
from app.extensions import db
from app.metatrader import import_reading, importing
from app.models.clients import Client
from app.models.metatrader import Server
from app.models.trading_desk import LoginImport, LoginImportRow
from app.surfaces.csv_files import Cell, csv_file
from app.surfaces.errors import sentence
from app.surfaces.filters import Filters
from app.views.columns import client_link, person
from app.views.guarded import DeskPage, staff_actor
from app.views.refusal import NOTHING_REFUSED, Refused, refused, why

RIGHTS = "Login imports"
PAGE_SIZE = 50

OUTCOMES = {
    "matched": _l("Client found"),
    "ambiguous": _l("To be decided"),
    "unmatched": _l("No client"),
    "no_product": _l("No product"),
    "imported": _l("Imported"),
    "known": _l("Ours already"),
    "technical": _l("Technical"),
    "left_out": _l("Left out"),
}
KINDS = {"matched": "success", "imported": "success", "ambiguous": "warning", "unmatched": "warning", "no_product": "warning"}
STATES = {
    "reading": _l("Being read"),
    "ready": _l("To be looked through"),
    "importing": _l("Being carried out"),
    "done": _l("Done"),
    "failed": _l("Could not be read"),
}
#: Why a row is what it is.
NOTES = {
    "email": _l("Same mail address"),
    "number": _l("The server's record names this client number"),
    "name": _l("Same name and country as this client"),
    "names": _l("Several clients have this name and country"),
    "nobody": _l("Nobody has this mail address, name and country"),
    "technical": _l("Marked as technical at the server"),
    "known": _l("Belongs to a client of ours, or is being opened"),
    "no_product": _l("No product has this group"),
    "currency": _l("The product has another currency than the group"),
    "person": _l("Decided by a person"),
    "left": _l("A person left it out"),
    "gone": _l("No longer at the server"),
    "moved": _l("Moved to a group that no product has"),
    "amount": _l("Its balance has more digits than the currency"),
}


class StartForm(FlaskForm):
    server = SelectField(_l("Trading server"), coerce=lambda value: int(value) if str(value).isdecimal() else 0)
    group_mask = StringField(_l("Groups"), description=_l("With commas between; groups after ! are left out."))

    def __init__(self) -> None:
        super().__init__()
        servers = db.session.scalars(select(Server).where(Server.is_active).order_by(Server.name)).all()
        self.server.choices = [SelectChoice(server.id, server.name) for server in servers]
        self.elsewhere: list[str] = []


class LoginImportPage(DeskPage):
    """The imports so far, the form that starts one, and a page per import where each login can be decided."""

    class_permission_name = RIGHTS
    route_base = "/login-imports"
    extra_args = {
        "client_link": client_link,
        "person": person,
        "outcomes": OUTCOMES,
        "kinds": KINDS,
        "states": STATES,
        "notes": NOTES,
    }

    @expose("/", methods=["GET"])
    @has_access
    @permission_name("list")
    def index(self) -> ResponseReturnValue:
        return self._index(StartForm())

    @expose("/start", methods=["POST"])
    @has_access
    @permission_name("import")
    def start(self) -> ResponseReturnValue:
        """Have a job read the logins of some groups."""
        form = StartForm()
        form.validate()
        try:
            made = import_reading.start_import(
                db.session(), server_id=form.server.data or 0, group_mask=form.group_mask.data or "", actor=staff_actor()
            )
        except AppError as error:
            problems: dict[str, str] = getattr(error, "problems", {})
            for name, problem in problems.items():
                form[name].errors = [gettext(problem)]
            if not problems:
                form.elsewhere.append(sentence(error))
            return self._index(form), 422
        flash(gettext("The logins are being read. This page fills when that is done."), "success")
        return redirect(url_for("LoginImportPage.show", pk=made.id))

    @expose("/<int:pk>")
    @has_access
    @permission_name("list")
    def show(self, pk: int) -> ResponseReturnValue:
        """What was found, by outcome; rows by key; the same as a file."""
        return self._show(pk)

    def _show(self, pk: int, refusal: Refused = NOTHING_REFUSED) -> ResponseReturnValue:
        session, filters = db.session(), Filters("LoginImportPage.show", pk=pk)
        found = self._found(pk)
        outcome = filters.choice("outcome", OUTCOMES)
        text = filters.text("text")
        if filters.wants_csv and not filters.problems:
            return csv_file(f"login-import-{pk}", _head(), _csv_rows(pk, outcome))
        query = select(LoginImportRow).where(LoginImportRow.import_id == pk)
        if outcome:
            query = query.where(LoginImportRow.outcome == outcome)
        if text:
            is_login = LoginImportRow.login == int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None
            like = LoginImportRow.name.icontains(text, autoescape=True) | LoginImportRow.email.icontains(text, autoescape=True)
            query = query.where(like if is_login is None else is_login)
        after = filters.after_number("after")
        if after is not None:
            query = query.where(LoginImportRow.login > after)
        rows = [] if filters.problems else session.scalars(query.order_by(LoginImportRow.login).limit(PAGE_SIZE + 1)).all()
        page = self.render_template(
            "office/login_import.html",
            one=found,
            filters=filters,
            outcome=outcome,
            rows=rows[:PAGE_SIZE],
            next_after=rows[PAGE_SIZE - 1].login if len(rows) > PAGE_SIZE else None,
            is_first=after is None,
            counts=importing.counts(session, pk),
            sums=importing.sums(session, pk),
            decidable=importing.DECIDABLE,
            kept=_kept(),
            refusal=refusal,
        )
        return page, 422 if filters.problems or refusal.problem else 200

    @expose("/<int:pk>/again", methods=["POST"])
    @has_access
    @permission_name("import")
    def again(self, pk: int) -> ResponseReturnValue:
        return self._done(
            pk,
            lambda: import_reading.read_again(db.session(), pk, actor=staff_actor()),
            gettext("The logins are being read again. What was decided stays."),
        )

    @expose("/<int:pk>/order", methods=["POST"])
    @has_access
    @permission_name("import")
    def order(self, pk: int) -> ResponseReturnValue:
        return self._done(
            pk,
            lambda: importing.order_import(db.session(), pk, actor=staff_actor()),
            gettext("The logins are being taken over."),
        )

    @expose("/rows/<int:row_id>/decide", methods=["POST"])
    @has_access
    @permission_name("import")
    def decide(self, row_id: int) -> ResponseReturnValue:
        """A person's word on one login: its client, by number or mail address, or that it stays out."""
        session, row = db.session(), db.session.get(LoginImportRow, row_id)
        if row is None:
            abort(404)
        pk, typed = row.import_id, request.form.get("client", "").strip()
        leave_out = request.form.get("decision") == "leave_out"
        return self._done(
            pk,
            lambda: importing.decide_row(
                session, row_id, actor=staff_actor(), client_id=_client_id(typed), leave_out=leave_out
            ),
            gettext("Decided."),
            dialog=f"decide-{row_id}",
        )

    def _done(self, pk: int, work: Any, words: str, *, dialog: str = "") -> ResponseReturnValue:
        """Back to the list with what was done; a refused dialog comes back open."""
        try:
            work()
            flash(words, "success")
        except NotFound:
            abort(404)
        except AppError as error:
            if dialog and isinstance(error, InvalidInput):
                return self._show(pk, refused(dialog, error))
            flash(why(error), "warning")
        return redirect(url_for("LoginImportPage.show", pk=pk, **_kept()))

    def _index(self, form: StartForm) -> str:
        counted = (
            select(LoginImport, func.count(LoginImportRow.id))
            .outerjoin(LoginImportRow, LoginImportRow.import_id == LoginImport.id)
            .group_by(LoginImport.id)
            .order_by(LoginImport.id.desc())
            .limit(PAGE_SIZE)
        )
        page: str = self.render_template("office/login_imports.html", form=form, imports=db.session.execute(counted).all())
        return page

    def _found(self, pk: int) -> LoginImport:
        found = db.session.get(LoginImport, pk)
        if found is None:
            abort(404)
        return found


def _kept() -> dict[str, Any]:
    """The list that is shown, or that a form was sent from."""
    return {name: request.args[name] for name in ("outcome", "text", "after") if name in request.args}


def _client_id(typed: str) -> int | None:
    """The client with this number or mail address."""
    if "@" in typed:
        return db.session.scalar(select(Client.id).where(func.lower(Client.email) == typed.lower()))
    return int(typed) if typed.isascii() and typed.isdecimal() and len(typed) < 19 else None


def _head() -> list[str]:
    return [
        gettext("Login"),
        gettext("Group"),
        gettext("Name"),
        gettext("Mail address"),
        gettext("Leverage"),
        gettext("Balance"),
        gettext("Outcome"),
        gettext("Client"),
        gettext("Product"),
        gettext("Why"),
    ]


def _csv_rows(pk: int, outcome: str) -> Iterator[list[Cell]]:
    query = select(LoginImportRow).where(LoginImportRow.import_id == pk).order_by(LoginImportRow.login)
    if outcome:
        query = query.where(LoginImportRow.outcome == outcome)
    for row in db.session.scalars(query.execution_options(yield_per=500)):
        yield [
            row.login,
            row.group,
            row.name,
            row.email,
            row.leverage,
            row.balance,
            str(OUTCOMES.get(row.outcome, row.outcome)),
            row.client_id,
            row.product.code if row.product else "",
            str(NOTES.get(row.note, row.note)),
        ]


def register(appbuilder: AppBuilder) -> None:
    appbuilder.add_view(
        LoginImportPage,
        RIGHTS,
        label=_l("Login imports"),
        icon="download",
        category="Trading desk",
        category_label=_l("Trading"),
    )
