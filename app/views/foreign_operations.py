"""Trading desk: balance operations at a server that nobody of ours ordered: what each was, and where its money belongs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flask import abort, current_app, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_appbuilder import AppBuilder, expose, has_access, permission_name
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from sqlalchemy import ColumnElement, Select, func, select
from wtforms import SelectChoice, SelectField, StringField, TextAreaField

from app.core.errors import AppError, NotFound
from app.extensions import appbuilder, db
from app.metatrader import foreign_review
from app.metatrader.foreign import CLASSES
from app.models.metatrader import Server
from app.models.trading_desk import ForeignOperation
from app.surfaces.csv_files import Cell, csv_file
from app.surfaces.filters import Filters
from app.views import evidence
from app.views.breaks import show as show_problems
from app.views.columns import ACTIONS, client_link, person
from app.views.guarded import DeskPage, staff_actor
from app.views.ledger_request_forms import EvidencedForm, Needed
from app.views.refusal import NOTHING_REFUSED, Refused, refused

RIGHTS = "Foreign operations"
PAGE_SIZE = 50
TABS = ("open", "reviewed")
#: What of a list's address its form sends along, so that the same list comes back.
LIST = ("tab", "class", "server", "login", "deal", "comment", "from", "to", "after")

CLASS_WORDS = {
    "deposit": _l("Deposit"),
    "withdrawal": _l("Withdrawal"),
    "transfer": _l("Transfer"),
    "rebate": _l("Rebate"),
    "bonus": _l("Bonus"),
    "credit": _l("Credit"),
    "correction": _l("Correction"),
    "charge": _l("Charge"),
    "dividend": _l("Dividend"),
    "compensation": _l("Negative balance given back"),
    "demo": _l("Play money"),
    "opening": _l("Opening balance"),
    "unknown": _l("Not known"),
}
ACTION_WORDS = {
    **ACTIONS,
    7: _l("Commission"),
    15: _l("Dividend"),
    16: _l("Franked dividend"),
    17: _l("Tax"),
    18: _l("Agent"),
    19: _l("Stop-out compensation"),
    20: _l("Stop-out compensation of credit"),
}


class ReviewForm(EvidencedForm):
    """What the operation was. With an account, also the request that moves its money there."""

    class_ = SelectField(_l("What it was"), validators=[Needed()])
    reason = TextAreaField(
        _l("How you know"),
        description=_l("Such as whose mail says so. Auditors read it, and whoever decides about the money."),
        validators=[Needed()],
        render_kw={"rows": 3, "maxlength": foreign_review.LONGEST_NOTE},
    )
    account = StringField(
        _l("Account that its money belongs to"),
        description=_l("Empty: the money stays in suspense, such as when a second operation takes it out again."),
    )

    def __init__(self) -> None:
        super().__init__()
        choices = [SelectChoice("", gettext("Please choose"))]
        self.class_.choices = choices + [SelectChoice(one, str(CLASS_WORDS[one])) for one in CLASSES if one != "unknown"]
        self.class_.validate_choice = False  # the use case judges, with everything else


class ForeignOperationPage(DeskPage):
    """The queue, what was reviewed, and a page per operation where it is decided."""

    class_permission_name = RIGHTS
    route_base = "/foreign-operations"
    extra_args = {"person": person, "client_link": client_link, "classes": CLASS_WORDS, "actions": ACTION_WORDS}

    @expose("/")
    @has_access
    @permission_name("list")
    def index(self) -> ResponseReturnValue:
        return self._index()

    def _index(self, refusal: Refused = NOTHING_REFUSED) -> ResponseReturnValue:
        session, filters = db.session(), Filters("ForeignOperationPage.index")
        tab = filters.choice("tab", TABS) or "open"
        filters.given.pop("tab", None)  # it is a part of the page's address, not a filter
        servers = list(session.scalars(select(Server).order_by(Server.name, Server.id)))
        query = select(ForeignOperation).where(*_conditions(filters, tab, servers))
        if filters.wants_csv and not filters.problems:
            return csv_file(f"foreign-operations-{tab}", _head(), _rows(query.order_by(ForeignOperation.id)))
        after = filters.after_number("after")
        if after is not None:
            query = query.where(ForeignOperation.id > after if tab == "open" else ForeignOperation.id < after)
        order = ForeignOperation.id if tab == "open" else ForeignOperation.id.desc()
        found = [] if filters.problems else session.scalars(query.order_by(order).limit(PAGE_SIZE + 1)).all()
        is_open = ForeignOperation.reviewed_at.is_(None)
        waiting, oldest = session.execute(select(func.count(), func.min(ForeignOperation.found_at)).where(is_open)).one()
        page = self.render_template(
            "office/foreign_operations.html",
            filters=filters,
            tab=tab,
            operations=found[:PAGE_SIZE],
            is_first=after is None,
            next_after=found[PAGE_SIZE - 1].id if len(found) > PAGE_SIZE else None,
            waiting=waiting,
            oldest=oldest,
            servers=servers,
            harmless=foreign_review.HARMLESS,
            reviews=appbuilder.sm.has_access("can_review", RIGHTS),
            kept=_kept(),
            refusal=refusal,
            selected=request.form.getlist("operation"),
        )
        return page, 422 if filters.problems or refusal.problem else 200

    @expose("/<int:pk>", methods=["GET", "POST"])
    @has_access
    @permission_name("list")
    def show(self, pk: int) -> ResponseReturnValue:
        """The operation with all that is known of it, and the form that decides it for those who may."""
        session = db.session()
        one = session.get(ForeignOperation, pk) if pk < 2**63 else None
        if one is None:
            abort(404)
        reviews = one.reviewed_at is None and appbuilder.sm.has_access("can_review", RIGHTS)
        held = foreign_review.in_suspense(session, one)
        form = ReviewForm()
        if request.method == "POST":
            if not reviews:
                flash(gettext("This operation was reviewed by somebody else in the meantime. Nothing was changed."), "warning")
                return redirect(url_for("ForeignOperationPage.show", pk=pk))
            form.validate()
            form.keep_evidence()
            if answer := self._review(form, pk):
                return answer
        elif reviews:
            form.class_.data = one.classed_as if one.classed_as != "unknown" else ""
            if held is not None:
                form.effective_at.data = foreign_review.best_moment(session, held).replace(second=0, tzinfo=None)
        currency = held.amount.currency if held else one.currency
        bank = current_app.extensions["settings"].client_bank
        page = self.render_template(
            "office/foreign_operation.html",
            one=one,
            form=form,
            held=held,
            reviews=reviews,
            proposes=appbuilder.sm.has_access("can_propose", "Ledger requests"),
            usual=foreign_review.usual_accounts(one, currency, bank) if held else [],
            made=foreign_review.request_of(session, one) if one.reviewed_at else None,
            accept=evidence.ACCEPT,
            max_bytes=current_app.extensions["settings"].upload_max_bytes,
        )
        return page, 422 if form.is_refused else 200

    @expose("/harmless", methods=["POST"])
    @has_access
    @permission_name("review")
    def harmless(self) -> ResponseReturnValue:
        """Review the chosen ones that move nothing, at once."""
        chosen = [
            int(text) for text in request.form.getlist("operation") if text.isascii() and text.isdecimal() and len(text) < 18
        ]
        try:
            count = foreign_review.review_harmless(db.session(), chosen, note=request.form.get("note", ""), actor=staff_actor())
        except AppError as error:
            return self._index(refused("harmless", error))
        flash(gettext("Operations reviewed: %(count)s.", count=count), "success" if count else "info")
        return redirect(url_for("ForeignOperationPage.index", **_kept()))

    def _review(self, form: ReviewForm, pk: int) -> ResponseReturnValue | None:
        """Store the evidence, then the review. None when it is refused: the form then says why."""
        account = (form.account.data or "").strip()
        if account and not appbuilder.sm.has_access("can_propose", "Ledger requests"):
            abort(403)
        stored = evidence.store(form.draft) if account else None
        try:
            done = foreign_review.review(
                db.session(),
                pk,
                class_=form.class_.data or "",
                note=form.reason.data or "",
                account=account,
                effective_at=form.effective_at.moment,
                evidence=stored,
                actor=staff_actor(),
            )
        except NotFound:
            evidence.discard(stored)
            raise
        except AppError as error:
            evidence.discard(stored)
            show_problems(form, error)
            return None
        evidence.forget(form.draft)
        if done.request_id is None:
            flash(gettext("Reviewed. The ledger is not changed."), "success")
            return redirect(url_for("ForeignOperationPage.index"))
        flash(gettext("Reviewed. Its money is moved when somebody else has approved this request."), "success")
        return redirect(url_for("LedgerRequestPage.show", pk=done.request_id))


def _conditions(filters: Filters, tab: str, servers: list[Server]) -> list[ColumnElement[bool]]:
    """Which operations the list shows."""
    wanted: list[ColumnElement[bool]] = [ForeignOperation.reviewed_at.is_(None) == (tab == "open")]
    if class_ := filters.choice("class", CLASSES):
        wanted.append(ForeignOperation.classed_as == class_)
    if server := filters.choice("server", [str(one.id) for one in servers]):
        wanted.append(ForeignOperation.server_id == int(server))
    if (login := filters.whole("login")) is not None:
        wanted.append(ForeignOperation.login == login)
    if (ticket := filters.whole("deal")) is not None:
        wanted.append(ForeignOperation.deal_ticket == ticket)
    if words := filters.text("comment"):
        wanted.append(ForeignOperation.comment.icontains(words, autoescape=True))
    start, end = filters.days("from", "to")
    if start:
        wanted.append(ForeignOperation.done_at >= start)
    if end:
        wanted.append(ForeignOperation.done_at < end)
    return wanted


def _kept() -> dict[str, Any]:
    """The list that is shown, or that the form was sent from."""
    return {name: request.args[name] for name in LIST if name in request.args}


def _head() -> list[str]:
    return [
        gettext("No."), gettext("Server"), gettext("Login"), gettext("Deal"), gettext("Type"), gettext("Amount"),
        gettext("Currency"), gettext("Comment"), gettext("Class"), gettext("Done (UTC)"), gettext("Found"),
        gettext("Reviewed by"), gettext("Reviewed"), gettext("Note"),
    ]  # fmt: skip


def _rows(query: Select[Any]) -> Iterator[list[Cell]]:
    for one in db.session.scalars(query).all():
        yield [
            one.id, one.server.code, one.login, one.deal_ticket, str(ACTION_WORDS.get(one.action, one.action)), one.amount,
            one.currency, one.comment, str(CLASS_WORDS[one.classed_as]), one.done_at, one.found_at,
            person(one.reviewed_by) if one.reviewed_by else None, one.reviewed_at, one.note,
        ]  # fmt: skip


def register(appbuilder: AppBuilder) -> None:
    appbuilder.add_view(
        ForeignOperationPage,
        RIGHTS,
        label=_l("Foreign operations"),
        icon="help-circle",
        category="Trading desk",
        category_label=_l("Trading"),
    )
