"""Where a trading server's automations call: checked, put on its way, answered at once; nothing is asked of anybody here."""

from __future__ import annotations

import logging

from flask import Blueprint, abort, current_app, jsonify, request
from flask.typing import ResponseReturnValue
from redis.exceptions import RedisError
from sqlalchemy import select

from app.core.actor import Actor
from app.core.uow import unit_of_work
from app.extensions import csrf, db, limiter
from app.metatrader import state
from app.metatrader.servertime import server_zone
from app.metatrader.sources import webhook
from app.metatrader.sources.held import Held
from app.models.metatrader import Server

log = logging.getLogger("lotwise.webhook")

blueprint = Blueprint("trading_events", __name__, url_prefix="/api/mt")
csrf.exempt(blueprint)  # a trading server proves itself with a secret in a header instead


@blueprint.post("/<code>/events")
@limiter.limit("12000 per minute")
def receive(code: str) -> ResponseReturnValue:
    """202 once the request's content is in the streams; 404 where none are taken, 403 for a wrong secret, 503 when it could
    not be kept, after which a sweep is due.
    """
    secret = current_app.extensions["settings"].server_secrets(code).webhook_secret
    server = db.session.scalars(select(Server).where(Server.code == code)).one_or_none()
    if server is None or not webhook.is_open(server, secret):
        abort(404)
    if not webhook.is_secret(request.headers.get(webhook.SECRET_HEADER, ""), secret):
        log.warning("wrong secret server=%s address=%s", server.code, request.remote_addr)
        abort(403)
    request.max_content_length = webhook.BODY_LIMIT + 1  # a body without an announced length is cut there
    body = request.get_data(cache=False)
    if len(body) > webhook.BODY_LIMIT:
        abort(413)
    try:
        accounts = Held(db.engine, server.id, server_zone(server.time_zone)).accounts
        received = webhook.receive(current_app.extensions["redis_client"], server, body, accounts)
    except RedisError as error:
        log.warning("request not kept server=%s error=%s", server.code, type(error).__name__)
        with unit_of_work(db.session(), Actor.system("webhook")) as unit:
            state.note_gap(unit.session, server.id)
        abort(503)
    return jsonify(received=True, events=received.events, hints=received.hints), 202
