"""Becoming a partner: the agreement and the application; and a partner's invitations to stand under it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from flask import current_app, flash, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import get_locale, gettext
from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from sqlalchemy import select
from wtforms import BooleanField, HiddenField, SelectField, StringField, TextAreaField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import Length

from app.core.clock import now
from app.core.errors import AppError, NotFound
from app.extensions import db, limiter
from app.models.metatrader import Product
from app.models.partner_joining import PartnerAgreement
from app.partners import agreements, joining, links
from app.partners.policy import APPLICATION, INVITED, policy_at
from app.portal.forms import show_problems
from app.portal.guards import client_actor, client_required
from app.portal.partner import blueprint, own_ib

_KEY = re.compile(r"[0-9]{1,18}")


class JoinForm(FlaskForm):
    currency = SelectField(_l("Currency you want to be paid in"), validate_choice=False)
    words = TextAreaField(
        _l("How do you bring clients?"),
        description=_l("Such as your website, your courses or your following, and how many clients you expect."),
        validators=[Length(max=joining.LONGEST_WORDS)],
        render_kw={"rows": 4, "maxlength": joining.LONGEST_WORDS},
    )
    agreed = BooleanField(_l("I have read the partner agreement and agree to it."))
    agreement = HiddenField()
    invitation = HiddenField()

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        live = select(Product.currency).where(~Product.is_demo).distinct().order_by(Product.currency)
        self.currency.choices = [SelectChoice(code, code) for code in db.session.scalars(live).all() or ["USD"]]


class AcceptForm(FlaskForm):
    """That an IB accepts the version that it was shown."""

    agreed = BooleanField(_l("I have read the partner agreement and agree to it."))
    agreement = HiddenField()


class InviteForm(FlaskForm):
    note = StringField(
        _l("Note for yourself"), description=_l("Such as whom you send it to."), validators=[Length(max=joining.LONGEST_NOTE)]
    )


@blueprint.route("/join", methods=["GET", "POST"])
@client_required
@limiter.limit("20 per hour", methods=["POST"])
def join() -> ResponseReturnValue:
    """What a partner is, and the form to become one, as the policy of the moment has it."""
    session = db.session()
    if links.ib_by_client(session, g.client.id) is not None:
        return redirect(url_for("portal_partner.index"))
    agreement = agreements.current_agreement(session)
    given = {"invitation": request.args.get("invitation", "")[:200], "agreement": str(agreement.id) if agreement else ""}
    form = JoinForm(data=given)
    problems: list[str] = []
    if form.is_submitted():
        form.validate()
        try:
            joined = _join(form)
            if joined.ib_id is None:
                flash(gettext("Thank you. We look at it and tell you."), "success")
                return redirect(url_for("portal_partner.join"))
            flash(gettext("Welcome. You are an introducing broker now."), "success")
            return redirect(url_for("portal_partner.index"))
        except AppError as error:
            session.rollback()
            problems = show_problems(form, error)
    page = render_template("portal/partner_join.html", form=form, problems=problems, **_standing(form, agreement))
    return page, 422 if form.is_submitted() else 200


@blueprint.post("/join/withdraw")
@client_required
def withdraw_application() -> ResponseReturnValue:
    joining.withdraw_application(db.session(), g.client.id, actor=client_actor())
    flash(gettext("Your application is taken back."), "success")
    return redirect(url_for("portal_partner.join"))


@blueprint.get("/agreement")
@client_required
def agreement() -> ResponseReturnValue:
    """What an IB agreed to; where a newer version is to be accepted that one, with the form. For everybody else, and for
    IBs that staff made, the text that holds.
    """
    return _agreement(AcceptForm())


@blueprint.post("/agreement")
@client_required
@limiter.limit("30 per hour")
def accept_agreement() -> ResponseReturnValue:
    form, problems = AcceptForm(), []
    form.validate()
    try:
        agreements.accept_agreement(
            db.session(), g.client.id, agreed_id=_agreed_id(form.agreement, form.agreed), actor=client_actor()
        )
        flash(gettext("Thank you. What you agreed to stays here to be read."), "success")
        return redirect(url_for("portal_partner.agreement"))
    except NotFound:
        raise
    except AppError as error:
        db.session.rollback()
        problems = show_problems(form, error)
    return _agreement(form, problems), 422


@blueprint.get("/invitations")
@client_required
def invitations() -> ResponseReturnValue:
    return _invitations(InviteForm())


@blueprint.post("/invitations")
@client_required
@limiter.limit("30 per hour")
def invite() -> ResponseReturnValue:
    """Make an invitation; its link is shown this once."""
    form, problem = InviteForm(), ""
    if form.validate_on_submit():
        try:
            secret = joining.invite(db.session(), own_ib().id, form.note.data or "", client_actor())
            base = current_app.extensions["settings"].base_url
            address = f"{base}{url_for('portal_partner.join')}?invitation={secret}"
            return _invitations(InviteForm(formdata=None), address=address)
        except AppError as error:
            problem = " ".join(show_problems(form, error))
    return _invitations(form, problem=problem), 422


@blueprint.post("/invitations/<int:invitation_id>/revoke")
@client_required
def revoke_invitation(invitation_id: int) -> ResponseReturnValue:
    joining.revoke_invitation(db.session(), own_ib().id, invitation_id, actor=client_actor())
    flash(gettext("The invitation is taken back."), "success")
    return redirect(url_for("portal_partner.invitations"))


def _join(form: JoinForm) -> joining.Joined:
    return joining.join(
        db.session(),
        g.client.id,
        currency=form.currency.data or "",
        words=form.words.data or "",
        agreed_id=_agreed_id(form.agreement, form.agreed),
        invitation=form.invitation.data or "",
        actor=client_actor(),
    )


def _agreed_id(shown: HiddenField, agreed: BooleanField) -> int | None:
    """The number of the agreement that was shown, if it was agreed to."""
    number = shown.data or ""
    return int(number) if agreed.data and _KEY.fullmatch(number) else None


def _agreement(form: AcceptForm, problems: Sequence[str] = ()) -> str:
    session = db.session()
    held, asked = agreements.last_acceptance(session, g.client.id), agreements.asked_of_ib(session, g.client.id)
    current = agreements.current_agreement(session)
    shown = held.agreement if held and not asked else current
    if asked and current:
        form.agreement.data, form.agreed.data = str(current.id), False
    return render_template(
        "portal/partner_agreement.html",
        agreement=shown,
        text=_text(shown),
        asked=asked,
        held=held,
        held_text=_text(held.agreement) if held else "",
        is_late=asked is not None and asked.accept_by is not None and asked.accept_by < now().date(),
        form=form,
        problems=problems,
    )


def _standing(form: JoinForm, agreement: PartnerAgreement | None) -> dict[str, Any]:
    """What the page says before the form: whether there is one, and why not."""
    session, secret = db.session(), form.invitation.data or ""
    mode, inviter, is_over = policy_at(session).join_mode, None, False
    if secret:
        try:
            inviter = joining.inviter_of(session, secret)
        except AppError:
            is_over = True
    return {
        "is_approved": g.client.status == "approved",
        "waiting": joining.waiting_application(session, g.client.id),
        "last": joining.last_application(session, g.client.id),
        "inviter": inviter,
        "is_over": is_over,
        "needs_invitation": mode == INVITED and inviter is None,
        "needs_words": mode == APPLICATION,
        "agreement": agreement,
        "text": _text(agreement),
    }


def _text(agreement: PartnerAgreement | None) -> str:
    return agreement.texts.get(str(get_locale()), agreement.texts["en"]) if agreement else ""


def _invitations(form: InviteForm, *, address: str = "", problem: str = "") -> str:
    return render_template(
        "portal/partner_invitations.html",
        form=form,
        problem=problem,
        address=address,
        invitations=joining.invitations_of(db.session(), own_ib().id),
        at=now(),
        days=joining.INVITATION_TTL.days,
    )
