"""MT5's event streaming through Kafka.

A message is a JSON object `{"type": "deal", "action": "add", "records": [{…}, …]}` with MetaTrader's field names, all values
text (docs/metatrader.md). Order is kept per type only; messages may come twice; the server drops its oldest when Kafka is
away for long, and Kafka forgets by age. So everything is keyed downstream, and a skipped offset calls for a sweep.

Secrets (`kafka` in MT_SECRETS): librdkafka's own settings, such as bootstrap.servers, sasl.mechanism, sasl.username,
sasl.password, ssl.ca.location. security.protocol is SASL_SSL unless it is given.
Options (`mt_server.options["kafka"]`): `prefix` (all topics that begin so) or `topics` (their names), `group` (lotwise-<code>),
`types` and `actions` (the broker's words for ours, such as {"trade_deal": "deal"}).
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, Message, TopicPartition

from app.metatrader.events import AccountChange, Change
from app.metatrader.fields import FieldError, Number, Whole, read_account, read_deal, read_order, read_position
from app.metatrader.platform import AccountState
from app.metatrader.sources import Batch, Place, Record, SourceError, Told, Unreadable

log = logging.getLogger("lotwise.sources")

BATCH = 500
WAIT_S = 0.5
ANSWER_WITHIN_S = 5.0

#: The broker's words for ours. Only `tick` and `add` are documented; the others are by analogy, and can be set.
TYPES = {
    "deal": "deal",
    "deals": "deal",
    "order": "order",
    "orders": "order",
    "history": "order",
    "order_history": "order",
    "position": "position",
    "positions": "position",
    "account": "account",
    "accounts": "account",
    "user": "user",
    "users": "user",
}
ACTIONS = {
    "add": "add",
    "create": "add",
    "new": "add",
    "update": "update",
    "modify": "update",
    "change": "update",
    "delete": "delete",
    "remove": "delete",
    "archive": "archived",
    "restore": "restored",
}

_READERS: dict[str, tuple[Callable[[Mapping[str, Any]], Record], str]] = {
    "deal": (read_deal, "Deal"),
    "order": (read_order, "Order"),
    "position": (read_position, "Position"),
}
#: What an account's record has of its own; group, leverage and rights stand in the user's.
_MONEY = {
    "balance": "Balance",
    "credit": "Credit",
    "equity": "Equity",
    "margin": "Margin",
    "margin_free": "MarginFree",
    "margin_level": "MarginLevel",
    "floating": "Floating",
}
_OF_USERS: dict[str, AccountChange] = {"archived": "archived", "restored": "restored", "delete": "deleted"}


@dataclass
class Reading:
    """What one batch of messages comes to."""

    news: list[Told | Unreadable]
    hints: list[str]
    skipped: Counter[str]


class Messages:
    """Reads messages. Pure but for the accounts that our own tables hold, which it is given."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        """Raises SourceError when `types` or `actions` do not lead to words of ours."""
        self._types = TYPES | _words(options, "types", set(TYPES.values()))
        self._actions = ACTIONS | _words(options, "actions", set(ACTIONS.values()))

    def read(
        self, values: list[tuple[bytes, str, datetime]], accounts: Callable[[set[int]], Mapping[int, AccountState]]
    ) -> Reading:
        """News of messages: (value, place for people, moment of the message)."""
        reading = Reading([], [], Counter())
        money: list[tuple[dict[str, Any], str, datetime]] = []
        for value, place, at in values:
            try:
                message = json.loads(value, parse_int=str, parse_float=str, parse_constant=str)
                records = message["records"]
                type_, action = _word(message["type"]), _word(message["action"])
                if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
                    raise TypeError
            except (ValueError, KeyError, TypeError, RecursionError):
                reading.news.append(Unreadable("kafka.message", value.decode("utf-8", "backslashreplace"), place))
                continue
            kind = self._types.get(type_)
            if kind is None:
                reading.skipped[type_] += len(records)
            elif kind == "account":
                money += [(record, place, at) for record in records]
            elif kind == "user":
                self._users(reading, records, self._actions.get(action, action), accounts, at)
            else:
                reading.news += [_record(kind, self._actions.get(action, action), record, place, at) for record in records]
        self._accounts(reading, money, accounts)
        return reading

    def _users(
        self,
        reading: Reading,
        records: list[dict[str, Any]],
        action: str,
        accounts: Callable[[set[int]], Mapping[int, AccountState]],
        at: datetime,
    ) -> None:
        """A user's record has no equity: what became of the login is told, its state is asked of the server."""
        logins = {login for record in records if (login := _login(record))}
        change = _OF_USERS.get(action)
        if change is None:
            reading.hints += [f"login:{login}" for login in sorted(logins)]
        else:
            reading.news += [Told(change, state, at) for _, state in sorted(accounts(logins).items())]

    def _accounts(
        self,
        reading: Reading,
        money: list[tuple[dict[str, Any], str, datetime]],
        accounts: Callable[[set[int]], Mapping[int, AccountState]],
    ) -> None:
        """States of accounts. Without group and rights in the record those are taken from our own row; of a login that is
        not ours nothing is told, and of one that we know too little of the server is asked.
        """
        if not money:
            return
        known = accounts({login for record, _, _ in money if (login := _login(record))})
        for record, place, at in money:
            login = _login(record)
            try:
                if "Group" in record and "Rights" in record:
                    reading.news.append(Told("state", read_account(record), at))
                elif login in known:
                    reading.news.append(Told("state", _with_money(known[login], record), at))
                elif login:
                    reading.hints.append(f"login:{login}")
                else:
                    raise FieldError("Login is missing")
            except FieldError as error:
                note = f"{place}: {error.reason}"
                reading.news.append(Unreadable("account.state", json.dumps(record), note, str(login or ""), login))


class KafkaSource:
    """One server's topics; offsets are committed under our group's name when what they brought stands in the streams."""

    def __init__(self, place: Place) -> None:
        options, secrets = place.options, dict(place.secrets.kafka)
        if not secrets.get("bootstrap.servers"):
            raise SourceError("kafka with bootstrap.servers is missing in MT_SECRETS")
        topics, prefix = place.texts("topics"), options.get("prefix", "")
        if not topics and not (isinstance(prefix, str) and prefix):
            raise SourceError("the option prefix or the option topics must name the broker's topics")
        self._place = place
        self._topics, self._prefix = frozenset(topics), prefix
        self._topics_every_s = place.number("topics_every_s", 30, 0.1, 3_600)
        self._look_at = 0.0
        self._assigned: set[str] = set()
        self._messages = Messages(options)
        self._skipped: Counter[str] = Counter()
        self._trouble = ""
        try:
            self._consumer = Consumer(
                {
                    "security.protocol": "SASL_SSL",
                    **secrets,
                    "client.id": "lotwise",
                    "group.id": str(options.get("group") or f"lotwise-{place.code}"),
                    "enable.auto.commit": False,
                    "auto.offset.reset": "earliest",
                    "error_cb": self._on_error,
                },
                logger=log,
            )
        except KafkaException as error:
            raise SourceError(f"Kafka's settings are refused: {error.args[0].str()}") from error

    def read(self, stop: threading.Event) -> Iterator[Batch]:
        """Messages as they come. Raises SourceError when no broker lets us in or the topics cannot be read."""
        while not stop.is_set():
            try:
                self._assign()
                messages = self._consumer.consume(BATCH, timeout=WAIT_S)
                if self._trouble:
                    raise SourceError(f"Kafka: {self._trouble}")
                batch = self._batch([message for message in messages if self._is_good(message)])
                yield batch
                if batch.cursors:
                    offsets = [_partition(name, int(value)) for name, value in batch.cursors.items()]
                    self._consumer.commit(offsets=offsets, asynchronous=False)
            except KafkaException as error:
                raise SourceError(f"Kafka: {error.args[0].str()[:200]}") from error

    def close(self) -> None:
        self._consumer.close()

    def _assign(self) -> None:
        """Take up the partitions of topics that have come up, each from where we were: our own cursor, or what we committed.

        Only one process reads a server's source, so Kafka need not share partitions out, and we wait for no rebalance.
        """
        if time.monotonic() < self._look_at:
            return
        topics = self._consumer.list_topics(timeout=ANSWER_WITHIN_S).topics
        names = {
            f"{topic}/{partition}"
            for topic, metadata in topics.items()
            if topic in self._topics or (self._prefix and topic.startswith(self._prefix))
            for partition in metadata.partitions
        }
        if new := sorted(names - self._assigned):
            kept = self._consumer.committed([_partition(name) for name in new], timeout=ANSWER_WITHIN_S)
            for name, partition in zip(new, kept, strict=True):
                partition.offset = int(self._place.cursors.get(name, partition.offset))
            self._consumer.incremental_assign(kept)
            self._assigned |= set(new)
        self._look_at = time.monotonic() + self._topics_every_s

    def _batch(self, messages: list[Message]) -> Batch:
        if not messages:
            return Batch()
        values = [(message.value() or b"", f"{message.topic()}/{message.partition()}@{message.offset()}", _moment(message))
                  for message in messages]  # fmt: skip
        reading = self._messages.read(values, self._place.held.accounts)
        self._place.remember(reading.hints)
        self._skipped += reading.skipped
        lost, cursors = self._progress(messages)
        notes = {f"skipped {name}": str(count) for name, count in self._skipped.most_common(10)}
        return Batch(reading.news, cursors, lost=lost, notes=notes)

    def _progress(self, messages: list[Message]) -> tuple[str, dict[str, str]]:
        """The next offset of each partition, and what was skipped before these messages, if anything."""
        lost, cursors = "", dict[str, str]()
        for message in messages:
            name, offset = f"{message.topic()}/{message.partition()}", int(message.offset() or 0)
            expected = int(cursors.get(name) or self._place.cursors.get(name) or offset)
            if offset > expected:
                lost = f"Kafka has forgotten {offset - expected} messages of {name}"
            elif offset < expected:
                lost = f"{name} begins anew"
            cursors[name] = str(offset + 1)
        return lost, cursors

    def _is_good(self, message: Message) -> bool:
        """Whether it is a message; an error in its place either passes by itself or ends the reading."""
        error = message.error()
        if error is None:
            return True
        if error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._PARTITION_EOF):  # noqa: SLF001  # its public name
            return False  # the server makes a topic when it first has something to say
        raise SourceError(f"Kafka: {error.str()}")

    def _on_error(self, error: KafkaError) -> None:
        """Called by `consume`. What librdkafka mends by itself is only logged."""
        log.warning("kafka server=%s error=%s", self._place.code, error.name())
        if error.fatal() or error.code() in (KafkaError._ALL_BROKERS_DOWN, KafkaError._AUTHENTICATION):  # noqa: SLF001
            self._trouble = error.str()[:200]


def _record(kind: str, action: str, record: dict[str, Any], place: str, at: datetime) -> Told | Unreadable:
    reader, key = _READERS[kind]
    changes: dict[str, Change] = {"add": "add", "update": "update", "delete": "delete"}
    try:
        if action in changes:
            return Told(changes[action], reader(record), at)
        note = f"{place}: {action} is no action that we know"
    except FieldError as error:
        note = f"{place}: {error.reason}"
    ticket = str(record.get(key, ""))
    return Unreadable(f"{kind}.{action}", json.dumps(record), note, ticket if ticket.isdecimal() else "", _login(record))


def _login(record: Mapping[str, Any]) -> int:
    """The record's login; 0 when it names none."""
    try:
        return Whole("Login", missing=0).read(record)
    except FieldError:
        return 0


def _with_money(state: AccountState, record: Mapping[str, Any]) -> AccountState:
    """Our row's group, leverage and rights with the server's money. Raises FieldError."""
    money = {name: Number(field).read(record) for name, field in _MONEY.items()}
    digits = Whole("CurrencyDigits", high=8, missing=2).read(record)
    return replace(state, digits_currency=digits, **money)  # type: ignore[arg-type]  # the names are those of decimals


def _word(text: object) -> str:
    """A word of the broker's, fit for keys, logs and streams, whatever it holds."""
    return re.sub(r"[^a-z0-9_.-]", "?", str(text).lower())[:24]


def _words(options: Mapping[str, Any], name: str, ours: set[str]) -> dict[str, str]:
    words = options.get(name, {})
    if not isinstance(words, dict) or not set(words.values()) <= ours:
        raise SourceError(f"option {name} must lead from the broker's words to {', '.join(sorted(ours))}")
    return {_word(theirs): str(word) for theirs, word in words.items()}


def _moment(message: Message) -> datetime:
    """When the server wrote the message, by its own clock in UTC; the time of receipt where it does not say."""
    _, milliseconds = message.timestamp()
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds > 0 else datetime.now(UTC)


def _partition(name: str, offset: int = OFFSET_INVALID) -> TopicPartition:
    topic, _, partition = name.rpartition("/")
    return TopicPartition(topic, int(partition), offset)
