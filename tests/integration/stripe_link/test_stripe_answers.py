"""Answers that Stripe should never give, and some it gives rarely: each has one safe meaning."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator

import pytest

from app.core.money import Money
from app.payments.connector import DepositRequest, Failed, NotSent, Pending, RefundRequest, Settled, Unknown
from app.payments.connectors.stripe import StripeConnector

DEPOSIT = DepositRequest("a-1", Money(100_000, "USD"), "Deposit", "http://shop.example/back", "http://shop.example/cancel")
REFUND = RefundRequest("w-1", "pi_1", Money(30_000, "USD"))


class Provider:
    """An HTTP server that gives one prepared answer and keeps what it was asked."""

    def __init__(self) -> None:
        self.status, self.body = 200, b"{}"
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        provider = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                provider.requests.append((self.command, self.path, dict(self.headers)))
                self.send_response(provider.status)
                self.send_header("Content-Length", str(len(provider.body)))
                self.end_headers()
                self.wfile.write(provider.body)

            do_GET = do_POST  # noqa: N815  # the library's name

            def log_message(self, *_args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.connector = StripeConnector("sk_test_x", (), f"http://127.0.0.1:{self._server.server_port}/", timeout_s=(2.0, 5.0))

    def answers(self, status: int, body: bytes | dict) -> StripeConnector:
        self.status, self.body = status, body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.connector

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    made = Provider()
    yield made
    made.close()


def error(kind: str, **fields: str) -> dict:
    return {"error": {"type": kind, "message": "No.", **fields}}


UNREADABLE = {
    "empty": b"",
    "a page": b"<html>Bad gateway</html>",
    "cut off": b'{"id": "cs_1", "url": "htt',
    "not utf-8": b"\xff\xfe",
    "a list": b"[]",
    "a text": b'"hello"',
    "null": b"null",
    "an empty object": b"{}",
    "an error as text": b'{"error": "no"}',
    "an error as a list": b'{"error": [1]}',
    "an error of nothing": b'{"error": null}',
    "wrong types": b'{"id": 7, "url": ["x"], "status": {}, "payment_status": 5}',
}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("status", [200, 400, 502])
def test_an_unreadable_answer_to_a_change_is_unknown_or_pending(provider, status, body):
    connector = provider.answers(status, body)
    assert isinstance(connector.start_deposit(DEPOSIT).outcome, Unknown)
    refund = connector.start_refund(REFUND)
    assert isinstance(refund.outcome, Unknown | Pending)
    assert refund.provider_reference is None


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
def test_an_unreadable_answer_to_a_question_decides_nothing(provider, body):
    connector = provider.answers(200, body)
    assert isinstance(connector.fetch_deposit("cs_1"), Unknown | Pending)
    assert isinstance(connector.fetch_refund(REFUND).outcome, Unknown | Pending)
    assert isinstance(connector.fetch_refund(REFUND, "re_1").outcome, Unknown | Pending)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, error("invalid_request_error", code="amount_too_small"), Failed("amount_too_small", "No.")),
        (400, error("invalid_request_error"), Failed("invalid_request", "No.")),
        (402, error("card_error", code="card_declined"), Failed("card_declined", "No.")),
        (404, error("invalid_request_error", code="resource_missing"), Failed("resource_missing", "No.")),
        (401, error("invalid_request_error"), NotSent("AuthenticationError")),
        (403, error("invalid_request_error"), NotSent("PermissionError")),
        (429, error("invalid_request_error", code="rate_limit"), NotSent("RateLimitError")),
        (400, error("idempotency_error"), Unknown("IdempotencyError")),
        (409, error("invalid_request_error", code="idempotency_key_in_use"), Unknown("APIError")),
        (500, error("api_error"), Unknown("APIError")),
        (503, error("api_error"), Unknown("APIError")),
        (418, error("something_new"), Unknown("APIError")),
    ],
)
def test_errors_have_one_meaning(provider, status, body, expected):
    connector = provider.answers(status, body)
    assert connector.start_deposit(DEPOSIT).outcome == expected
    assert connector.start_refund(REFUND).outcome == expected
    assert isinstance(connector.fetch_deposit("cs_1"), Unknown)
    assert isinstance(connector.fetch_refund(REFUND).outcome, Unknown)


def test_an_amount_that_cannot_be_read_is_not_credited(provider):
    paid = {"id": "cs_1", "payment_status": "paid", "status": "complete", "amount_total": "1000", "currency": "usd"}
    assert provider.answers(200, paid).fetch_deposit("cs_1") == Unknown("unreadable")


def test_a_refund_among_others_is_found_by_our_mark(provider):
    done = {"object": "refund", "amount": 30_000, "currency": "usd", "status": "succeeded", "payment_intent": "pi_1"}
    page = {
        "object": "list",
        "data": [{**done, "id": "re_1", "metadata": {}}, {**done, "id": "re_2", "metadata": {"lotwise_attempt": "w-1"}}],
        "has_more": True,
    }
    found = provider.answers(200, page).fetch_refund(REFUND)
    assert found.provider_reference == "re_2"
    assert found.outcome == Settled(Money(30_000, "USD"), None, "pi_1")
    other = RefundRequest("w-2", "pi_1", Money(30_000, "USD"))
    assert provider.connector.fetch_refund(other).outcome == Unknown("too_many")


def test_our_attempt_id_is_in_every_change_and_no_call_is_repeated_by_itself(provider):
    connector = provider.answers(503, error("api_error"))
    provider.requests.clear()
    connector.start_deposit(DEPOSIT)
    connector.start_refund(REFUND)
    assert [(method, path) for method, path, _ in provider.requests] == [
        ("POST", "/v1/checkout/sessions"),
        ("POST", "/v1/refunds"),
    ]
    assert [headers["Idempotency-Key"] for _, _, headers in provider.requests] == ["a-1", "w-1"]
    assert {headers["Stripe-Version"] for _, _, headers in provider.requests} == {"2026-10-28.endive"}


def test_the_machine_is_not_described_to_the_provider(provider):
    provider.answers(200, b"{}").fetch_deposit("cs_1")
    described = json.loads(provider.requests[-1][2]["X-Stripe-Client-User-Agent"])
    assert not {"platform", "telemetry_id"} & set(described)
