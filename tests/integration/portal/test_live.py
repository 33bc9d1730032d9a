"""Live updates over a real server: what is sent when, and when a stream ends."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import httpx
import pytest
from sqlalchemy import update
from werkzeug.serving import make_server

from app.core.live import channel
from app.core.tables import Event
from app.models.clients import PortalSession
from app.portal import live
from tests.integration.portal.conftest import PASSWORD

DEADLINE_S = 20


@pytest.fixture
def address(app) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(10)
    server.server_close()


@pytest.fixture
def browser(address, visitor, client_id) -> Iterator[httpx.Client]:
    """Signed in by the test client, then on the wire with its cookie."""
    visitor.sign_in("amira@example.com", PASSWORD)
    cookies = {"lotwise_portal": visitor.secret}
    with httpx.Client(base_url=address, cookies=cookies, timeout=DEADLINE_S, headers={"Accept": "text/event-stream"}) as client:
        yield client


class Stream:
    """One open stream, read line by line."""

    def __init__(self, browser: httpx.Client, **headers: str) -> None:
        self._open = browser.stream("GET", "/portal/live", headers=headers)
        self.response = self._open.__enter__()
        self._lines = self.response.iter_lines()

    def until(self, wanted: str) -> list[str]:
        """All lines up to the wanted one; fails when the stream ends or is silent for too long."""
        seen = []
        for line in self._lines:
            seen.append(line)
            if line == wanted:
                return seen
        raise AssertionError(f"{wanted!r} never came: {seen}")

    def rest(self) -> list[str]:
        return list(self._lines)

    def close(self) -> None:
        self._open.__exit__(None, None, None)


def tell(redis, client_id, fact):
    """Announce a fact as the relay does, once somebody listens."""
    ends_at = time.monotonic() + DEADLINE_S
    while not redis.publish(channel(client_id), json.dumps({"type": fact})):
        assert time.monotonic() < ends_at, "nobody listens"
        time.sleep(0.02)


def revoke_all(database):
    with database.session() as session:
        session.execute(update(PortalSession).values(revoked=True))
        session.commit()


def old(database):
    """Make what happened so far too old to be news."""
    with database.owner_session() as session:
        session.connection().exec_driver_sql("ALTER TABLE event DISABLE TRIGGER USER")
        session.execute(update(Event).values(occurred_at=Event.occurred_at - live.FIRST_LOOK_BACK * 10))
        session.connection().exec_driver_sql("ALTER TABLE event ENABLE TRIGGER USER")
        session.commit()


def test_facts_become_topics(browser, redis, client_id, database):
    old(database)
    with closing(Stream(browser)) as stream:
        assert stream.response.headers["Content-Type"].startswith("text/event-stream")
        assert stream.response.headers["Cache-Control"] == "no-store"
        stream.until("id: 1")
        for fact, topics in (
            ("trading.changed", ["account", "all"]),
            ("transfer.done", ["account", "money", "all"]),
            ("document.approved", ["document", "all"]),
            ("commission.accrued", ["commission", "money", "all"]),
            ("network.changed", ["network", "commission", "all"]),
            ("something.else", ["all"]),
        ):
            tell(redis, client_id, fact)
            lines = stream.until("event: all")
            assert [line.removeprefix("event: ") for line in lines if line.startswith("event")] == topics


def test_what_is_no_fact_of_ours_is_passed_over(browser, redis, client_id, database):
    old(database)
    with closing(Stream(browser)) as stream:
        stream.until("id: 1")
        for noise in (b"not json", b"[]", b"{}", b"null", b"\xff"):
            redis.publish(channel(client_id), noise)
        redis.publish(channel(client_id + 1), json.dumps({"type": "deposit.settled"}))
        tell(redis, client_id, "document.approved")
        assert [line for line in stream.until("event: all") if line.startswith("event")] == ["event: document", "event: all"]


def test_what_happened_while_the_page_was_on_its_way_comes_first(browser, client_id):
    with closing(Stream(browser)) as stream:  # the client registered a moment ago
        lines = stream.until("event: document")
        assert "event: money" not in lines


def test_after_an_interruption_everything_is_asked_again(browser, database):
    old(database)
    with closing(Stream(browser, **{"Last-Event-ID": "1"})) as stream:
        seen = stream.until("event: money")
        assert {"event: account", "event: all", "event: commission", "event: document"} <= set(seen)


def test_a_revoked_session_ends_its_stream_at_once(browser, redis, client_id, database):
    with closing(Stream(browser)) as stream:
        stream.until("id: 1")
        revoke_all(database)
        tell(redis, client_id, "session.revoked")
        stream.rest()
    assert browser.get("/portal/live").status_code == 401


def test_an_ended_session_is_noticed_at_the_next_heartbeat(browser, database, monkeypatch):
    monkeypatch.setattr(live, "HEARTBEAT_S", 0.5)
    with closing(Stream(browser)) as stream:
        stream.until(": still here")
        revoke_all(database)
        stream.rest()


def test_a_stream_ends_after_its_time(browser, monkeypatch):
    monkeypatch.setattr(live, "LIFETIME_S", 0.5)
    with closing(Stream(browser)) as stream:
        assert stream.rest()[0].startswith("retry:")


def test_of_many_streams_the_newest_stay(browser, redis, client_id):
    streams = []
    for _ in range(live.MOST_PER_CLIENT + 1):
        streams.append(Stream(browser))
        streams[-1].until("id: 1")
    assert f"retry: {live.COME_BACK_LATER_MS}" in streams[0].rest()
    tell(redis, client_id, "deposit.settled")
    streams[-1].until("event: money")
    for stream in streams:
        stream.close()


def test_when_the_server_is_busy_streams_become_polling(app, browser):
    slots = app.extensions["live_slots"]
    taken = 0
    while slots.acquire(blocking=False):
        taken += 1
    answer = browser.get("/portal/live")
    assert answer.status_code == 200
    assert f"retry: {live.COME_BACK_LATER_MS}" in answer.text
    assert all(f"event: {topic}\n" in answer.text for topic in live.ALL_TOPICS)
    for _ in range(taken):
        slots.release()
    assert taken == app.extensions["settings"].web_threads // 2


def test_an_ended_stream_gives_its_place_back(app, browser, monkeypatch):
    monkeypatch.setattr(live, "LIFETIME_S", 0.1)
    for _ in range(app.extensions["settings"].web_threads // 2 + 3):
        answer = browser.get("/portal/live")
        assert f"retry: {live.COME_BACK_MS}" in answer.text
