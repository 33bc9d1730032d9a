"""Where providers call: JSON answers, nothing stored but what is signed, repeats harmless."""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import time

import pytest
from sqlalchemy import select

from app.api import callbacks
from app.core.tables import Event
from app.jobs import gateways
from app.models.payments import Callback

URL = "/callbacks/stripe"


@pytest.fixture
def web(app):
    return app.test_client()


def body(event_id: str = "evt_1", **changes: object) -> bytes:
    session = {
        "id": "cs_1", "object": "checkout.session", "status": "complete", "payment_status": "paid", "amount_total": 500,
        "currency": "usd", "payment_intent": "pi_1", "client_reference_id": "nobody", "metadata": {}, **changes,
    }  # fmt: skip
    event = {"id": event_id, "object": "event", "type": "checkout.session.completed", "created": int(time.time())}
    return json.dumps({**event, "data": {"object": session}}).encode()


def signed(raw: bytes, app) -> dict[str, str]:
    moment = str(int(time.time()))
    secret = app.extensions["settings"].stripe_webhook_secret.encode()
    digest = hmac.new(secret, moment.encode() + b"." + raw, hashlib.sha256).hexdigest()
    return {"Stripe-Signature": f"t={moment},v1={digest}", "Cookie": "lotwise_session=secret"}


def stored(database) -> list[Callback]:
    with database.session() as session:
        return list(session.scalars(select(Callback)))


def test_a_signed_callback_is_stored_once_however_often_it_comes(app, web, database):
    raw = body()
    answers = [web.post(URL, data=raw, headers=signed(raw, app)) for _ in range(3)]
    assert [(answer.status_code, answer.json) for answer in answers] == [
        (200, {"received": True, "new": 1}), (200, {"received": True, "new": 0}), (200, {"received": True, "new": 0}),
    ]  # fmt: skip
    (kept,) = stored(database)
    assert (kept.connector, kept.event_id, kept.body, kept.address) == ("stripe", "evt_1", raw, "127.0.0.1")
    assert "Cookie" not in kept.headers
    with database.session() as session:
        (event,) = session.scalars(select(Event)).all()
    assert (event.type, event.subject_id, event.payload) == ("callback.received", kept.id, {"connector": "stripe"})


def test_the_same_event_with_other_content_is_a_conflict(app, web, database):
    for raw, status in ((body(), 200), (body(amount_total=900), 409)):
        assert web.post(URL, data=raw, headers=signed(raw, app)).status_code == status
    assert len(stored(database)) == 1


@pytest.mark.parametrize("method", ["get", "put", "delete", "patch"])
def test_another_method_is_refused(web, method):
    answer = getattr(web, method)(URL)
    assert (answer.status_code, answer.json["code"]) == (405, "http.405")
    assert answer.json["message"]


@pytest.mark.parametrize(
    "headers",
    [{}, {"Stripe-Signature": "nonsense"}, {"Stripe-Signature": "t=1,v1=" + "00" * 32}],
    ids=["none", "nonsense", "wrong"],
)
def test_without_a_signature_nothing_is_stored(web, database, headers):
    answer = web.post(URL, data=body(), headers=headers)
    assert (answer.status_code, answer.json["code"]) == (403, "payments.bad_signature")
    assert stored(database) == []


def test_what_is_signed_but_unreadable_is_an_error(app, web, database):
    answer = web.post(URL, data=b"{", headers=signed(b"{", app))
    assert (answer.status_code, answer.json["code"]) == (400, "payments.malformed_callback")
    assert stored(database) == []


def test_an_unknown_provider_is_not_found(web):
    answer = web.post("/callbacks/nobody", data=b"{}")
    assert (answer.status_code, answer.json["code"]) == (404, "payments.unknown_connector")
    assert web.post("/callbacks/", data=b"{}").json["code"] == "http.404"


def test_too_much_is_refused_before_it_is_read(app, web, database):
    raw = b" " * (callbacks.MAX_BODY_BYTES + 1)
    answer = web.post(URL, data=raw, headers=signed(raw, app))
    assert (answer.status_code, answer.json["code"]) == (413, "http.413")
    assert stored(database) == []


def test_too_much_without_an_announced_length_is_refused_too(app, web):
    """A chunked body says nothing about its length."""
    raw = b" " * (callbacks.MAX_BODY_BYTES + 1)
    answer = web.post(
        URL, input_stream=io.BytesIO(raw), headers=signed(raw, app),
        environ_overrides={"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"},
    )  # fmt: skip
    assert answer.status_code == 413


def test_a_callback_of_the_largest_size_is_read(app, web):
    raw = body(padding="x" * (callbacks.MAX_BODY_BYTES - len(body(padding=""))))
    assert len(raw) == callbacks.MAX_BODY_BYTES
    assert web.post(URL, data=raw, headers=signed(raw, app)).status_code in (200, 400)


def test_callbacks_share_one_connector(app, web):
    raw = body()
    web.post(URL, data=raw, headers=signed(raw, app))
    made = gateways.connector_of(app.extensions["settings"], "stripe")
    web.post(URL, data=raw, headers=signed(raw, app))
    assert gateways.connector_of(app.extensions["settings"], "stripe") is made


def test_no_cookie_and_no_page_for_machines(app, web):
    raw = body()
    answer = web.post(URL, data=raw, headers=signed(raw, app))
    assert answer.mimetype == "application/json"
    assert "Set-Cookie" not in answer.headers
