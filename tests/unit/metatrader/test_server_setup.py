"""Which settings of a trading server are refused while they are typed, by field and with the way out."""

from __future__ import annotations

import pytest

from app.metatrader.server_setup import problems
from config import ServerSecrets

NOTHING = ServerSecrets("password", "")
ALL = ServerSecrets(
    "password", "", database_url="postgresql://x", kafka=(("bootstrap.servers", "x:9093"),), webhook_secret="s3cret"
)
TOPICS = {"kafka": {"prefix": "mt5-live."}}


def found(secrets=ALL, **changes) -> dict[str, str]:
    given = {"platform": "mt5_web", "events": "stream", "backfill": "platform", "options": {}}
    return problems(**{**given, **changes}, secrets=secrets)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"backfill": "bridge"},
        {"events": "poll", "options": {"poll": {"every_s": 5}}},
        {"events": "sql", "backfill": "sql"},
        {"events": "webhook"},
        {"events": "kafka", "options": TOPICS},
        {"events": "kafka", "options": {"kafka": {"topics": ["deals"]}}},
        {"platform": "mt4_bridge", "backfill": "bridge"},
        {"platform": "mt4_bridge", "events": "mt4_report", "backfill": "mt4_report"},
    ],
)
def test_what_works(changes):
    assert found(**changes) == {}


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"events": "poll", "backfill": "bridge"}, "backfill", "Nobody would answer"),
        ({"events": "mt4_report"}, "events", "Only MetaTrader 4"),
        ({"backfill": "mt4_report"}, "backfill", "Only MetaTrader 4"),
        ({"platform": "mt4_bridge", "events": "kafka", "options": TOPICS}, "events", "Only MetaTrader 5"),
        ({"platform": "mt4_bridge", "events": "webhook"}, "events", "Only MetaTrader 5"),
        ({"platform": "mt4_bridge", "backfill": "sql"}, "backfill", "Only MetaTrader 5"),
        ({"events": "sql", "secrets": NOTHING}, "events", "database_url"),
        ({"backfill": "sql", "secrets": NOTHING}, "backfill", "database_url"),
        ({"events": "webhook", "secrets": NOTHING}, "events", "webhook_secret"),
        ({"events": "kafka", "options": TOPICS, "secrets": NOTHING}, "events", "bootstrap.servers"),
        ({"events": "kafka"}, "options", "topics"),
        ({"events": "poll", "options": {"poll": 15}}, "options", "object of their own"),
    ],
)
def test_what_cannot_work_is_said_beside_the_field_that_is_to_change(changes, field, words):
    told = found(**changes)
    assert list(told) == [field]
    assert words in told[field]


def test_each_field_is_judged():
    told = found(events="mt4_report", backfill="bridge", secrets=None)
    assert set(told) == {"events", "backfill"}


def test_without_secrets_they_are_not_looked_at():
    assert found(events="sql", backfill="sql", secrets=None) == {}
