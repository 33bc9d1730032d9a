"""Kafka alone: MetaTrader's messages word for word, what cannot be read, what was forgotten, and when offsets move."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from confluent_kafka import Consumer, TopicPartition
from sqlalchemy import select

from app.metatrader.events import AccountEvent, Origin, decode
from app.metatrader.servertime import server_zone
from app.metatrader.sources import Place, SourceError, Told, Unreadable
from app.metatrader.sources.feed import Numbers, Teller
from app.metatrader.sources.kafka import KafkaSource, Messages
from app.models.metatrader import DeadLetter, ServerState
from config import ServerSecrets
from tests.contracts.sources.world import ZONE
from tests.integration.trading.house import wait_until
from tests.unit.metatrader.samples import ACCOUNT

VECTORS = Path(__file__).parents[2] / "vectors" / "sources"
AT = datetime(2026, 11, 24, 12, tzinfo=UTC)


def read(*messages, accounts=None, **options):
    values = [(json.dumps(message).encode() if isinstance(message, dict) else message, "t/0@1", AT) for message in messages]
    return Messages(options).read(values, lambda logins: accounts or {})


def deal(**changes):
    known = json.loads((VECTORS / "kafka.json").read_text())["messages"]
    record = next(one["value"]["records"][0] for one in known if one["value"]["type"] == "deal")
    return {**record, **changes}


def as_entries(news):
    """What an ingest reads of news: decoded events, or the reason why not."""
    teller, numbers = Teller(Origin("sim", "kafka", "b"), server_zone(ZONE), 1), Numbers({})
    entries = [teller.entry(one, numbers, AT)[1] for one in news]
    return [decode({name.encode(): value.encode() for name, value in fields.items()}) for fields in entries]


def test_the_day_of_the_vectors_is_told_as_the_simulator_tells_it():
    known = replace(ACCOUNT, login=100001)
    messages = [one["value"] for one in json.loads((VECTORS / "kafka.json").read_text())["messages"]]
    reading = read(*messages, accounts={100001: known})
    told = [(event.kind, event.key) for event in as_entries(reading.news) if not isinstance(event, AccountEvent)]
    stream = json.loads((VECTORS / "stream.json").read_text())["entries"]
    wanted = [decode({name.encode(): value.encode() for name, value in fields.items()}) for fields in stream]
    assert told == [(event.kind, event.key) for event in wanted if not isinstance(event, AccountEvent)]
    revisions = {event.rev for event in as_entries(reading.news) if event.kind.startswith("deal")}
    assert revisions == {event.rev for event in wanted if event.kind.startswith("deal")}
    fates = [one.change for one in reading.news if isinstance(one, Told) and one.change in ("archived", "restored")]
    assert fates == ["archived", "restored"]
    last = [event for event in wanted if event.kind == "account.state"][-1].account
    state = [one.record for one in reading.news if isinstance(one, Told) and one.change == "state"][-1]
    assert (state.balance, state.equity, state.margin) == (last.balance, last.equity, last.margin)
    assert (state.group, state.rights) == (known.group, known.rights)
    assert set(reading.hints) == {"login:100001"}
    assert not reading.skipped


def test_types_that_are_none_of_ours_are_counted_and_skipped():
    tick = {"type": "tick", "action": "add", "records": [{"Symbol": "EURUSD"}] * 3}
    reading = read(tick, tick, {"type": "configuration", "action": "update", "records": [{}]})
    assert reading.news == []
    assert reading.skipped == {"tick": 6, "configuration": 1}


def test_one_bad_record_does_not_spoil_the_others():
    records = [deal(), deal(Volume="-1", Deal="77"), {"Deal": "78"}, deal(Deal="79")]
    first, bad, empty, last = read({"type": "deal", "action": "add", "records": records}).news
    assert [first.record.ticket, last.record.ticket] == [500001, 79]
    assert (bad.kind, bad.key, bad.login) == ("deal.add", "77", 100001)
    assert "Volume is out of range" in bad.note
    assert json.loads(bad.payload)["Volume"] == "-1"
    assert (empty.key, empty.login) == ("78", 0)


@pytest.mark.parametrize(
    "value",
    [
        b"{", b"[]", b"null", b"\xff\xfe", b"1" * 5000, b"[" * 5000, {}, {"type": "deal", "action": "add"},
        {"type": "deal", "action": "add", "records": {}}, {"type": "deal", "action": "add", "records": ["x"]},
    ],
)  # fmt: skip
def test_what_is_no_message_is_kept_for_people(value):
    (kept,) = read(value).news
    assert isinstance(kept, Unreadable)
    assert (kept.kind, kept.note) == ("kafka.message", "t/0@1")


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ({"type": "deal", "action": "frob\ud800nicate", "records": [{"Deal": "\ud800", "Login": "\x00"}]}, "deal.frob?nicate"),
        ({"type": "\ud800", "action": "add", "records": [{}]}, None),
        ({"type": "account", "action": "update", "records": [{"Login": "x\ud800"}]}, "account.state"),
    ],
)
def test_whatever_it_holds_it_can_be_put_into_a_stream(redis, message, kind):
    reading = read(json.dumps(message).encode())
    teller = Teller(Origin("sim", "kafka", "b"), server_zone(ZONE), 1)
    for one in reading.news:
        stream, fields = teller.entry(one, Numbers({}), AT)
        redis.xadd(stream, dict(fields))
    assert [one.kind for one in reading.news] == ([kind] if kind else [])
    assert all(name.isprintable() for name in reading.skipped)


def test_numbers_without_quotes_are_read_exactly():
    record = json.dumps({"type": "DEAL", "action": "Create", "records": [deal(Profit=1)]}).replace(
        '"Profit": 1', '"Profit": 0.10'
    )
    (told,) = read(record.encode()).news
    assert str(told.record.profit) == "0.10"


def test_the_brokers_own_words_can_be_set():
    message = {"type": "trade_deal", "action": "insert", "records": [deal()]}
    assert read(message).skipped == {"trade_deal": 1}
    (told,) = read(message, types={"trade_deal": "deal"}, actions={"insert": "add"}).news
    assert (told.change, told.record.ticket) == ("add", 500001)
    with pytest.raises(SourceError, match="types must lead"):
        read(message, types={"trade_deal": "thing"})


def test_an_account_of_which_we_know_too_little_is_asked_for():
    record = {"Login": "5", "Balance": "1", "Credit": "0", "Equity": "1", "Margin": "0", "MarginFree": "1",
              "MarginLevel": "0", "Floating": "0"}  # fmt: skip
    message = {"type": "account", "action": "update", "records": [record]}
    assert read(message).hints == ["login:5"]
    (told,) = read(message, accounts={5: ACCOUNT}).news
    assert (told.record.balance, told.record.group) == (1, ACCOUNT.group)


def place(broker=None, *, options=None, cursors=None, **secrets) -> Place:
    kafka = dict(broker.secrets) if broker else {}
    return Place(
        code="sim", zone=server_zone(ZONE), options={"prefix": "mt5.", "topics_every_s": 0.1} if options is None else options,
        secrets=ServerSecrets("", "", kafka=tuple({**kafka, **secrets}.items())), groups=[], cursors=cursors or {},
        held=SimpleNamespace(accounts=lambda logins: {}), connect=lambda: None, remember=lambda hints: None,
    )  # fmt: skip


def batches(source, stop, wanted):
    """Batches with something in them until there are so many."""
    found = []
    for batch in source.read(stop):
        found += [batch] if batch.news or batch.cursors else []
        if len(found) == wanted:
            return found
    return found


def committed(broker, topic="mt5.trading"):
    consumer = Consumer({**dict(broker.secrets), "group.id": "lotwise-sim"})
    partitions = consumer.committed([TopicPartition(topic, number) for number in range(4)], timeout=10)
    consumer.close()
    return {partition.partition: partition.offset for partition in partitions if partition.offset >= 0}


def send(broker, *tickets):
    for ticket in tickets:
        message = {"type": "deal", "action": "add", "records": [deal(Deal=str(ticket))]}
        broker.send("mt5.trading", b"deal", json.dumps(message).encode())


def test_offsets_move_only_after_what_they_brought_is_safe(broker):
    send(broker, 1)
    source, stop = KafkaSource(place(broker)), threading.Event()
    reading = source.read(stop)
    batch = next(batch for batch in reading if batch.news)
    assert committed(broker) == {}
    reading.close()  # a crash while the batch was on its way
    source.close()
    source = KafkaSource(place(broker))
    reading = source.read(stop)
    again = next(batch for batch in reading if batch.news)
    assert (again.news, again.cursors) == (batch.news, batch.cursors)
    next(reading)  # asked for more: the batch is in the streams
    assert list(committed(broker).values()) == [1]
    stop.set()
    assert list(reading) == []
    source.close()


def test_our_own_cursor_wins_over_what_kafka_remembers(broker):
    send(broker, 1, 2, 3)
    source = KafkaSource(place(broker))
    (first,) = batches(source, threading.Event(), 1)
    (name,) = first.cursors
    source.close()
    source = KafkaSource(place(broker, cursors={name: "2"}))
    (batch,) = batches(source, threading.Event(), 1)
    assert [told.record.ticket for told in batch.news] == [3]
    assert not batch.lost
    source.close()


def test_a_topic_that_begins_anew_is_read_again_and_calls_for_a_sweep(broker):
    send(broker, 1, 2)
    source = KafkaSource(place(broker))
    (name,) = batches(source, threading.Event(), 1)[0].cursors
    source.close()
    source = KafkaSource(place(broker, cursors={name: "99"}))
    (batch,) = batches(source, threading.Event(), 1)
    assert [told.record.ticket for told in batch.news] == [1, 2]
    assert "begins anew" in batch.lost
    assert batch.cursors == {name: "2"}
    source.close()


def test_what_kafka_has_forgotten_calls_for_a_sweep(make_world, broker):
    world = make_world("kafka")
    with world.reading():
        world.deposit()
        world.settles()
    filling = json.dumps({"type": "tick", "action": "add", "records": [{"Symbol": "x" * 900_000}]}).encode()
    for _ in range(8):  # the broker keeps five megabytes of a partition
        broker.send("mt5.trading", b"deal", filling)
    with world.reading():
        ticket = world.deposit()
        wait_until(lambda: world.drain() or ticket in world.deals())
    assert world.session.scalars(select(ServerState.gaps)).one() >= 1


def test_malformed_messages_stand_among_the_dead_letters(make_world, broker):
    world = make_world("kafka")
    broker.send("mt5.trading", b"deal", b"{not json")
    broker.send("mt5.trading", b"deal", json.dumps({"type": "deal", "action": "add", "records": [deal(Profit="NaN")]}).encode())
    with world.reading():
        world.deposit()
        world.settles()
        wait_until(lambda: world.drain() or len(world.session.scalars(select(DeadLetter.id)).all()) == 2)
    letters = {row.fields["kind"]: row for row in world.session.scalars(select(DeadLetter))}
    assert letters["kafka.message"].fields["payload"] == "{not json"
    assert "mt5.trading/" in letters["kafka.message"].fields["note"]
    assert "Profit is not a decimal number" in letters["deal.add"].reason


@pytest.mark.parametrize(
    ("options", "secrets", "reason"),
    [
        ({"prefix": "mt5."}, {}, "bootstrap.servers is missing"),
        ({}, {"bootstrap.servers": "b:1"}, "must name the broker's topics"),
        ({"prefix": 5}, {"bootstrap.servers": "b:1"}, "must name the broker's topics"),
        ({"topics": "mt5"}, {"bootstrap.servers": "b:1"}, "topics must be a list"),
        ({"prefix": "mt5."}, {"bootstrap.servers": "b:1", "no.such.setting": "1"}, "settings are refused"),
        ({"prefix": "mt5."}, {"bootstrap.servers": "b:1"}, "SASL"),
    ],
)
def test_what_is_missing_is_said(options, secrets, reason):
    """The last one: without a word about security the connection is SASL over TLS, and so needs a login."""
    with pytest.raises(SourceError, match=reason):
        KafkaSource(place(options=options, **secrets))


def test_a_broker_that_does_not_answer_ends_the_reading(unused_port):
    address = {"bootstrap.servers": f"127.0.0.1:{unused_port}", "security.protocol": "PLAINTEXT"}
    source = KafkaSource(place(**address))
    with pytest.raises(SourceError, match="Kafka"):
        list(source.read(threading.Event()))
    source.close()
