"""The client's profile: language, telephone, address, password, and where they are signed in."""

from __future__ import annotations

import re

from flask import flash, g, redirect, render_template, session, url_for
from flask.typing import ResponseReturnValue
from flask_babel import get_locale, gettext

from app.clients import profile as clients_profile
from app.clients.countries import country_names
from app.core.errors import AppError
from app.extensions import db, limiter
from app.portal import guards
from app.portal.forms import PasswordForm, ProfileForm, show_problems
from app.portal.guards import client_required, portal
from app.security import portal as portal_security

#: What a user agent calls itself, in the order in which it must be asked (most browsers also claim to be others).
_BROWSERS = (("Edg", "Edge"), ("OPR", "Opera"), ("Firefox", "Firefox"), ("Chrome", "Chrome"), ("Safari", "Safari"))
_SYSTEMS = (("Android", "Android"), ("iPhone|iPad", "iOS"), ("Windows", "Windows"), ("Mac OS X", "macOS"), ("Linux", "Linux"))


@portal.route("/profile", methods=["GET", "POST"])
@client_required
@limiter.limit("60 per hour", key_func=guards.by_client, methods=["POST"])
def profile() -> ResponseReturnValue:
    form = ProfileForm(obj=g.client)
    problems: list[str] = []
    if form.validate_on_submit():
        try:
            saved = clients_profile.update_profile(
                db.session(),
                client_id=g.client.id,
                language=form.language.data,
                phone=form.phone.data or "",
                address=form.address.data or "",
                actor=guards.client_actor(),
            )
            session["locale"] = saved.language
            flash(gettext("Saved."), "success")
            return redirect(url_for("portal.profile"))
        except AppError as error:
            problems = show_problems(form, error)
    return _page(form, PasswordForm(formdata=None), problems, 422 if form.is_submitted() else 200)


@portal.post("/profile/password")
@client_required
@limiter.limit("10 per hour", key_func=guards.by_client)
def change_password() -> ResponseReturnValue:
    """Change the password; every other browser is signed out."""
    form = PasswordForm()
    problems: list[str] = []
    if form.validate_on_submit():
        try:
            clients_profile.change_password(
                db.session(),
                client_id=g.client.id,
                current=form.current.data,
                password=form.password.data,
                keep_session_id=g.portal_session.id,
                actor=guards.client_actor(),
            )
            flash(gettext("Your password is changed. Other devices are signed out."), "success")
            return redirect(url_for("portal.profile"))
        except AppError as error:
            problems = show_problems(form, error)
    return _page(ProfileForm(formdata=None, obj=g.client), form, problems, 422)


@portal.post("/profile/sessions/<int:session_id>/revoke")
@client_required
def revoke_session(session_id: int) -> ResponseReturnValue:
    portal_security.revoke_session(db.session(), client_id=g.client.id, session_id=session_id, actor=guards.client_actor())
    flash(gettext("That device is signed out."), "success")
    return redirect(url_for("portal.profile"))


def device(user_agent: str) -> str:
    """Browser and system in words a person knows: "Firefox, Windows"."""
    found = [next((name for mark, name in names if re.search(mark, user_agent)), "") for names in (_BROWSERS, _SYSTEMS)]
    return ", ".join(name for name in found if name) or gettext("Unknown device")


def _page(details: ProfileForm, password: PasswordForm, problems: list[str], status: int) -> ResponseReturnValue:
    sessions = [
        (found, device(found.user_agent), found.id == g.portal_session.id)
        for found in portal_security.open_sessions(db.session(), g.client.id)
    ]
    country = dict(country_names(str(get_locale()))).get(g.client.country, g.client.country)
    values = {"details": details, "password": password, "problems": problems, "sessions": sessions, "country": country}
    return render_template("portal/profile.html", **values), status
