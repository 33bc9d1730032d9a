"""The first page of the back office: what waits, by desk."""

from __future__ import annotations

from typing import Any

from flask import g, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_appbuilder import IndexView, expose
from flask_login import current_user
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.extensions import appbuilder, db
from app.views import breaks

#: Queues with a counter: menu name → (view that owns the permission, sentence, query).
QUEUES: dict[str, tuple[str, str]] = {
    "Documents": ("Documents", "SELECT count(*) FROM document WHERE status = 'pending'"),
    "Withdrawals": ("Withdrawals", "SELECT count(*) FROM withdrawal WHERE state = 'requested'"),
    "Ledger requests": ("Ledger requests", "SELECT count(*) FROM ledger_request WHERE status = 'proposed'"),
    "Exchange rates": ("Exchange rates", "SELECT count(*) FROM fx_rate_proposal WHERE status = 'proposed'"),
    "Bank statements": ("Bank statements", "SELECT count(*) FROM external_line WHERE matched_at IS NULL"),
    "Proofs": (
        "Proofs",
        "SELECT count(*) FROM alert WHERE code = 'ledger.proof_failed' AND closed_at IS NULL AND acknowledged_at IS NULL",
    ),
    "Breaks": ("Breaks", "SELECT count(*) FROM mt_break WHERE closed_at IS NULL"),
    "Foreign operations": ("Foreign operations", "SELECT count(*) FROM foreign_operation WHERE reviewed_at IS NULL"),
    "IB applications": ("IB applications", "SELECT count(*) FROM ib_application WHERE status = 'pending'"),
    "Partner moves": ("Partner moves", "SELECT count(*) FROM partner_move WHERE status = 'proposed'"),
    "IB terms": ("IB terms", "SELECT count(*) FROM ib_terms_proposal WHERE status = 'proposed'"),
    "Replays": ("Replays", "SELECT count(*) FROM replay_run WHERE status = 'proposed'"),
    "Commission flags": ("Commission flags", "SELECT count(*) FROM commission_flag WHERE status = 'open'"),
    "Payout runs": (
        "Payout runs",
        """SELECT (SELECT count(*) FROM payout_run WHERE status = 'proposed')
                + (SELECT count(*) FROM payout WHERE state IN ('requested', 'held'))
                + (SELECT count(*) FROM payout_reversal WHERE status = 'proposed')""",
    ),
    "Tickets": ("Tickets", "SELECT count(*) FROM ticket WHERE state = 'open'"),
    "Unknown operations": ("Unknown operations", "SELECT count(*) FROM balance_operation WHERE status = 'unknown'"),
    "Dead letters": ("Dead letters", "SELECT count(*) FROM mt_dead_letter WHERE replayed_at IS NULL AND dismissed_at IS NULL"),
    "Failed jobs": ("Failed jobs", "SELECT count(*) FROM job_failure WHERE retried_at IS NULL"),
}


def queue_counts() -> dict[str, int]:
    """How much waits in each queue that the signed-in person may open."""
    visible = [name for name in QUEUES if appbuilder.sm.has_access("menu_access", name)]
    if not visible:
        return {}
    parts = " UNION ALL ".join(f"SELECT {index}, ({QUEUES[name][1]})" for index, name in enumerate(visible))
    return {visible[index]: count for index, count in db.session.execute(text(parts))}


def navigation() -> dict[str, Any]:
    """Template context of the back office's frame, which error pages have, too, also when the database is the error."""
    if request.path.startswith("/portal"):
        return {"queue_counts": {}}
    try:
        if current_user and current_user.is_authenticated:
            g.setdefault("user", current_user)  # Flask-AppBuilder sets it late, after the check of the CSRF token
            counts = queue_counts()
            late = breaks.late_servers(unacknowledged=True) if "Breaks" in counts else []
            return {"queue_counts": counts, "late_servers": late, "appbuilder": appbuilder}
    except SQLAlchemyError:
        db.session.rollback()
    return {"queue_counts": {}}


class HomeView(IndexView):
    """The desk's start page for staff; a visitor is sent to the portal."""

    index_template = "office/home.html"

    @expose("/")
    def index(self) -> ResponseReturnValue:
        if not current_user.is_authenticated:
            return redirect(url_for("portal.home"))
        self.update_redirect()
        return self.render_template(self.index_template, appbuilder=self.appbuilder, queues=queue_counts())
