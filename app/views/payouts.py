"""Money desk: every commission payout, the decision on one that is held, and taking back one that was paid."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO

from flask import abort, flash, redirect, request, send_file, url_for
from flask.typing import ResponseReturnValue
from flask_appbuilder import AppBuilder, expose, has_access, permission_name
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from sqlalchemy import Select, select

from app.commissions import payout_figures, payout_reversals, payout_runs, payout_statements
from app.commissions.payout_runs import Decision, Verdict
from app.core.errors import N_, AppError, NotFound
from app.extensions import db
from app.models.payouts import PAYOUT_STATES, Payout, PayoutReversal
from app.surfaces.filters import Filters
from app.surfaces.xlsx_files import table_file
from app.views import payout_words
from app.views.columns import client_link, person, transaction_link
from app.views.guarded import DeskPage, staff_actor
from app.views.refusal import why

RIGHTS = "Payouts"

PAGE = 50


class PayoutPage(DeskPage):
    """The list with its filters and files, and one payout."""

    class_permission_name = RIGHTS
    route_base = "/payouts"
    extra_args = {
        "person": person,
        "states": payout_words.STATES,
        "kinds": payout_words.KINDS,
        "verdicts": payout_words.VERDICTS,
        "warning": payout_words.warning,
        "codes": payout_words.codes,
        "destination": payout_words.destination,
        "client_link": client_link,
        "transaction_link": transaction_link,
    }

    @expose("/")
    @has_access
    @permission_name("list")
    def index(self) -> ResponseReturnValue:
        """All payouts, newest first, filtered by state, IB and day."""
        filters = Filters()
        query = _filtered(filters)
        before = filters.after_number("after")
        if filters.problems:
            return self.render_template("office/payouts.html", filters=filters, payouts=[], all_states=PAYOUT_STATES), 422
        if filters.wanted_file:
            return table_file(filters.wanted_file, "payouts", payout_words.head(), payout_words.rows(_each(query)))
        shown = db.session.scalars((query if before is None else query.where(Payout.id < before)).limit(PAGE + 1)).all()
        return self.render_template(
            "office/payouts.html",
            filters=filters,
            all_states=PAYOUT_STATES,
            payouts=shown[:PAGE],
            older=filters.address(after=shown[PAGE - 1].id) if len(shown) > PAGE else None,
            newer=filters.address() if before is not None else None,
        )

    @expose("/<int:pk>")
    @has_access
    @permission_name("show")
    def show(self, pk: int) -> ResponseReturnValue:
        """One payout: how its amount came about, where it is, and what may be done."""
        session, me, may = db.session(), str(staff_actor()), self.appbuilder.sm.has_access
        found = session.get(Payout, pk)
        if found is None:
            abort(404)
        reversals = session.scalars(
            select(PayoutReversal).where(PayoutReversal.payout_id == pk).order_by(PayoutReversal.id.desc())
        ).all()
        waiting = next((one for one in reversals if one.status == "proposed"), None)
        decides = may("can_decide", RIGHTS)
        proposer = found.run.proposed_by if found.run else ""
        decides_held = found.state == "held" and decides and proposer != me
        return self.render_template(
            "office/payout.html",
            one=found,
            reversals=reversals,
            waiting=waiting,
            missing=payout_reversals.missing_in_wallet(session, found) if waiting else None,
            is_own=proposer == me,
            decides_held=decides_held,
            told=payout_runs.current_warnings(session, [found])[pk] if decides_held else found.warnings,
            proposes_reversal=found.state in payout_reversals.REVERSIBLE and not waiting and may("can_propose", RIGHTS),
            decides_reversal=waiting is not None and decides and waiting.proposed_by != me,
            withdraws_reversal=waiting is not None and waiting.proposed_by == me,
            has_statement=payout_statements.is_made(session, pk),
            longest=payout_runs.LONGEST_REASON,
        )

    @expose("/<int:pk>/statement.pdf")
    @has_access
    @permission_name("show")
    def statement(self, pk: int) -> ResponseReturnValue:
        """The frozen statement, as the IB has it."""
        kept = payout_statements.document(db.session(), pk)
        if kept.pdf is None:
            raise NotFound
        name = f"payout-{pk}.pdf"
        return send_file(BytesIO(kept.pdf), mimetype="application/pdf", as_attachment=True, download_name=name)

    @expose("/<int:pk>/decide", methods=["POST"])
    @has_access
    @permission_name("decide")
    def decide(self, pk: int) -> ResponseReturnValue:
        """Pay or reject a payout that was held back."""
        verdict: Verdict = "pay" if request.form.get("verdict") == "pay" else "reject"
        decision = Decision(verdict, request.form.get("reason", ""), payout_words.seen("seen"))
        done = {"pay": N_("Approved. It is on its way to the wallet."), "reject": N_("Rejected. The amount is free again.")}
        return _done(pk, lambda: payout_runs.decide_held(db.session(), pk, decision, actor=staff_actor()), done[verdict])

    @expose("/<int:pk>/reverse", methods=["POST"])
    @has_access
    @permission_name("propose")
    def reverse(self, pk: int) -> ResponseReturnValue:
        """Propose that a payout be taken back."""
        reason = request.form.get("reason", "")
        return _done(
            pk,
            lambda: payout_reversals.propose_reversal(db.session(), pk, reason=reason, actor=staff_actor()),
            N_("Proposed. It is taken back as soon as somebody else has approved it."),
        )

    @expose("/<int:pk>/reversals/<int:reversal>/approve", methods=["POST"])
    @has_access
    @permission_name("decide")
    def approve_reversal(self, pk: int, reversal: int) -> ResponseReturnValue:
        """Take a payout back."""
        done = N_("Taken back. The money is on the commission account again.")
        return _done(pk, lambda: payout_reversals.approve_reversal(db.session(), reversal, actor=staff_actor()), done)

    @expose("/<int:pk>/reversals/<int:reversal>/reject", methods=["POST"])
    @has_access
    @permission_name("decide")
    def reject_reversal(self, pk: int, reversal: int) -> ResponseReturnValue:
        """Leave a payout as it is."""
        reason, done = request.form.get("reason", ""), N_("Rejected. The payout stays as it is.")
        return _done(
            pk, lambda: payout_reversals.reject_reversal(db.session(), reversal, reason=reason, actor=staff_actor()), done
        )

    @expose("/<int:pk>/reversals/<int:reversal>/withdraw", methods=["POST"])
    @has_access
    @permission_name("propose")
    def withdraw_reversal(self, pk: int, reversal: int) -> ResponseReturnValue:
        """Take back one's own proposal."""
        done = N_("Withdrawn. The payout stays as it is.")
        return _done(pk, lambda: payout_reversals.withdraw_reversal(db.session(), reversal, actor=staff_actor()), done)


def _each(query: Select[Payout]) -> Iterator[Payout]:
    """Read while the file is sent, when the page's own session has ended."""
    yield from db.session.scalars(query)


def _filtered(filters: Filters) -> Select[Payout]:
    state, ib_id = filters.choice("state", PAYOUT_STATES), filters.whole("ib")
    start, end = filters.days("from", "to")
    query = payout_figures.payouts()
    if state:
        query = query.where(Payout.state == state)
    if ib_id is not None:
        query = query.where(Payout.ib_id == ib_id)
    if start:
        query = query.where(Payout.created_at >= start)
    if end:
        query = query.where(Payout.created_at < end)
    return query


def _done(pk: int, act: Callable[[], object], words: str) -> ResponseReturnValue:
    """Act, and go back to the payout with what was done or why not."""
    try:
        act()
        flash(gettext(words), "success")
    except NotFound:
        raise
    except AppError as error:
        if "by" in error.data:
            error.data["by"] = person(error.data["by"])
        if "state" in error.data:
            error.data["state"] = payout_words.STATES.get(error.data["state"], error.data["state"])
        flash(why(error), "warning")
    return redirect(url_for("PayoutPage.show", pk=pk))


def register(appbuilder: AppBuilder) -> None:
    appbuilder.add_view(
        PayoutPage,
        RIGHTS,
        href="/payouts/",
        label=_l("Payouts"),
        icon="cash",
        category="Partners desk",
        category_label=_l("Partners"),
    )
