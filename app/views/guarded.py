"""The bases of all generated screens: what staff may not change is read-only, what they may change is audited and safe.

Why not Flask-AppBuilder's ModelView directly: a refused edit leaves the object dirty and a later commit saves it; database
errors reach the browser with their parameters; nothing is audited; a refused form loses what was typed.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

from flask import abort, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_appbuilder import BaseView, ModelView, expose
from flask_appbuilder.baseviews import BaseModelView
from flask_appbuilder.models.sqla.interface import SQLAInterface
from flask_babel import gettext
from flask_login import current_user
from sqlalchemy import Boolean, Column, inspect
from sqlalchemy.exc import DataError, SQLAlchemyError

from app.core.actor import Actor
from app.core.errors import N_, AppError, Conflict, InvalidInput
from app.core.uow import unit_of_work
from app.surfaces.errors import sentence
from app.views.columns import person
from app.views.labels import LABELS

LIST_PAGE_SIZE = 25


def staff_actor() -> Actor:
    """The signed-in staff member, with the address the request came from."""
    return Actor.staff(int(current_user.id), request.remote_addr or "")


def plain(value: Any) -> Any:
    """A column value as JSON holds it."""
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, str | int | bool | list | dict) or value is None:
        return value
    return str(value)


def row_values(item: Any) -> dict[str, Any]:
    """What the audit trail keeps of a row: its columns and its many-to-many lists, without passwords."""
    values = {name: plain(getattr(item, name)) for name in _audited_columns(item)}
    return values | {name: sorted(map(str, getattr(item, name))) for name in _audited_lists(item)}


def old_values(item: Any) -> dict[str, Any]:
    """The same as it was before this change, from SQLAlchemy's attribute history."""
    attributes, values = inspect(item).attrs, {}
    for name in _audited_columns(item):
        history = attributes[name].history
        values[name] = plain(next(iter([*(history.deleted or ()), *(history.unchanged or ())]), None))
    for name in _audited_lists(item):
        history = attributes[name].history
        values[name] = sorted(map(str, [*(history.deleted or ()), *(history.unchanged or ())]))
    return values


def _audited_columns(item: Any) -> list[str]:
    return [attribute.key for attribute in inspect(type(item)).column_attrs if "password" not in attribute.key]


def _audited_lists(item: Any) -> list[str]:
    return [
        relation.key for relation in inspect(type(item)).relationships if relation.secondary is not None and relation.uselist
    ]


class AuditedInterface(SQLAInterface):
    """Flask-AppBuilder's data interface with our unit of work: every change is audited, every error is a typed one."""

    def get(self, *args: Any, **kwargs: Any) -> Any:
        """The row, or None also for a key that is none: text for a number, or a number that no column holds."""
        try:
            return super().get(*args, **kwargs)
        except DataError:
            self.session.rollback()
            return None

    def is_nullable(self, col_name: str) -> bool:
        """Whether a form may leave the column empty: a box without its tick says no, and a default stands for nothing."""
        column = self.list_columns.get(col_name)
        if isinstance(column, Column) and (isinstance(column.type, Boolean) or column.server_default is not None):
            return True
        return bool(super().is_nullable(col_name))

    def is_text(self, col_name: str) -> bool:
        """Never: our texts are one line, in forms and filters; where somebody writes several, the form says so."""
        return False

    def add(self, item: Any, commit: bool = True) -> None:  # noqa: FBT001, FBT002  the library's signature
        self._change("add", item)

    def edit(self, item: Any, commit: bool = True) -> None:  # noqa: FBT001, FBT002  the library's signature
        self._change("edit", item)

    def delete(self, item: Any, commit: bool = True) -> None:  # noqa: FBT001, FBT002  the library's signature
        self._change("delete", item)

    def delete_all(self, items: list[Any]) -> None:
        for item in items:
            self.delete(item)

    def _change(self, verb: str, item: Any) -> None:
        table = type(item).__tablename__
        before = None if verb == "add" else old_values(item)
        try:
            with unit_of_work(self.session, staff_actor()) as unit:
                if verb == "delete":
                    unit.session.delete(item)
                else:
                    unit.session.add(item)
                unit.session.flush()
                after = None if verb == "delete" else row_values(item)
                unit.audit(f"{table}.{verb}", f"{table}:{self.get_pk_value(item)}", before=before, after=after)
        except SQLAlchemyError as error:
            raise refused(error) from None


def refused(error: SQLAlchemyError) -> AppError:
    """A database error in words for staff: which rule it broke, never the statement or its parameters."""
    state = getattr(getattr(error, "orig", None), "sqlstate", "") or ""
    if state == "23505":
        return Conflict(N_("Another row already has this value. Nothing was saved."))
    if state == "23503":
        return Conflict(N_("This row is used elsewhere, or refers to one that does not exist. Nothing was changed."))
    if state.startswith(("22", "23")):
        return InvalidInput(message=N_("A value is not allowed here. Nothing was saved."))
    return AppError(N_("The database refused this. Nothing was saved."))


class GeneratedScreen(ModelView):
    """What all generated screens share: names of columns, rows a page, and no lists of other screens inside a page."""

    label_columns: dict[str, Any] | None
    page_size = LIST_PAGE_SIZE

    def _init_properties(self) -> None:
        self.label_columns = LABELS | (self.label_columns or {})
        super()._init_properties()

    def get_uninit_inner_views(self) -> list[Any]:
        """None: rows of another screen have rights of their own, which the library does not ask for inside a page."""
        return []


class ReadOnlyView(GeneratedScreen):
    """A list and a page per row, no way to change anything: for money, trading data, events, the audit trail."""

    base_permissions = ["can_list", "can_show"]
    include_route_methods = {"list", "show"}
    base_order: tuple[str, str] | None = ("id", "desc")

    def _init_forms(self) -> None:
        """Only the search form: what is never added or edited needs no form, and JSON or UUID columns have none."""
        BaseModelView._init_forms(self)  # noqa: SLF001  the parent's own step, without the one between


class BackOfficeView(GeneratedScreen):
    """Reference data that staff edit. A refused form keeps what was typed and says what is wrong."""

    #: No row has a file, and Flask-AppBuilder would look for one in a folder that is not set.
    exclude_route_methods = {"download"}

    def _add(self) -> Any:
        form = self.add_form.refresh()
        exclude = self._filters.get_relation_cols()
        if request.method == "POST":
            self._fill_form_exclude_cols(exclude, form)
            if form.validate() and self._save(form, self.datamodel.obj()):
                flash(gettext("Added."), "success")
                return None
        else:
            self.update_redirect()
        return self._get_add_widget(form=form, exclude_cols=exclude)

    def _edit(self, pk: Any) -> Any:
        item = self.datamodel.get(pk, self._base_filters)
        if not item:
            abort(404)
        exclude = self._filters.get_relation_cols()
        if request.method == "POST":
            form = self.edit_form.refresh(request.form)
            self._fill_form_exclude_cols(exclude, form)
            form._id = self.datamodel.get_pk_value(item)  # noqa: SLF001  how the library's unique validator leaves this row out
            if form.validate() and self._save(form, item):
                flash(gettext("Saved."), "success")
                return None
        else:
            form = self.edit_form.refresh(obj=item)
            self.update_redirect()
        return self._get_edit_widget(form=form, exclude_cols=exclude)

    def _save(self, form: Any, item: Any) -> bool:
        """Fill, check and save; on refusal undo everything and say why beside the kept input."""
        try:
            # A flush on the way, such as when a list of roles is read, would lose what the row was before.
            with self.datamodel.session.no_autoflush:
                form.populate_obj(item)
                self.check(item)
                is_new = self.datamodel.get_pk_value(item) is None
                self.datamodel.add(item) if is_new else self.datamodel.edit(item)
        except AppError as error:
            self.datamodel.session.rollback()
            for name, problem in getattr(error, "problems", {}).items():
                if name in form:
                    form[name].errors = [*form[name].errors, gettext(problem)]
            flash(sentence(error), "danger")
            return False
        return True

    def post_add_redirect(self) -> ResponseReturnValue:
        """To the list, where the new row stands; the way back is unknown when the form was opened by its address."""
        return redirect(url_for(f"{self.endpoint}.list"))

    post_edit_redirect = post_add_redirect

    @expose("/action/<string:name>/<pk>", methods=["POST"])
    def action(self, name: str, pk: str) -> ResponseReturnValue:
        """One row's action. The library asks for the right to it, but not whether there is such an action or row."""
        self._check_action(name, [pk])
        return super().action(name, pk)

    @expose("/action_post", methods=["POST"])
    def action_post(self) -> ResponseReturnValue:
        """The same for the rows chosen in a list."""
        self._check_action(request.form.get("action", ""), request.form.getlist("rowid"))
        return super().action_post()

    def _check_action(self, name: str, pks: list[str]) -> None:
        """404 for what does not exist; whoever may not do this learns nothing about rows."""
        if name not in self.actions:
            abort(404)
        may = self.appbuilder.sm.has_access(self.get_action_permission_name(name), self.class_permission_name)
        if may and not all(self.datamodel.get(pk) for pk in pks):
            abort(404)

    def check(self, item: Any) -> None:
        """Rules beyond the form's own; raise InvalidInput. Override per view."""

    def check_delete(self, item: Any) -> None:
        """Why a row must stay; raise Conflict. Override per view."""

    def _delete(self, pk: Any) -> None:
        item = self.datamodel.get(pk, self._base_filters)
        if not item:
            abort(404)
        try:
            self.check_delete(item)
            self.datamodel.delete(item)
            flash(gettext("Deleted."), "success")
        except AppError as error:
            flash(sentence(error), "danger")
        self.update_redirect()


class DeskPage(BaseView):
    """Base of the pages that are not generated: queues, previews, editors with a use case behind them."""

    default_view = "index"
    extra_args: dict[str, Any] = {"person": person}
