"""The IB's questions and our answers; one about a commission line begins on the line's own page."""

from __future__ import annotations

from flask import flash, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from wtforms import StringField, TextAreaField
from wtforms.validators import InputRequired

from app.commissions import frozen_explanations
from app.core.errors import AppError, NotFound
from app.engagement import tickets
from app.extensions import db, limiter
from app.models.engagement import Ticket
from app.portal.forms import show_problems
from app.portal.guards import by_client, client_actor, client_required
from app.portal.partner import blueprint, own_ib
from app.surfaces.errors import sentence
from app.surfaces.filters import Filters

#: Rows of a page.
PAGE = 25


class MessageForm(FlaskForm):
    """A message of a question."""

    text = TextAreaField(_l("Message"), validators=[InputRequired(_l("Please write your message."))])


class QuestionForm(MessageForm):
    """A question about anything."""

    subject = StringField(
        _l("What is it about?"), validators=[InputRequired(_l("Please write in a few words what it is about."))]
    )


@blueprint.get("/questions", endpoint="questions")
@client_required
def show_questions() -> ResponseReturnValue:
    """All questions of this IB, newest first."""
    own_ib()
    filters = Filters("portal_partner.questions")
    before = filters.after_number("after")
    query = tickets.tickets_of(g.client.id)
    shown = db.session.scalars((query if before is None else query.where(Ticket.id < before)).limit(PAGE + 1)).all()
    return render_template(
        "portal/partner_questions.html",
        questions=shown[:PAGE],
        older=filters.address(after=shown[PAGE - 1].id) if len(shown) > PAGE else None,
        newer=filters.address() if before is not None else None,
    )


@blueprint.route("/questions/new", methods=["GET", "POST"])
@client_required
@limiter.limit("30 per hour", key_func=by_client, methods=["POST"])
def ask_question() -> ResponseReturnValue:
    """Ask about anything but one line."""
    own_ib()
    form, problems = QuestionForm(), []
    if form.validate_on_submit():
        try:
            asked = tickets.open_ticket(
                db.session(),
                client_id=g.client.id,
                subject=form.subject.data or "",
                text=form.text.data or "",
                actor=client_actor(),
            )
            flash(gettext("We have your question, and answer it here and by mail."), "success")
            return redirect(url_for("portal_partner.question", ticket_id=asked.id))
        except AppError as error:
            problems = show_problems(form, error)
    page = render_template("portal/partner_question_new.html", form=form, problems=problems)
    return page, 422 if request.method == "POST" else 200


@blueprint.route("/questions/<int:ticket_id>", methods=["GET", "POST"])
@client_required
@limiter.limit("30 per hour", key_func=by_client, methods=["POST"])
def question(ticket_id: int) -> ResponseReturnValue:
    """One question with all that was written; and writing on, which opens a closed one again."""
    own_ib()
    ticket = tickets.own_ticket(db.session(), g.client.id, ticket_id)
    form, problems = MessageForm(), []
    if form.validate_on_submit():
        try:
            tickets.write_as_client(
                db.session(), client_id=g.client.id, ticket_id=ticket_id, text=form.text.data or "", actor=client_actor()
            )
            flash(gettext("We have your message."), "success")
            return redirect(url_for("portal_partner.question", ticket_id=ticket_id))
        except AppError as error:
            problems = show_problems(form, error)
    page = render_template(
        "portal/partner_question.html",
        question=ticket,
        about=frozen_explanations.thaw(ticket.about) if ticket.about else None,
        form=form,
        problems=problems,
    )
    return page, 422 if request.method == "POST" else 200


@blueprint.post("/questions/<int:ticket_id>/close")
@client_required
def close_question(ticket_id: int) -> ResponseReturnValue:
    """The client needs no answer any more."""
    own_ib()
    try:
        tickets.close_as_client(db.session(), client_id=g.client.id, ticket_id=ticket_id, actor=client_actor())
        flash(gettext("Closed. You can open it again at any time by writing."), "success")
    except NotFound:
        raise
    except AppError as error:
        flash(sentence(error), "warning")
    return redirect(url_for("portal_partner.question", ticket_id=ticket_id))
