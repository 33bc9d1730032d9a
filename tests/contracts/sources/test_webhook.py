"""Automation requests: who may call, what a body comes to, and that whatever is left out is asked of the server."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from sqlalchemy import select

from app.core.clock import now
from app.jobs import gateways, queues, tasks
from app.metatrader.events import DealEvent, decode
from app.metatrader.sources import Unreadable, refetch, webhook
from app.metatrader.sources.webhook import read
from app.models.metatrader import DeadLetter, Deal, ServerState
from tests.contracts.sources.world import SECRET
from tests.integration.trading.house import wait_until

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "sources" / "webhook.json").read_text())["requests"]
URL = "/api/mt/sim/events"
HEADERS = {"X-Webhook-Secret": SECRET}


@pytest.fixture
def world(make_world, redis):
    """As after the first request, of the new login, was answered."""
    made = make_world("webhook")
    wait_until(lambda: refetch.waiting(redis, "sim"))
    redis.delete("mt:sim:hints")
    return made


@pytest.fixture
def gateway():
    """Closes what jobs of this process have connected to."""
    yield
    while gateways._platforms:
        gateways._platforms.popitem()[1].close()


@pytest.fixture
def app(world):
    return world.app


@pytest.fixture
def web(app):
    return app.test_client()


def post(web, body, **headers):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return web.post(URL, data=raw, headers={**HEADERS, **headers})


def whole_deal(**changes):
    return {**next(one["deal"] for one in VECTORS if "deal" in one), **changes}


def in_stream(redis):
    return [fields for _, fields in redis.xrange("mt:sim:0")]


def test_the_day_of_the_vectors():
    readings = [read(json.dumps(one).encode()) for one in VECTORS]
    told = [(one.change, one.record.ticket) for reading in readings for one in reading.news]
    assert told == [
        ("add", 500001), ("add", 500002), ("add", 500003), ("add", 500004), ("add", 500005), ("add", 500006),
        ("update", 500006), ("delete", 500005), ("add", 500007),
    ]  # fmt: skip
    assert all("login:100001" in reading.hints for reading in readings)
    assert [reading.fate for reading in readings if reading.fate] == ["archived", "restored"]
    edited = next(reading for reading in readings if reading.news and reading.news[0].change == "update")
    assert "deal:500006" in edited.hints


@pytest.mark.parametrize(
    ("body", "hints"),
    [
        ({"login": "954402"}, ["login:954402"]),
        ({"login": 954402, "text": "#LOGIN#"}, ["login:954402"]),
        ({"Login": "954402", "deal_ticket": "1048577"}, ["login:954402", "deal:1048577"]),
        ({"deal": "1048577"}, ["deal:1048577"]),
        ({"user": {"Login": "5"}}, ["login:5"]),
        ({"login": "5", "deal": {"Deal": "7", "Login": "5"}}, ["login:5", "deal:7"]),
    ],
)
def test_whatever_names_a_login_or_a_deal_is_a_hint(body, hints):
    reading = read(json.dumps(body).encode())
    assert (reading.hints, reading.news) == (hints, [])


def test_a_deal_may_be_the_body_itself():
    reading = read(json.dumps(whole_deal()).encode())
    assert [one.record.ticket for one in reading.news] == [500001]
    assert reading.hints == ["login:100001"]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b"\xff", b"{}", b'{"login": "x"}', b'{"login": "-1"}', b'{"deal": {"Login": "\\ud800"}}',
        b"[" * 9999,
    ],
)  # fmt: skip
def test_what_names_nobody_is_kept_for_people(redis, body):
    reading = read(body)
    assert reading.hints == []
    (kept,) = reading.news
    assert isinstance(kept, Unreadable)
    kept.payload.encode()  # fit for a stream


def test_a_request_is_in_the_stream_when_it_is_answered(world, web, redis):
    answer = post(web, {"trigger": "3001", "login": str(world.login), "deal": whole_deal()})
    assert (answer.status_code, answer.json) == (202, {"received": True, "events": 1, "hints": 1})
    event = decode(in_stream(redis)[-1])
    assert isinstance(event, DealEvent)
    assert (event.src, event.deal.profit, event.key) == ("webhook", Decimal(26_000), "500001")
    assert refetch.waiting(redis, "sim") == 1


def test_numbers_are_counted_without_gaps(world, web, redis):
    for number in range(3):
        post(web, {"login": "1", "deal": whole_deal(Deal=str(900 + number))})
    numbers = [int(fields[b"seq"]) for fields in in_stream(redis) if fields[b"src"] == b"webhook"]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


@pytest.mark.parametrize("secret", ["", "wrong", SECRET + "é", SECRET[:-1]])
def test_without_the_secret_nothing_is_taken(world, web, redis, secret):
    before = len(in_stream(redis))
    answer = post(web, {"login": "1"}, **{"X-Webhook-Secret": secret})
    assert (answer.status_code, answer.json["code"]) == (403, "http.403")
    assert web.post(URL, data=b"{}").status_code == 403
    assert (len(in_stream(redis)), refetch.waiting(redis, "sim")) == (before, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"events": "stream", "options": {}},
        {"events": "poll", "options": {"webhook": {"enabled": False}}},
        {"events": "poll", "options": {"webhook": True}},
        {"is_active": False},
    ],
)
def test_a_server_that_is_not_set_up_for_it_is_not_found(world, web, change):
    world.set(**change)
    assert post(web, {"login": "1"}).status_code == 404
    assert web.post("/api/mt/nobody/events", data=b"{}", headers=HEADERS).status_code == 404


def test_without_a_secret_of_ours_nobody_can_call(world, web, app):
    app.extensions["settings"] = replace(world.settings, mt_secrets=())
    assert web.post(URL, data=b"{}", headers={"X-Webhook-Secret": ""}).status_code == 404


def test_beside_another_source_requests_are_taken_when_they_are_switched_on(world, web):
    world.set(events="poll", options={"webhook": {"enabled": True}})
    assert post(web, {"login": "1"}).status_code == 202


def test_too_much_is_refused(world, web):
    large = b" " * (webhook.BODY_LIMIT + 1)
    assert post(web, large).status_code == 413
    chunked = web.post(
        URL, input_stream=io.BytesIO(large), headers=HEADERS,
        environ_overrides={"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"},
    )  # fmt: skip
    assert chunked.status_code == 413
    assert post(web, b" " * (webhook.BODY_LIMIT - 14) + b'{"login": "1"}').status_code == 202


@pytest.mark.parametrize("method", ["get", "put", "delete", "patch"])
def test_only_posts_are_taken(world, web, method):
    assert getattr(web, method)(URL, headers=HEADERS).status_code == 405


def test_when_redis_is_away_the_caller_hears_it_and_a_sweep_is_due(world, web, app, monkeypatch):
    class Away:
        def __getattr__(self, name):
            raise RedisConnectionError

    monkeypatch.setitem(app.extensions, "redis_client", Away())
    monkeypatch.setattr("flask_limiter.Limiter._check_request_limit", lambda *_, **__: None)
    assert post(web, {"login": "1", "deal": whole_deal()}).status_code == 503
    world.session.rollback()
    assert world.session.scalars(select(ServerState.gaps)).one() == 1


def test_while_events_are_paused_only_the_hint_is_kept(world, web, redis):
    world.set(events_paused_at=now())
    before = len(in_stream(redis))
    assert post(web, {"login": str(world.login), "deal": whole_deal()}).json["events"] == 0
    assert (len(in_stream(redis)), refetch.waiting(redis, "sim")) == (before, 1)


def test_a_body_without_sense_stands_among_the_dead_letters(world, web):
    assert post(web, b"#LOGIN# has traded").status_code == 202
    world.drain()
    (letter,) = world.session.scalars(select(DeadLetter))
    assert letter.fields["payload"] == "#LOGIN# has traded"
    assert letter.fields["note"] == "the body is no JSON object"


def test_what_became_of_a_login_is_told(world, web, redis):
    post(web, {"trigger": "2003", "login": str(world.login)})
    kinds = [fields[b"kind"] for fields in in_stream(redis)]
    assert kinds[-1] == b"account.archived"
    post(web, {"trigger": "2003", "login": "424242"})
    assert len(in_stream(redis)) == len(kinds)


def test_an_edit_that_the_request_only_names_is_fetched(world, web):
    ticket = world.deposit(500)
    world.settles()
    world.edit(ticket, profit=Decimal(400))
    world.redis.delete("mt:sim:hints")  # as if the request with the whole deal had not come
    post(web, {"trigger": "12006", "deal": str(ticket)})
    world.settles()
    assert world.deals()[ticket][10] == 400


def test_a_deletion_that_the_request_only_names_is_fetched(world, web):
    ticket = world.deposit(500)
    world.settles()
    world.simulator.store.delete_deal(ticket)
    post(web, {"trigger": "12007", "deal_ticket": str(ticket)})
    world.settles()
    assert world.session.scalars(select(Deal.is_void).where(Deal.ticket == ticket, Deal.is_current)).one()


def test_hints_are_answered_by_a_job_and_survive_a_server_that_does_not_answer(world, app, redis, gateway):
    ticket = world.deposit(700)
    wait_until(lambda: refetch.waiting(redis, "sim"))
    world.simulator.control.faults.set([])
    with app.app_context(), world.database.session() as session:
        tasks.refetch_hinted(session, world.settings)
        jobs = queues.queue(redis, "default").jobs
        assert [job.kwargs["task"] for job in jobs] == ["refetch_server"]
        world.set(url="https://127.0.0.1:1")
        tasks.refetch_server(session, world.settings, world.server_id)
        assert refetch.waiting(redis, "sim") == 1
        world.set(url=world.simulator.url)
        tasks.refetch_server(session, world.settings, world.server_id)
        assert refetch.waiting(redis, "sim") == 0
        tasks.refetch_hinted(session, world.settings)
        assert len(queues.queue(redis, "default").jobs) == 1
    fetched = [decode(fields) for fields in in_stream(redis) if fields[b"src"] == b"refetch"]
    assert {event.kind for event in fetched} >= {"deal.add", "account.state"}
    assert str(ticket) in {event.key for event in fetched}


def test_a_hint_that_comes_while_it_is_answered_is_answered_again(world, redis):
    class Meanwhile:
        def deals(self, login, since, until):
            refetch.remember(redis, "sim", [f"login:{login}"])
            return []

        def positions(self, login):
            return []

        def get_account(self, login):
            return world.simulator.exchange.state(login)

    refetch.remember(redis, "sim", [f"login:{world.login}", "nonsense", "login:x"])
    held = type("Held", (), {"positions": lambda self, login: []})()
    zone = world.simulator.exchange.zone
    asked = refetch.refetch(redis, Meanwhile(), held, code="sim", zone=zone, shards=1)
    assert (asked.hints, asked.events) == (3, 1)
    assert refetch.waiting(redis, "sim") == 1


def test_a_login_that_the_server_does_not_know_is_no_news(world, redis):
    refetch.remember(redis, "sim", ["login:424242"])
    before = len(in_stream(redis))
    world._answer_hints()
    assert (refetch.waiting(redis, "sim"), len(in_stream(redis))) == (0, before)
