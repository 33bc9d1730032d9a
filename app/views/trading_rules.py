"""Trading desk: rules by country. Who would be affected is shown before a rule is saved; each change keeps its reason."""

from __future__ import annotations

import hashlib
from datetime import date
from typing import Any

from flask import abort, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_appbuilder import AppBuilder, expose, has_access, permission_name
from flask_babel import get_locale, gettext
from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from sqlalchemy import select
from wtforms import BooleanField, HiddenField, IntegerField, StringField, TextAreaField
from wtforms.validators import Optional

from app.clients.countries import COUNTRIES, country_names
from app.core.clock import now
from app.core.errors import N_, AppError, InvalidInput
from app.extensions import db
from app.metatrader import rules
from app.metatrader.rules import Draft
from app.models.metatrader import TradingRule
from app.surfaces.errors import sentence
from app.views.columns import client_link
from app.views.guarded import DeskPage, staff_actor
from app.views.ledger_request_forms import DayField, Needed

RIGHTS = "Trading rules"


class RuleForm(FlaskForm):
    """`seen` is the rule as it was when the form was made, `shown` the draft whose effect was looked at."""

    name = StringField(_l("Name"), description=_l("Such as ESMA retail. Clients read it."), validators=[Needed()])
    countries = StringField(
        _l("Countries"),
        description=_l("Two-letter codes with commas between, such as DE, FR. Empty: clients of all countries."),
    )
    max_leverage = IntegerField(
        _l("Highest leverage"), description=_l("Of a live account; 30 means 1:30. Empty: no cap."), validators=[Optional()]
    )
    protects_negative_balance = BooleanField(_l("A balance below zero after a stop-out is restored to zero"))
    valid_from = DayField(_l("From"), validators=[Needed()])
    valid_until = DayField(_l("Until"), description=_l("The first day on which it no longer holds."), validators=[Optional()])
    reason = TextAreaField(_l("Reason"), description=_l("Stands in the audit trail."), validators=[Needed()])
    seen = HiddenField()
    shown = HiddenField()

    def __init__(self, rule: TradingRule | None = None) -> None:
        super().__init__()
        self.elsewhere: list[str] = []
        if self.is_submitted():
            return
        if rule is None:
            self.valid_from.data = now().date()
            return
        draft = rules.draft_of(rule)
        self.name.data, self.countries.data = draft.name, ", ".join(draft.countries)
        self.max_leverage.data, self.protects_negative_balance.data = draft.max_leverage, draft.protects_negative_balance
        self.valid_from.data, self.valid_until.data = draft.valid_from, draft.valid_until
        self.seen.data = digest(draft)

    def draft(self) -> Draft:
        """What was typed. Raises InvalidInput with everything that is wrong."""
        codes = tuple(code.strip().upper() for code in (self.countries.data or "").split(",") if code.strip())
        draft = Draft(
            self.name.data or "",
            codes,
            self.max_leverage.data,
            bool(self.protects_negative_balance.data),
            self.valid_from.data or date.max,
            self.valid_until.data,
        )
        problems: dict[str, str] = {}
        try:
            draft = rules.checked(draft, self.reason.data or "")
        except InvalidInput as error:
            problems = dict(error.problems)
        if self.valid_from.data is None:
            problems["valid_from"] = N_("Please give a day such as 2026-11-30.")
            problems.pop("valid_until", None)
        unknown = [code for code in codes if code not in COUNTRIES]
        if unknown:
            problems["countries"] = gettext("No country has the code %(code)s.", code=unknown[0][:12])
        if problems:
            raise InvalidInput(problems)
        return draft

    def take(self, error: AppError) -> None:
        """Write a refusal beside its fields."""
        problems: dict[str, str] = getattr(error, "problems", {})
        for name, problem in problems.items():
            if not self[name].errors:
                self[name].errors = [gettext(problem)]
        if not problems:
            self.elsewhere.append(sentence(error))

    @property
    def is_refused(self) -> bool:
        return bool(self.elsewhere or self.errors)


def digest(draft: Draft) -> str:
    """A name for exactly this draft."""
    return hashlib.sha256(repr(draft).encode()).hexdigest()


class TradingRulePage(DeskPage):
    """The list of rules, and the form that makes or changes one."""

    class_permission_name = RIGHTS
    route_base = "/trading-rules"
    extra_args = {"client_link": client_link}

    @expose("/")
    @has_access
    @permission_name("list")
    def index(self) -> ResponseReturnValue:
        """All rules: those that hold today first."""
        today = now().date()
        found = db.session.scalars(select(TradingRule).order_by(TradingRule.valid_from.desc(), TradingRule.id)).all()
        holds = {rule.id: rule.valid_from <= today and (rule.valid_until is None or rule.valid_until > today) for rule in found}
        above = {rule.id: rules.affected(db.session(), rules.draft_of(rule), limit=0)[0] for rule in found if holds[rule.id]}
        return self.render_template(
            "office/trading_rules.html",
            rules=sorted(found, key=lambda rule: not holds[rule.id]),
            holds=holds,
            above=above,
            today=today,
            names=dict(country_names(str(get_locale()))),
        )

    @expose("/new", methods=["GET", "POST"])
    @has_access
    @permission_name("edit")
    def new(self) -> ResponseReturnValue:
        return self._form(None)

    @expose("/<int:pk>", methods=["GET", "POST"])
    @has_access
    @permission_name("edit")
    def edit(self, pk: int) -> ResponseReturnValue:
        rule = db.session.get(TradingRule, pk)
        if rule is None:
            abort(404)
        return self._form(rule)

    def _form(self, rule: TradingRule | None) -> ResponseReturnValue:
        """Show who would be affected; save when just that was looked at."""
        form, preview = RuleForm(rule), None
        if form.is_submitted():
            form.validate()
            try:
                draft = form.draft()
                if form.errors:
                    raise InvalidInput({})
                if request.form.get("action") == "save" and form.shown.data == digest(draft):
                    return self._save(rule, draft, form)
                preview = rules.affected(db.session(), draft)
                form.shown.data = digest(draft)
            except AppError as error:
                form.shown.data = ""
                if getattr(error, "problems", None) or not isinstance(error, InvalidInput):
                    form.take(error)
        page = self.render_template("office/trading_rule.html", form=form, rule=rule, preview=preview)
        return page, 422 if form.is_refused else 200

    def _save(self, rule: TradingRule | None, draft: Draft, form: RuleForm) -> ResponseReturnValue:
        seen: Any = None
        if rule is not None:
            seen = rules.draft_of(rule)
            if digest(seen) != form.seen.data:
                raise rules.RuleChanged()
        saved = rules.save_rule(
            db.session(),
            draft,
            actor=staff_actor(),
            reason=form.reason.data or "",
            rule_id=rule.id if rule else None,
            seen=seen,
        )
        flash(gettext("Saved: %(name)s.", name=saved.name), "success")
        return redirect(url_for("TradingRulePage.index"))


def register(appbuilder: AppBuilder) -> None:
    appbuilder.add_view(
        TradingRulePage,
        RIGHTS,
        label=_l("Trading rules"),
        icon="scale",
        category="Trading desk",
        category_label=_l("Trading"),
    )
