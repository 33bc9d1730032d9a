"""Stripe's API under /v1, as far as the connector uses it: bearer key, form parameters, idempotency keys, JSON errors."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import time
from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, request

from app.payments.sandbox import payments
from app.payments.sandbox.house import House
from app.payments.sandbox.objects import Thing
from app.payments.sandbox.parameters import (
    REFUND_LIST_SCHEMA,
    REFUND_SCHEMA,
    RETRIEVE_SCHEMA,
    SESSION_SCHEMA,
    Problem,
    decode,
    required,
    whole,
)
from app.payments.sandbox.store import Store, new_id

#: path -> (Stripe's name of the object, its type field)
_RETRIEVABLE = {
    "checkout/sessions": "checkout.session",
    "payment_intents": "payment_intent",
    "charges": "charge",
    "balance_transactions": "balance_transaction",
    "refunds": "refund",
}


def blueprint(house: House) -> Blueprint:
    api, store = Blueprint("api", __name__, url_prefix="/v1"), house.store

    @api.before_request
    def check() -> Response | None:
        if store.take_fault("error_500", request.path):
            return _answer({"error": {"message": "An unknown error occurred.", "type": "api_error"}}, 500)
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not key:
            raise Problem(401, "You did not provide an API key.")
        if not hmac.compare_digest(key.encode(), house.secret_key.encode()):
            raise Problem(401, f"Invalid API Key provided: {key[:8]}{'*' * 8}")
        return None

    @api.after_request
    def misbehave(response: Response) -> Response:
        """Faults that come after the work is done: a slow answer, and an answer that never arrives."""
        house.wake()
        slow = store.take_fault("slow", request.path)
        if slow:
            time.sleep(slow["seconds"])
        if store.take_fault("drop_answer", request.path):
            connection: socket.socket = request.environ["werkzeug.socket"]
            connection.shutdown(socket.SHUT_RDWR)
        return response

    @api.errorhandler(Problem)
    def problem(error: Problem) -> Response:
        return _answer(error.body, error.status)

    @api.post("/checkout/sessions")
    def create_session() -> Response:
        return _once(store, SESSION_SCHEMA, lambda params: payments.create_session(store, params, house.site))

    @api.post("/refunds")
    def create_refund() -> Response:
        return _once(store, REFUND_SCHEMA, lambda params: payments.create_refund(store, params, house.delays.refund_s))

    @api.get("/refunds")
    def list_refunds() -> Response:
        params = decode(request.args.items(multi=True), REFUND_LIST_SCHEMA)
        limit = min(whole(params.get("limit", "10"), "limit"), 100)
        found = store.newest("refund", parent=required(params, "payment_intent"), limit=limit + 1)
        page = {"object": "list", "data": found[:limit], "has_more": len(found) > limit, "url": "/v1/refunds"}
        return _answer(page)

    @api.get("/<path:path>/<object_id>")
    def retrieve(path: str, object_id: str) -> Response:
        kind = _RETRIEVABLE.get(path)
        if kind is None:
            raise Problem(404, f"Unrecognized request URL ({request.method}: {request.path[:80]}).")
        thing = store.find(object_id)
        if thing is None or thing["object"] != kind:
            raise payments.missing(kind, object_id)
        params = decode(request.args.items(multi=True), RETRIEVE_SCHEMA)
        return _answer(_expanded(store, thing, params.get("expand", [])))

    @api.route("/", defaults={"path": ""}, methods=["GET", "POST", "DELETE"])
    @api.route("/<path:path>", methods=["GET", "POST", "DELETE"])
    def unknown(path: str) -> Response:
        raise Problem(404, f"Unrecognized request URL ({request.method}: /v1/{path[:80]}).")

    return api


def _once(store: Store, schema: dict[str, Any], handler: Callable[[dict[str, Any]], Thing]) -> Response:
    """Do a change once per Idempotency-Key: an equal repeat gets the first answer, another request is refused."""
    key = request.headers.get("Idempotency-Key", "")
    if len(key) > 255:
        raise Problem(400, "Idempotency keys are at most 255 characters long.", kind="idempotency_error")
    pairs = sorted(request.form.items(multi=True))
    fingerprint = hashlib.sha256(json.dumps([request.path, pairs]).encode()).hexdigest()
    with store.transaction():
        known = store.remembered(key) if key else None
        if known and known["request"] != fingerprint:
            message = (
                "Keys for idempotent requests can only be used with the same parameters they were first used with. "
                f"Try using a key other than '{key[:80]}' if you meant to execute a different request."
            )
            raise Problem(400, message, kind="idempotency_error")
        if known:
            return _answer(json.loads(known["body"]), known["status"], {"Idempotent-Replayed": "true"})
        try:
            params = decode(pairs, schema)
            body, status = _expanded(store, handler(params), params.get("expand", [])), 200
        except Problem as problem:
            # As at Stripe, what fails validation is not kept: the same key may carry the mended request.
            if not problem.saved:
                raise
            body, status = problem.body, problem.status
        if key:
            store.remember(key, fingerprint, status, body)
    return _answer(body, status)


def _expanded(store: Store, thing: Thing, paths: list[str]) -> Thing:
    """The object with the ids on these dotted paths replaced by the objects themselves."""
    for path in paths:
        node: Any = thing
        for key in path.split("."):
            if not isinstance(node, dict) or key not in node:
                raise Problem(400, f"This property cannot be expanded ({path[:80]}).", param="expand")
            if isinstance(node[key], str):
                node[key] = store.find(node[key])
            node = node[key]
            if node is None:
                break
    return thing


def _answer(body: Thing, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    response = Response(json.dumps(body, indent=2), status, mimetype="application/json")
    response.headers.update({"Request-Id": new_id("req_"), "Cache-Control": "no-store", **(headers or {})})
    return response
