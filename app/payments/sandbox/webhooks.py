"""The sandbox's clock: does what is planned when it is due, and delivers events until the receiver answers 2xx."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx

from app.payments.sandbox.payments import TASKS, Delays
from app.payments.sandbox.store import Row, Store

_TIMEOUT = httpx.Timeout(6.0, connect=2.0)


def sign(body: bytes, secret: str, timestamp: int) -> str:
    """The value of the Stripe-Signature header."""
    signature = hmac.new(secret.encode(), b"%d." % timestamp + body, hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={signature}"


class Clock:
    """One thread that watches what is due; deliveries go out on a few threads more, in no promised order, as at Stripe."""

    def __init__(self, store: Store, delays: Delays, webhook_url: str, webhook_secret: str) -> None:
        self._store = store
        self._delays = delays
        self._url = webhook_url
        self._secret = webhook_secret
        self._news = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="sandbox-clock", daemon=True)
        self._senders = ThreadPoolExecutor(max_workers=4, thread_name_prefix="sandbox-webhook")
        # Proxy settings of the environment are for the outside world, not for a receiver on this machine.
        self._http = httpx.Client(timeout=_TIMEOUT, trust_env=False)

    def start(self) -> None:
        # What was on its way when the last process ended may not have arrived.
        self._store.execute("UPDATE delivery SET state = 'waiting' WHERE state = 'sending'")
        self._thread.start()

    def stop(self) -> None:
        """Stop after what is under way; what waits is kept for the next start."""
        self._stopping = True
        self._news.set()
        self._thread.join()
        self._senders.shutdown(wait=True, cancel_futures=True)
        self._http.close()

    def wake(self) -> None:
        """Something may have become due."""
        self._news.set()

    def _run(self) -> None:
        while not self._stopping:
            self._news.clear()
            self._do_what_is_due()
            due = self._store.next_due()
            self._news.wait(None if due is None else min(max(due - time.time(), 0.01), 3600.0))

    def _do_what_is_due(self) -> None:
        for task in self._store.rows("SELECT * FROM task WHERE due <= ? ORDER BY due", time.time()):
            with self._store.transaction():
                self._store.execute("DELETE FROM task WHERE id = ?", task["id"])
                TASKS[task["action"]](self._store, task["subject"])
        sql = "SELECT * FROM delivery WHERE state = 'waiting' AND due <= ? ORDER BY id"
        for delivery in self._store.rows(sql, time.time()):
            self._store.execute("UPDATE delivery SET state = 'sending' WHERE id = ?", delivery["id"])
            self._senders.submit(self._deliver, delivery)

    def _deliver(self, delivery: Row) -> None:
        event = self._store.get(delivery["event"])
        body = json.dumps(event, indent=2).encode()  # Stripe sends its JSON indented; re-serialising it breaks the signature
        sent = time.time()
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks) sandbox",
            "Stripe-Signature": sign(body, self._secret, int(sent)),
        }
        try:
            response = self._http.post(self._url, content=body, headers=headers)
            arrived, answer = response.is_success, str(response.status_code)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            arrived, answer = False, type(error).__name__
        with self._store.transaction():
            self._store.execute(
                "UPDATE delivery SET state = ?, answer = ?, sent = ? WHERE id = ?",
                *("delivered" if arrived else "failed", answer, sent, delivery["id"]),
            )
            if arrived:
                self._store.save({**event, "pending_webhooks": 0})
            else:
                wait_s = min(self._delays.first_retry_s * 2 ** (delivery["attempt"] - 1), self._delays.longest_retry_s)
                self._store.queue(event["id"], time.time() + wait_s, delivery["attempt"] + 1)
        self.wake()
