"""The event stream on a real Valkey: nothing lost over restarts, dead consumers and trimming."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from redis import Redis

from app.metatrader.events import control_event, deal_event, decode
from app.metatrader.stream import StreamConsumer, lag, publish_events, stream_name, stream_names, trim
from tests.unit.metatrader.samples import DEAL, ORIGIN, STAMP

STREAM = "mt:sim:0"


def deals(count, first=1, login=DEAL.login):
    return [
        deal_event(ORIGIN, replace(STAMP, seq=number), "add", replace(DEAL, ticket=number, login=login))
        for number in range(first, first + count)
    ]


@pytest.fixture
def consumer(redis):
    made = StreamConsumer(redis, [STREAM], name="one", batch=10)
    made.ensure_group()
    return made


def tickets(batch):
    return [decode(entry.fields).deal.ticket for entry in batch.entries]


def drained(consumer):
    """All that comes, acknowledged batch by batch."""
    found = []
    while batch := consumer.read(block_ms=10):
        found += tickets(batch)
        consumer.ack(batch.entries)
    return found


def test_events_arrive_in_order(redis, consumer):
    publish_events(redis, deals(25))
    assert drained(consumer) == list(range(1, 26))
    assert not consumer.read(block_ms=10)


def test_the_group_begins_at_the_beginning(redis):
    publish_events(redis, deals(3))
    late = StreamConsumer(redis, [STREAM], name="one")
    late.ensure_group()
    late.ensure_group()
    assert drained(late) == [1, 2, 3]


def test_after_a_restart_the_own_entries_come_first(redis, consumer):
    publish_events(redis, deals(25))
    assert tickets(consumer.read()) == list(range(1, 11))
    consumer.ack(consumer.read().entries)  # the second ten; the first ten are lost with the process
    publish_events(redis, deals(1, first=100))
    again = StreamConsumer(redis, [STREAM], name="one", batch=4)
    batches = [again.read(block_ms=10) for _ in range(5)]
    assert [tickets(batch) for batch in batches] == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10], [21, 22, 23, 24], [25, 100]]
    assert {entry.deliveries for batch in batches[:3] for entry in batch.entries} == {2}
    assert {entry.deliveries for entry in batches[3].entries} == {1}


def test_a_rolled_back_batch_can_be_read_again(redis, consumer):
    publish_events(redis, deals(3))
    consumer.read()
    assert not consumer.read(block_ms=10)
    consumer.reread()
    batch = consumer.read(block_ms=10)
    assert tickets(batch) == [1, 2, 3]
    assert [entry.deliveries for entry in batch.entries] == [2, 2, 2]


def test_a_dead_consumers_entries_are_claimed(redis, consumer):
    publish_events(redis, deals(15))
    consumer.read()
    heir = StreamConsumer(redis, [STREAM], name="two", batch=10, claim_idle_ms=50)
    assert tickets(heir.read(block_ms=10)) == list(range(11, 16))
    time.sleep(0.06)
    assert tickets(heir.read(block_ms=10)) == list(range(1, 11))
    assert redis.xpending_range(STREAM, "ingest", "-", "+", 100, "one") == []


def test_a_living_consumers_entries_are_not_claimed(redis, consumer):
    publish_events(redis, deals(5))
    consumer.read()
    heir = StreamConsumer(redis, [STREAM], name="two", claim_idle_ms=60_000)
    assert not heir.read(block_ms=10)


def test_trimming_spares_what_is_not_acknowledged(redis, consumer):
    publish_events(redis, deals(30))
    first, second = consumer.read(), consumer.read()
    consumer.ack(second.entries)
    assert trim(redis, STREAM) == 0
    consumer.ack(first.entries[:5])
    assert trim(redis, STREAM) == 5
    consumer.reread()
    assert drained(consumer) == [6, 7, 8, 9, 10, *range(21, 31)]
    assert trim(redis, STREAM) == 24
    assert redis.xlen(STREAM) == 1
    publish_events(redis, deals(2, first=50))
    assert drained(consumer) == [50, 51]


def test_trimming_waits_for_every_group(redis, consumer):
    other = StreamConsumer(redis, [STREAM], name="one", group="audit", batch=2)
    other.ensure_group()
    publish_events(redis, deals(10))
    drained(consumer)
    other.ack(other.read().entries)
    assert trim(redis, STREAM) == 1
    assert drained(other) == list(range(3, 11))


def test_without_a_group_nothing_is_trimmed(redis):
    assert trim(redis, STREAM) == 0
    publish_events(redis, deals(3))
    assert trim(redis, STREAM) == 0
    assert redis.xlen(STREAM) == 3


@pytest.mark.parametrize("by_claim", [True, False])
def test_bodies_that_somebody_else_trimmed_are_reported(redis, consumer, by_claim):
    publish_events(redis, deals(3))
    entries = consumer.read().entries
    redis.xtrim(STREAM, minid=entries[2].id, approximate=False)
    reader = StreamConsumer(redis, [STREAM], name="two", claim_idle_ms=0) if by_claim else consumer
    reader.reread()
    batch = reader.read(block_ms=10)
    assert tickets(batch) == [3]
    assert batch.lost == [(STREAM, entries[0].id), (STREAM, entries[1].id)]
    reader.ack(batch.entries)
    assert redis.xpending(STREAM, "ingest")["pending"] == 0


def test_lag(redis, consumer):
    assert lag(redis, "mt:none:0").length == 0
    publish_events(redis, deals(25))
    time.sleep(0.02)
    behind = lag(redis, STREAM)
    assert (behind.length, behind.pending, behind.waiting) == (25, 0, 25)
    assert behind.oldest_age_ms >= 20
    batch = consumer.read()
    assert (lag(redis, STREAM).pending, lag(redis, STREAM).waiting) == (10, 15)
    consumer.ack(batch.entries)
    drained(consumer)
    assert lag(redis, STREAM) == replace(lag(redis, STREAM), pending=0, waiting=0, oldest_age_ms=0)


def test_a_login_stays_in_its_shard_and_signals_reach_all(redis):
    first, second = deals(2, login=7), deals(2, first=3, login=8)
    publish_events(redis, [*first, *second, control_event(ORIGIN, STAMP, "connected")], shards=4)
    assert stream_names("sim", 4) == ["mt:sim:0", "mt:sim:1", "mt:sim:2", "mt:sim:3"]
    assert [redis.xlen(name) for name in stream_names("sim", 4)] == [3, 1, 1, 3]
    assert stream_name("sim", 7, 4) == "mt:sim:3"
    consumer = StreamConsumer(redis, stream_names("sim", 4), name="one")
    consumer.ensure_group()
    events = []
    while batch := consumer.read(block_ms=10):
        events += [(entry.stream, decode(entry.fields).kind) for entry in batch.entries]
        consumer.ack(batch.entries)
    assert sorted(events) == sorted(
        [(name, "control.connected") for name in stream_names("sim", 4)]
        + [("mt:sim:3", "deal.add")] * 2
        + [("mt:sim:0", "deal.add")] * 2
    )


def test_both_protocols_are_understood(redis, base_settings):
    publish_events(redis, deals(3))
    for number in (2, 3):
        client = Redis.from_url(base_settings.redis_url, protocol=number)
        reader = StreamConsumer(client, [STREAM], name="one", group=f"resp{number}")
        reader.ensure_group()
        assert tickets(reader.read(block_ms=10)) == [1, 2, 3]
        reader.reread()
        assert tickets(reader.read(block_ms=10)) == [1, 2, 3]
        assert lag(client, STREAM, f"resp{number}").pending == 3
        client.close()
