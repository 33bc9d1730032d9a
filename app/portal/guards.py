"""The portal's blueprint, and who may come in: every request knows its client, or that there is none."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

from flask import Blueprint, Response, current_app, g, redirect, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from itsdangerous import BadData, URLSafeSerializer

from app.clients.onboarding import clean_link_code
from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import N_
from app.extensions import db
from app.partners.policy import policy_at
from app.partners.touches import Touch, packed, remember, unpacked
from app.security import portal as portal_security

portal = Blueprint("portal", __name__, url_prefix="/portal")

#: The visits through IBs' links, signed. How long one counts is the policy's.
LINK_COOKIE = "lotwise_ib"
LINK_COOKIE_DAYS = 365

#: The bar and the rail: key, label, endpoint, icon. The first four stand in the phone's bar, the others behind More.
PLACES = (
    ("home", N_("Home"), "portal.home", "home"),
    ("accounts", N_("Accounts"), "portal_accounts.index", "chart-candle"),
    ("money", N_("Money"), "portal_money.index", "wallet"),
    ("partner", N_("IB"), "portal_partner.index", "affiliate"),
    ("documents", N_("Documents"), "portal.documents", "id"),
    ("profile", N_("Profile"), "portal.profile", "user"),
)

#: Addresses of our own pages, with what may follow a question mark; no dots, so that none leads out of /portal.
_OWN_PAGE = re.compile(r"/portal(/[A-Za-z0-9_-]+)*/?(\?[A-Za-z0-9_.~%&=+:/-]*)?")

P = ParamSpec("P")


def load_client() -> None:
    """Before every portal request: the client of the session cookie as `g.client`, and the session as `g.portal_session`."""
    if not in_portal():
        return
    g.client = g.portal_session = None
    found = portal_security.find_session(db.session(), request.cookies.get(portal_security.COOKIE, ""))
    if found is None:
        return
    if is_sign_of_life():
        portal_security.touch(db.session(), found)
    g.client, g.portal_session = found.client, found


def client_required(view: Callable[P, ResponseReturnValue]) -> Callable[P, ResponseReturnValue]:
    """Only for signed-in clients; a visitor is sent to the sign-in page and comes back afterwards."""

    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> ResponseReturnValue:
        if g.client is not None:
            return view(*args, **kwargs)
        if "HX-Request" in request.headers:
            return Response(status=401, headers={"HX-Refresh": "true"})
        if request.accept_mimetypes.best == "text/event-stream":
            return Response(status=401)
        wanted = request.full_path.rstrip("?") if request.method == "GET" else None
        return redirect(url_for("portal.sign_in", next=wanted))

    return guarded


def navigation() -> dict[str, Any]:
    """Template context of the portal's frame."""
    if not in_portal():
        return {}
    places = [
        {"key": key, "label": gettext(label), "href": url_for(endpoint), "icon": icon} for key, label, endpoint, icon in PLACES
    ]
    signed_in = g.get("client") is not None
    return {
        "nav": places[:4] if signed_in else [],
        "nav_more": places[4:] if signed_in else [],
        "sign_out_url": url_for("portal.sign_out"),
        "brand": {"name": current_app.config["APP_NAME"]},
    }


@portal.after_request
def keep_visit(response: Response) -> Response:
    """Remember the IB's link that a visitor came through, so that looking around first does not lose it."""
    code = clean_link_code(request.args.get("ib"))
    # A banner is embedded anywhere and kept by caches: seeing one is no visit.
    if code and g.get("client") is None and request.endpoint != "portal.banner":
        known = remember(visits(), Touch(code.upper(), now()), policy_at(db.session()).window_days)
        kept = _signer().dumps(packed(known))
        set_cookie(response, LINK_COOKIE, str(kept), max_age=LINK_COOKIE_DAYS * 24 * 3600)
    return response


def visits() -> tuple[Touch, ...]:
    """The visits through IBs' links that this browser remembers; none when somebody else than we wrote them."""
    try:
        return unpacked(_signer().loads(request.cookies.get(LINK_COOKIE, "")))
    except BadData:
        return ()


def _signer() -> URLSafeSerializer:
    return URLSafeSerializer(str(current_app.secret_key), salt="visits through links of IBs")


def in_portal() -> bool:
    return request.path == "/portal" or request.path.startswith("/portal/")


def is_sign_of_life() -> bool:
    """Whether this request shows that the client is there: parts of pages and live updates fetch themselves."""
    return "HX-Request" not in request.headers and request.accept_mimetypes.best != "text/event-stream"


def client_actor() -> Actor:
    return Actor.client(g.client.id, request.remote_addr or "")


def safe_next(target: str | None) -> str:
    """A page of the portal to go to after sign-in; the start page instead of anything else that the address names."""
    if target and _OWN_PAGE.fullmatch(target) and not target.startswith(url_for("portal.sign_out")):
        return target
    return url_for("portal.home")


def by_account() -> str:
    """Rate limit key: the mail address in the form, hashed so that no address lies in Redis."""
    return "account:" + hashlib.sha256(request.form.get("email", "").strip().lower().encode()).hexdigest()[:32]


def by_client() -> str:
    """Rate limit key: the signed-in client."""
    return f"client:{g.client.id}" if g.get("client") else by_account()


def set_cookie(response: Response, name: str, value: str, max_age: int | None = None) -> None:
    """A cookie that only the portal's pages send back, and no script reads. Without max_age it goes with the browser."""
    secure = current_app.extensions["settings"].secure_cookies
    response.set_cookie(name, value, max_age=max_age, path="/portal", httponly=True, samesite="Lax", secure=secure)


def renew_form_token() -> None:
    """Let the forms of before a sign-in or sign-out work no more."""
    session.pop("csrf_token", None)
