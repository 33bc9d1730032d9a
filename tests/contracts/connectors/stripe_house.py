"""The Stripe connector with the sandbox behind it, over real HTTP, and a receiver for its callbacks."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from app.core.money import Money
from app.payments.connector import DepositRequest, ProviderEvent, StartedDeposit
from app.payments.connectors.stripe import StripeConnector
from app.payments.sandbox import Sandbox
from app.payments.sandbox.payments import Delays

SECRET_KEY, WEBHOOK_SECRET = "sk_test_made_up", "whsec_made_up"
QUICK = Delays(refund_s=0.05, delayed_payment_s=0.05, first_retry_s=0.05, longest_retry_s=0.2)


def eventually(ask: Callable[[], Any], what: str, within_s: float = 10.0) -> Any:
    """The first true answer; fails the test when there is none in time."""
    deadline = time.monotonic() + within_s
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)
    return answer


class Receiver:
    """An HTTP server that keeps what is posted to it. `answers` are the next status codes; after them it answers 200."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.callbacks: list[tuple[bytes, dict[str, str]]] = []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver.answers.pop(0) if receiver.answers else 200
                receiver.callbacks.append((body, dict(self.headers)))
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class StripeHouse:
    """What the contract asks of a connector's surroundings: a payer, faults, and a count of what the provider made."""

    def __init__(self, var_dir: Path) -> None:
        self.receiver = Receiver()
        self.sandbox = Sandbox(var_dir, SECRET_KEY, WEBHOOK_SECRET, self.receiver.url, delays=QUICK).start()
        self.connector = self._connector(self.sandbox.url)
        self.http = httpx.Client(trust_env=False)

    def close(self) -> None:
        self.http.close()
        self.sandbox.stop()
        self.receiver.close()

    def _connector(self, api_base: str, read_timeout_s: float = 20.0) -> StripeConnector:
        return StripeConnector(SECRET_KEY, (WEBHOOK_SECRET,), api_base, timeout_s=(2.0, read_timeout_s))

    def impatient(self) -> StripeConnector:
        """The connector with a read time-out of half a second."""
        return self._connector(self.sandbox.url, 0.5)

    def unreachable(self) -> StripeConnector:
        """The connector with an address at which nobody listens."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        return self._connector(f"http://127.0.0.1:{port}")

    def wrong_key(self) -> StripeConnector:
        return StripeConnector("sk_test_other", (WEBHOOK_SECRET,), self.sandbox.url)

    def request(self, attempt_id: str, amount: Money) -> DepositRequest:
        return DepositRequest(attempt_id, amount, "Deposit", "http://shop.example/back", "http://shop.example/cancel")

    def pay(self, started: StartedDeposit, card: str = "4242424242424242") -> httpx.Response:
        assert started.redirect_url
        return self.http.post(started.redirect_url, data={"number": card, "expiry": "12/34", "cvc": "123"})

    def decline(self, started: StartedDeposit) -> None:
        assert self.pay(started, "4000000000000002").status_code == 402

    def pay_later(self, started: StartedDeposit) -> None:
        assert self.pay(started, "4000000000003220").status_code == 303

    def expire(self, started: StartedDeposit) -> None:
        self.control(f"sessions/{started.provider_reference}/expire")

    def fault(self, name: str, times: int = 1, **fields: Any) -> None:
        """drop_answer, error_500, slow (seconds=…), duplicate_webhooks or fail_refund."""
        self.control("faults", name=name, times=times, **fields)

    def control(self, path: str, /, **fields: Any) -> None:
        self.http.post(f"{self.sandbox.url}/sandbox/{path}", data=fields).raise_for_status()

    def state(self) -> dict[str, Any]:
        return self.http.get(f"{self.sandbox.url}/sandbox/state").json()

    def made(self, attempt_id: str) -> dict[str, int]:
        """How many deposits and refunds the provider has of this attempt."""
        state = self.state()
        return {
            "deposits": sum(session["client_reference_id"] == attempt_id for session in state["sessions"]),
            "refunds": sum(refund["metadata"].get("lotwise_attempt") == attempt_id for refund in state["refunds"]),
        }

    def events(self, attempt_id: str) -> list[ProviderEvent]:
        """All events of an attempt that have arrived so far, as the connector reads them."""
        read = [self.connector.parse_callback(body, headers) for body, headers in list(self.receiver.callbacks)]
        return [event for events in read for event in events if event.attempt_id == attempt_id]
