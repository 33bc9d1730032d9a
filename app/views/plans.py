"""Partners desk: commission plans. One person proposes rules, tried on a typed deal; another one publishes them."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from flask import abort, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_appbuilder import AppBuilder, expose, has_access, permission_name
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import joinedload
from wtforms.fields import SelectChoice

from app.commissions import drafts, example, publishing
from app.commissions.components import COMPONENTS
from app.commissions.plans import Rule, parse_rules, rules_document
from app.commissions.rule_filter import EXCLUDED_REASONS
from app.core.errors import N_, AppError, InvalidInput
from app.extensions import db
from app.models.commissions import IBPlan, Plan, PlanDraft, PlanVersion
from app.models.metatrader import Product
from app.models.partners import IntroducingBroker
from app.models.symbol_groups import SymbolGroup
from app.surfaces.errors import sentence
from app.views.columns import person
from app.views.decisions import decided, replaced
from app.views.guarded import DeskPage, staff_actor
from app.views.plan_forms import AssignmentForm, CascadeForm, ExampleForm, PlanForm
from app.views.rule_editor import RuleEditor, written

RIGHTS = "Commission plans"

#: Rows of the newest proposals that were decided, and of who is or was paid by a plan.
DECIDED, PAID = 25, 200

#: What the form of a plan without rules begins with.
FIRST_RULES: list[dict[str, Any]] = [{"key": "all", "component": "per_lot", "rate": "5.00", "levels": ["0.8", "0.2"]}]


class PlanPage(DeskPage):
    """Plans, their versions and who is paid by them; the editor; the proposals."""

    class_permission_name = RIGHTS
    route_base = "/commission-plans"
    extra_args = {"person": person, "components": COMPONENTS, "usual_reasons": EXCLUDED_REASONS}

    @expose("/", methods=["GET"])
    @has_access
    @permission_name("list")
    def index(self) -> ResponseReturnValue:
        return self._index(PlanForm())

    @expose("/", methods=["POST"])
    @has_access
    @permission_name("propose")
    def create(self) -> ResponseReturnValue:
        """Make a plan; it pays nothing before its first rules are approved."""
        form = PlanForm()
        if form.validate():
            try:
                currency = (form.currency.data or "").strip().upper()
                plan_id = publishing.create_plan(db.session(), form.name.data or "", currency, staff_actor())
                return redirect(url_for("PlanPage.propose", pk=plan_id))
            except AppError as error:
                problems: dict[str, str] = getattr(error, "problems", {}) or {"name": sentence(error)}
                for name, problem in problems.items():
                    form[name if name in form else "currency"].errors = [gettext(problem)]
        return self._index(form), 422

    @expose("/<int:pk>", methods=["GET"])
    @has_access
    @permission_name("list")
    def plan(self, pk: int) -> ResponseReturnValue:
        return self._plan(_plan(pk), self._assignment_form())

    @expose("/<int:pk>", methods=["POST"])
    @has_access
    @permission_name("propose")
    def assign(self, pk: int) -> ResponseReturnValue:
        """Pay an IB by this plan from a moment on."""
        plan, form = _plan(pk), self._assignment_form()
        if form.validate() and form.since.moment is None:
            form.since.errors = [gettext("Please give a day and a time, such as 2026-11-30 14:05.")]
        if not form.errors and form.since.moment is not None:
            try:
                publishing.assign_plan(db.session(), form.ib.data, pk, form.since.moment, staff_actor())
                flash(gettext("Done. The IB is paid by this plan from that moment on."), "success")
                return redirect(url_for("PlanPage.plan", pk=pk))
            except AppError as error:
                form.since.errors = [sentence(error)]
        return self._plan(plan, form), 422

    @expose("/<int:pk>/cascade", methods=["POST"])
    @has_access
    @permission_name("decide")
    def cascade(self, pk: int) -> ResponseReturnValue:
        """Say whether personal rates above those of the IB above are refused or flagged."""
        plan, form = _plan(pk), CascadeForm()
        if not form.validate():
            return self._plan(plan, self._assignment_form()), 422
        publishing.set_cascade_guard(db.session(), pk, form.guard.data, staff_actor())
        flash(gettext("Saved."), "success")
        return redirect(url_for("PlanPage.plan", pk=pk))

    @expose("/<int:pk>/propose", methods=["GET", "POST"])
    @has_access
    @permission_name("propose")
    def propose(self, pk: int) -> ResponseReturnValue:
        """The editor: rules and an example deal; every payout with its steps before anything is proposed."""
        plan, form, last, action = _plan(pk), ExampleForm(), _newest(pk), request.form.get("action", "")
        if request.method == "GET":
            editor = RuleEditor.of(_normal(last.rules if last else FIRST_RULES, plan))
            form.margin_guard.data = last.margin_guard if last else form.margin_guard.data
        else:
            editor = RuleEditor.typed(request.form)
        if editor.act(action):
            return self._editor(plan, last, form, editor)
        if action == "document" and not editor.is_text:
            return self._editor(plan, last, form, RuleEditor(text=_told(editor.document(), plan)))
        rules = self._tried(form, editor, plan)
        if rules and action == "form":
            return self._editor(plan, last, form, RuleEditor.of(rules_document(rules)))
        if rules and action == "propose":
            if form.valid_from.moment is None:
                form.valid_from.errors = [gettext("Please give a day and a time, such as 2026-11-30 14:05.")]
            elif draft := _proposed(form, editor, plan):
                flash(gettext("Proposed. It counts as soon as somebody else has approved it."), "success")
                return redirect(url_for("PlanPage.draft", pk=draft.id))
        page = self._editor(plan, last, form, editor, rules)
        return page, 422 if form.errors or form.elsewhere or editor.problems else 200

    @expose("/drafts/<int:pk>")
    @has_access
    @permission_name("list")
    def draft(self, pk: int) -> ResponseReturnValue:
        """A proposal: what it would change, line by line."""
        found, has_access_to = db.session.get(PlanDraft, pk), self.appbuilder.sm.has_access
        if found is None:
            abort(404)
        is_open, is_own = found.status == "proposed", found.proposed_by == str(staff_actor())
        before = _newest(found.plan_id, published=found.version_id)
        return self.render_template(
            "office/plan_draft.html",
            one=found,
            before=before,
            changes=_changes(_text(before.rules, found.plan) if before else "", _text(found.rules, found.plan)),
            rules=parse_rules(found.rules, found.plan.currency),
            is_own=is_own,
            decides=is_open and not is_own and has_access_to("can_decide", RIGHTS),
            withdraws=is_open and is_own and has_access_to("can_propose", RIGHTS),
            typed_reason=request.args.get("reason", "")[: drafts.LONGEST_REASON],
            longest=drafts.LONGEST_REASON,
        )

    @expose("/drafts/<int:pk>/approve", methods=["POST"])
    @has_access
    @permission_name("decide")
    def approve(self, pk: int) -> ResponseReturnValue:
        return _decide(pk, lambda: drafts.approve_draft(db.session(), pk, actor=staff_actor(), replaces=replaced()))

    @expose("/drafts/<int:pk>/reject", methods=["POST"])
    @has_access
    @permission_name("decide")
    def reject(self, pk: int) -> ResponseReturnValue:
        reason = request.form.get("reason", "")
        return _decide(pk, lambda: drafts.reject_draft(db.session(), pk, reason=reason, actor=staff_actor()))

    @expose("/drafts/<int:pk>/withdraw", methods=["POST"])
    @has_access
    @permission_name("propose")
    def withdraw(self, pk: int) -> ResponseReturnValue:
        return _decide(pk, lambda: drafts.withdraw_draft(db.session(), pk, actor=staff_actor()))

    def _editor(
        self,
        plan: Plan,
        last: PlanVersion | None,
        form: ExampleForm,
        editor: RuleEditor,
        rules: tuple[Rule, ...] | None = None,
    ) -> str:
        """The page of the editor; with `rules` that could be read it prices the example."""
        priced = None
        if rules:
            try:
                stands = form.stands.data or Decimal(0)
                depth = form.depth.data or 1
                priced = example.price(db.session(), rules, form.deal(), depth, form.margin_guard.data, stands)
            except InvalidInput as error:
                form.show(error, editor)
        groups = db.session.execute(select(SymbolGroup.code, SymbolGroup.name).order_by(SymbolGroup.code)).all()
        products = db.session.execute(select(Product.code, Product.name).order_by(Product.code)).all()
        for card in editor.cards:
            card.offer([(code, name) for code, name in groups], [(code, f"{name} ({code})") for code, name in products])
        page: str = self.render_template(
            "office/plan_propose.html", plan=plan, last=last, form=form, editor=editor, priced=priced, rules=rules
        )
        return page

    def _index(self, form: PlanForm) -> str:
        session = db.session()
        versions = select(PlanVersion).ext(distinct_on(PlanVersion.plan_id))
        newest = {
            version.plan_id: version
            for version in session.scalars(versions.order_by(PlanVersion.plan_id, PlanVersion.version.desc()))
        }
        proposals = select(PlanDraft).options(joinedload(PlanDraft.plan))
        page: str = self.render_template(
            "office/plans.html",
            form=form,
            plans=[(plan, newest.get(plan.id)) for plan in session.scalars(select(Plan).order_by(Plan.name))],
            waiting=session.scalars(proposals.where(PlanDraft.status == "proposed").order_by(PlanDraft.id)).all(),
            decided=session.scalars(
                proposals.where(PlanDraft.status != "proposed").order_by(PlanDraft.id.desc()).limit(DECIDED)
            ).all(),
            me=str(staff_actor()),
        )
        return page

    def _plan(self, plan: Plan, form: AssignmentForm) -> str:
        session = db.session()
        versions = session.scalars(
            select(PlanVersion).where(PlanVersion.plan_id == plan.id).order_by(PlanVersion.version.desc())
        ).all()
        paid = session.scalars(
            select(IBPlan)
            .options(joinedload(IBPlan.ib).joinedload(IntroducingBroker.client))
            .where(IBPlan.plan_id == plan.id)
            .order_by(IBPlan.id.desc())
            .limit(PAID)
        ).all()
        page: str = self.render_template(
            "office/plan.html",
            plan=plan,
            versions=[(version, parse_rules(version.rules, plan.currency)) for version in versions],
            paid=paid,
            form=form,
            cascade=CascadeForm(guard=plan.cascade_guard),
        )
        return page

    @staticmethod
    def _assignment_form() -> AssignmentForm:
        form = AssignmentForm()
        query = select(IntroducingBroker).options(joinedload(IntroducingBroker.client)).order_by(IntroducingBroker.id)
        form.ib.choices = [SelectChoice(ib.id, f"{ib.client.full_name} (#{ib.id})") for ib in db.session.scalars(query)]
        return form

    @staticmethod
    def _tried(form: ExampleForm, editor: RuleEditor, plan: Plan) -> tuple[Rule, ...] | None:
        """The rules, when they and the example can be read; otherwise the form says what cannot."""
        if form.is_submitted():
            form.validate()
        document = editor.document()
        if document is None:
            return None
        try:
            rules = parse_rules(document, plan.currency)
        except InvalidInput as error:
            form.show(error, editor)
            return None
        return None if form.errors else rules


#: What was done, by the new state.
_DONE = {
    "approved": N_("Approved. The rules count from the moment that stands below."),
    "rejected": N_("Rejected. The plan is as it was; the reason stands below."),
    "withdrawn": N_("Withdrawn. The plan is as it was."),
}


def _decide(pk: int, decide: Callable[[], PlanDraft]) -> ResponseReturnValue:
    return decided("PlanPage.draft", pk, decide, _DONE)


def _proposed(form: ExampleForm, editor: RuleEditor, plan: Plan) -> PlanDraft | None:
    """The new proposal; None when it is refused, and the form then says why."""
    assert form.valid_from.moment is not None  # asked before
    try:
        return drafts.propose_version(
            db.session(),
            plan.id,
            editor.document(),
            form.valid_from.moment,
            form.reason.data or "",
            staff_actor(),
            form.margin_guard.data,
        )
    except AppError as error:
        form.show(error, editor)
        return None


def _plan(pk: int) -> Plan:
    plan = db.session.get(Plan, pk)
    if plan is None:
        abort(404)
    return plan


def _newest(plan_id: int, published: int | None = None) -> PlanVersion | None:
    """The newest version of a plan, or the one before a version that was published."""
    query = select(PlanVersion).where(PlanVersion.plan_id == plan_id)
    if published is not None:
        query = query.where(PlanVersion.id < published)
    return db.session.scalar(query.order_by(PlanVersion.version.desc()).limit(1))


def _text(stored: list[dict[str, Any]], plan: Plan) -> str:
    """Stored rules as people edit them; the database keeps no order of fields."""
    return written(_normal(stored, plan))


def _told(document: list[dict[str, Any]], plan: Plan) -> str:
    """Rules from the form as text: with all defaults where they can be read, otherwise as they were typed."""
    try:
        return _text(document, plan)
    except InvalidInput:
        return written(document)


def _normal(stored: list[dict[str, Any]], plan: Plan) -> list[dict[str, Any]]:
    """Stored rules with all defaults written out."""
    return rules_document(parse_rules(stored, plan.currency))


def _changes(before: str, after: str) -> list[tuple[str, str]]:
    """The lines of both texts: a sign ("+", "-" or " ") and the line."""
    return [(line[0], line[2:]) for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] != "?"]


def register(appbuilder: AppBuilder) -> None:
    appbuilder.add_view(
        PlanPage,
        RIGHTS,
        label=_l("Commission plans"),
        icon="percentage",
        category="Partners desk",
        category_label=_l("Partners"),
    )
