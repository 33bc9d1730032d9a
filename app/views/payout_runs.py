"""Money desk: runs of commission payouts. One person builds a run, another one says what becomes of each line."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from flask import abort, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_appbuilder import AppBuilder, expose, has_access, permission_name
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from sqlalchemy import func, select
from wtforms import BooleanField, TextAreaField
from wtforms.validators import InputRequired

from app.commissions import payout_figures, payout_runs
from app.commissions.payables import REASONS
from app.commissions.payout_runs import VERDICTS, Decision
from app.core.clock import now
from app.core.errors import N_, AppError, InvalidInput
from app.extensions import db
from app.models.payouts import Payout, PayoutReversal, PayoutRun
from app.surfaces.errors import sentence
from app.surfaces.filters import Filters
from app.surfaces.xlsx_files import table_file
from app.views import payout_words
from app.views.columns import person
from app.views.decisions import decided
from app.views.guarded import DeskPage, staff_actor
from app.views.ledger_request_forms import Needed, UTCField

RIGHTS = "Payout runs"

#: Runs of the first page.
RUNS = 50

#: Which lines of a run are shown.
SHOWN = ("warned", "plain")


class RunForm(FlaskForm):
    """Up to when, for whom, and why."""

    until = UTCField(
        _l("Settled before (UTC)"),
        description=_l("The end of the period. What was settled later is left to the next run."),
        validators=[InputRequired(_l("Please give a day and a time, such as 2026-11-30 14:05."))],
    )
    requests_only = BooleanField(_l("Only what IBs have asked for"))
    reason = TextAreaField(
        _l("Reason"),
        description=_l("Which period this is. Whoever approves the run reads it."),
        validators=[Needed()],
        render_kw={"rows": 2, "maxlength": payout_runs.LONGEST_REASON},
    )

    def __init__(self) -> None:
        super().__init__(**({} if request.method == "POST" else {"data": {"until": midnight().replace(tzinfo=None)}}))
        self.elsewhere: list[str] = []


def midnight() -> datetime:
    """The beginning of today, in UTC: a period ends with a day."""
    return now().replace(hour=0, minute=0, second=0, microsecond=0)


class PayoutRunPage(DeskPage):
    """The figures and the runs; the form with its preview; one run with its decision."""

    class_permission_name = RIGHTS
    route_base = "/payout-runs"
    extra_args = {
        "person": person,
        "states": payout_words.STATES,
        "kinds": payout_words.KINDS,
        "destinations": payout_words.DESTINATIONS,
        "verdicts": payout_words.VERDICTS,
        "warning": payout_words.warning,
        "codes": payout_words.codes,
        "destination": payout_words.destination,
    }

    @expose("/")
    @has_access
    @permission_name("list")
    def index(self) -> ResponseReturnValue:
        """What IBs are owed and were paid, and the newest runs."""
        session = db.session()
        runs = session.scalars(select(PayoutRun).order_by(PayoutRun.id.desc()).limit(RUNS)).all()
        sums = session.execute(
            select(Payout.run_id, Payout.currency, func.count(), func.sum(Payout.amount_minor))
            .where(Payout.run_id.in_([run.id for run in runs]))
            .group_by(Payout.run_id, Payout.currency)
            .order_by(Payout.currency)
        ).all()
        waiting = select(Payout.state, func.count()).where(Payout.state.in_(("requested", "held"))).group_by(Payout.state)
        counts = {row[0]: row[1] for row in session.execute(waiting)}
        reversals = session.scalars(
            select(PayoutReversal.payout_id).where(PayoutReversal.status == "proposed").order_by(PayoutReversal.id)
        ).all()
        return self.render_template(
            "office/payout_runs.html",
            figures=payout_figures.figures(session),
            runs=runs,
            sums={run.id: [row for row in sums if row[0] == run.id] for run in runs},
            asked=counts.get("requested", 0),
            held=counts.get("held", 0),
            reversals=reversals,
            me=str(staff_actor()),
        )

    @expose("/new", methods=["GET", "POST"])
    @has_access
    @permission_name("propose")
    def new(self) -> ResponseReturnValue:
        """The form, with what the run would pay; proposed, it is held."""
        form = RunForm()
        action = request.form.get("action", "preview")
        if form.is_submitted() and form.validate() and action == "propose" and form.until.moment:
            try:
                run = payout_runs.propose_run(
                    db.session(),
                    until=form.until.moment,
                    reason=form.reason.data or "",
                    requests_only=form.requests_only.data,
                    actor=staff_actor(),
                )
                flash(gettext("Proposed, and held. It is paid as soon as somebody else has approved it."), "success")
                return redirect(url_for("PayoutRunPage.run", pk=run.id))
            except InvalidInput as error:
                for name, problem in error.problems.items():
                    form[name].errors = [gettext(problem)]
            except AppError as error:
                form.elsewhere.append(sentence(error))
        moment = form.until.moment
        preview = None
        if moment and "until" not in form.errors:
            preview = payout_runs.preview_run(db.session(), moment, requests_only=form.requests_only.data)
        page = self.render_template("office/payout_run_new.html", form=form, preview=preview, reasons=REASONS)
        return page, 422 if form.errors or form.elsewhere else 200

    @expose("/<int:pk>")
    @has_access
    @permission_name("list")
    def run(self, pk: int) -> ResponseReturnValue:
        """One run: its lines, filtered, as a file too; and the decision."""
        filters = Filters()
        filters.choice("lines", SHOWN)
        run = _run(pk)
        if filters.wanted_file:
            rows = payout_words.rows(_lines(pk, filters))
            return table_file(filters.wanted_file, f"payout-run-{pk}", payout_words.head(), rows)
        return self._page(run, filters)

    @expose("/<int:pk>/approve", methods=["POST"])
    @has_access
    @permission_name("decide")
    def approve(self, pk: int) -> ResponseReturnValue:
        """What becomes of each line; a refusal shows the page again with what was typed."""
        decisions = _decisions()
        try:
            payout_runs.approve_run(db.session(), pk, decisions=decisions, actor=staff_actor())
            flash(gettext("Approved. The lines to be paid are on their way to the wallets."), "success")
        except InvalidInput as error:
            db.session.rollback()
            problems = {int(key): gettext(problem) for key, problem in error.problems.items()}
            return self._page(_run(pk), Filters("PayoutRunPage.run", pk=pk), decisions, problems), 422
        except AppError as error:
            if "by" in error.data:
                error.data["by"] = person(error.data["by"])
            flash(sentence(error), "warning")
        return redirect(url_for("PayoutRunPage.run", pk=pk))

    @expose("/<int:pk>/reject", methods=["POST"])
    @has_access
    @permission_name("decide")
    def reject(self, pk: int) -> ResponseReturnValue:
        reason = request.form.get("reason", "")
        return _decide(pk, lambda: payout_runs.reject_run(db.session(), pk, reason=reason, actor=staff_actor()))

    @expose("/<int:pk>/withdraw", methods=["POST"])
    @has_access
    @permission_name("propose")
    def withdraw(self, pk: int) -> ResponseReturnValue:
        return _decide(pk, lambda: payout_runs.withdraw_run(db.session(), pk, actor=staff_actor()))

    def _page(
        self,
        run: PayoutRun,
        filters: Filters,
        decisions: dict[int, Decision] | None = None,
        problems: dict[int, str] | None = None,
    ) -> str:
        has_access_to = self.appbuilder.sm.has_access
        is_open, is_own = run.status == "proposed", run.proposed_by == str(staff_actor())
        decides = is_open and not is_own and has_access_to("can_decide", RIGHTS)
        every = _lines(run.id, None)
        told = payout_runs.current_warnings(db.session(), every) if decides else {line.id: line.warnings for line in every}
        # Whoever decides says what becomes of all lines, so that none is decided unseen.
        shown = sorted(every, key=lambda line: (not told[line.id], line.id)) if decides else _lines(run.id, filters)
        page: str = self.render_template(
            "office/payout_run.html",
            one=run,
            lines=shown,
            filters=filters,
            totals=_totals(every),
            told=told,
            warned=sum(map(bool, told.values())),
            decisions=decisions or {},
            problems=problems or {},
            is_own=is_own,
            decides=decides,
            withdraws=is_open and is_own and has_access_to("can_propose", RIGHTS),
            typed_reason=request.args.get("reason", "")[: payout_runs.LONGEST_REASON],
            longest=payout_runs.LONGEST_REASON,
        )
        return page


#: What was done, by the new state.
_DONE = {
    "rejected": N_("Rejected. Nothing was paid; the amounts are free again. What IBs asked for waits for the next run."),
    "withdrawn": N_("Withdrawn. Nothing was paid; the amounts are free again. What IBs asked for waits for the next run."),
}


def _decide(pk: int, decide: Callable[[], PayoutRun]) -> ResponseReturnValue:
    return decided("PayoutRunPage.run", pk, decide, _DONE)


def _run(pk: int) -> PayoutRun:
    found = db.session.get(PayoutRun, pk)
    if found is None:
        abort(404)
    return found


def _lines(pk: int, filters: Filters | None) -> list[Payout]:
    """Those with warnings first, then by number."""
    found = list(db.session.scalars(payout_figures.payouts().where(Payout.run_id == pk)))
    chosen = filters.given.get("lines") if filters else None
    if chosen:
        found = [line for line in found if bool(line.warnings) == (chosen == "warned")]
    return sorted(found, key=lambda line: (not line.warnings, line.id))


def _totals(lines: list[Payout]) -> list[tuple[str, int, int]]:
    """Currency, number of lines and sum in minor units."""
    currencies = sorted({line.currency for line in lines})
    mine = {currency: [line.amount_minor for line in lines if line.currency == currency] for currency in currencies}
    return [(currency, len(amounts), sum(amounts)) for currency, amounts in mine.items()]


def _decisions() -> dict[int, Decision]:
    """What was chosen of each line. A line without a choice is left to the use case, which asks for one where it needs one."""
    found: dict[int, Decision] = {}
    for name, value in request.form.items():
        kind, _, number = name.partition("-")
        if kind == "verdict" and number.isascii() and number.isdecimal() and len(number) < 19 and value in VERDICTS:
            key = int(number)
            found[key] = Decision(value, request.form.get(f"reason-{key}", ""), payout_words.seen(f"seen-{key}"))
    return found


def register(appbuilder: AppBuilder) -> None:
    appbuilder.add_view(
        PayoutRunPage,
        RIGHTS,
        href="/payout-runs/",
        label=_l("Commission payouts"),
        icon="cash",
        category="Money desk",
        category_label=_l("Money"),
    )
