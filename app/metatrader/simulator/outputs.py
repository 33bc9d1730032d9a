"""MetaTrader 5's own push of events, beside the stream: records as its Kafka streaming has them, and automation web requests.

Neither promises delivery, as in life: what a full queue cannot take is dropped and counted. docs/metatrader.md tells how
each is switched on; both are off by default.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from app.metatrader.codes import DealAction, DealEntry, DealReason
from app.metatrader.simulator.queued import Queued
from app.metatrader.simulator.records import complete

log = logging.getLogger("lotwise.simulator")

REQUEST_TIMEOUT_S = 5.0
FLUSH_S = 5.0
SECRET_HEADER = "X-Webhook-Secret"  # noqa: S105  # a header's name

#: Kafka: where a record of each type goes, under the prefix.
TOPICS = {"deal": "trading", "position": "trading", "order": "trading", "account": "accounts", "user": "accounts"}
#: What an account event other than its state tells of the login's record.
ACCOUNT_ACTIONS = {"state": "update", "archived": "archive", "restored": "restore", "deleted": "delete", "cleaned": "update"}

#: Automation triggers, by MetaTrader's numbers.
USER_ADDED, USER_DELETED, USER_ARCHIVED, USER_RESTORED, GROUP_CHANGED = 2001, 2002, 2003, 2004, 2005
DEPOSIT, WITHDRAWAL, CREDIT_IN, CREDIT_OUT, SERVICE_OPERATION = 3001, 3003, 3005, 3007, 3009
STOP_OUT, OPENED, INCREASED, DECREASED, CLOSED, REVERSED = 4002, 4003, 4004, 4005, 4006, 4007
DEAL_MODIFIED, DEAL_DELETED = 12006, 12007

_ACCOUNT_TRIGGERS = {"archived": USER_ARCHIVED, "restored": USER_RESTORED, "deleted": USER_DELETED}

Message = Mapping[str, Any]
#: Takes one message: topic, key, value as UTF-8 JSON. A Kafka producer's `send` is one.
Sink = Callable[[str, bytes, bytes], object]


def kafka_messages(entry: Mapping[str, str]) -> list[tuple[str, dict[str, Any]]]:
    """What Kafka streaming tells of one event: type and message, `records` of one. Signals of the source are none."""
    subject, _, change = entry["kind"].partition(".")
    if subject not in TOPICS:
        return []
    payload = json.loads(entry["payload"])
    if subject == "account" and change != "state":
        login = {name: payload[name] for name in ("Login", "Group", "Leverage", "Rights", "Balance", "Credit", "ID")}
        return [("user", {"type": "user", "action": ACCOUNT_ACTIONS[change], "records": [login]})]
    record = payload if subject == "user" else complete(subject, payload)
    action = ACCOUNT_ACTIONS[change] if subject == "account" else change
    return [(subject, {"type": subject, "action": action, "records": [record]})]


class WebRequests:
    """Turns events into the bodies of web requests: `trigger`, `server`, `login`, and the objects that go with them.

    A trade and the change of its position come as two events and make one request, as one trigger fires for both.
    """

    def __init__(self, server: str) -> None:
        self._server = server
        self._trade: dict[str, str] | None = None
        self._groups: dict[str, str] = {}

    def bodies(self, entry: Mapping[str, str]) -> list[dict[str, Any]]:
        subject, _, change = entry["kind"].partition(".")
        if subject not in TOPICS:
            return []
        payload: dict[str, str] = json.loads(entry["payload"])
        waiting, self._trade = self._trade, None
        if subject == "deal":
            bodies = self._flush(waiting)
            record = complete("deal", payload)
            if change == "add" and int(record["Action"]) in (DealAction.BUY, DealAction.SELL):
                self._trade = record
                return bodies
            return [*bodies, self._body(self._deal_trigger(record, change), record["Login"], deal=record)]
        if subject == "position" and waiting and waiting["PositionID"] == payload["Position"]:
            return self._trade_bodies(waiting, change, complete("position", payload))
        return [*self._flush(waiting), *self._others(subject, change, payload)]

    def flush(self) -> list[dict[str, Any]]:
        """The request of a trade whose position has not been told of yet."""
        waiting, self._trade = self._trade, None
        return self._flush(waiting)

    def _flush(self, waiting: dict[str, str] | None) -> list[dict[str, Any]]:
        return self._trade_bodies(waiting, "", None) if waiting else []

    def _trade_bodies(self, deal: dict[str, str], change: str, position: dict[str, str] | None) -> list[dict[str, Any]]:
        entry = int(deal["Entry"])
        if entry == DealEntry.INOUT:
            trigger = REVERSED
        elif entry == DealEntry.IN:
            trigger = INCREASED if change == "update" else OPENED
        else:
            trigger = DECREASED if change == "update" else CLOSED
        objects = {"deal": deal, **({"position": position} if position else {})}
        bodies = [self._body(trigger, deal["Login"], **objects)]
        if int(deal["Reason"]) == DealReason.STOP_OUT:
            bodies.insert(0, self._body(STOP_OUT, deal["Login"], deal=deal))
        return bodies

    def _others(self, subject: str, change: str, payload: dict[str, str]) -> list[dict[str, Any]]:
        login = payload["Login"]
        if subject == "account" and change in _ACCOUNT_TRIGGERS:
            user = {name: payload[name] for name in ("Login", "Group", "Leverage", "Rights", "Balance", "Credit", "ID")}
            return [self._body(_ACCOUNT_TRIGGERS[change], login, user=user)]
        if subject == "user":
            before = self._groups.get(login)
            self._groups[login] = payload["Group"]
            if change == "add":
                return [self._body(USER_ADDED, login, user=payload)]
            if before not in (None, payload["Group"]):
                return [self._body(GROUP_CHANGED, login, user=payload)]
        return []

    def _deal_trigger(self, deal: Mapping[str, str], change: str) -> int:
        if change != "add":
            return DEAL_MODIFIED if change == "update" else DEAL_DELETED
        is_positive = Decimal(deal["Profit"]) >= 0
        match int(deal["Action"]):
            case DealAction.BALANCE:
                return DEPOSIT if is_positive else WITHDRAWAL
            case DealAction.CREDIT:
                return CREDIT_IN if is_positive else CREDIT_OUT
        return SERVICE_OPERATION

    def _body(self, trigger: int, login: str, **objects: Mapping[str, str]) -> dict[str, Any]:
        return {"trigger": str(trigger), "server": self._server, "login": login, **objects}


class KafkaOutput(Queued):
    """Records as Kafka streaming writes them, to a sink. All records of one type share a key, so their order is kept."""

    def __init__(self, sink: Sink, prefix: str = "mt5.", *, flush: Callable[[], None] = lambda: None) -> None:
        super().__init__("kafka")
        self._sink = sink
        self._prefix = prefix
        self._flush = flush

    def close(self) -> None:
        self._flush()

    def carry_out(self, entries: Sequence[Mapping[str, str]]) -> None:
        for entry in entries:
            for kind, message in kafka_messages(entry):
                self._sink(self._prefix + TOPICS[kind], kind.encode(), json.dumps(message, ensure_ascii=False).encode())


class FileSink:
    """Messages as lines of a file per topic: {"key": …, "value": {…}}. For looking at, and for tests without a broker."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, topic: str, key: bytes, value: bytes) -> None:
        line = b'{"key": "' + key + b'", "value": ' + value + b"}\n"
        with (self._folder / f"{topic}.jsonl").open("ab") as file:
            file.write(line)


class KafkaSink:
    """A Kafka producer with these settings of librdkafka, such as bootstrap.servers."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        from confluent_kafka import Producer

        self._producer = Producer(dict(settings))

    def __call__(self, topic: str, key: bytes, value: bytes) -> None:
        self._producer.produce(topic, value=value, key=key)
        self._producer.poll(0)

    def flush(self) -> None:
        """Send what waits, for some seconds at most."""
        self._producer.flush(FLUSH_S)


class WebRequestOutput(Queued):
    """Posts each trigger's JSON to an address, one after another, with the secret in a header. None is sent twice."""

    def __init__(self, server: str, url: str, secret: str, *, header: str = SECRET_HEADER) -> None:
        super().__init__("web-requests")
        self._requests = WebRequests(server)
        self._url = url
        self._client = httpx.Client(headers={header: secret}, timeout=REQUEST_TIMEOUT_S, trust_env=False)
        self._is_refused = False

    def carry_out(self, entries: Sequence[Mapping[str, str]]) -> None:
        for entry in entries:
            for body in self._requests.bodies(entry):
                self._post(body)
        if not entries:
            self._flush()

    def _post(self, body: Mapping[str, Any]) -> None:
        try:
            answer = self._client.post(self._url, json=body)
            problem = "" if answer.is_success else f"status {answer.status_code}"
        except httpx.HTTPError as error:
            problem = type(error).__name__
        if problem:
            self.dropped += 1
            if not self._is_refused:
                log.warning("web requests are not taken (%s); they are not repeated", problem)
        self._is_refused = bool(problem)

    def close(self) -> None:
        self._flush()
        self._client.close()

    def _flush(self) -> None:
        for body in self._requests.flush():
            self._post(body)
