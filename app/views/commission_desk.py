"""Partners desk: what the commission job waits for, and why any deal paid what it paid, or nothing."""

from __future__ import annotations

from flask import abort, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_appbuilder import AppBuilder, expose, has_access, permission_name
from flask_babel import gettext, ngettext
from flask_babel import lazy_gettext as _l
from sqlalchemy import Select, select
from sqlalchemy.orm import Session, joinedload

from app.commissions import accrual, backlog, explain
from app.commissions.reasons import WAITING
from app.core.errors import NotFound
from app.extensions import db
from app.models.metatrader import Deal, Server
from app.models.partners import IntroducingBroker
from app.surfaces.filters import Filters
from app.views.columns import client_link
from app.views.guarded import DeskPage

RIGHTS = "Commission desk"
PAGE_SIZE = 50

#: Of each reason, the page on which what is missing is mended.
MENDED_AT = {
    "no_rate": "ExchangeRatePage.index",
    "no_account": "LoginImportPage.index",
    "plan_invalid": "PlanPage.index",
}


class CommissionDeskPage(DeskPage):
    """The backlog, the deals that cannot be priced, and the explanation of each deal."""

    class_permission_name = RIGHTS
    route_base = "/commission-desk"

    @expose("/")
    @has_access
    @permission_name("list")
    def index(self) -> ResponseReturnValue:
        """How far the job is, and what it could not price; with a deal's number, that deal."""
        session = db.session()
        filters = Filters()
        ticket = filters.whole("ticket")
        if ticket is not None and (found := _by_ticket(session, ticket)):
            return redirect(url_for("CommissionDeskPage.deal", pk=found))
        reason = filters.choice("reason", sorted(WAITING))
        after = filters.after("after")
        deals = backlog.waiting_deals(session, reason, int(after) if after.isdecimal() else 0, PAGE_SIZE + 1)
        return self.render_template(
            "office/commission_desk.html",
            servers=backlog.servers(session),
            most=backlog.MOST_COUNTED,
            reasons=backlog.reasons(session),
            unpayable=backlog.unpayable(session),
            occasions=backlog.waiting_occasions(session),
            deals=deals[:PAGE_SIZE],
            next_after=deals[PAGE_SIZE - 1].deal_id if len(deals) > PAGE_SIZE else None,
            is_first=not after,
            filters=filters,
            unknown=ticket,
            reason=reason,
            mended_at=MENDED_AT,
            client_link=client_link,
        )

    @expose("/try-again", methods=["POST"])
    @has_access
    @permission_name("retry")
    def retry(self) -> ResponseReturnValue:
        """Judge the waiting deals again now, without waiting for the job; as many as one run of it takes."""
        paid = accrual.accrue_waiting(db.session())
        if paid:
            flash(ngettext("One line of commission was written.", "%(num)s lines of commission were written.", paid), "success")
        else:
            flash(gettext("Nothing could be priced yet: what the deals wait for is still missing."), "info")
        return redirect(url_for("CommissionDeskPage.index", reason=request.args.get("reason") or None))

    @expose("/deal/<int:pk>")
    @has_access
    @permission_name("list")
    def deal(self, pk: int) -> ResponseReturnValue:
        """What became of one deal: every line with its arithmetic, or the reason why there are none."""
        session = db.session()
        try:
            explained = explain.explain_deal(session, pk)
        except NotFound:
            abort(404)
        deal = session.get_one(Deal, pk)
        server = session.get_one(Server, deal.server_id)
        return self.render_template(
            "office/commission_deal.html",
            deal=deal,
            server=server,
            ticket=server.shown_ticket(deal.ticket),
            explained=explained,
            lines=[explain.explain_accrual(session, line.id, None) for line in explained.lines],
            brokers={ib.id: ib for ib in session.scalars(_brokers(explained))},
            client_link=client_link,
        )


def _by_ticket(session: Session, ticket: int) -> int | None:
    """The deal with this number, as a terminal shows it; of MT4's two deals of one order, the one that closed it."""
    found = session.execute(
        select(Deal, Server)
        .join(Server, Server.id == Deal.server_id)
        .where(Deal.ticket.in_((ticket, 2 * ticket, 2 * ticket + 1)), Deal.is_current)
        .order_by(Deal.id)
    )
    fitting = [deal.id for deal, server in found if server.shown_ticket(deal.ticket) == ticket]
    return fitting[-1] if fitting else None


def _brokers(explained: explain.DealExplanation) -> Select[IntroducingBroker]:
    ids = {line.ib_id for line in explained.lines}
    return select(IntroducingBroker).options(joinedload(IntroducingBroker.client)).where(IntroducingBroker.id.in_(ids))


def register(appbuilder: AppBuilder) -> None:
    appbuilder.add_view(
        CommissionDeskPage,
        RIGHTS,
        href="/commission-desk/",
        label=_l("Commission desk"),
        icon="clock",
        category="Partners desk",
        category_label=_l("Partners"),
    )
