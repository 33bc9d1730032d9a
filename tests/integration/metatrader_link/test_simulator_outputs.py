"""The simulator's outputs beside the stream: Kafka records and web requests, over real files and real HTTP."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer

from app.metatrader.fields import read_deal, read_order, read_position
from app.metatrader.simulator import Simulator
from app.metatrader.simulator.outputs import FileSink, KafkaOutput, KafkaSink, WebRequestOutput
from tests.integration.metatrader_link.conftest import PASSWORD, USER

VECTORS = Path(__file__).parents[2] / "vectors" / "sources"


class Receiver(BaseHTTPRequestHandler):
    """Keeps what is posted, after `delay_s`; refuses with 500 while told so."""

    got: list[tuple[str, dict]]
    is_broken = False

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.headers.get("X-Webhook-Secret", ""), json.loads(body)))
        self.send_response(500 if self.server.is_broken else 202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def receiver():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.got, server.is_broken = [], False
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)
    return found


def a_day(simulator):
    """Opens a login, trades on it, moves it, archives it; returns login and deals."""
    from decimal import Decimal

    exchange = simulator.exchange
    login = simulator.control.users.add(USER).login
    exchange.balance_operation(login, 2, Decimal(26_000), "D-8QK2N0V5ZT3RM")
    opened = exchange.open(login, "EURUSD", 0, 100_000_000)
    exchange.close(opened.position_ticket, 40_000_000)
    rest = exchange.close(opened.position_ticket)
    simulator.control.users.update(login, {"Group": "real\\ecn\\usd", "Leverage": "100"})
    exchange.edit_deal(rest.ticket, profit=rest.profit + 1)
    exchange.delete_deal(rest.ticket)
    exchange.archive(login)
    exchange.restore(login)
    return login, opened, rest


def test_web_requests_come_in_order_with_the_secret(tmp_path, receiver):
    url = f"http://127.0.0.1:{receiver.server_address[1]}/hook"
    output = WebRequestOutput("sim", url, "s3cret")
    with Simulator(state_dir=tmp_path, password=PASSWORD, tick_s=0, outputs=[output]) as simulator:
        login, opened, rest = a_day(simulator)
        until(lambda: len(receiver.got) == 10)
    assert {secret for secret, _ in receiver.got} == {"s3cret"}
    bodies = [body for _, body in receiver.got]
    assert [body["trigger"] for body in bodies] == [
        "2001", "3001", "4003", "4005", "4006", "2005", "12006", "12007", "2003", "2004",
    ]  # fmt: skip
    assert {body["login"] for body in bodies} == {str(login)}
    assert {body["server"] for body in bodies} == {"sim"}
    assert read_deal(bodies[2]["deal"]).ticket == opened.ticket
    assert read_position(bodies[2]["position"]).volume == 100_000_000
    assert read_deal(bodies[6]["deal"]).profit == rest.profit + 1
    assert bodies[5]["user"]["Group"] == "real\\ecn\\usd"
    assert not any(secret in json.dumps(bodies) for secret in (USER["PassMain"], USER["PassInvestor"], "PassMain", "hash"))
    assert output.dropped == 0


def test_a_receiver_that_refuses_is_not_asked_twice(tmp_path, receiver):
    url = f"http://127.0.0.1:{receiver.server_address[1]}/hook"
    receiver.is_broken = True
    output = WebRequestOutput("sim", url, "s3cret")
    with Simulator(state_dir=tmp_path, password=PASSWORD, tick_s=0, outputs=[output]) as simulator:
        simulator.control.users.add(USER)
        until(lambda: output.dropped == 1)
    assert len(receiver.got) == 1


def test_kafka_records_of_a_day(tmp_path):
    folder = tmp_path / "kafka"
    output = KafkaOutput(FileSink(folder), prefix="broker.")
    with Simulator(state_dir=tmp_path / "server", password=PASSWORD, tick_s=0, outputs=[output]) as simulator:
        login, opened, _ = a_day(simulator)
    lines = [json.loads(line) for line in (folder / "broker.trading.jsonl").read_text().splitlines()]
    accounts = [json.loads(line) for line in (folder / "broker.accounts.jsonl").read_text().splitlines()]
    told = {(line["value"]["type"], line["value"]["action"]) for line in lines}
    assert {("deal", "add"), ("deal", "update"), ("deal", "delete"), ("position", "add"), ("position", "delete")} <= told
    assert all(line["key"] == line["value"]["type"] for line in lines + accounts)
    records = [line["value"]["records"][0] for line in lines if line["value"]["type"] == "deal"]
    assert read_deal(records[1]).ticket == opened.ticket
    assert all(isinstance(value, str) for record in records for value in record.values())
    users = [line["value"] for line in accounts if line["key"] == "user"]
    assert [one["action"] for one in users] == ["add", "update", "archive", "restore"]
    assert not any(secret in json.dumps(accounts) for secret in (USER["PassMain"], "PassMain", "hash"))
    states = [line["value"]["records"][0] for line in accounts if line["key"] == "account"]
    assert {state["Login"] for state in states} == {str(login)}
    assert "Group" not in states[0]


def test_kafka_itself_gets_the_same_messages(tmp_path):
    """On librdkafka's own broker, which speaks the protocol on a port of this machine."""
    cluster = Producer({"bootstrap.servers": "unused:1", "test.mock.num.brokers": 1, "log_level": 3})
    brokers = cluster.list_topics(timeout=10).brokers.values()
    address = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
    sink = KafkaSink({"bootstrap.servers": address})
    output = KafkaOutput(sink, prefix="broker.", flush=sink.flush)
    with Simulator(state_dir=tmp_path, password=PASSWORD, tick_s=0, outputs=[output]) as simulator:
        a_day(simulator)
    consumer = Consumer({"bootstrap.servers": address, "group.id": "test", "auto.offset.reset": "earliest"})
    consumer.subscribe(["broker.trading"])
    got = []

    def arrived():
        message = consumer.poll(0.5)
        if message and not message.error():
            got.append((message.key(), json.loads(message.value())))
        return any(value["action"] == "delete" and value["type"] == "deal" for _, value in got)

    try:
        until(arrived, 30)
    finally:
        consumer.close()
    assert [value["action"] for _, value in got if value["type"] == "deal"] == ["add"] * 4 + ["update", "delete"]
    assert all(key.decode() == value["type"] for key, value in got)


def test_the_sample_records_are_readable():
    kafka = json.loads((VECTORS / "kafka.json").read_text())["messages"]
    readers = {"deal": read_deal, "position": read_position, "order": read_order}
    read = [readers[one["value"]["type"]](one["value"]["records"][0]) for one in kafka if one["value"]["type"] in readers]
    assert len(read) > 10
    bodies = json.loads((VECTORS / "webhook.json").read_text())["requests"]
    assert all(read_deal(body["deal"]) for body in bodies if "deal" in body)
