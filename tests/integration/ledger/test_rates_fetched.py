"""The bank's daily file, fetched from a real server of ours that can misbehave."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from sqlalchemy import func, select

from app.ledger import ecb, rates
from app.models.fx import FXRate

DAILY = (Path(__file__).parents[2] / "vectors" / "fx" / "eurofxref-daily.xml").read_bytes()
DAY = datetime(2026, 3, 2, 15, tzinfo=UTC)

Answer = Callable[[BaseHTTPRequestHandler], None]


class Bank:
    """A server on a free port; `answer` says what it does with a request."""

    def __init__(self) -> None:
        self.answer: Answer = content(DAILY)
        self.requests = 0
        self.over = threading.Event()
        bank = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                bank.requests += 1
                bank.answer(self)

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/stats/eurofxref/eurofxref-daily.xml"


@pytest.fixture
def bank() -> Iterator[Bank]:
    made = Bank()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.over.set()
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def content(body: bytes, status: int = 200, **headers: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)

    return answer


def count(session) -> int:
    return session.scalar(select(func.count()).select_from(FXRate))


@pytest.fixture(autouse=True)
def short_history(monkeypatch):
    """The year is loaded in test_rates.py; two weeks are enough here."""
    monkeypatch.setattr(ecb, "HISTORY", timedelta(days=14))


@pytest.fixture
def loaded(session):
    """A session with the history, and how many rates it has."""
    ecb.load_history(session)
    return count(session)


def test_a_good_file(session, bank):
    ecb.refresh(session, "")
    before = count(session)
    bank.answer = content(dated(DAY + timedelta(days=250)))
    assert ecb.refresh(session, bank.url) == 29
    assert count(session) == before + 29
    found = rates.rate_at(session, "EUR", "USD", DAY + timedelta(days=251))
    assert (found.rate, found.observed_at) == (Decimal("1.1172"), DAY + timedelta(days=250))
    recorded = session.get_one(FXRate, found.sources[0].id)
    assert recorded.reference == f"{bank.url} of 2026-11-07"
    assert recorded.rate == Decimal("1.1172")


def dated(moment: datetime) -> bytes:
    return DAILY.replace(b"2026-03-02", f"{moment:%Y-%m-%d}".encode())


def test_the_first_refresh_brings_the_history(session):
    assert ecb.refresh(session, "") > 200
    assert ecb.refresh(session, "") == 0


def test_the_same_file_again(session, bank, loaded):
    bank.answer = content(dated(datetime(2026, 11, 7, tzinfo=UTC)))
    assert [ecb.refresh(session, bank.url) for _ in range(3)] == [29, 0, 0]
    assert bank.requests == 3


def test_a_day_of_long_ago_is_recorded_as_such(session, bank, loaded):
    bank.answer = content(dated(datetime(1999, 1, 4, tzinfo=UTC)))
    newest = rates.RateBook(session, "EUR").rate("USD")
    assert ecb.refresh(session, bank.url) == 29
    assert rates.RateBook(session, "EUR").rate("USD") == newest


def test_a_correction_is_told_and_changes_nothing(session, bank, loaded, caplog):
    bank.answer = content(dated(datetime(2026, 11, 7, tzinfo=UTC)))
    ecb.refresh(session, bank.url)
    bank.answer = content(dated(datetime(2026, 11, 7, tzinfo=UTC)).replace(b"1.1172", b"1.2000"))
    assert ecb.refresh(session, bank.url) == 0
    (told,) = caplog.records
    assert "pair=EUR/USD" in told.getMessage()
    assert rates.rate_at(session, "EUR", "USD", datetime(2026, 11, 9, tzinfo=UTC)).rate == Decimal("1.1172")


def huge(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.end_headers()
    try:
        for _ in range(200):
            request.wfile.write(b" " * 100_000)
    except OSError:  # the client has seen enough
        return


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (content(b"<html>not found</html>"), "no rates"),
        (content(b"\x00\x01garbage"), "not well-formed"),
        (content(DAILY[:700]), "not well-formed"),
        (content(b""), "not well-formed"),
        (content(b"<!DOCTYPE E [<!ENTITY a 'b'>]>" + DAILY.split(b"\n", 1)[1]), "document type"),
        (content(dated(datetime.now(UTC) + timedelta(days=3))), "a day to come"),
        (content(DAILY, 500), "HTTPStatusError"),
        (content(b"", 404), "HTTPStatusError"),
        (content(b"", 304), "HTTPStatusError"),
        (content(b"", 302, Location="/again"), "TooManyRedirects"),
        (content(DAILY, 200, **{"Content-Length": "9999"}), "RemoteProtocolError"),
        (huge, "larger than 1000000 bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_answer_is_one_line_in_the_log(session, bank, loaded, caplog, answer, why):
    bank.answer = answer
    assert ecb.refresh(session, bank.url) == 0
    assert count(session) == loaded
    (told,) = caplog.records
    assert (told.levelno, told.name, told.exc_info) == (logging.WARNING, "lotwise.fx", None)
    assert why in told.getMessage()
    assert len(told.getMessage()) < 400


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/eurofxref.xml", "http://no-such-host.invalid/", "http://[::1", "ftp://x/y"]
)
def test_an_address_that_leads_nowhere(session, loaded, caplog, url):
    assert ecb.refresh(session, url) == 0
    assert len(caplog.records) == 1


def test_a_server_that_says_nothing(session, bank, loaded, caplog, monkeypatch):
    monkeypatch.setattr(ecb, "_TIMEOUT", httpx.Timeout(0.3))
    bank.answer = lambda _: bank.over.wait(10) and None
    started = time.monotonic()
    assert ecb.refresh(session, bank.url) == 0
    assert time.monotonic() - started < 5
    assert "ReadTimeout" in caplog.text


def test_a_server_that_never_ends(session, bank, loaded, caplog, monkeypatch):
    """Each piece comes in time, so that only the limit for the whole ends it."""
    monkeypatch.setattr(ecb, "_DEADLINE_S", 0.3)

    def drip(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        try:
            while not bank.over.wait(0.02):
                request.wfile.write(b" ")
        except OSError:
            return

    bank.answer = drip
    assert ecb.refresh(session, bank.url) == 0
    assert "took longer" in caplog.text


def test_unknown_currencies_are_left_out(session, bank, loaded):
    bank.answer = content(dated(datetime(2026, 11, 7, tzinfo=UTC)).replace(b"'ISK'", b"'QQQ'"))
    assert ecb.refresh(session, bank.url) == 28
