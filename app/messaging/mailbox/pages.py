"""The mailbox's pages: the list, one message, and the same as JSON for tests.

A message's HTML is shown in a frame without scripts, forms or anything from the network; its links open in a new tab.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, abort, jsonify, redirect, render_template, request, url_for
from markupsafe import Markup, escape
from werkzeug.wrappers import Response as AnyResponse

from app.messaging.mailbox.store import Message, Store

#: For the pages, and for a message's own HTML.
PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; frame-src 'self'; form-action 'self';"
    " frame-ancestors 'self'; base-uri 'none'"
)
BODY_POLICY = (
    "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:;"
    " frame-ancestors 'self'"
)

_LINK = re.compile(r"(https?://[^\s<>\"]+)")
_HEAD = re.compile(r"<head[^>]*>", re.IGNORECASE)


def make_app(store: Store) -> Flask:
    """The mailbox's web application."""
    app = Flask(__name__)
    app.add_template_filter(linked)

    def wanted(message_id: str) -> Message:
        return store.find(message_id) or abort(404)

    @app.get("/")
    def inbox() -> str:
        to = request.args.get("to", "").strip()
        return render_template("inbox.html", messages=store.newest(to), to=to)

    @app.get("/messages/<message_id>")
    def message(message_id: str) -> str:
        return render_template("message.html", message=wanted(message_id))

    @app.get("/messages/<message_id>/body.html")
    def body(message_id: str) -> Response:
        response = Response(with_new_tabs(wanted(message_id).html), mimetype="text/html")
        response.headers["Content-Security-Policy"] = BODY_POLICY
        return response

    @app.get("/messages.json")
    def messages_json() -> Response:
        return jsonify([summary(found) for found in store.newest(request.args.get("to", "").strip())])

    @app.get("/messages/<message_id>.json")
    def message_json(message_id: str) -> Response:
        return jsonify(whole(wanted(message_id)))

    @app.post("/clear")
    def clear() -> AnyResponse:
        store.clear()
        return redirect(url_for("inbox"), 303)

    @app.errorhandler(404)
    def missing(_error: Exception) -> tuple[str, int]:
        return render_template("missing.html"), 404

    @app.before_request
    def same_site_only() -> None:
        """Pages of other sites may not press this one's button."""
        origin = request.headers.get("Origin")
        if request.method == "POST" and origin and urlsplit(origin).netloc != request.host:
            abort(403)

    @app.after_request
    def protect(response: Response) -> Response:
        response.headers.setdefault("Content-Security-Policy", PAGE_POLICY)
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        if not request.path.startswith("/static/"):
            response.headers["Cache-Control"] = "no-store"
        return response

    return app


def summary(message: Message) -> dict[str, Any]:
    """A message in the list."""
    return {
        "id": message.id,
        "received_at": message.received_at.isoformat(),
        "from": message.sender,
        "to": list(message.recipients),
        "subject": message.subject,
    }


def whole(message: Message) -> dict[str, Any]:
    """All of a message; `headers` as a list of pairs, because a name may stand twice."""
    return {
        **summary(message),
        "links": message.links,
        "text": message.text,
        "html": message.html,
        "headers": [list(header) for header in message.headers],
    }


def linked(text: str) -> Markup:
    """The text, escaped, with its web addresses as links."""
    anchor = Markup('<a href="{0}" rel="noreferrer">{0}</a>')
    pieces = _LINK.split(text)
    return Markup("").join(anchor.format(piece) if index % 2 else escape(piece) for index, piece in enumerate(pieces))


def with_new_tabs(html: str) -> str:
    """The HTML with its links set to open in a new tab: inside the frame they would lead nowhere."""
    base = '<base target="_blank">'
    changed, count = _HEAD.subn(lambda head: head.group(0) + base, html, count=1)
    return changed if count else base + html
