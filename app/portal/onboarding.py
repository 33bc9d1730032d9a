"""The way in: register, verify the mail address, sign in and out, a forgotten password."""

from __future__ import annotations

from flask import flash, g, make_response, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_babel import get_locale, gettext

from app.clients import onboarding
from app.clients.onboarding import clean_link_code
from app.core.clock import now
from app.core.errors import N_, AppError, InvalidInput
from app.extensions import db, limiter
from app.partners import links
from app.partners.touches import Touch, packed
from app.portal import guards
from app.portal.forms import ConfirmForm, MailForm, NewPasswordForm, RegisterForm, SignInForm, show_problems
from app.portal.guards import portal
from app.security import portal as portal_security
from app.surfaces.errors import sentence

#: The version of the text in templates/portal/terms.html; raise it with every change there.
TERMS_VERSION = "2026-11"

_MAIL = "portal_mail"


@portal.route("/register", methods=["GET", "POST"])
@limiter.limit("30 per hour", methods=["POST"])
@limiter.limit("10 per hour", key_func=guards.by_account, methods=["POST"])
def register() -> ResponseReturnValue:
    """The registration form. What follows is the same page whether the address was new or not."""
    if g.client is not None:
        return redirect(url_for("portal.home"))
    code = clean_link_code(request.args.get("ib")) or ""
    form = RegisterForm(data={"ib": code})
    problems: list[str] = []
    if form.is_submitted():
        form.validate()
        try:
            _register(form)
            session[_MAIL] = form.email.data
            return redirect(url_for("portal.check_mail"))
        except AppError as error:
            problems = show_problems(form, error)
    elif code and code.upper() not in {touch.code for touch in guards.visits()}:
        links.count_visit(db.session(), code)
    return render_template("portal/register.html", form=form, problems=problems), 422 if form.is_submitted() else 200


def _register(form: RegisterForm) -> None:
    """Register, once the form could be read; before that collect what else would be wrong, so that all is said at once."""
    values = {
        "email": form.email.data or "",
        "password": form.password.data or "",
        "first_name": form.first_name.data or "",
        "last_name": form.last_name.data or "",
        "country": form.country.data or "",
        "birth_date": form.birth_date.data,
        "language": str(get_locale()),
        "terms_version": TERMS_VERSION if form.terms.data else "",
    }
    promo_code = (form.promo_code.data or "").strip()
    promo_problem = _promo_problem(promo_code)
    if form.errors or promo_problem:
        raise InvalidInput({**onboarding.registration_problems(**values), **promo_problem})
    onboarding.register_client(
        db.session(),
        **values,
        touches=packed(_touches(form)),
        promo_code=promo_code.upper(),
        actor_address=request.remote_addr or "",
    )


def _promo_problem(code: str) -> dict[str, str]:
    if not code or links.resolve_link(db.session(), code) is not None:
        return {}
    return {"promo_code": N_("Nobody here has this code. Please check it, or leave the field empty.")}


def _touches(form: RegisterForm) -> tuple[Touch, ...]:
    """The visits that the browser remembers; where it keeps no cookies, the one that led to the form."""
    known, code = guards.visits(), clean_link_code(form.ib.data)
    return known if known or not code else (Touch(code.upper(), now()),)


@portal.get("/terms")
def terms() -> ResponseReturnValue:
    return render_template("portal/terms.html", version=TERMS_VERSION)


@portal.route("/check-mail", methods=["GET", "POST"])
@limiter.limit("30 per hour", methods=["POST"])
@limiter.limit("5 per hour", key_func=guards.by_account, methods=["POST"])
def check_mail() -> ResponseReturnValue:
    """Look into your mailbox, or ask for another mail. Does not tell whether the address is known."""
    form = MailForm(data={"email": g.client.email if g.client else session.get(_MAIL, "")})
    if form.validate_on_submit():
        onboarding.request_verification(db.session(), email=form.email.data, actor_address=request.remote_addr or "")
        session[_MAIL] = form.email.data
        flash(gettext("If this address waits for verification, another mail is on its way."), "success")
        return redirect(url_for("portal.check_mail"))
    return render_template("portal/check_mail.html", form=form), 422 if form.is_submitted() else 200


@portal.route("/verify/<secret>", methods=["GET", "POST"])
@limiter.limit("60 per hour", methods=["POST"])
def verify(secret: str) -> ResponseReturnValue:
    """The link of the verification mail. Opening it only shows a button: mail scanners open links, they press nothing."""
    form = ConfirmForm()
    try:
        if not form.validate_on_submit():
            onboarding.check_link(db.session(), secret, "verify_email")
            return render_template("portal/verify.html", form=form)
        onboarding.verify_email(db.session(), secret, actor_address=request.remote_addr or "")
    except AppError as error:
        return _refused(error, "verify")
    session.pop(_MAIL, None)
    flash(gettext("Your mail address is confirmed."), "success")
    return redirect(url_for("portal.home" if g.client else "portal.sign_in"))


@portal.route("/sign-in", methods=["GET", "POST"])
@limiter.limit("60 per 15 minutes", methods=["POST"], deduct_when=lambda response: response.status_code == 422)
@limiter.limit(
    "10 per 15 minutes", key_func=guards.by_account, methods=["POST"], deduct_when=lambda response: response.status_code == 422
)
def sign_in() -> ResponseReturnValue:
    """Mail address and password. Only failures count towards the limits."""
    form = SignInForm(data={"next": request.args.get("next", "")})
    if g.client is not None and not form.is_submitted():
        return redirect(guards.safe_next(form.next.data))
    problems: list[str] = []
    status = 422 if form.is_submitted() else 200
    if form.validate_on_submit():
        try:
            signed_in = portal_security.sign_in(
                db.session(),
                email=form.email.data,
                password=form.password.data,
                address=request.remote_addr or "",
                user_agent=request.user_agent.string,
                former_secret=request.cookies.get(portal_security.COOKIE, ""),
            )
            guards.renew_form_token()
            response = make_response(redirect(guards.safe_next(form.next.data)))
            guards.set_cookie(response, portal_security.COOKIE, signed_in.secret)
            return response
        except AppError as error:
            problems = [sentence(error)]
            status = error.http_status
    return render_template("portal/sign_in.html", form=form, problems=problems), status


@portal.post("/sign-out")
def sign_out() -> ResponseReturnValue:
    """End the session on the server, then forget its cookie."""
    if g.portal_session is not None:
        client_id, session_id = g.client.id, g.portal_session.id
        portal_security.revoke_session(db.session(), client_id=client_id, session_id=session_id, actor=guards.client_actor())
    guards.renew_form_token()
    flash(gettext("You are signed out."), "success")
    response = redirect(url_for("portal.sign_in"))
    response.delete_cookie(portal_security.COOKIE, path="/portal")
    return response


@portal.route("/forgot", methods=["GET", "POST"])
@limiter.limit("30 per hour", methods=["POST"])
@limiter.limit("5 per hour", key_func=guards.by_account, methods=["POST"])
def forgot() -> ResponseReturnValue:
    """Ask for a reset mail; the answer is the same for known and unknown addresses."""
    form = MailForm()
    if form.validate_on_submit():
        onboarding.request_password_reset(db.session(), email=form.email.data, actor_address=request.remote_addr or "")
        return render_template("portal/forgot_sent.html", email=form.email.data)
    return render_template("portal/forgot.html", form=form), 422 if form.is_submitted() else 200


@portal.route("/reset/<secret>", methods=["GET", "POST"])
@limiter.limit("30 per hour", methods=["POST"])
def reset(secret: str) -> ResponseReturnValue:
    """The link of the reset mail: choose a new password; every browser is signed out."""
    form = NewPasswordForm()
    problems: list[str] = []
    try:
        onboarding.check_link(db.session(), secret, "reset_password")
        if form.validate_on_submit():
            address = request.remote_addr or ""
            onboarding.reset_password(db.session(), secret=secret, password=form.password.data, actor_address=address)
            flash(gettext("Your password is changed. Please sign in with the new one."), "success")
            return redirect(url_for("portal.sign_in"))
    except InvalidInput as error:
        problems = show_problems(form, error)
    except AppError as error:
        return _refused(error, "reset")
    return render_template("portal/reset.html", form=form, problems=problems), 422 if form.is_submitted() else 200


def _refused(error: AppError, purpose: str) -> ResponseReturnValue:
    """Why a link does not work, and how to get another."""
    page = render_template("portal/link_refused.html", code=error.code, sentence=sentence(error), purpose=purpose)
    return page, error.http_status
