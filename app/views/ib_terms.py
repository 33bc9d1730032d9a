"""Partners desk: personal terms of IBs. One person proposes what was agreed, another one decides; the history stays."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from flask import abort, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_appbuilder import AppBuilder, expose, has_access, permission_name
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from sqlalchemy import select
from sqlalchemy.orm import joinedload

from app.commissions import agreements, paying_plans
from app.commissions.agreed import personal
from app.commissions.cascade import holds
from app.commissions.components import COMPONENTS
from app.core.clock import now
from app.core.errors import N_, AppError
from app.extensions import db
from app.models.commissions import Plan
from app.models.ib_terms import IBTerms, IBTermsProposal
from app.models.partners import IntroducingBroker
from app.surfaces.csv_files import Cell, csv_file
from app.surfaces.filters import Filters
from app.views.columns import person
from app.views.decisions import decided, replaced
from app.views.guarded import DeskPage, staff_actor
from app.views.ib_terms_forms import RateRow, TermsForm

RIGHTS = "IB terms"

#: Rows of terms that hold, and of proposals that were decided.
PRESENT, DECIDED = 500, 25


class IBTermsPage(DeskPage):
    """All terms that hold and all proposals; the terms of one IB with their form; one proposal with its decision."""

    class_permission_name = RIGHTS
    route_base = "/ib-terms"
    extra_args = {"person": person, "components": COMPONENTS}

    @expose("/")
    @has_access
    @permission_name("list")
    def index(self) -> ResponseReturnValue:
        """What holds now, what waits for a decision, what was decided last."""
        session, filters = db.session(), Filters()
        present = select(IBTerms).options(joinedload(IBTerms.ib).joinedload(IntroducingBroker.client))
        present = present.where(holds(IBTerms, now())).order_by(IBTerms.ib_id)
        if filters.wants_csv:
            return _file(session.scalars(present).all())
        proposals = select(IBTermsProposal).options(joinedload(IBTermsProposal.ib).joinedload(IntroducingBroker.client))
        past = proposals.where(IBTermsProposal.status != "proposed").order_by(IBTermsProposal.id.desc())
        return self.render_template(
            "office/ib_terms_list.html",
            filters=filters,
            present=[(one, personal(one)) for one in session.scalars(present.limit(PRESENT))],
            waiting=session.scalars(proposals.where(IBTermsProposal.status == "proposed").order_by(IBTermsProposal.id)).all(),
            decided=session.scalars(past.limit(DECIDED)).all(),
            plans=_plan_names(),
            me=str(staff_actor()),
        )

    @expose("/<int:pk>", methods=["GET"])
    @has_access
    @permission_name("list")
    def terms(self, pk: int) -> ResponseReturnValue:
        """What holds for one IB, what held and will hold, and the form."""
        ib, form = _ib(pk), TermsForm(_rows(pk))
        form.show_terms(agreements.present_terms(db.session(), pk, now()))
        return self._terms(ib, form)

    @expose("/<int:pk>", methods=["POST"])
    @has_access
    @permission_name("propose")
    def propose(self, pk: int) -> ResponseReturnValue:
        """Ask for new terms of one IB."""
        ib, form = _ib(pk), TermsForm(_rows(pk))
        form.validate()
        terms = form.terms()
        if terms is not None:
            try:
                made = agreements.propose_terms(
                    db.session(),
                    ib_id=pk,
                    terms=terms,
                    valid_from=form.valid_from.moment,
                    reason=form.reason.data or "",
                    actor=staff_actor(),
                )
                flash(gettext("Proposed. It counts as soon as somebody else has approved it."), "success")
                return redirect(url_for("IBTermsPage.proposal", pk=made.id))
            except AppError as error:
                form.show(error)
        return self._terms(ib, form), 422

    @expose("/proposals/<int:pk>")
    @has_access
    @permission_name("list")
    def proposal(self, pk: int) -> ResponseReturnValue:
        """Proposed terms beside those that hold."""
        found, has_access_to = db.session.get(IBTermsProposal, pk), self.appbuilder.sm.has_access
        if found is None:
            abort(404)
        is_open, is_own = found.status == "proposed", found.proposed_by == str(staff_actor())
        return self.render_template(
            "office/ib_terms_proposal.html",
            one=found,
            before=agreements.present_terms(db.session(), found.ib_id, now()) if is_open else None,
            replaces=agreements.last_terms_id(db.session(), found.ib_id),
            after=personal(found),
            plans=_plan_names(),
            is_own=is_own,
            decides=is_open and not is_own and has_access_to("can_decide", RIGHTS),
            withdraws=is_open and is_own and has_access_to("can_propose", RIGHTS),
            typed_reason=request.args.get("reason", "")[: agreements.LONGEST_REASON],
            longest=agreements.LONGEST_REASON,
        )

    @expose("/proposals/<int:pk>/approve", methods=["POST"])
    @has_access
    @permission_name("decide")
    def approve(self, pk: int) -> ResponseReturnValue:
        return _decide(pk, lambda: agreements.approve_terms(db.session(), pk, actor=staff_actor(), replaces=replaced()))

    @expose("/proposals/<int:pk>/reject", methods=["POST"])
    @has_access
    @permission_name("decide")
    def reject(self, pk: int) -> ResponseReturnValue:
        reason = request.form.get("reason", "")
        return _decide(pk, lambda: agreements.reject_terms(db.session(), pk, reason=reason, actor=staff_actor()))

    @expose("/proposals/<int:pk>/withdraw", methods=["POST"])
    @has_access
    @permission_name("propose")
    def withdraw(self, pk: int) -> ResponseReturnValue:
        return _decide(pk, lambda: agreements.withdraw_terms(db.session(), pk, actor=staff_actor()))

    def _terms(self, ib: IntroducingBroker, form: TermsForm) -> str:
        session = db.session()
        spans = session.scalars(select(IBTerms).where(IBTerms.ib_id == ib.id).order_by(IBTerms.valid_from.desc())).all()
        waiting = session.scalar(
            select(IBTermsProposal).where(IBTermsProposal.ib_id == ib.id, IBTermsProposal.status == "proposed")
        )
        page: str = self.render_template(
            "office/ib_terms.html",
            ib=ib,
            spans=[(span, personal(span)) for span in spans],
            waiting=waiting,
            form=form,
            plans=_plan_names(),
            at=now(),
        )
        return page


#: What was done, by the new state.
_DONE = {
    "approved": N_("Approved. The terms hold from the moment that stands below."),
    "rejected": N_("Rejected. The IB's terms are as they were; the reason stands below."),
    "withdrawn": N_("Withdrawn. The IB's terms are as they were."),
}


def _decide(pk: int, decide: Callable[[], IBTermsProposal]) -> ResponseReturnValue:
    return decided("IBTermsPage.proposal", pk, decide, _DONE)


def _ib(pk: int) -> IntroducingBroker:
    ib = db.session.get(IntroducingBroker, pk)
    if ib is None:
        abort(404)
    return ib


def _rows(ib_id: int) -> list[RateRow]:
    """The rules that may pay an IB: of its own plan and of those in its branch, and others it has a rate of already."""
    found = paying_plans.rules_for(db.session(), ib_id, now())
    return [RateRow(one.plan_id, one.plan, rule) for one in found for rule in one.rules]


def _plan_names() -> dict[int, str]:
    return {row.id: row.name for row in db.session.execute(select(Plan.id, Plan.name))}


def _file(terms: Iterable[IBTerms]) -> Any:
    head = [
        gettext("IB"),
        gettext("Name"),
        gettext("From (UTC)"),
        gettext("Multiplier"),
        gettext("Hands on, percent"),
        gettext("Rates"),
        gettext("Reason"),
    ]
    rows: list[list[Cell]] = [
        [
            one.ib_id,
            one.ib.client.full_name,
            one.valid_from,
            one.multiplier,
            one.hand_on_percent,
            "; ".join(f"{plan}.{key}: {rate}" for (plan, key), rate in personal(one).rates.items()),
            one.reason,
        ]
        for one in terms
    ]
    return csv_file("ib-terms", head, rows)


def register(appbuilder: AppBuilder) -> None:
    desk = {"category": "Partners desk", "category_label": _l("Partners")}
    appbuilder.add_view(IBTermsPage, RIGHTS, label=_l("Personal terms"), icon="adjustments", **desk)
