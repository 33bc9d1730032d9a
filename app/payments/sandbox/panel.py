"""The sandbox's own pages: what happened, which events went where, and the faults one can set.

Each control answers a browser with its page and anything else with JSON, so tests and people use the same ones.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Response, abort, jsonify, make_response, redirect, render_template, request, url_for

from app.payments.sandbox import payments
from app.payments.sandbox.house import House
from app.payments.sandbox.objects import words

#: name -> what it does, for the page
FAULTS = {
    "drop_answer": "does the work, then drops the connection without an answer",
    "error_500": "answers 500 and does nothing",
    "slow": "does the work, then waits before it answers",
    "duplicate_webhooks": "delivers an event twice",
    "fail_refund": "lets the next refund fail after a while",
}


def blueprint(house: House) -> Blueprint:
    panel, store = Blueprint("panel", __name__, url_prefix="/sandbox"), house.store

    def done(body: dict[str, Any], status: int = 200) -> Response:
        house.wake()
        if "text/html" in request.headers.get("Accept", ""):
            return make_response(redirect(url_for("panel.show"), 303))
        return make_response(jsonify(body), status)

    def state() -> dict[str, Any]:
        events = store.newest("event", limit=200)
        deliveries: dict[str, list[dict[str, Any]]] = {event["id"]: [] for event in events}
        for row in store.rows("SELECT * FROM delivery ORDER BY id DESC LIMIT 2000"):
            deliveries.get(row["event"], []).insert(0, row)
        return {
            "sessions": store.newest("checkout.session"),
            "refunds": store.newest("refund"),
            "events": [{**event, "deliveries": deliveries[event["id"]]} for event in events],
            "faults": store.rows("SELECT * FROM fault ORDER BY name"),
        }

    @panel.get("/")
    def show() -> str:
        known = state()
        active = {fault["name"]: fault for fault in known["faults"]}
        about = {"merchant": house.merchant, "faults": FAULTS, "active": active, "words": words, "moment": _moment}
        return render_template("panel.html", **{**known, **about})

    @panel.get("/state")
    def show_state() -> Response:
        return jsonify(state())

    @panel.post("/resend/<event_id>")
    def resend(event_id: str) -> Response:
        """Deliver an event once more, as the button in Stripe's dashboard does."""
        with store.transaction():
            event = store.find(event_id)
            if event is None or event["object"] != "event":
                abort(404)
            store.queue(event_id, time.time())
        return done({"resent": event_id}, 202)

    @panel.post("/sessions/<session_id>/expire")
    def expire(session_id: str) -> Response:
        """End an open session before its time."""
        with store.transaction():
            session = store.find(session_id)
            if session is None or session["object"] != "checkout.session":
                abort(404)
            payments.expire_session(store, session_id)
        return done({"expired": session_id})

    @panel.get("/faults")
    def list_faults() -> Response:
        return jsonify(store.rows("SELECT * FROM fault ORDER BY name"))

    @panel.post("/faults")
    def set_fault() -> Response:
        """Fields (form or JSON): name, times (how often it happens next; 0 clears), seconds (slow), path (prefix)."""
        given = request.get_json(silent=True) if request.is_json else request.form.to_dict()
        if not isinstance(given, dict):
            return make_response(jsonify(error="This is not a JSON object."), 400)
        try:
            times, seconds = int(given.get("times") or 0), float(given.get("seconds") or 0)
        except (TypeError, ValueError):
            return make_response(jsonify(error="times and seconds must be numbers."), 400)
        name, path = given.get("name"), str(given.get("path") or "")
        if name not in FAULTS or not 0 <= times <= 1000 or not 0 <= seconds <= 60:
            return make_response(jsonify(error=f"name: one of {', '.join(FAULTS)}; times 0-1000; seconds 0-60."), 400)
        store.set_fault(name, times, seconds, path)
        return done({"name": name, "times": times})

    return panel


def _moment(unix_s: float | None) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S") if unix_s else ""
