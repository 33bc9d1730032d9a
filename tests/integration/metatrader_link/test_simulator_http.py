"""The simulator's HTTP surface, spoken to without our adapter: envelope, limits, refusals, control interface."""

from __future__ import annotations

import http.client
import json
import logging
import ssl
import time
from decimal import Decimal

import httpx
import pytest

from app.metatrader.platforms import mt5_auth
from app.metatrader.simulator import Simulator
from app.metatrader.simulator.commands import COMMANDS
from app.metatrader.simulator.listening import BODY_MAX
from tests.integration.metatrader_link.conftest import PASSWORD, USER

NOW = 2**33


@pytest.fixture
def simulator(tmp_path):
    with Simulator(state_dir=tmp_path, password=PASSWORD, tick_s=0) as running:
        yield running


def connect(simulator):
    trust = ssl.create_default_context(cafile=str(simulator.ca_file))
    return httpx.Client(base_url=simulator.url, verify=trust, limits=httpx.Limits(max_connections=1), timeout=5)


def sign_in(client):
    start = client.get(
        "/api/auth/start", params={"version": "4000", "agent": "Test", "login": "1000", "type": "manager"}
    ).json()
    proof = mt5_auth.answer(PASSWORD, bytes.fromhex(start["srv_rand"]))
    return client.get("/api/auth/answer", params={"srv_rand_answer": proof, "cli_rand": "0" * 32}).json()


@pytest.fixture
def client(simulator):
    with connect(simulator) as made:
        assert sign_in(made)["retcode"] == "0 Done"
        yield made


@pytest.fixture
def control(simulator):
    with connect(simulator) as made:
        made.auth = ("1000", PASSWORD)
        yield made


@pytest.fixture
def login(simulator):
    made = simulator.control.users.add(USER).login
    simulator.exchange.balance_operation(made, 2, Decimal(26000), "deposit")
    return made


def retcode(response):
    return int(response.json()["retcode"].split(" ")[0])


def test_sign_in_answers_with_proof(simulator):
    with connect(simulator) as client:
        answer = sign_in(client)
    assert answer["cli_rand_answer"] == mt5_auth.answer(PASSWORD, bytes(16))
    assert set(answer) == {"retcode", "version_access", "version_trade", "cli_rand_answer"}


def test_a_session_belongs_to_its_connection(simulator, client):
    assert client.get("/api/test/access").status_code == 200
    with connect(simulator) as other:
        assert other.get("/api/test/access").status_code == 403
        assert other.get("/api/user/logins", params={"group": "*"}).status_code == 403
    left = client.get("/api/quit")
    assert (left.status_code, left.headers["Connection"]) == (200, "close")
    assert client.get("/api/test/access").status_code == 403


def test_only_tls_and_only_known_authorities(simulator):
    with pytest.raises(httpx.ConnectError):
        httpx.get(simulator.url + "/api/test/access", timeout=2)
    with pytest.raises(httpx.TransportError):
        httpx.get(simulator.url.replace("https", "http") + "/api/test/access", timeout=2)


def test_all_values_are_text(simulator, client, login):
    simulator.control.trade(login, "EURUSD", "buy", Decimal("0.1"), close=False)

    def walk(value):
        if isinstance(value, dict):
            for part in value.values():
                walk(part)
        elif isinstance(value, list):
            for part in value:
                walk(part)
        else:
            assert isinstance(value, str)

    everything = {"from": "0", "to": str(NOW)}
    for command, query in {
        "user/get": {"login": login},
        "user/get_batch": {"group": "*"},
        "user/logins": {"group": "*"},
        "user/total": {},
        "user/group": {"login": login},
        "user/account/get": {"login": login},
        "user/account/get_batch": {"group": "real\\*"},
        "deal/get": {"ticket": 500_001},
        "deal/get_total": {"login": login, **everything},
        "deal/get_page": {"login": login, "offset": 0, "total": 100, **everything},
        "deal/get_batch": {"login": login, **everything},
        "position/get": {"login": login, "symbol": "EURUSD"},
        "position/get_total": {"login": login},
        "position/get_page": {"login": login, "offset": 0, "total": 10},
        "position/get_batch": {"group": "real\\*"},
        "group/get": {"group": "real\\std\\usd"},
        "group/total": {},
        "group/next": {"index": 0},
        "symbol/list": {},
        "symbol/get": {"symbol": "USDJPY"},
        "tick/last": {"symbol": "EURUSD,USDJPY"},
        "time/server": {},
        "time/get": {},
        "common/get": {},
    }.items():
        response = client.get(f"/api/{command}", params=query)
        assert response.status_code == 200, command
        assert response.json()["retcode"] == "0 Done", command
        assert response.json()["answer"], command
        walk(response.json())


def test_figures_as_the_help_shows_them(client, login):
    user = client.get("/api/user/get", params={"login": login}).json()["answer"]
    assert (user["Login"], user["Balance"], user["Group"]) == (str(login), "26000.00", "real\\std\\usd")
    seconds, _, words = client.get("/api/time/server").json()["answer"].partition(" ")
    assert time.strftime("%Y.%m.%d %H:%M:%S", time.gmtime(int(seconds))) == words


def test_pages(simulator, client, login):
    for _ in range(120):
        simulator.exchange.balance_operation(login, 2, Decimal(1), "x")
    whole = {"login": login, "from": 0, "to": NOW}
    assert client.get("/api/deal/get_total", params=whole).json()["answer"]["Total"] == "121"
    first = client.get("/api/deal/get_page", params={**whole, "offset": 0, "total": 100}).json()["answer"]
    second = client.get("/api/deal/get_page", params={**whole, "offset": 100, "total": 100}).json()["answer"]
    assert [len(first), len(second)] == [100, 21]
    assert len({row["Deal"] for row in first + second}) == 121
    assert retcode(client.get("/api/deal/get_page", params={**whole, "offset": 0, "total": 101})) == 3


def test_an_idle_account_has_no_state(tmp_path, simulator, client, login):
    idle = simulator.control.users.add(USER).login
    assert retcode(client.get("/api/user/account/get", params={"login": idle})) == 13
    assert retcode(client.get("/api/user/account/get", params={"login": login})) == 0


@pytest.mark.parametrize(
    ("command", "query", "expected"),
    [
        ("user/get", {}, 3),
        ("user/get", {"login": "x"}, 3),
        ("user/get", {"login": "99999999999999999999"}, 3),
        ("user/get", {"login": "٣"}, 3),
        ("user/get", {"login": "5"}, 13),
        ("user/get_batch", {"login": "1", "group": "*"}, 3),
        ("deal/get", {"ticket": "1"}, 13),
        ("deal/get_batch", {"from": "0", "to": "1"}, 3),
        ("deal/get_batch", {"login": "100001", "from": "0"}, 3),
        ("deal/get_batch", {"login": "100001", "from": "-1", "to": "5"}, 3),
        ("position/get", {"login": "100001", "symbol": "EURUSD"}, 13),
        ("group/get", {"group": "nowhere"}, 13),
        ("symbol/get", {"symbol": "XPTUSD"}, 13),
        ("tick/last", {"symbol": "XPTUSD"}, 13),
        ("group/next", {"index": "400"}, 13),
        ("trade/balance", {"login": "100001", "type": "2", "balance": "1e3"}, 3),
        ("trade/balance", {"login": "100001", "type": "2", "balance": "1,5"}, 3),
        ("trade/balance", {"login": "100001", "type": "9", "balance": "1"}, 3),
        ("trade/balance", {"login": "100001", "type": "2"}, 3),
        ("trade/balance", {"login": "100001", "type": "2", "balance": "1", "comment": "zero\x00"}, 3),
    ],
)
def test_bad_parameters(client, login, command, query, expected):
    assert retcode(client.get(f"/api/{command}", params=query)) == expected


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[" * 5000, b'"text"', b"[1]", b"7"])
@pytest.mark.parametrize("command", ["user/add", "user/check_password"])
def test_bad_bodies(client, command, content):
    assert retcode(client.post(f"/api/{command}", content=content)) == 3


def test_numbers_in_a_body_are_as_good_as_text(client):
    body = {**USER, "Leverage": 100}
    assert retcode(client.post("/api/user/add", json=body)) == 0


def test_passwords_are_taken_from_bodies_only(client):
    fields = {key: value for key, value in USER.items() if not key.startswith("Pass")}
    answer = client.post("/api/user/add", params={"pass_main": "Main1234!", "PassMain": "Main1234!"}, json=fields)
    assert retcode(answer) == 3006


@pytest.mark.parametrize("query", ["login=%ff", "login=1&login=2", "&".join(f"a{number}=1" for number in range(200))])
def test_bad_queries(client, query):
    assert retcode(client.get(f"/api/user/get?{query}")) == 3


@pytest.mark.parametrize("length", [str(BODY_MAX + 1), "-1", "many"])
def test_a_body_of_impossible_length_ends_the_connection(simulator, length):
    host = simulator.url.removeprefix("https://")
    trust = ssl.create_default_context(cafile=str(simulator.ca_file))
    connection = http.client.HTTPSConnection(host, context=trust, timeout=5)
    connection.putrequest("POST", "/api/user/add")
    connection.putheader("Content-Length", length)
    connection.endheaders()
    response = connection.getresponse()
    assert response.status == 400
    assert json.loads(response.read())["retcode"].startswith("3 ")
    assert response.will_close or connection.sock is None or connection.sock.recv(1) == b""
    connection.close()


def test_unknown_paths(client):
    assert client.get("/api/nothing").status_code == 404
    assert client.get("/").status_code == 404
    assert client.get("/sim/state").status_code == 401


def test_forbidden_commands_leave_the_session_alive(client):
    assert client.get("/api/deal/delete", params={"ticket": "500001"}).status_code == 403
    assert client.get("/api/test/access").status_code == 200


def test_no_command_shows_a_trace(client, caplog):
    """Every command, called with nothing at all: a return code, and nothing in the error log."""
    caplog.set_level(logging.ERROR)
    for command in COMMANDS:
        assert client.get(f"/api/{command}").status_code == 200
        assert client.post(f"/api/{command}", json={}).status_code == 200
    assert caplog.records == []


def test_the_control_interface_trades(simulator, control, login):
    body = {"login": login, "symbol": "EURUSD", "side": "buy", "lots": "0.50", "move_points": 108}
    deals = control.post("/sim/trade", json=body).json()["deals"]
    assert [(deal["Action"], deal["Entry"]) for deal in deals] == [("0", "0"), ("1", "1")]
    assert deals[1]["Profit"] == "50.00"
    opened = control.post("/sim/trade", json={**body, "close": False}).json()["deals"]
    assert len(opened) == 1
    half = control.post("/sim/close", json={"position": opened[0]["PositionID"], "lots": "0.20"}).json()["deals"]
    assert half[0]["VolumeExt"] == "20000000"
    state = control.get("/sim/state").json()
    assert (state["accounts"], state["positions"], state["deals"]) == ([login], 1, 5)
    before = Decimal(state["quotes"]["EURUSD"]["bid"])
    moved = control.post("/sim/market", json={"symbol": "EURUSD", "move_points": -10}).json()["quotes"]
    assert Decimal(moved["EURUSD"]["bid"]) == before - Decimal("0.00010")


def test_a_position_is_held_for_a_while(control, login):
    started = time.monotonic()
    control.post("/sim/trade", json={"login": login, "symbol": "EURUSD", "side": "sell", "lots": "0.01", "hold_s": 0.3})
    assert time.monotonic() - started >= 0.3


def test_faults_are_switched_on_and_off(control, client):
    rules = [{"kind": "retcode", "path": "/api/user/total", "code": 12, "times": 2}]
    assert control.post("/sim/faults", json={"rules": rules}).json()["faults"][0]["times"] == 2
    assert retcode(client.get("/api/user/total")) == 12
    control.post("/sim/faults", json={"rules": []})
    assert retcode(client.get("/api/user/total")) == 0


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("trade", None),
        ("trade", []),
        ("trade", {"login": "x"}),
        ("trade", {"login": 1, "symbol": "EURUSD", "side": "up", "lots": "0.1"}),
        ("trade", {"login": 1, "symbol": "EURUSD", "side": "buy", "lots": "NaN"}),
        ("trade", {"login": 1, "symbol": "EURUSD", "side": "buy", "lots": "ten"}),
        ("trade", {"login": 1, "symbol": "EURUSD", "side": "buy", "lots": "0.1"}),
        ("close", {"position": 5}),
        ("market", {"symbol": "EURGBP", "move_points": 5}),
        ("market", {"symbol": "EURUSD"}),
        ("faults", {}),
        ("faults", {"rules": [{"kind": "explode"}]}),
        ("faults", {"rules": [{"kind": "slow", "seconds": "long"}]}),
        ("faults", {"rules": [{"kind": "slow", "delay": 5}]}),
    ],
)
def test_the_control_interface_refuses_nonsense(control, path, body):
    assert control.post(f"/sim/{path}", json=body).status_code == 400


@pytest.mark.parametrize("auth", [None, ("1000", "wrong"), ("1000", ""), ("1001", PASSWORD)])
def test_the_control_interface_is_closed_to_others(simulator, auth):
    with connect(simulator) as client:
        response = client.post("/sim/faults", json={"rules": []}, auth=auth)
    assert response.status_code == 401


def test_a_client_that_never_shakes_hands_blocks_nobody(simulator, client):
    import socket

    host, port = simulator.url.removeprefix("https://").split(":")
    with socket.create_connection((host, int(port))) as silent:
        assert client.get("/api/test/access").status_code == 200
        with connect(simulator) as other:
            assert sign_in(other)["retcode"] == "0 Done"
        silent.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert client.get("/api/test/access").status_code == 200


def test_the_certificate_is_kept_and_private(tmp_path, simulator):
    ca = simulator.ca_file.read_bytes()
    assert b"PRIVATE" not in ca
    assert (simulator.ca_file.parent / "server.pem").stat().st_mode & 0o777 == 0o600
    simulator.stop()
    with Simulator(state_dir=tmp_path, password=PASSWORD, tick_s=0) as again:
        assert again.ca_file.read_bytes() == ca
