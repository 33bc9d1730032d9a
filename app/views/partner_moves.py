"""Partners desk: moves of clients and IBs. One person proposes, seeing who gains and who loses; another one decides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import abort, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_appbuilder import AppBuilder, expose, has_access, permission_name
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from sqlalchemy import Select, or_, select
from sqlalchemy.orm import joinedload

from app.core.clock import now
from app.core.errors import N_, AppError, NotFound
from app.extensions import db
from app.models.partner_moves import PartnerMove
from app.models.partners import IntroducingBroker
from app.partners import cancelling, directory, moves
from app.surfaces.filters import Filters
from app.views import partner_move_parts as parts
from app.views.columns import person
from app.views.decisions import decided
from app.views.guarded import DeskPage, staff_actor
from app.views.partner_move_forms import MoveForm

RIGHTS = "Partner moves"

#: Rows of a page of decided moves.
PAGE = 50

STATES = ("proposed", "approved", "rejected", "withdrawn", "cancelled")


class PartnerMovePage(DeskPage):
    """The moves; the search for what is to be moved; the form; one move with its decision."""

    class_permission_name = RIGHTS
    route_base = "/partner-moves"
    extra_args = {"person": person}

    @expose("/")
    @has_access
    @permission_name("list")
    def index(self) -> ResponseReturnValue:
        """What waits for a decision, and what was decided; of all, of one IB (`ib`), or of one client (`client`)."""
        filters = Filters()
        state, ib_id, client_id = filters.choice("state", STATES), filters.whole("ib"), filters.whole("client")
        before = filters.after_number("after")
        query = _moves()
        if state:
            query = query.where(PartnerMove.status == state)
        if ib_id is not None:
            query = query.where(
                or_(*(column == ib_id for column in (PartnerMove.ib_id, PartnerMove.from_id, PartnerMove.target_id)))
            )
        if client_id is not None:
            query = query.where(PartnerMove.client_id == client_id)
        if filters.wants_csv and not filters.problems:
            return parts.file_of(db.session.scalars(query.order_by(PartnerMove.id.desc())).all())
        session = db.session()
        waiting = session.scalars(query.where(PartnerMove.status == "proposed").order_by(PartnerMove.id)).all()
        past = query.where(PartnerMove.status != "proposed")
        if before is not None:
            past = past.where(PartnerMove.id < before)
        shown = session.scalars(past.order_by(PartnerMove.id.desc()).limit(PAGE + 1)).all()
        return self.render_template(
            "office/partner_moves.html",
            filters=filters,
            states=STATES,
            waiting=waiting,
            decided=shown[:PAGE],
            older=filters.address(after=shown[PAGE - 1].id) if len(shown) > PAGE else None,
            newer=filters.address() if before is not None else None,
            me=str(staff_actor()),
        )

    @expose("/new")
    @has_access
    @permission_name("propose")
    def new(self) -> ResponseReturnValue:
        """Search for the client or the IB that is to be moved."""
        filters, at = Filters(), now()
        text = filters.text("q")
        session = db.session()
        return self.render_template(
            "office/partner_move_new.html",
            filters=filters,
            text=text,
            ibs=directory.find_ibs(session, text, at, parts.FOUND) if text else [],
            clients=directory.find_clients(session, text, at, parts.FOUND) if text else [],
            most=parts.FOUND,
        )

    @expose("/targets")
    @has_access
    @permission_name("propose")
    def targets(self) -> ResponseReturnValue:
        """Part of the form: the IBs that a search finds, below the one chosen so far."""
        draft = _asked(Filters())
        found = parts.targets(draft, request.args.get("q", ""), request.args.get("target", ""))
        return self.render_template("office/partner_move_targets.html", **found)

    @expose("/propose", methods=["GET", "POST"])
    @has_access
    @permission_name("propose")
    def propose(self) -> ResponseReturnValue:
        """The form for one subject (`kind`, `subject`): where to, from when on, why; tried before it is proposed."""
        draft, form = _asked(Filters()), MoveForm()
        action = request.form.get("action", "propose") if form.is_submitted() else ""
        preview = _tried(form, draft) if action == "preview" else None
        if action == "propose" and form.validate():
            try:
                proposed = moves.propose_move(
                    db.session(),
                    kind=draft.kind,
                    subject_id=draft.subject_id,
                    target_id=form.target_id,
                    effective_at=form.effective_at.moment,
                    reason=form.reason.data or "",
                    actor=staff_actor(),
                )
                flash(gettext("Proposed. It counts as soon as somebody else has approved it."), "success")
                return redirect(url_for("PartnerMovePage.move", pk=proposed.id))
            except AppError as error:
                form.show(error)
        page = self.render_template(
            "office/partner_move_propose.html",
            form=form,
            one=draft,
            about=parts.about(draft),
            preview=preview,
            **parts.targets(draft, form.q.data or "", form.target.data or ""),
        )
        return page, 422 if form.errors or form.elsewhere else 200

    @expose("/<int:pk>")
    @has_access
    @permission_name("list")
    def move(self, pk: int) -> ResponseReturnValue:
        """One move: what it is about, who gains and loses, and the decision."""
        found, has_access_to = db.session.get(PartnerMove, pk), self.appbuilder.sm.has_access
        if found is None:
            abort(404)
        is_open, is_own = found.status == "proposed", found.proposed_by == str(staff_actor())
        return self.render_template(
            "office/partner_move.html",
            one=found,
            about=parts.about(found),
            preview=parts.preview(found) if is_open else None,
            is_own=is_own,
            decides=is_open and not is_own and has_access_to("can_decide", RIGHTS),
            cancels=cancelling.can_cancel(found, now()) and has_access_to("can_decide", RIGHTS),
            withdraws=is_open and is_own and has_access_to("can_propose", RIGHTS),
            typed_reason=request.args.get("reason", "")[: moves.LONGEST_REASON],
            longest=moves.LONGEST_REASON,
        )

    @expose("/<int:pk>/approve", methods=["POST"])
    @has_access
    @permission_name("decide")
    def approve(self, pk: int) -> ResponseReturnValue:
        return _decide(pk, lambda: moves.approve_move(db.session(), pk, actor=staff_actor()))

    @expose("/<int:pk>/reject", methods=["POST"])
    @has_access
    @permission_name("decide")
    def reject(self, pk: int) -> ResponseReturnValue:
        reason = request.form.get("reason", "")
        return _decide(pk, lambda: moves.reject_move(db.session(), pk, reason=reason, actor=staff_actor()))

    @expose("/<int:pk>/withdraw", methods=["POST"])
    @has_access
    @permission_name("propose")
    def withdraw(self, pk: int) -> ResponseReturnValue:
        return _decide(pk, lambda: moves.withdraw_move(db.session(), pk, actor=staff_actor()))

    @expose("/<int:pk>/cancel", methods=["POST"])
    @has_access
    @permission_name("decide")
    def cancel(self, pk: int) -> ResponseReturnValue:
        reason = request.form.get("reason", "")
        return _decide(pk, lambda: cancelling.cancel_move(db.session(), pk, reason=reason, actor=staff_actor()))


#: What was done, by the new state.
_DONE = {
    "approved": N_("Approved. It counts from the moment that stands below."),
    "rejected": N_("Rejected. Everything stays as it was; the reason stands below."),
    "withdrawn": N_("Withdrawn. Everything stays as it was."),
    "cancelled": N_("Cancelled. Everything goes on as if it had not been approved."),
}


def _decide(pk: int, decide: Callable[[], PartnerMove]) -> ResponseReturnValue:
    return decided("PartnerMovePage.move", pk, decide, _DONE)


def _moves() -> Select[PartnerMove]:
    """Moves with all the names that a list shows, in one query."""
    ibs = (PartnerMove.ib, PartnerMove.source, PartnerMove.target)
    return select(PartnerMove).options(
        joinedload(PartnerMove.client), *(joinedload(ib).joinedload(IntroducingBroker.client) for ib in ibs)
    )


def _asked(filters: Filters) -> PartnerMove:
    """The move that the address asks to begin with, `kind` and `subject`; 404 for what does not exist."""
    kind, subject_id = filters.choice("kind", moves.KINDS), filters.whole("subject")
    if not kind or subject_id is None:
        raise NotFound
    return moves.draft_move(db.session(), kind=kind, subject_id=subject_id, target_id=None)


def _tried(form: MoveForm, draft: PartnerMove) -> dict[str, Any] | None:
    """The preview of what is typed; None when it is refused, and the form then says why. A reason can still be missing."""
    if not (form.target.validate(form) & form.effective_at.validate(form)):
        return None
    move = moves.draft_move(
        db.session(),
        kind=draft.kind,
        subject_id=draft.subject_id,
        target_id=form.target_id,
        effective_at=form.effective_at.moment,
    )
    try:
        moves.try_move(db.session(), move, staff_actor())
    except AppError as error:
        form.show(error)
        return None
    return parts.preview(move)


def register(appbuilder: AppBuilder) -> None:
    appbuilder.add_view(
        PartnerMovePage,
        RIGHTS,
        label=_l("Moves"),
        icon="arrows-exchange",
        category="Partners desk",
        category_label=_l("Partners"),
    )
