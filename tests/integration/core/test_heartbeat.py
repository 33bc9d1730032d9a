"""Signs of life: fresh, stale, none."""

from __future__ import annotations

import time

import pytest

from app.core import heartbeat


def test_a_beat_has_an_age(redis):
    heartbeat.beat(redis, "relay")
    assert heartbeat.age_s(redis, "relay", time.time()) == pytest.approx(0, abs=2)
    assert heartbeat.age_s(redis, "relay", time.time() + 100) == pytest.approx(100, abs=2)


def test_silence_has_none(redis):
    assert heartbeat.age_s(redis, "relay", time.time()) is None
    heartbeat.beat(redis, "ingest")
    assert heartbeat.age_s(redis, "relay", time.time()) is None


def test_an_old_beat_is_forgotten(redis):
    heartbeat.beat(redis, "relay")
    assert heartbeat.STALE_AFTER_S < redis.ttl("heartbeat:relay") <= 60
