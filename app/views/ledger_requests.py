"""Money desk: requests to correct the ledger or to close a period, proposed by one person and decided by another."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from functools import partial
from typing import Any
from uuid import UUID

from flask import abort, current_app, flash, jsonify, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_appbuilder import AppBuilder, expose, has_access, permission_name
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from sqlalchemy import func, select
from werkzeug.datastructures import MultiDict

from app.core.errors import N_, AppError, InvalidInput, NotFound
from app.core.uow import retried, unit_of_work
from app.extensions import db
from app.ledger import approvals, period_review, requests
from app.ledger.requests import Decided, Evidence, Proposed
from app.models.controls import LedgerRequest
from app.models.ledger import Account
from app.surfaces.csv_files import csv_file
from app.surfaces.errors import sentence
from app.surfaces.facts import transaction_kind
from app.surfaces.filters import Filters
from app.views import evidence
from app.views import ledger_request_parts as parts
from app.views.columns import account_link, person, transaction_link
from app.views.guarded import DeskPage, staff_actor
from app.views.ledger_request_forms import (
    AdjustmentForm,
    EvidencedForm,
    PeriodCloseForm,
    PeriodForm,
    RequestForm,
    ReversalForm,
    last_month,
)

PAGE_SIZE = 25
SUGGESTIONS = 20
RIGHTS = "Ledger requests"


class LedgerRequestPage(DeskPage):
    """The queue of requests, the forms that make them, and a page per request where another person decides."""

    class_permission_name = RIGHTS
    route_base = "/ledger/requests"
    default_view = "list"
    extra_args = {
        "person": person,
        "account_link": account_link,
        "transaction_link": transaction_link,
        "transaction_kind": transaction_kind,
        "last_day": parts.last_day,
        "kinds": parts.KINDS,
        "states": parts.STATES,
    }

    @expose("/")
    @has_access
    @permission_name("list")
    def list(self) -> ResponseReturnValue:
        """What waits, oldest first; or what was decided, newest first."""
        session, filters = db.session(), Filters()
        tab = filters.choice("tab", parts.TABS) or "proposed"
        filters.given.pop("tab", None)  # it is a part of the page's address, not a filter
        query = select(LedgerRequest).where(*parts.conditions(filters, tab))
        if filters.wants_csv and not filters.problems:
            return csv_file(f"ledger-requests-{tab}", parts.head(), parts.rows(query.order_by(LedgerRequest.id)))
        after = filters.after_number("after")
        if after is not None:
            query = query.where(LedgerRequest.id > after if tab == "proposed" else LedgerRequest.id < after)
        order = LedgerRequest.id if tab == "proposed" else LedgerRequest.id.desc()
        found = [] if filters.problems else session.scalars(query.order_by(order).limit(PAGE_SIZE + 1)).all()
        shown = found[:PAGE_SIZE]
        waiting = session.execute(
            select(LedgerRequest.proposed_by, func.count(), func.min(LedgerRequest.proposed_at))
            .where(LedgerRequest.status == "proposed")
            .group_by(LedgerRequest.proposed_by)
        ).all()
        page = self.render_template(
            "office/ledger_requests.html",
            filters=filters,
            tab=tab,
            requests=[(one, parts.amounts(one)) for one in shown],
            waiting=sum(count for _, count, _ in waiting),
            own=sum(count for proposer, count, _ in waiting if proposer == str(staff_actor())),
            oldest=min((since for _, _, since in waiting), default=None),
            is_first=after is None,
            next_after=shown[-1].id if len(found) > PAGE_SIZE else None,
        )
        return page, 422 if filters.problems else 200

    @expose("/<int:pk>")
    @has_access
    @permission_name("show")
    def show(self, pk: int) -> ResponseReturnValue:
        """Everything that who decides must know, with the buttons for those who may."""
        session, has_access_to = db.session(), self.appbuilder.sm.has_access
        found = session.get(LedgerRequest, pk)
        if found is None:
            abort(404)
        is_open, is_own = found.status == "proposed", found.proposed_by == str(staff_actor())
        faults = approvals.obstacles(session, found) if is_open else {}
        return self.render_template(
            "office/ledger_request.html",
            one=found,
            amounts=parts.amounts(found),
            legs=parts.effects(found),
            obstacles=[sentence(error) for errors in faults.values() for error in errors],
            original=parts.original(found.reverses),
            period=parts.period(found.closed_through) if is_open else None,
            posts=parts.closing_posts(found),
            decides=is_open and not is_own and has_access_to("can_decide", RIGHTS),
            withdraws=is_open and is_own and has_access_to("can_propose", RIGHTS),
            is_own=is_own,
            typed_reason=request.args.get("reason", "")[:1000],
        )

    @expose("/<int:pk>/file")
    @has_access
    @permission_name("show")
    def file(self, pk: int) -> ResponseReturnValue:
        """The decrypted evidence, sandboxed; every look stands in the audit trail."""
        session = db.session()
        found = session.get(LedgerRequest, pk)
        if found is None or found.evidence_key is None:
            abort(404)
        response = evidence.answer(found.evidence_key, found.evidence_type)
        with unit_of_work(session, staff_actor()) as unit:
            unit.audit("ledger_request.evidence_viewed", f"ledger_request:{pk}")
        return response

    @expose("/adjustment", methods=["GET", "POST"])
    @has_access
    @permission_name("propose")
    def adjustment(self) -> ResponseReturnValue:
        """Rows of legs. The buttons that add and remove rows send the form, which comes back with all that was typed."""
        is_sent = request.method == "POST"
        form = AdjustmentForm(request.form if is_sent else request.args)
        if is_sent:
            form.validate()
            form.keep_evidence()
        action, _, number = request.form.get("action", "").partition("-")
        if action == "add":
            form.add_row()
        elif action == "remove":
            form.remove_row(number)
        elif is_sent:
            drafts = form.drafts()
            if proposed := self._propose_posting(form, partial(requests.propose_adjustment, legs=drafts)):
                return proposed
        page = self.render_template(
            "office/ledger_adjustment.html",
            form=form,
            known=parts.known_accounts([row.account for row in form.rows]),
            totals=parts.form_totals(form.rows),
            **_file_limits(),
        )
        return page, 422 if form.is_refused else 200

    @expose("/accounts")
    @has_access
    @permission_name("propose")
    def accounts(self) -> ResponseReturnValue:
        """Open accounts whose code has the text in it, for the form's suggestions; those that begin with it come first.

        Also the account of just this code that a posting would open.
        """
        wanted = request.args.get("q", "").strip()[:120]
        if not wanted.isprintable():
            return jsonify([])
        rows = db.session.scalars(
            select(Account)
            .where(Account.closed_at.is_(None), Account.code.icontains(wanted, autoescape=True))
            .order_by(Account.code.istartswith(wanted, autoescape=True).desc(), Account.code)
            .limit(SUGGESTIONS)
        )
        found = [parts.about(account) for account in rows]
        unopened = None if any(account["code"] == wanted for account in found) else parts.unopened_account(wanted)
        return jsonify([unopened, *found] if unopened else found)

    @expose("/reversal", methods=["GET", "POST"])
    @has_access
    @permission_name("propose")
    def reversal(self) -> ResponseReturnValue:
        """The mirror image of a transaction, which stands in the address, with whether the money is there."""
        form = ReversalForm()
        given = (form.txn.data if request.method == "POST" else request.args.get("txn")) or ""
        form.txn.data = given = given.strip()[:60]
        txn_id = _uuid(given)
        if request.method == "POST" and txn_id is not None:
            form.validate()
            form.keep_evidence()
            if proposed := self._propose_posting(form, partial(requests.propose_reversal, txn_id=txn_id)):
                return proposed
        original = parts.original(txn_id)
        problems = [sentence(error) for error in requests.judge_reversal(db.session(), txn_id)] if txn_id else []
        if given and txn_id is None:
            problems = [gettext("This is not the number of a transaction.")]
        form.elsewhere = [problem for problem in form.elsewhere if problem not in problems]
        page = self.render_template(
            "office/ledger_reversal.html", form=form, original=original, given=given, problems=problems, **_file_limits()
        )
        return page, 422 if problems or form.is_refused else 200

    @expose("/period-close", methods=["GET", "POST"])
    @has_access
    @permission_name("propose")
    def period_close(self) -> ResponseReturnValue:
        """What is open in a period, what its close would post, and the request to close it."""
        form = PeriodCloseForm()
        given = (form.through.data if request.method == "POST" else request.args.get("through")) or ""
        chooser = PeriodForm(MultiDict({"through": given or last_month().isoformat()}))
        through: date | None = chooser.through.data if chooser.validate() else None
        form.through.data = through.isoformat() if through else given[:20]
        if request.method == "POST":
            form.validate()
            proposed = self._propose(
                form,
                lambda _: requests.propose_period_close(
                    db.session(), through=through, reason=form.reason.data or "", key=form.key.data, actor=staff_actor()
                ),
            )
            if proposed:
                return proposed
        end = requests.end_of(through)
        problems = [sentence(error) for error in period_review.judge_end(db.session(), end)] if through else []
        period = None if problems else parts.period(end)
        form.elsewhere = [problem for problem in form.elsewhere if problem not in problems]
        page = self.render_template(
            "office/ledger_period_close.html",
            form=form,
            chooser=chooser,
            problems=problems,
            period=period,
            last_close=period_review.last_close(db.session()),
        )
        is_refused = form.is_refused or (given and (problems or chooser.errors))
        return page, 422 if is_refused else 200

    @expose("/<int:pk>/approve", methods=["POST"])
    @has_access
    @permission_name("decide")
    def approve(self, pk: int) -> ResponseReturnValue:
        return self._decide(pk, lambda: retried(lambda: requests.approve(db.session(), pk, staff_actor())))

    @expose("/<int:pk>/reject", methods=["POST"])
    @has_access
    @permission_name("decide")
    def reject(self, pk: int) -> ResponseReturnValue:
        return self._decide(pk, lambda: requests.reject(db.session(), pk, request.form.get("reason", ""), staff_actor()))

    @expose("/<int:pk>/withdraw", methods=["POST"])
    @has_access
    @permission_name("propose")
    def withdraw(self, pk: int) -> ResponseReturnValue:
        return self._decide(pk, lambda: requests.withdraw(db.session(), pk, staff_actor()))

    def _propose_posting(self, form: EvidencedForm, propose: Callable[..., Proposed]) -> ResponseReturnValue | None:
        """`_propose` for what posts: reason, evidence and day come from the form."""
        return self._propose(
            form,
            lambda stored: propose(
                db.session(),
                effective_at=form.effective_at.moment,
                reason=form.reason.data or "",
                evidence=stored,
                key=form.key.data,
                actor=staff_actor(),
            ),
        )

    def _propose(self, form: RequestForm, propose: Callable[[Evidence | None], Proposed]) -> ResponseReturnValue | None:
        """Store the evidence, then the request. None when it is refused: the form then says why, and no file is left behind."""
        draft = form.draft if isinstance(form, EvidencedForm) else None
        stored = evidence.store(draft)
        try:
            done = propose(stored)
        except AppError as error:
            evidence.discard(stored)
            form.show(error)
            return None
        except BaseException:
            evidence.discard(stored)
            raise
        if stored is not None and done.evidence_key != stored.key:
            evidence.discard(stored)
        evidence.forget(draft)
        flash(gettext("Proposed. Nothing is posted until somebody else has approved it."), "success")
        return redirect(url_for("LedgerRequestPage.show", pk=done.request_id))

    def _decide(self, pk: int, decide: Callable[[], Decided]) -> ResponseReturnValue:
        """Back to the request, with what was done or why not. A reason that was refused comes along."""
        reason = None
        try:
            done = decide()
            flash(gettext(_DONE[done.status, done.kind == "period_close"]), "success")
        except NotFound:
            raise
        except InvalidInput as error:
            faults = getattr(error, "faults", {})
            flash(" ".join([sentence(error), *(sentence(fault) for found in faults.values() for fault in found)]), "warning")
            if not faults:
                reason = request.form.get("reason", "")[:500]
        except AppError as error:
            flash(sentence(error), "warning")
        return redirect(url_for("LedgerRequestPage.show", pk=pk, reason=reason))


#: What was done, by the new state and whether a period was to be closed.
_DONE = {
    ("approved", False): N_("Approved and posted."),
    ("approved", True): N_("Approved. The period is closed."),
    ("rejected", False): N_("Rejected. Nothing was posted; the reason stands below."),
    ("rejected", True): N_("Rejected. The period stays open; the reason stands below."),
    ("withdrawn", False): N_("Withdrawn. Nothing was posted."),
    ("withdrawn", True): N_("Withdrawn. The period stays open."),
}


def _file_limits() -> dict[str, Any]:
    return {"accept": evidence.ACCEPT, "max_bytes": current_app.extensions["settings"].upload_max_bytes}


def _uuid(given: str) -> UUID | None:
    try:
        return UUID(given)
    except ValueError:
        return None


def register(appbuilder: AppBuilder) -> None:
    appbuilder.add_view(
        LedgerRequestPage,
        RIGHTS,
        label=_l("Requests"),
        icon="clipboard-check",
        category="Money desk",
        category_label=_l("Money"),
    )
