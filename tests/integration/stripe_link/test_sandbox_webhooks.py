"""Delivery of events: retried until accepted, kept over a restart, sent again on request; and the panel's controls."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.core.money import Money
from app.payments.sandbox import Sandbox
from tests.contracts.connectors.stripe_house import QUICK, SECRET_KEY, WEBHOOK_SECRET, Receiver, StripeHouse, eventually

ROOT = Path(__file__).parents[3]


@pytest.fixture
def house(tmp_path) -> Iterator[StripeHouse]:
    made = StripeHouse(tmp_path / "sandbox")
    yield made
    made.close()


def deliveries(house: StripeHouse, kind: str) -> list[dict]:
    [event] = [event for event in house.state()["events"] if event["type"] == kind]
    return event["deliveries"]


def start(house: StripeHouse, attempt: str = "a-1"):
    return house.connector.start_deposit(house.request(attempt, Money(100_000, "USD")))


def test_an_event_is_sent_again_until_it_is_accepted(house):
    house.receiver.answers = [500, 404, 302]
    started = start(house)
    house.expire(started)
    sent = eventually(
        lambda: (found := deliveries(house, "checkout.session.expired")) and found[-1]["state"] == "delivered" and found,
        "the delivery",
    )
    assert [delivery["answer"] for delivery in sent] == ["500", "404", "302", "200"]
    waits = [later["sent"] - earlier["sent"] for earlier, later in itertools.pairwise(sent)]
    assert waits[0] >= QUICK.first_retry_s
    assert waits[1] >= 2 * QUICK.first_retry_s
    assert len(house.events("a-1")) == 4  # each time freshly signed, and readable


def test_events_survive_a_restart_of_the_sandbox(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}/"
    house = StripeHouse(tmp_path / "sandbox")
    try:
        started = start(house)
        house.sandbox.stop()
        house.sandbox = Sandbox(tmp_path / "sandbox", SECRET_KEY, WEBHOOK_SECRET, nobody, delays=QUICK).start()
        house.expire(started)
        eventually(lambda: deliveries(house, "checkout.session.expired")[0]["answer"] == "ConnectError", "a failed delivery")
        house.sandbox.stop()
        house.sandbox = Sandbox(tmp_path / "sandbox", SECRET_KEY, WEBHOOK_SECRET, house.receiver.url, delays=QUICK).start()
        eventually(lambda: house.events("a-1"), "the event after the restart")
    finally:
        house.close()


def test_an_event_is_resent_on_request(house):
    house.expire(start(house))
    [event] = eventually(lambda: house.events("a-1"), "the event")
    eventually(lambda: deliveries(house, "checkout.session.expired")[0]["state"] == "delivered", "its record")
    house.control(f"resend/{event.event_id}")
    [first, again] = eventually(lambda: len(found := house.events("a-1")) == 2 and found, "the event once more")
    assert first == again
    bodies = [json.loads(body) for body, _ in house.receiver.callbacks]
    assert [body["pending_webhooks"] for body in bodies] == [1, 0]


def test_events_look_like_stripes(house):
    house.expire(start(house))
    eventually(lambda: house.receiver.callbacks, "a callback")
    body, headers = house.receiver.callbacks[0]
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    assert body.startswith(b'{\n  "id": "evt_')
    event = json.loads(body)
    assert (event["object"], event["livemode"], event["api_version"]) == ("event", False, "2026-10-28.endive")


def test_controls_refuse_nonsense(house):
    site = f"{house.sandbox.url}/sandbox"
    for fields in ({"name": "explode"}, {"name": "slow", "seconds": "-1"}, {"name": "slow", "times": "x"}, {}):
        assert house.http.post(f"{site}/faults", data=fields).status_code == 400
    assert house.http.post(f"{site}/faults", json=["slow"]).status_code == 400
    assert house.http.post(f"{site}/resend/evt_nobody").status_code == 404
    assert house.http.post(f"{site}/sessions/cs_nobody/expire").status_code == 404
    assert house.http.get(f"{site}/faults").json() == []


def test_a_fault_is_used_up_and_can_be_cleared(house):
    site = f"{house.sandbox.url}/sandbox"
    house.fault("error_500", times=2, path="/v1/refunds")
    assert start(house).redirect_url  # another path
    headers = {"Authorization": f"Bearer {SECRET_KEY}"}
    assert house.http.get(f"{house.sandbox.url}/v1/refunds/re_1", headers=headers).status_code == 500
    assert house.http.get(f"{site}/faults").json()[0]["times"] == 1
    house.fault("error_500", times=0)
    assert house.http.get(f"{house.sandbox.url}/v1/refunds/re_1", headers=headers).status_code == 404


def test_other_sites_cannot_press_the_buttons(house):
    answer = house.http.post(
        f"{house.sandbox.url}/sandbox/faults", data={"name": "slow", "times": "1"}, headers={"Origin": "http://evil.example"}
    )
    assert answer.status_code == 403
    assert house.http.get(f"{house.sandbox.url}/sandbox/faults").json() == []


def test_a_browser_is_shown_the_panel_again(house):
    started = start(house)
    answer = house.http.post(
        f"{house.sandbox.url}/sandbox/sessions/{started.provider_reference}/expire", headers={"Accept": "text/html,*/*;q=0.8"}
    )
    assert (answer.status_code, answer.headers["Location"]) == (303, "/sandbox/")
    page = house.http.get(f"{house.sandbox.url}/", follow_redirects=True)
    assert started.provider_reference in page.text
    assert "Resend" in page.text


def test_the_checkout_page(house):
    hostile = '<script>alert("x")</script>'
    request = house.request("a-1", Money(100_000, "USD"))
    started = house.connector.start_deposit(type(request)(**{**request.__dict__, "description": hostile}))
    page = house.http.get(started.redirect_url)
    assert "1,000.00 USD" in page.text
    assert hostile not in page.text
    assert "<script" not in page.text
    assert "style=" not in page.text
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "form-action 'self' http://shop.example;" in policy
    assert "Fill in" in page.text
    filled = house.http.get(f"{started.redirect_url}?card=4242424242424242").text
    assert 'value="4242 4242 4242 4242"' in filled
    assert hostile not in house.http.get(started.redirect_url, params={"card": hostile}).text
    wrong = house.http.post(started.redirect_url, data={"number": "1", "expiry": hostile, "cvc": ""})
    assert wrong.status_code == 422
    assert hostile not in wrong.text
    assert house.http.post(started.redirect_url).status_code == 422
    assert house.http.get(f"{house.sandbox.url}/c/pay/cs_test_nobody").status_code == 404
    house.expire(started)
    assert "expired" in house.http.get(started.redirect_url).text
    assert house.pay(started).status_code == 410


def environment(tmp_path: Path, port: int) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key in {"PATH", "HOME", "LANG"}}
    return kept | {
        "LOTWISE_ENV": "test",
        "LOTWISE_VAR": str(tmp_path),
        "PORT": str(port - 2),
        "BASE_URL": "http://127.0.0.1:9",
        "STRIPE_SECRET_KEY": SECRET_KEY,
        "STRIPE_WEBHOOK_SECRET": f"{WEBHOOK_SECRET},whsec_old",
        "SECRET_KEY": "k" * 48,
        "DOCUMENT_KEY": "11" * 32,
        "MT5_PASSWORD": "Mt5#Manager1",
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/x",
        "REDIS_URL": "redis://127.0.0.1:9",
    }


RUN = "from config import load_settings; from app.payments.sandbox import run; run(load_settings())"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def test_the_process_serves_and_stops_on_sigterm(tmp_path):
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", RUN], cwd=ROOT, env=environment(tmp_path, port))
    try:

        def answers() -> bool:
            try:
                return httpx.get(f"http://127.0.0.1:{port}/sandbox/state", trust_env=False).status_code == 200
            except httpx.ConnectError:
                return False

        eventually(answers, "the sandbox", within_s=30)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
    finally:
        process.kill()
        process.wait()
    assert (tmp_path / "sandbox" / "sandbox.db").exists()


def test_a_taken_port_is_said_in_one_line(tmp_path):
    receiver = Receiver()
    try:
        port = int(receiver.url.rsplit(":", 1)[1])
        ended = subprocess.run(
            [sys.executable, "-c", RUN],
            cwd=ROOT,
            env=environment(tmp_path, port),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        receiver.close()
    assert ended.returncode == 1
    assert ended.stderr == f"The Stripe sandbox cannot start at http://127.0.0.1:{port}: Address already in use.\n"
