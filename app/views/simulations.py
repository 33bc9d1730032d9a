"""Plan simulator: rules that pay nobody yet over the real deals of a plan's IBs, beside what was paid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from flask import Response, abort, redirect, url_for
from flask.typing import ResponseReturnValue
from flask_appbuilder import AppBuilder, expose, has_access, permission_name
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from sqlalchemy import select
from wtforms import IntegerField, SelectField, TextAreaField
from wtforms.fields import SelectChoice
from wtforms.validators import InputRequired, NumberRange

from app.commissions import simulation
from app.commissions.plans import parse_rules, rules_document
from app.core.errors import AppError
from app.core.money import exponent
from app.extensions import db
from app.models.clients import Client
from app.models.commissions import Plan, PlanDraft, PlanVersion
from app.models.partners import IntroducingBroker
from app.models.replays import PlanSimulation
from app.surfaces.csv_files import Cell, csv_file
from app.surfaces.errors import sentence
from app.surfaces.filters import Filters
from app.views.columns import person
from app.views.guarded import DeskPage, staff_actor
from app.views.ledger_request_forms import Needed
from app.views.rule_editor import parsed, written

RIGHTS = "Plan simulations"
SIDES = ("ib", "symbol")
PAST, DRAWN = 25, 12
_BAR_UNITS = 420


class SimulationForm(FlaskForm):
    """The rules and how many days of deals they run over."""

    rules = TextAreaField(_l("Rules"), validators=[Needed()], render_kw={"rows": 18, "spellcheck": "false", "dir": "ltr"})
    margin_guard = SelectField(
        _l("Margin guard"),
        default="off",
        choices=[
            SelectChoice("off", _l("Off")),
            SelectChoice("flag", _l("Flag deals that pay more than they earned")),
            SelectChoice("cap", _l("Cap payouts at what the deal earned")),
        ],
    )
    days = IntegerField(
        _l("Deals of the last days"), default=90, validators=[InputRequired(), NumberRange(min=1, max=simulation.MOST_DAYS)]
    )

    def __init__(self) -> None:
        super().__init__()
        self.elsewhere: list[str] = []

    def document(self) -> Any:
        """The rules as typed; None, with the place of the mistake beside the field, for what is no JSON."""
        document, problem = parsed(self.rules.data or "")
        self.rules.errors = [problem] if problem else self.rules.errors
        return document

    def show(self, error: AppError) -> None:
        """Write a refusal beside its field; problems of the rules go with their path."""
        problems: dict[str, str] = getattr(error, "problems", {})
        for name, problem in problems.items():
            if name == "days":
                self.days.errors = [gettext(problem)]
            else:
                self.rules.errors = [*self.rules.errors, f"{name}: {gettext(problem)}"]
        if not problems:
            self.elsewhere.append(sentence(error))


#: In place of a symbol: what is paid without a deal.
_OCCASIONS = ""


@dataclass(frozen=True)
class Row:
    """The figures of one IB or symbol. `now` and `then` are compared: an IB's own pay, or what a symbol's deals cost."""

    name: str
    number: int | None
    deals: int
    lots: Decimal
    earned: Decimal
    cost: Decimal
    proposed: Decimal
    now: Decimal
    then: Decimal

    @property
    def difference(self) -> Decimal:
        return self.then - self.now

    @property
    def margin_now(self) -> Decimal:
        return self.earned - self.cost

    @property
    def margin_then(self) -> Decimal:
        return self.earned - self.proposed


class SimulationPage(DeskPage):
    """The form of a plan's simulations and those that were run; one with its result."""

    class_permission_name = RIGHTS
    route_base = "/plan-simulations"
    extra_args = {"person": person}

    @expose("/plan/<int:pk>", methods=["GET"])
    @has_access
    @permission_name("list")
    def plan(self, pk: int) -> ResponseReturnValue:
        """What was run before, and the form, filled in from the newest version, or `version` or `draft`."""
        plan, form, filters = _plan(pk), SimulationForm(), Filters()
        source = _source(plan, filters.whole("version"), filters.whole("draft"))
        if source is not None:
            form.rules.data = written(rules_document(parse_rules(source.rules, plan.currency)))
            form.margin_guard.data = source.margin_guard
        return self._form(plan, form)

    @expose("/plan/<int:pk>", methods=["POST"])
    @has_access
    @permission_name("propose")
    def start(self, pk: int) -> ResponseReturnValue:
        plan, form = _plan(pk), SimulationForm()
        is_valid = form.validate()
        document = form.document()
        if is_valid and document is not None:
            try:
                guard, days = form.margin_guard.data or "off", form.days.data or 0
                made = simulation.start_simulation(db.session(), pk, document, guard, days, staff_actor())
                return redirect(url_for("SimulationPage.result", pk=made.id))
            except AppError as error:
                form.show(error)
        return self._form(plan, form), 422

    @expose("/<int:pk>")
    @has_access
    @permission_name("list")
    def result(self, pk: int) -> ResponseReturnValue:
        """Cost now and proposed, by IB or by symbol; as table, chart and file."""
        one, filters = _simulation(pk), Filters()
        side = filters.choice("by", SIDES) or "ib"
        rows = _rows(one, side)
        if filters.wants_csv:
            return csv_file(f"simulation-{pk}-{side}", _head(side), _cells(rows, side))
        digits = exponent(one.plan.currency)
        rows = [_rounded(row, digits) for row in rows]
        total = {name: round(Decimal(value), digits) for name, value in one.result.get("all", {}).items()}
        return self.render_template(
            "office/simulation.html",
            one=one,
            filters=filters,
            side=side,
            rows=rows,
            total=total,
            bars=_bars(rows),
            winners=sum(row.difference > 0 for row in rows),
            losers=sum(row.difference < 0 for row in rows),
            rules=parse_rules(one.rules, one.plan.currency),
        )

    @expose("/<int:pk>/state")
    @has_access
    @permission_name("list")
    def state(self, pk: int) -> ResponseReturnValue:
        """Part of the page while the job works; afterwards the page is loaded anew."""
        one = _simulation(pk)
        page = Response(self.render_template("office/simulation_state.html", one=one))
        if one.state != "computing":
            page.headers["HX-Refresh"] = "true"
        return page

    def _form(self, plan: Plan, form: SimulationForm) -> str:
        session = db.session()
        of_plan = select(PlanSimulation).where(PlanSimulation.plan_id == plan.id).order_by(PlanSimulation.id.desc()).limit(PAST)
        past, digits = session.scalars(of_plan).all(), exponent(plan.currency)
        page: str = self.render_template(
            "office/simulation_new.html",
            plan=plan,
            form=form,
            past=past,
            costs={
                one.id: {name: round(Decimal(one.result["all"][name]), digits) for name in ("cost", "proposed")}
                for one in past
                if one.result
            },
            versions=session.scalars(
                select(PlanVersion).where(PlanVersion.plan_id == plan.id).order_by(PlanVersion.version.desc()).limit(PAST)
            ).all(),
            drafts=session.scalars(
                select(PlanDraft).where(PlanDraft.plan_id == plan.id, PlanDraft.status == "proposed").order_by(PlanDraft.id)
            ).all(),
        )
        return page


def _plan(pk: int) -> Plan:
    plan = db.session.get(Plan, pk)
    if plan is None:
        abort(404)
    return plan


def _simulation(pk: int) -> PlanSimulation:
    found = db.session.get(PlanSimulation, pk)
    if found is None:
        abort(404)
    return found


def _source(plan: Plan, version_id: int | None, draft_id: int | None) -> PlanVersion | PlanDraft | None:
    """The rules to begin with; only the plan's own."""
    found: PlanVersion | PlanDraft | None = None
    if draft_id is not None:
        found = db.session.get(PlanDraft, draft_id)
    elif version_id is not None:
        found = db.session.get(PlanVersion, version_id)
    else:
        versions = select(PlanVersion).where(PlanVersion.plan_id == plan.id).order_by(PlanVersion.version.desc())
        found = db.session.scalar(versions.limit(1))
    return found if found is not None and found.plan_id == plan.id else None


def _rows(one: PlanSimulation, side: str) -> list[Row]:
    """The figures, the largest differences first."""
    listed: dict[str, dict[str, Any]] = dict(one.result.get("ibs" if side == "ib" else "symbols", {}))
    occasions = one.result.get("occasions", {})
    if side == "symbol" and any(Decimal(occasions.get(name, 0)) for name in ("cost", "proposed")):
        listed[_OCCASIONS] = occasions
    names = _names(listed) if side == "ib" else {key: key for key in listed if key != _OCCASIONS}
    nameless = gettext("Rebates to traders") if side == "ib" else gettext("Clients won and months")
    rows = []
    for key, figures in listed.items():
        value = {name: Decimal(figures[name]) for name in ("lots", "earned", "cost", "proposed", "got", "would")}
        compared = ("got", "would") if side == "ib" else ("cost", "proposed")
        is_ib = side == "ib" and int(key) != simulation.TRADERS
        rows.append(
            Row(
                name=names.get(key, nameless),
                number=int(key) if is_ib else None,
                deals=figures["deals"],
                lots=value["lots"],
                earned=value["earned"],
                cost=value["cost"],
                proposed=value["proposed"],
                now=value[compared[0]],
                then=value[compared[1]],
            )
        )
    return sorted(rows, key=lambda row: (-abs(row.difference), row.name))


def _rounded(row: Row, digits: int) -> Row:
    """Amounts as their currency is written; the file has all digits."""
    names = ("earned", "cost", "proposed", "now", "then")
    return replace(row, **{name: round(getattr(row, name), digits) for name in names})


def _names(listed: dict[str, Any]) -> dict[str, str]:
    ids = [int(key) for key in listed]
    query = select(IntroducingBroker.id, Client).join(Client, Client.id == IntroducingBroker.client_id)
    return {str(ib_id): client.full_name for ib_id, client in db.session.execute(query.where(IntroducingBroker.id.in_(ids)))}


def _bars(rows: list[Row]) -> list[tuple[Row, int, int]]:
    """The rows to draw, with the lengths of both bars; below zero nothing is drawn."""
    drawn = rows[:DRAWN]
    longest = max((max(row.now, row.then) for row in drawn), default=Decimal(0))
    if longest <= 0:
        return []
    lengths = [[int(max(value, Decimal(0)) / longest * _BAR_UNITS) for value in (row.now, row.then)] for row in drawn]
    return [(row, now, then) for row, (now, then) in zip(drawn, lengths, strict=True)]


def _head(side: str) -> list[str]:
    named = [gettext("Introducing broker"), gettext("IB number")] if side == "ib" else [gettext("Symbol")]
    return [
        *named,
        *(gettext("Deals"), gettext("Lots"), gettext("Earned"), gettext("Cost now"), gettext("Cost proposed")),
        *(gettext("Margin now"), gettext("Margin proposed"), gettext("Now"), gettext("Proposed"), gettext("Difference")),
    ]


def _cells(rows: list[Row], side: str) -> Iterator[list[Cell]]:
    for row in rows:
        named: list[Cell] = [row.name, row.number] if side == "ib" else [row.name]
        yield [
            *named,
            *(row.deals, row.lots, row.earned, row.cost, row.proposed),
            *(row.margin_now, row.margin_then, row.now, row.then, row.difference),
        ]


def register(appbuilder: AppBuilder) -> None:
    appbuilder.add_view_no_menu(SimulationPage)
