"""The IB's accrual lines: found by filters, as a file, and each with its deal, rule and arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from flask import flash, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext

from app.commissions import explain, frozen_explanations
from app.commissions import lines as accrued
from app.commissions.lines import LineFilter
from app.core.errors import AppError
from app.engagement import tickets
from app.extensions import db, limiter
from app.portal.forms import show_problems
from app.portal.guards import by_client, client_actor, client_required
from app.portal.partner import blueprint, own_ib
from app.portal.partner_questions import MessageForm
from app.surfaces.csv_files import Cell
from app.surfaces.filters import Filters
from app.surfaces.formats import exact
from app.surfaces.xlsx_files import table_file

PAGE = 50
STATES = ("unsettled", "settled")


@blueprint.get("/lines", endpoint="lines")
@client_required
def show_lines() -> ResponseReturnValue:
    """The lines that fit the filters; ?export=csv or xlsx: all of them as a file."""
    filters = Filters("portal_partner.lines")
    wanted = read_filter(filters)
    if filters.wanted_file and not filters.problems:
        return table_file(filters.wanted_file, "commission-lines", _head(), _rows(own_ib().id, wanted))
    return render_template("portal/partner_lines.html", **_found(filters, wanted))


@blueprint.get("/lines/live")
@client_required
def lines_live() -> ResponseReturnValue:
    """The part of the page that changes by itself."""
    filters = Filters("portal_partner.lines")
    return render_template("portal/partner_lines_live.html", **_found(filters, read_filter(filters)))


@blueprint.get("/lines/sums")
@client_required
def lines_sums() -> ResponseReturnValue:
    """What all lines that fit come to; of many lines it takes a moment, so the page asks for it when it is there."""
    wanted = read_filter(Filters("portal_partner.lines"))
    return render_template("portal/partner_lines_sums.html", sums=accrued.line_sums(db.session(), own_ib().id, wanted))


@blueprint.route("/lines/<int:accrual_id>", methods=["GET", "POST"])
@client_required
@limiter.limit("30 per hour", key_func=by_client, methods=["POST"])
def line(accrual_id: int) -> ResponseReturnValue:
    """Why this line has this amount, down to deal, rule and rounding; and a question about it."""
    session, form, problems = db.session(), MessageForm(), []
    explanation = explain.explain_accrual(session, accrual_id, own_ib().id)
    if form.validate_on_submit():
        try:
            asked = tickets.open_ticket(
                session,
                client_id=g.client.id,
                subject=_subject(explanation),
                text=form.text.data or "",
                accrual_id=accrual_id,
                about=frozen_explanations.freeze(explanation),
                actor=client_actor(),
            )
            flash(gettext("We have your question, and answer it here and by mail."), "success")
            return redirect(url_for("portal_partner.question", ticket_id=asked.id))
        except AppError as error:
            problems = show_problems(form, error)
    page = render_template(
        "portal/partner_line.html",
        explanation=explanation,
        form=form,
        problems=problems,
        asked=tickets.open_about(session, g.client.id, accrual_id),
    )
    return page, 422 if request.method == "POST" else 200


def read_filter(filters: Filters) -> LineFilter:
    """The lines that the address asks for."""
    since, until = filters.days("from", "to")
    return LineFilter(
        since=since,
        until=until,
        rule=filters.text("rule"),
        symbol=filters.text("symbol"),
        client_id=filters.whole("client"),
        level=filters.whole("level"),
        state=cast("Any", filters.choice("state", STATES)),
        settlement_id=filters.whole("settlement"),
    )


def _subject(explanation: explain.Explanation) -> str:
    """What a question about a line is called, in the language of whoever asks."""
    line = explanation.line
    amount = f"{exact(line.amount)} {line.currency}"
    if line.ticket is None:
        return gettext("Commission line %(number)s: %(amount)s", number=line.id, amount=amount)
    return gettext("Deal %(number)s, %(symbol)s: %(amount)s", number=line.ticket, symbol=line.symbol, amount=amount)


def _found(filters: Filters, wanted: LineFilter) -> dict[str, Any]:
    ib, before = own_ib(), filters.after_number("before")
    given: dict[str, Any] = {**filters.given}
    found = [] if filters.problems else accrued.accrual_lines(db.session(), ib.id, before, PAGE + 1, wanted=wanted)
    return {
        "filters": filters,
        "lines": found[:PAGE],
        "older": filters.address(before=found[PAGE - 1].id) if len(found) > PAGE else None,
        "newer": filters.address() if before is not None else None,
        "live_url": url_for("portal_partner.lines_live", before=before, **given),
        "sums_url": url_for("portal_partner.lines_sums", **given),
    }


def _head() -> list[str]:
    return [
        gettext("Line"),
        gettext("Kind"),
        gettext("Accrued at (UTC)"),
        gettext("Deal time (UTC)"),
        gettext("Deal"),
        gettext("Symbol"),
        gettext("Client number"),
        gettext("Client"),
        gettext("Rule"),
        gettext("Level"),
        gettext("Lots"),
        gettext("Rate"),
        gettext("Amount"),
        gettext("Currency"),
        gettext("Settlement"),
    ]


def _rows(ib_id: int, wanted: LineFilter) -> Iterator[list[Cell]]:
    for one in accrued.each_line(db.session(), ib_id, wanted):
        yield [
            *(one.id, one.kind, one.accrued_at, one.done_at, one.ticket, one.symbol, one.client_id, one.client_name),
            *(one.rule, one.level, one.lots, one.rate, one.amount, one.currency, one.settlement_id),
        ]
