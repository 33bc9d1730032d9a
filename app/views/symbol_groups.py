"""Partners desk: groups of symbols that rules of commission plans name, with their history."""

from __future__ import annotations

from typing import Any

from flask import abort, flash, redirect, url_for
from flask.typing import ResponseReturnValue
from flask_appbuilder import AppBuilder, expose, has_access, permission_name
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from sqlalchemy import select
from wtforms import StringField, TextAreaField
from wtforms.validators import Length, Optional

from app.commissions import symbol_groups
from app.core.clock import now
from app.core.errors import AppError
from app.extensions import db
from app.models.symbol_groups import SymbolGroup, SymbolGroupVersion
from app.surfaces.errors import sentence
from app.views.columns import person
from app.views.guarded import DeskPage, staff_actor
from app.views.ledger_request_forms import Needed, UTCField
from app.views.rule_forms import Words

RIGHTS = "Symbol groups"


class SymbolsForm(FlaskForm):
    """The symbols of a group from a moment on."""

    symbols = Words(_l("Symbols"), description=_l("Such as XAUUSD, XAG*. * stands for any characters."), validators=[Needed()])
    valid_from = UTCField(_l("From (UTC)"), description=_l("Empty: from now on."), validators=[Optional()])
    reason = TextAreaField(_l("Reason"), description=_l("Stands in the audit trail."), validators=[Needed()])

    def show(self, error: AppError) -> str:
        """Write a refusal beside its fields; the sentence of one that belongs to none."""
        problems: dict[str, str] = getattr(error, "problems", {})
        for name, problem in problems.items():
            self[name].errors = [gettext(problem)]
        return "" if problems else sentence(error)


class GroupForm(SymbolsForm):
    """A new group."""

    code = StringField(
        _l("Code"), description=_l("By which rules name it: small letters, digits, - and _."), validators=[Needed()]
    )
    name = StringField(_l("Name"), validators=[Needed(), Length(max=symbol_groups.MAX_NAME)])


class SymbolGroupPage(DeskPage):
    """The groups; one group with its versions and the form that gives it other symbols."""

    class_permission_name = RIGHTS
    route_base = "/symbol-groups"
    extra_args = {"person": person}

    @expose("/", methods=["GET"])
    @has_access
    @permission_name("list")
    def index(self) -> ResponseReturnValue:
        return self._index(GroupForm())

    @expose("/", methods=["POST"])
    @has_access
    @permission_name("edit")
    def make(self) -> ResponseReturnValue:
        """Make a group."""
        form, problem = GroupForm(), ""
        if form.validate():
            try:
                group_id = symbol_groups.make_group(
                    db.session(),
                    code=(form.code.data or "").strip(),
                    name=form.name.data or "",
                    symbols=form.symbols.data or [],
                    valid_from=form.valid_from.moment or now(),
                    reason=form.reason.data or "",
                    actor=staff_actor(),
                )
                flash(gettext("Saved. Rules may name the group from that moment on."), "success")
                return redirect(url_for("SymbolGroupPage.group", pk=group_id))
            except AppError as error:
                problem = form.show(error)
        return self._index(form, problem), 422

    @expose("/<int:pk>", methods=["GET"])
    @has_access
    @permission_name("list")
    def group(self, pk: int) -> ResponseReturnValue:
        group, versions = _group(pk)
        form = SymbolsForm()
        form.symbols.data = versions[0].symbols
        return self._group(group, versions, form)

    @expose("/<int:pk>", methods=["POST"])
    @has_access
    @permission_name("edit")
    def change(self, pk: int) -> ResponseReturnValue:
        """Give a group other symbols."""
        group, versions = _group(pk)
        form, problem = SymbolsForm(), ""
        if form.validate():
            try:
                symbol_groups.change_group(
                    db.session(),
                    pk,
                    symbols=form.symbols.data or [],
                    valid_from=form.valid_from.moment,
                    reason=form.reason.data or "",
                    actor=staff_actor(),
                )
                flash(gettext("Saved. Deals done from that moment on are paid by these symbols."), "success")
                return redirect(url_for("SymbolGroupPage.group", pk=pk))
            except AppError as error:
                problem = form.show(error)
        return self._group(group, versions, form, problem), 422

    def _index(self, form: GroupForm, problem: str = "") -> Any:
        session = db.session()
        held = symbol_groups.load_groups(session).at(now())
        groups = session.scalars(select(SymbolGroup).order_by(SymbolGroup.code)).all()
        return self.render_template("office/symbol_groups.html", groups=groups, held=held, form=form, problem=problem)

    def _group(self, group: SymbolGroup, versions: list[SymbolGroupVersion], form: SymbolsForm, problem: str = "") -> Any:
        return self.render_template(
            "office/symbol_group.html", group=group, versions=versions, form=form, problem=problem, at=now()
        )


def _group(pk: int) -> tuple[SymbolGroup, list[SymbolGroupVersion]]:
    group = db.session.get(SymbolGroup, pk)
    if group is None:
        abort(404)
    return group, list(db.session.scalars(symbol_groups.history_of(pk)))


def register(appbuilder: AppBuilder) -> None:
    desk = {"category": "Partners desk", "category_label": _l("Partners")}
    appbuilder.add_view(SymbolGroupPage, RIGHTS, label=_l("Symbol groups"), icon="list", **desk)
