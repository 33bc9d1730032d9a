"""Where payment providers call: verify, store, answer fast; the work is done in a job."""

from __future__ import annotations

from flask import Blueprint, abort, current_app, jsonify, request
from flask.typing import ResponseReturnValue

from app.extensions import csrf, db, limiter
from app.jobs import gateways
from app.payments.callbacks import receive_callback

blueprint = Blueprint("callbacks", __name__, url_prefix="/callbacks")
csrf.exempt(blueprint)  # providers sign their calls instead

MAX_BODY_BYTES = 1_000_000


@blueprint.post("/<name>")
@limiter.limit("600 per minute")
def receive(name: str) -> ResponseReturnValue:
    """200 once the callback is stored, also for repeats; 403 for a wrong signature, 400 for what cannot be read."""
    request.max_content_length = MAX_BODY_BYTES + 1  # a body without an announced length is cut there
    raw_body = request.get_data(cache=False)
    if len(raw_body) > MAX_BODY_BYTES:
        abort(413)
    connector = gateways.connector_of(current_app.extensions["settings"], name)
    new = receive_callback(
        db.session(),
        connector,
        raw_body=raw_body,
        headers=dict(request.headers),
        address=request.remote_addr or "",
    )
    return jsonify(received=True, new=new)
