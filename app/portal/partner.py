"""The IB's area: its pages in order, who may come in, and its start page.

A new page is a module of its own that puts its routes on `blueprint` (or has one below /portal/partner), is imported in
app/portal/__init__.py, and adds one line to PAGES. Its template extends portal/partner_page.html and sets `partner_active`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from flask import Blueprint, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext

from app.commissions import figures, lines, progress
from app.core.clock import now
from app.core.errors import N_, NotFound
from app.extensions import db
from app.partners import agreements, funnel, links
from app.portal.guards import client_required
from app.portal.partner_chart import bars

blueprint = Blueprint("portal_partner", __name__, url_prefix="/portal/partner")

#: The tabs of the area: key, label, endpoint.
PAGES = (
    ("overview", N_("Overview"), "portal_partner.index"),
    ("clients", N_("Clients"), "portal_partner.clients"),
    ("network", N_("Network"), "portal_partner.network"),
    ("lines", N_("Commission"), "portal_partner.lines"),
    ("payouts", N_("Payouts"), "portal_partner.payouts"),
    ("links", N_("Links"), "portal_partner.links"),
    ("material", N_("Material"), "portal_partner.material"),
    ("invitations", N_("Invite"), "portal_partner.invitations"),
    ("rates", N_("Partner rates"), "portal_partner.rates"),
    ("questions", N_("Questions"), "portal_partner.questions"),
)

#: Lines of the start page; all stand on their own one.
LINES = 5

#: A client is active who has traded within so many days.
ACTIVE_DAYS = 30

#: What the charts and the funnel look back at, in days, or at everything; the first ones are read while the page is made.
ALL = "all"
PERIODS = ("30", "90", "365", ALL)
AT_ONCE = PERIODS[:2]
MOST_DAYS = 365


def own_ib() -> links.IB:
    """The IB that the signed-in client is; NotFound for everybody else."""
    ib = links.ib_by_client(db.session(), g.client.id)
    if ib is None:
        raise NotFound()
    return ib


def navigation() -> dict[str, Any]:
    """Template context of the area: its tabs, and the version of the agreement that the IB is asked to accept."""
    if not request.path.startswith("/portal/partner"):
        return {}
    is_page = g.get("client") is not None and "HX-Request" not in request.headers
    return {
        "agreement_asked": agreements.asked_of_ib(db.session(), g.client.id) if is_page else None,
        "today": now().date(),
        "partner_pages": [{"key": key, "label": gettext(label), "href": url_for(endpoint)} for key, label, endpoint in PAGES],
    }


@blueprint.get("/")
@client_required
def index() -> ResponseReturnValue:
    """The IB's start page; a client who is no IB reads what it would be, and how to become one."""
    if links.ib_by_client(db.session(), g.client.id) is None:
        return redirect(url_for("portal_partner.join"))
    # A year of a large IB takes seconds: then the page comes first, and asks for that part.
    course = _course() if _period() in AT_ONCE else {"period": _period()}
    return render_template("portal/partner.html", **{**_figures(), **_stand(), **course})


@blueprint.get("/live/figures")
@client_required
def live_figures() -> ResponseReturnValue:
    """The sums on top of the page."""
    return render_template("portal/partner_figures.html", **_figures())


@blueprint.get("/live/course")
@client_required
def live_course() -> ResponseReturnValue:
    """The funnel and the charts."""
    return render_template("portal/partner_course.html", **_course())


@blueprint.get("/live/stand")
@client_required
def live_stand() -> ResponseReturnValue:
    """Settlements and the newest lines."""
    return render_template("portal/partner_stand.html", **_stand())


def _figures() -> dict[str, Any]:
    ib, session, at = own_ib(), db.session(), now()
    month = _today().replace(day=1)
    last_month = (month - timedelta(days=1)).replace(day=1)
    by_day = figures.by_day(session, ib.id, last_month, at)
    total, active = funnel.counts(session, ib.id, at - timedelta(days=ACTIVE_DAYS))
    return {
        "ib": ib,
        "clients": total,
        "active": active,
        "active_days": ACTIVE_DAYS,
        "lots": sum((one.lots for one in by_day if one.day >= month.date()), Decimal(0)),
        "lots_before": sum((one.lots for one in by_day if one.day < month.date()), Decimal(0)),
        "totals": figures.totals(session, ib.id),
    }


def _course() -> dict[str, Any]:
    """How it went over the days that the address asks for; of everything, the charts show a year."""
    ib, session, period = own_ib(), db.session(), _period()
    days = MOST_DAYS if period == ALL else int(period)
    first = _today() - timedelta(days=days - 1)
    by_day = figures.by_day(session, ib.id, first, now())
    amounts = {
        one: bars({day.day: day.amounts[one] for day in by_day}, first.date(), days)
        for one in sorted({currency for day in by_day for currency in day.amounts})
    }
    return {
        "period": period,
        "periods": PERIODS,
        "days": days,
        "funnel": funnel.funnel(session, ib.id, None if period == ALL else first),
        "amounts": amounts,
        "lots_by_day": bars({day.day: day.lots for day in by_day}, first.date(), days) if by_day else None,
    }


def _stand() -> dict[str, Any]:
    ib, session, at = own_ib(), db.session(), now()
    return {
        "ib": ib,
        "standings": progress.standing(session, ib.id, at),
        "waiting": figures.waiting(session, ib.id, at),
        "settlements": figures.settlements(session, ib.id),
        "lines": lines.accrual_lines(session, ib.id, limit=LINES),
    }


def _period() -> str:
    wanted = request.args.get("days", "")
    return wanted if wanted in PERIODS else PERIODS[0]


def _today() -> datetime:
    """The beginning of the UTC day."""
    return now().replace(hour=0, minute=0, second=0, microsecond=0)
