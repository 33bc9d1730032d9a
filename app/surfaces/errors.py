"""Error answers of every surface: a clear sentence, the right status, never a stack trace."""

from __future__ import annotations

import logging
import uuid

from flask import Flask, g, jsonify, render_template, request
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from flask_wtf.csrf import CSRFError
from sqlalchemy.exc import DataError
from werkzeug.exceptions import BadRequest, HTTPException

from app.core.errors import N_, AppError
from app.extensions import db

log = logging.getLogger("lotwise.errors")

#: What a status means for the reader, by status code.
SENTENCES = {
    400: N_("We could not read this request. Nothing was changed. Please go back and try again."),
    401: N_("Please sign in first."),
    403: N_("You may not see or do this. If you think you should, ask an administrator."),
    404: N_("We could not find this page. It may have been removed, or it belongs to somebody else."),
    405: N_("This cannot be done from here. Nothing was changed."),
    413: N_("The file is too large. Nothing was uploaded."),
    415: N_("This kind of content is not accepted here."),
    422: N_("Some of the input is not valid. Nothing was changed."),
    429: N_("Too many tries. Please wait a minute and try again."),
    500: N_("Something went wrong on our side. Your money is where it was. We have been told; please try again."),
}

STALE_FORM = N_(
    "This page was open for too long, or the form came from elsewhere. Nothing was changed. Please reload and try again."
)


def sentence(error: AppError) -> str:
    """The error's message in the reader's language, with its values filled in."""
    text = gettext(error.message)
    return text % error.data if error.data else text


def init_app(app: Flask) -> None:
    app.register_error_handler(AppError, handle_app_error)
    app.register_error_handler(CSRFError, handle_csrf_error)
    app.register_error_handler(HTTPException, handle_http_error)
    app.register_error_handler(DataError, handle_data_error)
    app.register_error_handler(Exception, handle_unexpected)


def handle_app_error(error: AppError) -> ResponseReturnValue:
    log.info("refused code=%s endpoint=%s", error.code, request.endpoint)
    return answer(error.http_status, sentence(error), error.code)


def handle_csrf_error(error: CSRFError) -> ResponseReturnValue:
    log.info("csrf refused endpoint=%s", request.endpoint)
    return answer(
        400,
        gettext(
            "This page was open for too long, or the form came from elsewhere. Nothing was changed. "
            "Please reload and try again."
        ),
        "csrf",
    )


def handle_http_error(error: HTTPException) -> ResponseReturnValue:
    status = error.code or 500
    if status < 400:
        return error
    return answer(status, gettext(SENTENCES.get(status, SENTENCES[400 if status < 500 else 500])), f"http.{status}")


def handle_data_error(error: DataError) -> ResponseReturnValue:
    """A value that no column holds, such as an id of thirty digits or a zero character in a filter, finds nothing."""
    log.warning("refused sqlstate=%s endpoint=%s", getattr(error.orig, "sqlstate", None), request.endpoint)
    db.session.rollback()  # the error page reads from the database, too
    return handle_http_error(BadRequest())


def handle_unexpected(error: Exception) -> ResponseReturnValue:
    reference = uuid.uuid4().hex[:12]
    log.error("unexpected reference=%s endpoint=%s", reference, request.endpoint, exc_info=error)
    db.session.rollback()
    return answer(500, gettext(SENTENCES[500]), "app.unexpected", reference)


def answer(status: int, text: str, code: str, reference: str = "") -> ResponseReturnValue:
    """JSON for machines, a page for people."""
    if request.path.startswith(("/callbacks", "/api", "/healthz")) or request.accept_mimetypes.best == "application/json":
        return jsonify(code=code, message=text, reference=reference), status
    surface = "portal" if request.path.startswith("/portal") else "office"
    g.setdefault("client", None)
    return render_template(f"{surface}/error.html", status=status, sentence=text, reference=reference), status
