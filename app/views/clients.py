"""Clients desk: who they are, where they stand, their documents, accounts and timeline, and their statement."""

from __future__ import annotations

from datetime import date
from typing import Any

from flask import Response, abort, request
from flask.typing import ResponseReturnValue
from flask_appbuilder import AppBuilder, expose, has_access
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from sqlalchemy import select

from app.compliance import categories
from app.core.clock import now
from app.core.errors import N_, InvalidInput
from app.core.uow import unit_of_work
from app.extensions import db
from app.models.clients import Client
from app.models.compliance import Document
from app.models.metatrader import TradingAccount
from app.models.partner_moves import PartnerMove
from app.partners import branches
from app.partners.touches import unpacked
from app.reporting import rendering, statement
from app.views import timeline
from app.views.columns import formatters, person
from app.views.guarded import AuditedInterface, DeskPage, ReadOnlyView, staff_actor
from app.views.labels import CATEGORIES

TIMELINE = 50


class ClientView(ReadOnlyView):
    """The list of clients and one page per client."""

    class_permission_name = "Clients"
    datamodel = AuditedInterface(Client)
    list_title = _l("Clients")
    show_title = _l("Client")
    show_template = "office/client.html"
    extra_args = {"person": person}
    list_columns = ["id", "first_name", "last_name", "email", "country", "status", "created_at"]
    search_columns = ["id", "email", "first_name", "last_name", "country", "status", "created_at"]
    formatters_columns = formatters()
    label_columns = {
        "email": _l("Mail address"),
        "first_name": _l("First name"),
        "last_name": _l("Last name"),
        "created_at": _l("Registered"),
    }

    @expose("/show/<pk>", methods=["GET"])
    @has_access
    def show(self, pk: str) -> ResponseReturnValue:
        session = db.session()
        client = self.datamodel.get(pk)
        if client is None:
            abort(404)
        with unit_of_work(session, staff_actor()) as unit:
            unit.audit("client.view", f"client:{client.id}")
        belonged, at = branches.history_of_client(session, client.id), now()
        waiting = select(PartnerMove.id).where(PartnerMove.client_id == client.id, PartnerMove.status == "proposed")
        return self.render_template(
            self.show_template,
            client=client,
            documents=session.scalars(
                select(Document).where(Document.client_id == client.id).order_by(Document.id.desc())
            ).all(),
            accounts=session.scalars(
                select(TradingAccount).where(TradingAccount.client_id == client.id).order_by(TradingAccount.id)
            ).all(),
            belonged=belonged,
            visits_said=_visits_said,
            present=next((span for span in belonged if span.holds(at)), None),
            move_waiting=session.scalar(waiting),
            timeline=timeline.recent(session, client.id, TIMELINE),
            month=at.strftime("%Y-%m"),
            category=CATEGORIES[categories.category_of(session, client.id)],
        )


class StatementView(DeskPage):
    """A client's statement of a month, as a PDF."""

    class_permission_name = "Statements"
    route_base = "/statements"
    default_view = "pdf"

    @expose("/<int:client_id>.pdf")
    @has_access
    def pdf(self, client_id: int) -> ResponseReturnValue:
        session = db.session()
        client = session.get(Client, client_id)
        if client is None:
            abort(404)
        first, last = month_of(request.args.get("month", ""))
        with unit_of_work(session, staff_actor()) as unit:
            data = statement.client_statement(session, client_id=client_id, first=first, last=last)
            unit.audit("statement.view", f"client:{client_id}", after={"from": first.isoformat(), "to": last.isoformat()})
        language = request.args.get("language") or client.language
        content = rendering.render_statement(data, language)
        name = f"statement-{client_id}-{first:%Y-%m}.pdf"
        return Response(content, mimetype="application/pdf", headers={"Content-Disposition": f'inline; filename="{name}"'})


def month_of(text: str) -> tuple[date, date]:
    """The first and last day of a month written as 2026-11; the present month when empty. Raises InvalidInput."""
    try:
        first = date.fromisoformat(f"{text}-01") if text else now().date().replace(day=1)
        if not 2000 <= first.year <= 2100:
            raise ValueError(text)
    except ValueError:
        raise InvalidInput(
            {"month": N_("Please give a month such as 2026-11.")}, message=N_("Please give a month such as 2026-11.")
        ) from None
    following = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return first, date.fromordinal(following.toordinal() - 1)


def register(appbuilder: AppBuilder) -> None:
    appbuilder.add_view(
        ClientView, "Clients", label=_l("Clients"), icon="users", category="Clients desk", category_label=_l("Clients")
    )
    appbuilder.add_view_no_menu(StatementView)


def _visits_said(explained: dict[str, Any]) -> str:
    """What decided at a registration, in a sentence: the policy of then, and the visits through links that it found."""
    policy = explained["policy"]
    visits = ", ".join(f"{touch.code} {touch.at:%Y-%m-%d %H:%M}" for touch in unpacked(explained["touches"]))
    if explained["promo_code"]:
        said = gettext("A typed code counts before visits.")
    elif policy["touch"] == "first":
        said = gettext("The first visit within %(days)s days counted.", days=policy["window_days"])
    else:
        said = gettext("The last visit within %(days)s days counted.", days=policy["window_days"])
    return f"{said} {gettext('Visits (UTC): %(visits)s.', visits=visits)}" if visits else said
