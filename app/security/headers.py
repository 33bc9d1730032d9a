"""Security headers of every answer, above all the content security policy.

Scripts come from ourselves or carry the request's nonce. Style attributes are allowed in the back office alone, whose
Flask-AppBuilder templates use them; the portal allows none.
"""

from __future__ import annotations

import secrets

from flask import Flask, Response, current_app, g, request

PORTAL = "/portal"
#: Where a deposit form's answer sends the browser: Chromium holds form-action against that redirect, too.
STRIPE_CHECKOUT = "https://checkout.stripe.com"


def csp_nonce() -> str:
    """The nonce of this request, for script elements. Flask-AppBuilder's templates call it by this name."""
    if "csp_nonce" not in g:
        g.csp_nonce = secrets.token_urlsafe(16)
    return str(g.csp_nonce)


def init_app(app: Flask) -> None:
    app.add_template_global(csp_nonce)
    app.after_request(add_headers)


def add_headers(response: Response) -> Response:
    """Add the headers, unless the view set its own (a document shown in a sandbox does)."""
    office = not request.path.startswith(PORTAL)
    style = "'self' 'unsafe-inline'" if office else "'self'"
    checkout = current_app.extensions["settings"].stripe_api_base or STRIPE_CHECKOUT
    response.headers.setdefault(
        "Content-Security-Policy",
        f"default-src 'self'; base-uri 'self'; object-src 'none'; frame-ancestors 'self'; form-action 'self' {checkout}; "
        f"img-src 'self' data: blob:; font-src 'self'; style-src {style}; script-src 'self' 'nonce-{csp_nonce()}'",
    )
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault("Referrer-Policy", "same-origin")
    response.headers.setdefault("X-Frame-Options", "SAMEORIGIN")
    response.headers.setdefault("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
    response.headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
    if request.is_secure:
        response.headers.setdefault("Strict-Transport-Security", "max-age=31536000")
    may_be_kept = request.path.startswith(("/assets", "/static")) or response.cache_control.public
    if not may_be_kept:
        # Set, not added: Flask lets files be kept and asked about again, also those that are full of names.
        response.headers["Cache-Control"] = "no-store"
    return response
