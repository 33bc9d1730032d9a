"""Exchange rates: what would be used now, all that was recorded, and manual rates: one person proposes, another decides."""

from __future__ import annotations

from collections.abc import Callable

from flask import abort, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_appbuilder import AppBuilder, expose, has_access, permission_name
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from sqlalchemy import select
from wtforms import HiddenField, StringField, TextAreaField

from app.core.errors import N_, AppError
from app.extensions import db
from app.ledger import proposals, rates
from app.ledger.known_rates import rate_text
from app.models.fx import FXRate, FXRateProposal
from app.surfaces.csv_files import csv_file
from app.surfaces.errors import sentence
from app.surfaces.filters import Filters
from app.views import fx_tables
from app.views.columns import person
from app.views.decisions import decided
from app.views.fx_positions import FXPositionPage
from app.views.fx_quotes import FXQuoteView
from app.views.fx_reference import FXPairView, FXSourceView, source_words, spread
from app.views.guarded import DeskPage, staff_actor
from app.views.ledger_request_forms import Needed

RIGHTS = "Exchange rates"
PAGE_SIZE = 50
DECIDED = 25


class RateForm(FlaskForm):
    """A manual rate. `meant` holds the rate that somebody has been asked about, so that another one is asked about anew."""

    base = StringField(_l("Base currency"), validators=[Needed()], render_kw={"maxlength": 8, "list": "currencies"})
    quote = StringField(_l("Quote currency"), validators=[Needed()], render_kw={"maxlength": 8, "list": "currencies"})
    rate = StringField(
        _l("Rate"),
        description=_l("What 1 unit of the base currency is in the quote currency, such as 1.0875."),
        validators=[Needed()],
        render_kw={"inputmode": "decimal", "maxlength": 40},
    )
    reason = TextAreaField(
        _l("Reason"),
        description=_l("Where the rate comes from, and why it is needed. Whoever decides reads it, and so do auditors."),
        validators=[Needed()],
        render_kw={"rows": 3, "maxlength": proposals.LONGEST_REASON},
    )
    meant = HiddenField()

    def __init__(self) -> None:
        super().__init__(**({} if request.method == "POST" else {"formdata": request.args}))
        self.elsewhere: list[str] = []
        for field in (self.base, self.quote):
            field.data = (field.data or "").strip().upper()[:8]

    @property
    def words(self) -> str:
        return f"1 {self.base.data} = {(self.rate.data or '').strip()} {self.quote.data}"

    def show(self, error: AppError) -> None:
        problems = getattr(error, "problems", {})
        for name, problem in problems.items():
            self[name].errors = [gettext(problem)]
        if not problems:
            self.elsewhere = [sentence(error)]


class ExchangeRatePage(DeskPage):
    """The rates, their history, and the queue of manual ones."""

    class_permission_name = RIGHTS
    route_base = "/exchange-rates"
    extra_args = {"person": person, "source_words": source_words, "spread": spread, "rate_text": rate_text}

    @expose("/")
    @has_access
    @permission_name("list")
    def index(self) -> ResponseReturnValue:
        """The newest rate of each pair: what would be converted by now."""
        filters = Filters()
        currency, usable = filters.currency("currency"), filters.choice("usable", fx_tables.USABLE)
        shown = [
            one
            for one in fx_tables.current_rates(rates.known(db.session()))
            if (not currency or currency in {one.base, one.quote}) and (not usable or one.is_usable == (usable == "yes"))
        ]
        if filters.wants_csv and not filters.problems:
            return csv_file("exchange-rates-now", fx_tables.current_head(), map(fx_tables.current_row, shown))
        page = self.render_template(
            "office/fx_rates.html", filters=filters, rates=[] if filters.problems else shown, usable_words=fx_tables.USABLE
        )
        return page, 422 if filters.problems else 200

    @expose("/all")
    @has_access
    @permission_name("list")
    def history(self) -> ResponseReturnValue:
        """Every rate that was recorded, the newest first."""
        filters = Filters()
        query, after = fx_tables.recorded(filters), filters.after_number("after")
        if filters.wants_csv and not filters.problems:
            return csv_file("exchange-rates", fx_tables.recorded_head(), fx_tables.recorded_rows(query))
        if after is not None:
            query = query.where(FXRate.id < after)
        found = [] if filters.problems else db.session.scalars(query.limit(PAGE_SIZE + 1)).all()
        shown = found[:PAGE_SIZE]
        page = self.render_template(
            "office/fx_history.html",
            filters=filters,
            rates=shown,
            sources=fx_tables.sources(),
            proposal_of=fx_tables.proposal_of,
            is_first=after is None,
            next_after=shown[-1].id if len(found) > PAGE_SIZE else None,
        )
        return page, 422 if filters.problems else 200

    @expose("/proposals")
    @has_access
    @permission_name("list")
    def proposals(self) -> ResponseReturnValue:
        """Manual rates: those that wait, the oldest first, and those that were decided."""
        session, filters = db.session(), Filters()
        after = filters.after_number("after")
        waiting = session.scalars(
            select(FXRateProposal).where(FXRateProposal.status == "proposed").order_by(FXRateProposal.id)
        ).all()
        decided = select(FXRateProposal).where(FXRateProposal.status != "proposed").order_by(FXRateProposal.id.desc())
        if after is not None:
            decided = decided.where(FXRateProposal.id < after)
        found = session.scalars(decided.limit(DECIDED + 1)).all()
        page = self.render_template(
            "office/fx_proposals.html",
            filters=filters,
            waiting=[(one, _compared(one)) for one in waiting],
            decided=found[:DECIDED],
            me=str(staff_actor()),
            is_first=after is None,
            next_after=found[DECIDED - 1].id if len(found) > DECIDED else None,
        )
        return page, 422 if filters.problems else 200

    @expose("/proposals/<int:pk>")
    @has_access
    @permission_name("list")
    def proposal(self, pk: int) -> ResponseReturnValue:
        """What who decides must know: the rate beside the one that counts now, and why it was proposed."""
        found, has_access_to = db.session.get(FXRateProposal, pk), self.appbuilder.sm.has_access
        if found is None:
            abort(404)
        is_open, is_own = found.status == "proposed", found.proposed_by == str(staff_actor())
        return self.render_template(
            "office/fx_proposal.html",
            one=found,
            compared=_compared(found) if is_open else None,
            is_own=is_own,
            decides=is_open and not is_own and has_access_to("can_decide", RIGHTS),
            withdraws=is_open and is_own and has_access_to("can_propose", RIGHTS),
            typed_reason=request.args.get("reason", "")[: proposals.LONGEST_REASON],
        )

    @expose("/propose", methods=["GET", "POST"])
    @has_access
    @permission_name("propose")
    def propose(self) -> ResponseReturnValue:
        """The form. A rate far from the one that counts is asked about once, in words."""
        form = RateForm()
        compared = _compare(form)
        asks = False
        if request.method == "POST" and form.validate():
            asks = compared.is_far_off and bool((form.reason.data or "").strip()) and form.meant.data != form.words
            if not asks and (made := _propose(form)):
                flash(gettext("Proposed. It counts as soon as somebody else has approved it."), "success")
                return redirect(url_for("ExchangeRatePage.proposal", pk=made.id))
            form.meant.data = form.words if asks else ""
        page = self.render_template(
            "office/fx_propose.html",
            form=form,
            compared=compared,
            asks=asks,
            currencies=_currencies(),
            far_off=proposals.FAR_OFF,
        )
        return page, 422 if asks or form.errors or form.elsewhere else 200

    @expose("/comparison")
    @has_access
    @permission_name("propose")
    def comparison(self) -> ResponseReturnValue:
        """The part of the form that says what counts now and how far off the typed rate is."""
        form = RateForm()
        return self.render_template("office/fx_comparison.html", form=form, compared=_compare(form))

    @expose("/proposals/<int:pk>/approve", methods=["POST"])
    @has_access
    @permission_name("decide")
    def approve(self, pk: int) -> ResponseReturnValue:
        return _decide(pk, lambda: proposals.approve_rate(db.session(), pk, actor=staff_actor()))

    @expose("/proposals/<int:pk>/reject", methods=["POST"])
    @has_access
    @permission_name("decide")
    def reject(self, pk: int) -> ResponseReturnValue:
        reason = request.form.get("reason", "")
        return _decide(pk, lambda: proposals.reject_rate(db.session(), pk, reason=reason, actor=staff_actor()))

    @expose("/proposals/<int:pk>/withdraw", methods=["POST"])
    @has_access
    @permission_name("propose")
    def withdraw(self, pk: int) -> ResponseReturnValue:
        return _decide(pk, lambda: proposals.withdraw_rate(db.session(), pk, actor=staff_actor()))


#: What was done, by the new state.
_DONE = {
    "approved": N_("Approved. Conversions use this rate from now on."),
    "rejected": N_("Rejected. Rates are as they were; the reason stands below."),
    "withdrawn": N_("Withdrawn. Rates are as they were."),
}


def _decide(pk: int, decide: Callable[[], FXRateProposal]) -> ResponseReturnValue:
    return decided("ExchangeRatePage.proposal", pk, decide, _DONE)


def _propose(form: RateForm) -> FXRateProposal | None:
    """The new proposal; None when it is refused, and the form then says why."""
    try:
        return proposals.propose_rate(
            db.session(),
            base=form.base.data,
            quote=form.quote.data,
            rate=form.rate.data or "",
            reason=form.reason.data or "",
            actor=staff_actor(),
        )
    except AppError as error:
        form.show(error)
        return None


def _compare(form: RateForm) -> proposals.Compared:
    return proposals.compare(db.session(), base=form.base.data, quote=form.quote.data, rate=form.rate.data or "")


def _compared(one: FXRateProposal) -> proposals.Compared:
    return proposals.compare(db.session(), base=one.base, quote=one.quote, rate=one.rate)


def _currencies() -> list[str]:
    """The currencies that rates are known of, as suggestions."""
    return sorted({currency for pair in rates.known(db.session()).pairs() for currency in pair})


def register(appbuilder: AppBuilder) -> None:
    desk = {"category": "Money desk", "category_label": _l("Money")}
    appbuilder.add_view(ExchangeRatePage, RIGHTS, label=_l("Exchange rates"), icon="percentage", **desk)
    appbuilder.add_view(FXPositionPage, "FX positions", label=_l("FX positions"), icon="chart-line", **desk)
    appbuilder.add_view(FXQuoteView, "FX quotes", label=_l("Conversions"), icon="arrows-left-right", **desk)
    appbuilder.add_view_no_menu(FXPairView)
    appbuilder.add_view_no_menu(FXSourceView)
