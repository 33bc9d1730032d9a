"""Money desk: the proofs of the ledger, what each run found, and the alerts that came of it."""

from __future__ import annotations

import re
from uuid import UUID

from flask import abort, flash, make_response, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_appbuilder import AppBuilder, expose, has_access, permission_name
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from markupsafe import Markup, escape
from sqlalchemy import exists, select, text
from sqlalchemy.orm import Session

from app.core.errors import AppError
from app.extensions import appbuilder, db
from app.ledger import alerts, proofs
from app.ledger.proofs.runs import ALERT
from app.models.controls import Alert, ProofResult, ProofRun
from app.models.ledger import Account
from app.surfaces.errors import sentence
from app.surfaces.filters import Filters
from app.views.columns import account_link, transaction_link
from app.views.guarded import DeskPage, staff_actor
from app.views.ledger_links import PAGES, row_link

RIGHTS = "Proofs"
PAGE_SIZE = 20
#: What each proof shows, and the rows that it compares.
WORDS = {
    "P1": (_l("In each currency, all debits equal all credits."), _l("entries")),
    "P2": (_l("Each account's counters equal the sums of its entries."), _l("accounts")),
    "P3": (_l("Each transaction balances in each currency, and a reversal mirrors what it reverses."), _l("transactions")),
    "P4": (_l("Each entry continues the one before it on its account."), _l("entries")),
    "P5": (_l("What an account holds back equals its open reservations."), _l("accounts and used reservations")),
    "P6": (_l("Clients' money at hand covers what is owed to clients."), _l("accounts")),
    "P7": (_l("Each movement has its transaction, and each transaction its cause."), _l("movements and transactions")),
    "P8": (_l("The statements of banks and providers say what the books say."), _l("lines of statements")),
    "P9": (_l("The chain of seals recomputes: nothing sealed was changed or removed."), _l("sealed transactions")),
}
_ID = re.compile(
    r"(?P<txn>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
    r"|(?P<account>(?<![\w:])[a-z]+:[\w.:-]*?:[A-Z]{3,8}(?![\w]|:\w))"
    r"|(?<!\w)(?P<table>[a-z_]+) (?P<number>[0-9]{1,18})(?!\w)"
)


class ProofPage(DeskPage):
    """The newest run or one of the history, proof by proof; alerts; and the way to start a run."""

    class_permission_name = RIGHTS
    route_base = "/proofs"

    @expose("/")
    @has_access
    @permission_name("list")
    def index(self) -> ResponseReturnValue:
        return self.render_template("office/proofs.html", **self._values())

    @expose("/state")
    @has_access
    @permission_name("list")
    def state(self) -> ResponseReturnValue:
        """The part of the page that changes while a run is under way; when it has ended, the whole page is fetched anew."""
        values = self._values()
        answer = make_response(self.render_template("office/proofs_state.html", **values))
        if not values["is_busy"]:
            answer.headers["HX-Redirect"] = url_for("ProofPage.index")
        return answer

    @expose("/run", methods=["POST"])
    @has_access
    @permission_name("run")
    def run(self) -> ResponseReturnValue:
        if not _is_busy(db.session()):
            proofs.request_run(db.session(), staff_actor())
        flash(gettext("The proofs start within seconds. You may leave this page and come back."), "info")
        return redirect(url_for("ProofPage.index", asked="yes"))

    @expose("/alerts/<int:pk>/acknowledge", methods=["POST"])
    @has_access
    @permission_name("acknowledge")
    def acknowledge(self, pk: int) -> ResponseReturnValue:
        try:
            alerts.acknowledge(db.session(), pk, staff_actor())
            flash(gettext("Acknowledged. The alert stays here until a run of the proofs finds its cause gone."), "success")
        except AppError as error:
            flash(sentence(error), "warning")
        return redirect(url_for("ProofPage.index"))

    def _values(self) -> dict[str, object]:
        session, filters = db.session(), Filters()
        number, before = filters.whole("run"), filters.whole("before")
        query = select(ProofRun).order_by(ProofRun.id.desc())
        shown = session.scalars(query if number is None else query.where(ProofRun.id == number)).first()
        if number is not None and shown is None:
            abort(404)
        history = session.scalars((query if before is None else query.where(ProofRun.id < before)).limit(PAGE_SIZE + 1)).all()
        return {
            "run": shown,
            "is_newest": number is None,
            "results": {one.name: one for one in shown.results} if shown else {},
            "history": history[:PAGE_SIZE],
            "next_before": history[PAGE_SIZE - 1].id if len(history) > PAGE_SIZE else None,
            "is_later": before is not None,
            "is_busy": _is_busy(session) or "asked" in request.args,
            "is_running": proofs.is_running(session),
            "head": proofs.head(session),
            "alerts": alerts.open_alerts(session, code=ALERT),
            "closed": session.scalars(
                select(Alert)
                .where(Alert.code == ALERT, Alert.closed_at.is_not(None))
                .order_by(Alert.closed_at.desc())
                .limit(PAGE_SIZE)
            ).all(),
            "words": WORDS,
            "state_of": state_of,
            "linked": linked,
        }


def state_of(result: ProofResult | None) -> str:
    """holds, broken, failed (it could not be run), or waiting (its turn has not come)."""
    if result is None:
        return "waiting"
    if not result.break_count:
        return "holds"
    return "failed" if result.breaks and result.breaks[0].startswith("could not be run") else "broken"


def linked(words: str) -> Markup:
    """A break with the ids in it leading to their pages, for those who may open them."""
    parts, end = [], 0
    for found in _ID.finditer(words):
        parts += [escape(words[end : found.start()]), _link(found)]
        end = found.end()
    return Markup("").join([*parts, escape(words[end:])])


def _link(found: re.Match[str]) -> Markup:
    if found["txn"] and found.string[: found.start()].endswith("hold "):
        return escape(found["txn"])
    if found["txn"]:
        return transaction_link(UUID(found["txn"]))
    if found["account"]:
        is_known = db.session.scalar(select(exists().where(Account.code == found["account"])))
        return account_link(found["account"]) if is_known else escape(found["account"])
    if found["table"] == "line" and appbuilder.sm.has_access("can_show", "Statement lines"):
        address = url_for("StatementLines.show", pk=found["number"])
        return Markup('<a href="{}">{}</a>').format(address, found[0])
    if found["table"] in PAGES:
        return row_link(found["table"], int(found["number"]), found[0])
    return escape(found[0])


def _is_busy(session: Session) -> bool:
    """A run is under way, or asked for and not begun."""
    waiting = text("SELECT EXISTS (SELECT FROM delivery WHERE handler = 'prove_ledger' AND delivered_at IS NULL)")
    return proofs.is_running(session) or bool(session.scalar(waiting))


def register(appbuilder: AppBuilder) -> None:
    appbuilder.add_view(
        ProofPage, RIGHTS, label=_l("Proofs"), icon="shield-check", category="Money desk", category_label=_l("Money")
    )
