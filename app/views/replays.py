"""Partners desk: periods of commission recomputed. The difference is looked at, proposed, decided by another person, posted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal

from flask import Response, abort, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_appbuilder import AppBuilder, expose, has_access, permission_name
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.commissions import replay, replay_figures
from app.commissions.overrides import Overrides
from app.core.errors import N_, AppError
from app.extensions import db
from app.models.clients import Client
from app.models.commissions import Plan, PlanVersion
from app.models.partners import IntroducingBroker
from app.models.replays import ReplayRun
from app.surfaces.csv_files import Cell, csv_file
from app.surfaces.filters import Filters
from app.views.columns import person
from app.views.decisions import decided
from app.views.guarded import DeskPage, staff_actor
from app.views.replay_forms import ReplayForm

RIGHTS = "Replays"

#: Runs of the list; rows of a table of sums; lines of a page, and of one reading of a file.
RUNS, SUMS, LINES, OF_FILE = 100, 200, 50, 1000

STATES = {
    "computing": N_("Computing"),
    "computed": N_("Computed"),
    "failed": N_("Failed"),
    "proposed": N_("Proposed"),
    "approved": N_("Being posted"),
    "rejected": N_("Rejected"),
    "withdrawn": N_("Withdrawn"),
    "posted": N_("Posted"),
    "stale": N_("Out of date"),
}


class ReplayPage(DeskPage):
    """The runs; the form of a new one; one run with its sums, lines and decision."""

    class_permission_name = RIGHTS
    route_base = "/replays"
    extra_args = {"person": person, "states": STATES}

    @expose("/")
    @has_access
    @permission_name("list")
    def index(self) -> ResponseReturnValue:
        runs = db.session.scalars(select(ReplayRun).order_by(ReplayRun.id.desc()).limit(RUNS)).all()
        return self.render_template("office/replays.html", runs=runs)

    @expose("/new", methods=["GET", "POST"])
    @has_access
    @permission_name("propose")
    def new(self) -> ResponseReturnValue:
        """Ask for a period to be recomputed."""
        form = ReplayForm()
        if form.is_submitted() and form.validate():
            try:
                run = replay.start_replay(db.session(), form.scope(), form.overrides(), form.reason.data or "", staff_actor())
                return redirect(url_for("ReplayPage.run", pk=run.id))
            except AppError as error:
                form.show(error)
        page = self.render_template("office/replay_new.html", form=form)
        return page, 422 if form.errors or form.elsewhere else 200

    @expose("/<int:pk>")
    @has_access
    @permission_name("list")
    def run(self, pk: int) -> ResponseReturnValue:
        """One run: how far it is, sums by IB, client or rule, and the decision."""
        run, may = _run(pk), self.appbuilder.sm.has_access
        filters = Filters()
        side = filters.choice("by", replay_figures.SIDES) or "ib"
        is_own, is_open = run.proposed_by == str(staff_actor()), run.status == "proposed"
        return self.render_template(
            "office/replay.html",
            one=run,
            filters=filters,
            side=side,
            sums=replay_figures.sums(db.session(), pk, side, SUMS),
            most=SUMS,
            totals={
                code: (Decimal(given["stored"]), Decimal(given["recomputed"]))
                for code, given in run.sums.get("currencies", {}).items()
            },
            instead=_words(run),
            is_own=is_own,
            proposes=run.status == "computed" and run.sums.get("lines") and may("can_propose", RIGHTS),
            decides=is_open and not is_own and may("can_decide", RIGHTS),
            withdraws=run.status in ("computing", "computed", "proposed") and is_own and may("can_propose", RIGHTS),
            again=run.status in ("stale", "failed") and may("can_propose", RIGHTS),
            typed_reason=request.args.get("reason", "")[: replay.LONGEST_REASON],
            longest=replay.LONGEST_REASON,
        )

    @expose("/<int:pk>/state")
    @has_access
    @permission_name("list")
    def state(self, pk: int) -> ResponseReturnValue:
        """Part of the page while a job works on the run; afterwards the page is loaded anew."""
        run = _run(pk)
        page = Response(self.render_template("office/replay_state.html", one=run))
        if run.status not in ("computing", "approved"):
            page.headers["HX-Refresh"] = "true"
        return page

    @expose("/<int:pk>/lines")
    @has_access
    @permission_name("list")
    def lines(self, pk: int) -> ResponseReturnValue:
        """The lines that differ, of all or of one IB or client; also as a file."""
        run, filters = _run(pk), Filters()
        ib_id, client_id, after = filters.whole("ib"), filters.whole("client"), filters.after_number("after")
        if filters.wants_csv and not filters.problems:
            return csv_file(f"replay-{pk}", _head(), _rows(pk, ib_id, client_id))
        found = replay_figures.lines(db.session(), pk, ib_id=ib_id, client_id=client_id, after_id=after or 0, limit=LINES + 1)
        return self.render_template(
            "office/replay_lines.html",
            one=run,
            filters=filters,
            lines=found[:LINES],
            older=filters.address(after=found[LINES - 1].line.id) if len(found) > LINES else None,
            newer=filters.address() if after else None,
        )

    @expose("/<int:pk>/lines/<int:line_id>")
    @has_access
    @permission_name("list")
    def why(self, pk: int, line_id: int) -> ResponseReturnValue:
        """One line: what is stored, and every step to what it should be."""
        shown, steps = replay_figures.explain_line(db.session(), pk, line_id)
        return self.render_template("office/replay_line.html", one=_run(pk), shown=shown, steps=steps)

    @expose("/<int:pk>/again", methods=["POST"])
    @has_access
    @permission_name("propose")
    def again(self, pk: int) -> ResponseReturnValue:
        """The same question once more, as a new run."""
        run = _run(pk)
        overrides = Overrides.of(run.overrides, run.until)
        made = replay.start_replay(db.session(), replay.scope_of(run), overrides, run.reason, staff_actor())
        return redirect(url_for("ReplayPage.run", pk=made.id))

    @expose("/<int:pk>/propose", methods=["POST"])
    @has_access
    @permission_name("propose")
    def propose(self, pk: int) -> ResponseReturnValue:
        return _decide(pk, lambda: replay.propose_replay(db.session(), pk, actor=staff_actor()))

    @expose("/<int:pk>/withdraw", methods=["POST"])
    @has_access
    @permission_name("propose")
    def withdraw(self, pk: int) -> ResponseReturnValue:
        return _decide(pk, lambda: replay.withdraw_replay(db.session(), pk, actor=staff_actor()))

    @expose("/<int:pk>/approve", methods=["POST"])
    @has_access
    @permission_name("decide")
    def approve(self, pk: int) -> ResponseReturnValue:
        return _decide(pk, lambda: replay.approve_replay(db.session(), pk, actor=staff_actor()))

    @expose("/<int:pk>/reject", methods=["POST"])
    @has_access
    @permission_name("decide")
    def reject(self, pk: int) -> ResponseReturnValue:
        reason = request.form.get("reason", "")
        return _decide(pk, lambda: replay.reject_replay(db.session(), pk, reason=reason, actor=staff_actor()))


#: What was done, by the new state.
_DONE = {
    "proposed": N_("Proposed. It is posted as soon as somebody else has approved it."),
    "approved": N_("Approved. The adjusting entries are being posted."),
    "rejected": N_("Rejected. Nothing is posted; the reason stands below."),
    "withdrawn": N_("Withdrawn. Nothing is posted."),
}


def _decide(pk: int, decide: Callable[[], ReplayRun]) -> ResponseReturnValue:
    return decided("ReplayPage.run", pk, decide, _DONE)


def _run(pk: int) -> ReplayRun:
    run = db.session.get(ReplayRun, pk)
    if run is None:
        abort(404)
    return run


def _words(run: ReplayRun) -> list[str]:
    """What should have stood, as sentences."""
    session, said = db.session(), []
    instead = Overrides.of(run.overrides, run.until)
    for one in instead.versions:
        version = session.get_one(PlanVersion, one.value)
        text = gettext("Version %(number)s of %(plan)s counted", number=version.version, plan=version.plan.name)
        said.append(f"{text}, {gettext('from %(moment)s UTC on', moment=f'{one.since:%Y-%m-%d %H:%M}')}")
    for one in instead.plans:
        ib, plan = session.get_one(IntroducingBroker, one.subject), session.get_one(Plan, one.value)
        text = gettext("%(ib)s was paid by %(plan)s", ib=ib.client.full_name, plan=plan.name)
        said.append(f"{text}, {gettext('from %(moment)s UTC on', moment=f'{one.since:%Y-%m-%d %H:%M}')}")
    for one in instead.clients:
        client = session.get_one(Client, one.subject)
        name = session.get_one(IntroducingBroker, one.value).client.full_name if one.value else gettext("Nobody")
        text = gettext("%(client)s belonged to: %(ib)s", client=client.full_name, ib=name)
        said.append(f"{text}, {gettext('from %(moment)s UTC on', moment=f'{one.since:%Y-%m-%d %H:%M}')}")
    return said


def _head() -> list[str]:
    return [
        *(gettext("Deal"), gettext("Symbol"), gettext("Plan"), gettext("Version"), gettext("Rule"), gettext("Level")),
        *(gettext("Introducing broker"), gettext("IB number"), gettext("Client"), gettext("Currency")),
        *(gettext("Stored"), gettext("Recomputed"), gettext("Difference")),
    ]


def _rows(pk: int, ib_id: int | None, client_id: int | None) -> Iterator[list[Cell]]:
    with Session(db.engine) as session:
        after = 0
        while found := replay_figures.lines(session, pk, ib_id=ib_id, client_id=client_id, after_id=after, limit=OF_FILE):
            for one in found:
                line = one.line
                yield [
                    *(one.ticket, one.symbol, one.plan, one.version, line.rule, line.level, one.ib, line.ib_id, one.client),
                    *(line.currency, line.stored, line.recomputed, line.difference),
                ]
            after = found[-1].line.id


def register(appbuilder: AppBuilder) -> None:
    appbuilder.add_view(
        ReplayPage,
        RIGHTS,
        label=_l("Replays"),
        icon="refresh",
        category="Partners desk",
        category_label=_l("Partners"),
    )
