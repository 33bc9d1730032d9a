"""Trading desk: where a server and we differ, since when, why, and what to do; the checks that found it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from typing import Any

from flask import abort, current_app, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_appbuilder import AppBuilder, expose, has_access, permission_name
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from sqlalchemy import ColumnElement, Select, exists, func, select
from wtforms import StringField

from app.core.clock import now
from app.core.errors import AppError, InvalidInput, NotFound
from app.extensions import appbuilder, db
from app.ledger import alerts, chart
from app.metatrader import breaks, reconcile
from app.metatrader.servertime import server_zone
from app.models.controls import Alert
from app.models.metatrader import Server
from app.models.trading_desk import ServerBreak, ServerCheck
from app.surfaces.csv_files import Cell, csv_file
from app.surfaces.errors import sentence
from app.surfaces.filters import Filters
from app.views import evidence
from app.views.break_words import ADVICE, CAUSES, FAILURES, KINDS, STATE_KINDS, STATES
from app.views.columns import client_link, person
from app.views.guarded import DeskPage, staff_actor
from app.views.ledger_request_forms import EvidencedForm, Needed
from app.views.refusal import NOTHING_REFUSED, Refused, refused, why

RIGHTS = "Breaks"
PAGE_SIZE = 25
CHECKS_SHOWN = 5
TABS = ("open", "closed")
#: What of a list's address its forms send along, so that the same list comes back.
LIST = ("tab", "kind", "cause", "state", "server", "login", "from", "to", "after")


class AdjustForm(EvidencedForm):
    """The request that makes the ledger follow a server's balance."""

    account = StringField(
        _l("Other account"),
        description=_l("Where the difference goes until somebody knows more: suspense, or the account that it belongs to."),
        validators=[Needed()],
    )


class BreakPage(DeskPage):
    """The queue, what was closed, the last checks of each server."""

    class_permission_name = RIGHTS
    route_base = "/breaks"
    extra_args = {
        "person": person,
        "client_link": client_link,
        "kinds": KINDS,
        "causes": CAUSES,
        "advice": ADVICE,
        "states": STATES,
        "state_kinds": STATE_KINDS,
        "repairable": breaks.REPAIRABLE,
        "adjustable": breaks.ADJUSTABLE,
    }

    @expose("/")
    @has_access
    @permission_name("list")
    def index(self) -> ResponseReturnValue:
        return self._index()

    def _index(self, refusal: Refused = NOTHING_REFUSED) -> ResponseReturnValue:
        session, filters = db.session(), Filters("BreakPage.index")
        tab = filters.choice("tab", TABS) or "open"
        filters.given.pop("tab", None)  # it is a part of the page's address, not a filter
        query = select(ServerBreak).where(*_conditions(filters, tab))
        if filters.wants_csv and not filters.problems:
            return csv_file(f"breaks-{tab}", _head(), _rows(query.order_by(ServerBreak.id)))
        after = filters.after_number("after")
        if after is not None:
            query = query.where(ServerBreak.id > after if tab == "open" else ServerBreak.id < after)
        order = ServerBreak.id if tab == "open" else ServerBreak.id.desc()
        found = [] if filters.problems else session.scalars(query.order_by(order).limit(PAGE_SIZE + 1)).all()
        is_open = ServerBreak.closed_at.is_(None)
        waiting, oldest = session.execute(select(func.count(), func.min(ServerBreak.found_at)).where(is_open)).one()
        page = self.render_template(
            "office/breaks.html",
            filters=filters,
            tab=tab,
            breaks=found[:PAGE_SIZE],
            is_first=after is None,
            next_after=found[PAGE_SIZE - 1].id if len(found) > PAGE_SIZE else None,
            waiting=waiting,
            oldest=oldest,
            servers=_servers(),
            checks=_checks() if tab == "open" else [],
            failure=_failure,
            is_under_way=_is_under_way,
            today=datetime.now(UTC).date(),
            may=_rights(),
            late=late_servers(),
            kept=_kept(),
            refusal=refusal,
        )
        return page, 422 if filters.problems or refusal.problem else 200

    @expose("/alerts/<int:pk>/acknowledge", methods=["POST"])
    @has_access
    @permission_name("explain")
    def acknowledge(self, pk: int) -> ResponseReturnValue:
        words = gettext("Acknowledged. The alert goes by itself when nothing of this server has waited too long any more.")
        return self._done("", lambda: alerts.acknowledge(db.session(), _key(pk), staff_actor()), words)

    @expose("/<int:pk>/repair", methods=["POST"])
    @has_access
    @permission_name("repair")
    def repair(self, pk: int) -> ResponseReturnValue:
        words = gettext("Ordered. The server is asked within seconds; what came of it stands here.")
        return self._done("", lambda: breaks.order_repair(db.session(), _key(pk), staff_actor()), words)

    @expose("/<int:pk>/explain", methods=["POST"])
    @has_access
    @permission_name("explain")
    def explain(self, pk: int) -> ResponseReturnValue:
        note = request.form.get("note", "")
        words = gettext("Explained. It is opened again when the difference changes.")

        def explain_it() -> None:
            breaks.explain(db.session(), _key(pk), note, staff_actor())
            breaks.watch(db.session())  # with the last one that was too old its alert goes, too

        return self._done(f"explain-{pk}", explain_it, words)

    @expose("/<int:pk>/adjust", methods=["GET", "POST"])
    @has_access
    @permission_name("adjust")
    def adjust(self, pk: int) -> ResponseReturnValue:
        """Propose that the ledger follows the server. Another person approves it, among the requests."""
        one = db.session.get(ServerBreak, _key(pk))
        if one is None or one.kind not in breaks.ADJUSTABLE or one.trading_account is None:
            abort(404)
        if one.closed_at is not None:
            flash(gettext("This break is closed already. Nothing was changed."), "info")
            return redirect(url_for("BreakPage.index"))
        form = AdjustForm()
        account = one.trading_account
        if request.method == "GET":
            form.account.data = str(chart.suspense(f"mt-{account.server.code}", account.currency))
        elif form.is_submitted():
            form.validate()
            form.keep_evidence()
            if answer := self._propose(form, pk):
                return answer
        legs = breaks.adjustment_legs(db.session(), one, (form.account.data or "").strip())
        page = self.render_template(
            "office/break_adjust.html", one=one, form=form, legs=legs, accept=evidence.ACCEPT, max_bytes=_max_bytes()
        )
        return page, 422 if form.is_refused else 200

    @expose("/check", methods=["POST"])
    @has_access
    @permission_name("check")
    def check(self) -> ResponseReturnValue:
        """Have a server's day checked now."""
        server = db.session.get(Server, _whole(request.form.get("server", "")))
        try:
            day = date.fromisoformat(request.form.get("day", ""))
        except ValueError:
            day = None
        if server is None:
            abort(404)
        wall = datetime.fromtimestamp(server_zone(server.time_zone).wall_ms(now()) / 1000, UTC).date()
        if day is None or not date(2000, 1, 1) <= day <= wall:
            words = gettext("Please give a day of the server's clock that has begun, such as %(day)s.", day=wall)
            return self._index(refused("check", words))
        words = gettext("%(server)s, %(day)s: the check begins within seconds.", server=server.name, day=day)
        return self._done("check", lambda: reconcile.order_check(db.session(), server.id, day, staff_actor()), words)

    def _done(self, dialog: str, act: Callable[[], object], words: str) -> ResponseReturnValue:
        """Back to the list with what was done; a refused dialog comes back open."""
        try:
            act()
            flash(words, "success")
        except NotFound:
            raise
        except AppError as error:
            if dialog and isinstance(error, InvalidInput):
                return self._index(refused(dialog, error))
            flash(why(error), "warning")
        return redirect(url_for("BreakPage.index", **_kept()))

    def _propose(self, form: AdjustForm, pk: int) -> ResponseReturnValue | None:
        """Store the evidence, then the request. None when it is refused: the form then says why."""
        stored = evidence.store(form.draft)
        try:
            done = breaks.propose_adjustment(
                db.session(),
                pk,
                account=(form.account.data or "").strip(),
                effective_at=form.effective_at.moment,
                reason=form.reason.data or "",
                evidence=stored,
                actor=staff_actor(),
            )
        except AppError as error:
            evidence.discard(stored)
            show(form, error)
            return None
        if stored is not None and done.evidence_key != stored.key:
            evidence.discard(stored)
        evidence.forget(form.draft)
        flash(gettext("Proposed. Nothing is posted until somebody else has approved it."), "success")
        return redirect(url_for("LedgerRequestPage.show", pk=done.request_id))


def show(form: EvidencedForm, error: AppError) -> None:
    """What is wrong, beside the fields: of legs beside the account, the only part of them that is typed here."""
    faults = getattr(error, "faults", None)
    if faults is None:
        problems = getattr(error, "problems", {})
        for name, words in problems.items():
            form.place(name, [gettext(words)])
        if not problems:
            form.elsewhere.append(sentence(error))
        return
    for name, errors in faults.items():
        form.place("account" if name.startswith("legs") else name, [sentence(one) for one in errors])


def late_servers(*, unacknowledged: bool = False) -> list[tuple[Server, Alert]]:
    """The servers with differences that have been open for too long, each with its alert."""
    told = {one.subject: one for one in alerts.open_alerts(db.session(), code=breaks.ALERT, unacknowledged=unacknowledged)}
    if not told:
        return []
    is_open = exists().where(ServerBreak.server_id == Server.id, ServerBreak.closed_at.is_(None))
    servers = db.session.scalars(select(Server).where(Server.code.in_(told), is_open).order_by(Server.name, Server.id))
    return [(server, told[server.code]) for server in servers]


def _kept() -> dict[str, Any]:
    """The list that is shown, or that a form was sent from."""
    return {name: request.args[name] for name in LIST if name in request.args}


def _conditions(filters: Filters, tab: str) -> list[ColumnElement[bool]]:
    """Which breaks the list shows."""
    wanted: list[ColumnElement[bool]] = [ServerBreak.closed_at.is_(None) == (tab == "open")]
    if kind := filters.choice("kind", KINDS):
        wanted.append(ServerBreak.kind == kind)
    if cause := filters.choice("cause", CAUSES):
        wanted.append(ServerBreak.cause == cause)
    if tab == "closed" and (state := filters.choice("state", list(STATES)[1:])):
        wanted.append(ServerBreak.state == state)
    if server := filters.choice("server", [str(one.id) for one in _servers()]):
        wanted.append(ServerBreak.server_id == int(server))
    if (login := filters.whole("login")) is not None:
        wanted.append(ServerBreak.login == login)
    start, end = filters.days("from", "to")
    if start:
        wanted.append(ServerBreak.found_at >= start)
    if end:
        wanted.append(ServerBreak.found_at < end)
    return wanted


def _servers() -> list[Server]:
    return list(db.session.scalars(select(Server).order_by(Server.name, Server.id)))


def _checks() -> list[tuple[Server, list[ServerCheck]]]:
    """The last checks of each server, the newest first."""
    found = []
    for server in _servers():
        query = (
            select(ServerCheck).where(ServerCheck.server_id == server.id).order_by(ServerCheck.id.desc()).limit(CHECKS_SHOWN)
        )
        found.append((server, list(db.session.scalars(query))))
    return found


def _rights() -> dict[str, bool]:
    return {right: appbuilder.sm.has_access(f"can_{right}", RIGHTS) for right in ("repair", "explain", "check", "adjust")}


def _is_under_way(one: ServerBreak) -> bool:
    """A repair is ordered and has not ended."""
    return bool(one.closed_at is None and one.repair.get("ordered_at") and not one.repair.get("error"))


def _failure(one: ServerBreak) -> str:
    """Why the last repair settled nothing."""
    error = str(one.repair.get("error", ""))
    return str(FAILURES.get(error, error))


def _head() -> list[str]:
    return [
        gettext("No."), gettext("Server"), gettext("Kind"), gettext("About"), gettext("Login"), gettext("Here"),
        gettext("At the server"), gettext("Cause"), gettext("State"), gettext("Found"), gettext("Found last"),
        gettext("Closed"), gettext("Closed by"), gettext("Note"),
    ]  # fmt: skip


def _rows(query: Select[Any]) -> Iterator[list[Cell]]:
    for one in db.session.scalars(query).all():
        yield [
            one.id, one.server.code, str(KINDS[one.kind]), one.subject, one.login, one.here, one.there,
            str(CAUSES.get(one.cause, one.cause)), str(STATES[one.state]), one.found_at, one.seen_at, one.closed_at,
            person(one.closed_by) if one.closed_by else None, one.note,
        ]  # fmt: skip


def _key(pk: int) -> int:
    """The number, if a row could have it."""
    if pk >= 2**63:
        abort(404)
    return pk


def _whole(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 18 else 0


def _max_bytes() -> int:
    return int(current_app.extensions["settings"].upload_max_bytes)


def register(appbuilder: AppBuilder) -> None:
    appbuilder.add_view(
        BreakPage, RIGHTS, label=_l("Differences"), icon="alert-triangle", category="Trading desk", category_label=_l("Trading")
    )
