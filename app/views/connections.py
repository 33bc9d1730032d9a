"""Trading desk: how each server's link is, what to do about each red line, and what waits for a person."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from flask import abort, current_app, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_appbuilder import AppBuilder, expose, has_access, permission_name
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from sqlalchemy import select

from app.core.clock import now
from app.core.errors import AppError, InvalidInput
from app.core.tables import JobFailure
from app.extensions import appbuilder, db
from app.jobs import failures, servers
from app.metatrader import commands, dead_letters, watch
from app.models.metatrader import BalanceOperation, DeadLetter, Server
from app.views.guarded import DeskPage, staff_actor
from app.views.refusal import NOTHING_REFUSED, Refused, refused, why

RIGHTS = "Connections"
#: What one table shows; all of it stands in the list that the table leads to.
ROWS = 20
FAILED_LATELY = timedelta(days=7)
#: The rights beside looking.
ACTIONS = ("pause", "sweep", "resend", "replay", "retry")

#: Where the rows behind a finding are: the view whose rows they are, the endpoint, and the rest of the address by server.
PLACES: dict[str, tuple[str, str, Callable[[int], dict[str, Any]]]] = {
    "unknown_operations": (RIGHTS, "Connections.index", lambda _: {"_anchor": "operations"}),
    "dead_letters": (RIGHTS, "Connections.index", lambda _: {"_anchor": "letters"}),
    "breaks": ("Breaks", "BreakPage.index", lambda server_id: {"server": server_id}),
    "foreign_operations": ("Foreign operations", "ForeignOperationPage.index", lambda server_id: {"server": server_id}),
    "clock": ("Servers", "ServerView.show", lambda server_id: {"pk": server_id}),
}


class Connections(DeskPage):
    """One page: the state of each link, which follows by itself, and the queues below."""

    class_permission_name = RIGHTS
    route_base = "/connections"

    @expose("/")
    @has_access
    @permission_name("list")
    def index(self) -> ResponseReturnValue:
        return self._index()

    def _index(self, refusal: Refused = NOTHING_REFUSED) -> ResponseReturnValue:
        session = db.session()
        operations = session.scalars(
            select(BalanceOperation)
            .where(BalanceOperation.status.in_(("unknown", "sending")))
            .order_by(BalanceOperation.sent_at)
            .limit(ROWS + 1)
        ).all()
        letters = session.scalars(
            select(DeadLetter)
            .where(DeadLetter.replayed_at.is_(None), DeadLetter.dismissed_at.is_(None))
            .order_by(DeadLetter.id.desc())
            .limit(ROWS + 1)
        ).all()
        jobs = session.scalars(
            select(JobFailure)
            .where(JobFailure.retried_at.is_(None), JobFailure.failed_at > now() - FAILED_LATELY)
            .order_by(JobFailure.id.desc())
            .limit(ROWS + 1)
        ).all()
        page = self.render_template(
            "office/connections.html",
            operations=operations,
            letters=letters,
            jobs=jobs,
            most=ROWS,
            looks_needed=commands.LOOKS_BEFORE_RESEND,
            refusal=refusal,
            **_state(),
        )
        return page, 422 if refusal.problem else 200

    @expose("/state")
    @has_access
    @permission_name("list")
    def state(self) -> ResponseReturnValue:
        """The part of the page that fetches itself again."""
        return self.render_template("office/connections_state.html", **_state())

    @expose("/<int:pk>/<direction>/pause", methods=["POST"])
    @has_access
    @permission_name("pause")
    def pause(self, pk: int, direction: str) -> ResponseReturnValue:
        reason = request.form.get("reason", "")
        return self._done(
            lambda: watch.pause(db.session(), pk, _direction(direction), actor=staff_actor(), reason=reason),
            gettext("Paused. What comes in meanwhile waits."),
            dialog=f"pause-{direction}-{pk}",
        )

    @expose("/<int:pk>/<direction>/resume", methods=["POST"])
    @has_access
    @permission_name("pause")
    def resume(self, pk: int, direction: str) -> ResponseReturnValue:
        return self._done(
            lambda: watch.resume(db.session(), pk, _direction(direction), actor=staff_actor()),
            gettext("Resumed. What waited goes on within seconds."),
        )

    @expose("/<int:pk>/sweep", methods=["POST"])
    @has_access
    @permission_name("sweep")
    def sweep(self, pk: int) -> ResponseReturnValue:
        if db.session.get(Server, pk) is None:
            abort(404)
        return self._done(lambda: servers.enqueue("sweep_server", pk), gettext("The sweep begins within seconds."))

    @expose("/operations/<int:pk>/resend", methods=["POST"])
    @has_access
    @permission_name("resend")
    def resend(self, pk: int) -> ResponseReturnValue:
        reason = request.form.get("reason", "").strip()[:500]
        if not reason:
            problem = gettext("Please say how you know that the server has not done it.")
            return self._index(refused(f"resend-{pk}", problem))
        return self._done(
            lambda: commands.resend_operation(db.session(), pk, staff_actor(), reason),
            gettext("It is sent once more. Before that its token is looked for again."),
            place="operations",
        )

    @expose("/letters/<int:pk>/replay", methods=["POST"])
    @has_access
    @permission_name("replay")
    def replay(self, pk: int) -> ResponseReturnValue:
        return self._done(lambda: dead_letters.replay(db.session(), pk, staff_actor()), gettext("Booked."), place="letters")

    @expose("/letters/<int:pk>/dismiss", methods=["POST"])
    @has_access
    @permission_name("replay")
    def dismiss(self, pk: int) -> ResponseReturnValue:
        note = request.form.get("note", "")[:500]
        return self._done(
            lambda: dead_letters.dismiss(db.session(), pk, staff_actor(), note),
            gettext("Dismissed. It stays in the list of dead letters."),
            dialog=f"dismiss-{pk}",
            place="letters",
        )

    @expose("/jobs/<int:pk>/retry", methods=["POST"])
    @has_access
    @permission_name("retry")
    def retry(self, pk: int) -> ResponseReturnValue:
        return self._done(
            lambda: failures.retry(db.session(), current_app.extensions["redis_client"], pk, staff_actor()),
            gettext("The job is on its queue again."),
            place="jobs",
        )

    def _done(
        self, action: Callable[[], None], words: str, *, dialog: str = "", place: str | None = None
    ) -> ResponseReturnValue:
        """Do it, say so or why not, and back to its place on the page; a refused dialog comes back open."""
        try:
            action()
            flash(words, "success")
        except AppError as error:
            if dialog and isinstance(error, InvalidInput):
                return self._index(refused(dialog, error))
            flash(why(error), "warning")
        return redirect(url_for("Connections.index", _anchor=place))


def _state() -> dict[str, object]:
    links = watch.links(db.session(), current_app.extensions["redis_client"])
    return {
        "links": [(link, watch.findings(link)) for link in links],
        "words": _words,
        "place_of": _place,
        "may": {right: appbuilder.sm.has_access(f"can_{right}", RIGHTS) for right in ACTIONS},
    }


def _words(found: watch.Finding) -> list[str]:
    """What is wrong, and what to do about it, in the reader's language."""
    return [gettext(message, **found.values) for message in watch.WORDS[found.code]]


def _place(code: str, server_id: int) -> str | None:
    """The page with the rows behind a finding of this server, for who may open it; None where there is none."""
    if code not in PLACES:
        return None
    view, endpoint, rest = PLACES[code]
    return url_for(endpoint, **rest(server_id)) if appbuilder.sm.has_access("can_list", view) else None


def _direction(text: str) -> watch.Direction:
    if text not in watch.DIRECTIONS:
        abort(404)
    return text


def register(builder: AppBuilder) -> None:
    builder.add_view(
        Connections, RIGHTS, label=_l("Connections"), icon="server-2", category="Trading desk", category_label=_l("Trading")
    )
