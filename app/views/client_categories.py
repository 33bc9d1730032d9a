"""Clients desk: of which category a client is, since when and why, and the form by which compliance changes it."""

from __future__ import annotations

from typing import Any

from flask import abort, flash, redirect, url_for
from flask.typing import ResponseReturnValue
from flask_appbuilder import AppBuilder, expose, has_access, permission_name
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from wtforms import RadioField, TextAreaField
from wtforms.fields import SelectChoice

from app.compliance import categories
from app.core.errors import AppError
from app.extensions import db
from app.models.clients import Client
from app.surfaces.errors import sentence
from app.views.columns import person
from app.views.guarded import DeskPage, staff_actor
from app.views.labels import CATEGORIES
from app.views.ledger_request_forms import Needed

RIGHTS = "Client categories"


class CategoryForm(FlaskForm):
    """Another category, and why."""

    category = RadioField(_l("Category"), choices=[SelectChoice(value, label) for value, label in CATEGORIES.items()])
    reason = TextAreaField(_l("Reason"), description=_l("Stands in the audit trail."), validators=[Needed()])


class ClientCategoryPage(DeskPage):
    """One client's categories."""

    class_permission_name = RIGHTS
    route_base = "/client-categories"
    default_view = "category"
    extra_args = {"person": person, "labels": CATEGORIES}

    @expose("/<int:pk>", methods=["GET"])
    @has_access
    @permission_name("list")
    def category(self, pk: int) -> ResponseReturnValue:
        client, form = _client(pk), CategoryForm()
        form.category.data = categories.category_of(db.session(), pk)
        return self._page(client, form)

    @expose("/<int:pk>", methods=["POST"])
    @has_access
    @permission_name("edit")
    def change(self, pk: int) -> ResponseReturnValue:
        """Have the client be of another category from now on."""
        client, form, problem = _client(pk), CategoryForm(), ""
        if form.validate():
            try:
                chosen, reason = form.category.data or "", form.reason.data or ""
                categories.set_category(db.session(), pk, chosen, reason=reason, actor=staff_actor())
                flash(gettext("Saved. It holds from now on."), "success")
                return redirect(url_for("ClientCategoryPage.category", pk=pk))
            except AppError as error:
                problems: dict[str, str] = getattr(error, "problems", {})
                for name, message in problems.items():
                    form[name].errors = [gettext(message)]
                problem = "" if problems else sentence(error)
        return self._page(client, form, problem), 422

    def _page(self, client: Client, form: CategoryForm, problem: str = "") -> Any:
        history = db.session.scalars(categories.history_of(client.id)).all()
        return self.render_template("office/client_category.html", client=client, form=form, problem=problem, history=history)


def _client(pk: int) -> Client:
    client = db.session.get(Client, pk)
    if client is None:
        abort(404)
    return client


def register(appbuilder: AppBuilder) -> None:
    appbuilder.add_view_no_menu(ClientCategoryPage)
