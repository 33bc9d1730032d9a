"""Partners desk: questions of clients, each with what it was about as it stood then and as it stands now."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from flask import abort, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_appbuilder import AppBuilder, expose, has_access, permission_name
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from sqlalchemy import Select

from app.commissions import explain, frozen_explanations
from app.commissions.lines import AccrualLine
from app.core.errors import N_, AppError, NotFound
from app.engagement import tickets
from app.extensions import db
from app.models.engagement import LONGEST_MESSAGE, TICKET_KINDS, TICKET_STATES, Ticket
from app.surfaces.csv_files import Cell
from app.surfaces.filters import Filters
from app.surfaces.xlsx_files import table_file
from app.views.columns import client_link, person
from app.views.guarded import DeskPage, staff_actor
from app.views.refusal import NOTHING_REFUSED, Refused, refused

RIGHTS = "Tickets"

PAGE = 50

STATES = {"open": _l("To answer"), "waiting_for_client": _l("Waiting for the client"), "closed": _l("Closed")}
KINDS = {"commission_line": _l("Commission line"), "general": _l("General")}


class TicketPage(DeskPage):
    """The queue, and one question with its answers."""

    class_permission_name = RIGHTS
    route_base = "/tickets"
    extra_args = {"person": person, "client_link": client_link, "states": STATES, "kinds": KINDS}

    @expose("/")
    @has_access
    @permission_name("list")
    def index(self) -> ResponseReturnValue:
        """Questions in one state, those to answer unless another is asked for: oldest first, closed ones newest first."""
        filters = Filters()
        state = filters.choice("state", TICKET_STATES) or tickets.OPEN
        query = tickets.find_tickets(state=state, kind=filters.choice("kind", TICKET_KINDS), text=filters.text("q"))
        is_newest_first = state == tickets.CLOSED
        query = query.order_by(Ticket.id.desc() if is_newest_first else Ticket.id)
        after = filters.after_number("after")
        if filters.problems:
            return self.render_template("office/tickets.html", filters=filters, state=state, tickets=[]), 422
        if filters.wanted_file:
            return table_file(filters.wanted_file, "tickets", _head(), _rows(query))
        if after is not None:
            query = query.where(Ticket.id < after if is_newest_first else Ticket.id > after)
        shown = db.session.scalars(query.limit(PAGE + 1)).all()
        return self.render_template(
            "office/tickets.html",
            filters=filters,
            state=state,
            tickets=shown[:PAGE],
            next=filters.address(after=shown[PAGE - 1].id) if len(shown) > PAGE else None,
            first=filters.address() if after is not None else None,
        )

    @expose("/<int:pk>")
    @has_access
    @permission_name("list")
    def show(self, pk: int) -> ResponseReturnValue:
        """One question: what was written, what it was about, and what became of that since."""
        return self._page(pk, NOTHING_REFUSED)

    @expose("/<int:pk>/answer", methods=["POST"])
    @has_access
    @permission_name("answer")
    def answer(self, pk: int) -> ResponseReturnValue:
        """Answer; the client gets a mail."""
        text = request.form.get("text", "")
        return self._done(
            pk,
            "answer",
            lambda: tickets.answer_ticket(db.session(), pk, text=text, actor=staff_actor()),
            N_("Answered. The client gets a mail."),
        )

    @expose("/<int:pk>/assign", methods=["POST"])
    @has_access
    @permission_name("answer")
    def assign(self, pk: int) -> ResponseReturnValue:
        """Take the question over."""
        return self._done(
            pk, "assign", lambda: tickets.assign_ticket(db.session(), pk, actor=staff_actor()), N_("It is yours now.")
        )

    @expose("/<int:pk>/close", methods=["POST"])
    @has_access
    @permission_name("answer")
    def close(self, pk: int) -> ResponseReturnValue:
        """Close the question for a reason that the client reads."""
        reason = request.form.get("reason", "")
        return self._done(
            pk,
            "close",
            lambda: tickets.close_ticket(db.session(), pk, reason=reason, actor=staff_actor()),
            N_("Closed. The client can open it again by writing."),
        )

    def _done(self, pk: int, dialog: str, act: Callable[[], object], words: str) -> ResponseReturnValue:
        """Act, and go back to the question; what was refused comes back as it was typed."""
        try:
            act()
        except NotFound:
            raise
        except AppError as error:
            return self._page(pk, refused(dialog, error)), error.http_status
        flash(gettext(words), "success")
        return redirect(url_for("TicketPage.show", pk=pk))

    def _page(self, pk: int, refused: Refused) -> str:
        session, may = db.session(), self.appbuilder.sm.has_access
        ticket = session.get(Ticket, pk, populate_existing=True)
        if ticket is None:
            abort(404)
        about = frozen_explanations.thaw(ticket.about) if ticket.about else None
        page: str = self.render_template(
            "office/ticket.html",
            one=ticket,
            about=about,
            lines=_lines_now(about) if about else [],
            opens_deal=about is not None and about.deal_id is not None and may("can_list", "Commission desk"),
            answers=ticket.state != tickets.CLOSED and may("can_answer", RIGHTS),
            is_own=ticket.assigned_to == str(staff_actor()),
            refused=refused,
            longest=LONGEST_MESSAGE,
            longest_reason=tickets.LONGEST_REASON,
        )
        return page


def _lines_now(about: frozen_explanations.FrozenExplanation) -> list[AccrualLine]:
    """The line that was asked about, and all others of its deal for the same IB: what was reversed or adjusted since."""
    session = db.session()
    line = explain.explain_accrual(session, about.accrual_id, None).line
    if about.deal_id is None:
        return [line]
    return [one for one in explain.explain_deal(session, about.deal_id).lines if one.ib_id == line.ib_id]


def _head() -> list[str]:
    return [
        gettext("No."),
        gettext("Subject"),
        gettext("Kind"),
        gettext("State"),
        gettext("Client number"),
        gettext("Client"),
        gettext("Commission line"),
        gettext("Assigned to"),
        gettext("Asked at (UTC)"),
        gettext("Closed at (UTC)"),
        gettext("Reason"),
    ]


def _rows(query: Select[Ticket]) -> Iterator[list[Cell]]:
    for one in db.session.scalars(query):
        yield [
            *(one.id, one.subject, str(KINDS[one.kind]), str(STATES[one.state]), one.client_id, one.client.full_name),
            *(one.accrual_id, person(one.assigned_to) if one.assigned_to else "", one.opened_at, one.closed_at),
            one.close_reason,
        ]


def register(appbuilder: AppBuilder) -> None:
    appbuilder.add_view(
        TicketPage,
        RIGHTS,
        href="/tickets/",
        label=_l("Tickets"),
        icon="message",
        category="Partners desk",
        category_label=_l("Partners"),
    )
