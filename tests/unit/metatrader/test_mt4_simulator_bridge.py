"""The MT4 double's bridge over real TLS: its commands, its secret, the rule of three steps, and what faults do to it."""

from __future__ import annotations

import ssl
import threading
from decimal import Decimal

import httpx
import pytest

from app.metatrader.mt4 import Cmd, read_group, read_login, read_symbol, read_trade
from app.metatrader.simulator.faults import Fault
from app.metatrader.simulator.mt4 import MT4Simulator
from app.metatrader.simulator.mt4.faults import parse_faults
from app.metatrader.simulator.mt4.request_log import RequestLog

SECRET = "bridge-secret-ü"
ACCOUNT = {
    "group": "std-usd",
    "leverage": "100",
    "name": "Ann Case",
    "email": "ann@example.com",
    "country": "Cyprus",
    "comment": "",
    "id": "LW-0001",
    "password": "Main1234",
    "password_investor": "Look1234",
    "enable": "1",
    "enable_change_password": "1",
    "enable_read_only": "0",
}


@pytest.fixture
def double(tmp_path, clock):
    with MT4Simulator(state_dir=tmp_path / "server", password=SECRET, clock=clock, tick_s=0) as running:
        yield running


@pytest.fixture
def client(double):
    trust = ssl.create_default_context(cafile=str(double.ca_file))
    headers = {"Authorization": f"Bearer {SECRET}".encode()}
    with httpx.Client(base_url=f"{double.url}/v1/", verify=trust, headers=headers, trust_env=False, timeout=5) as made:
        yield made


def ask(client, command, id_="", **body):
    response = client.post(command, json=body, headers={"X-Request-Id": id_} if id_ else {})
    return response.status_code, response.json()


def done(client, command, id_="", **body):
    status, answer = ask(client, command, id_, **body)
    assert (status, answer["code"], answer["name"]) == (200, "0", "OK")
    return answer


@pytest.fixture
def login(client):
    return done(client, "open_account", "open-1", **ACCOUNT)["login"]


def balances(double, login):
    return [row.profit for row in double.engine.trades(int(login)) if row.cmd == Cmd.BALANCE]


def test_the_whole_way_from_opening_an_account_to_a_withdrawal(double, client, login):
    done(client, "balance", "in-1", login=login, amount="1000", comment="D-1", check_margin="0")
    opened = double.engine.open(int(login), "EURUSD", Cmd.BUY, Decimal("0.1"))
    double.engine.shift("EURUSD", 108)
    double.engine.close(opened.order)
    answer = done(client, "balance", "out-1", login=login, amount="-1010.00", comment="W-1", check_margin="1")
    [row] = done(client, "trades", orders=answer["order"])["trades"]
    assert (row["cmd"], row["profit"], row["comment"]) == ("6", "-1010.00", "W-1")
    [user] = done(client, "users", logins=login)["users"]
    assert (user["balance"], user["id"], user["name"]) == ("0.00", "LW-0001", "Ann Case")
    assert "Main1234" not in str(user)


def test_what_the_server_is_and_offers(client, double):
    assert done(client, "time")["server_time"] == str(double.engine.now_s())
    assert (done(client, "time")["time_zone"], done(client, "time")["daylight"]) == ("2", "1")
    groups = [read_group(one) for one in done(client, "groups")["groups"]]
    assert ("ecn-usd", "USD", Decimal(30)) in [(one.name, one.currency, one.margin_stop_out) for one in groups]
    symbols = {one["symbol"]: read_symbol(one) for one in done(client, "symbols")["symbols"]}
    assert (symbols["EURUSD"].digits, symbols["EURUSD"].volume_min, symbols["XAUUSD"].contract_size) == (5, 1_000_000, 100)


def test_users_and_trades_by_mask_and_number(double, client, login):
    other = done(client, "open_account", "open-2", **{**ACCOUNT, "group": "ecn-usd"})["login"]
    assert [read_login(one).login for one in done(client, "users", groups="*-usd,!ecn*")["users"]] == [int(login)]
    assert len(done(client, "users", groups="*")["users"]) == 2
    assert [one["login"] for one in done(client, "users", logins=f"{other},777")["users"]] == [other]
    assert ask(client, "users", logins="777") == (200, {"code": "65", "name": "BAD_ACCOUNT_INFO"})

    done(client, "balance", "in-1", login=login, amount="5000", comment="D-1", check_margin="0")
    row = double.engine.open(int(login), "EURUSD", Cmd.BUY, Decimal("0.1"))
    rows = [read_trade(one) for one in done(client, "trades", logins=login, open="1")["trades"]]
    assert rows == double.engine.open_trades()
    now = double.engine.now_s()
    assert len(done(client, "trades", groups="std-*", **{"from": str(now), "to": str(now)})["trades"]) == 2
    assert done(client, "trades", groups="ecn-*", **{"from": "0", "to": str(now)})["trades"] == []
    assert [one["order"] for one in done(client, "trades", orders=f"{row.order},99")["trades"]] == [str(row.order)]


def test_passwords_are_checked_and_changed_and_never_told(client, login):
    assert done(client, "check_password", login=login, kind="main", password="Main1234")["right"] == "1"
    assert done(client, "check_password", login=login, kind="investor", password="Main1234")["right"] == "0"
    done(client, "change_password", "pw-1", login=login, kind="main", password="Other5678")
    assert done(client, "check_password", login=login, kind="main", password="Other5678")["right"] == "1"
    for weak in ("short", "1234567", "sixteenletters16", "Look1234"):
        status, answer = ask(client, "change_password", f"pw-{weak}", login=login, kind="main", password=weak)
        assert (status, answer["code"]) == (200, "3"), weak
    assert ask(client, "check_password", login="777", kind="main", password="x")[1]["code"] == "65"


def test_an_account_is_changed(client, double, login):
    done(client, "change_account", "ch-1", login=login, group="ecn-usd", leverage="50", enable_read_only="1")
    kept = double.engine.login(int(login))
    assert (kept.group, kept.leverage, kept.enable_read_only, kept.enable) == ("ecn-usd", 50, 1, 1)
    assert ask(client, "change_account", "ch-2", login=login, group="std-eur")[1]["code"] == "3"
    assert ask(client, "change_account", "ch-3", login="777", leverage="50")[1]["code"] == "65"


def test_balances_are_compared_with_the_rows(client, double, login):
    done(client, "balance", "in-1", login=login, amount="100", comment="D-1", check_margin="0")
    double.engine.users.drift(int(login), Decimal("0.50"))
    answer = done(client, "check_balance", login=login)
    assert (answer["balance"], answer["balance_of_trades"], answer["credit"]) == ("100.50", "100.00", "0.00")


def test_texts_are_cut_and_translated_to_the_servers_code_page(client, double):
    answer = done(client, "open_account", "open-9", **{**ACCOUNT, "name": "Zoë 北京", "id": "i" * 40})
    kept = double.engine.login(int(answer["login"]))
    assert (kept.name, kept.id) == ("Zoë ??", "i" * 31)


def test_who_does_not_know_the_secret_does_nothing(double, client, login):
    body = {"login": login, "amount": "5", "comment": "x", "check_margin": "0"}
    for given in ("", "Bearer", SECRET, "Bearer wrong", f"Basic {SECRET}"):
        headers = {"Authorization": given.encode(), "X-Request-Id": "bad-1"}
        assert client.post("balance", json=body, headers=headers).status_code == 401
    assert balances(double, login) == []


@pytest.mark.parametrize(
    ("command", "body"),
    [
        ("balance", {"login": "1", "amount": "1e5", "comment": "x", "check_margin": "0"}),
        ("balance", {"login": "1", "amount": "NaN", "comment": "x", "check_margin": "0"}),
        ("balance", {"login": "1", "amount": "5", "comment": "x"}),
        ("balance", {"login": 1, "amount": "5", "comment": "x", "check_margin": "0"}),
        ("balance", {"login": "-1", "amount": "5", "comment": "x", "check_margin": "0"}),
        ("balance", ["5"]),
        ("users", {}),
        ("users", {"groups": "*", "logins": "1"}),
        ("users", {"logins": "1,,2"}),
        ("users", {"groups": "x" * 1001}),
        ("trades", {"logins": "1,2"}),
        ("trades", {"logins": "1,2", "open": "0"}),
        ("trades", {"logins": "1,2", "from": "1"}),
        ("check_password", {"login": "1", "kind": "phone", "password": "x"}),
        ("outcome", {"id": "no/id"}),
    ],
)
def test_a_body_that_cannot_be_meant_does_nothing(client, command, body):
    response = client.post(command, json=body, headers={"X-Request-Id": "odd-1"})
    assert (response.status_code, response.json()["code"]) == (400, "3")
    assert done(client, "outcome", id="odd-1")["outcome"] == "never"


def test_unknown_commands_and_methods(client, login):
    assert ask(client, "delete_account", "del-1", login=login)[0] == 404
    assert client.get("time").status_code == 404
    assert client.post("time", content=b"{").status_code == 400
    assert client.post("time", content=b"").json()["code"] == "0"


@pytest.mark.parametrize("id_", ["", "a b", "x" * 61, "a_b"])
def test_a_change_needs_an_id(double, client, login, id_):
    body = {"login": login, "amount": "5", "comment": "x", "check_margin": "0"}
    assert client.post("balance", json=body, headers={"X-Request-Id": id_}).status_code == 400
    assert balances(double, login) == []


def test_an_id_is_carried_out_once_and_answered_alike(double, client, login):
    body = {"login": login, "amount": "5", "comment": "x", "check_margin": "0"}
    first = ask(client, "balance", "in-1", **body)
    assert ask(client, "balance", "in-1", **body) == (200, {**first[1], "repeated": "1"})
    assert done(client, "outcome", id="in-1") == {"code": "0", "name": "OK", "outcome": "done", "answer": first[1]}
    status, answer = ask(client, "balance", "in-1", **{**body, "amount": "6"})
    assert (status, "outcome" in answer) == (409, False)
    assert ask(client, "change_password", "in-1", login=login, kind="main", password="Other5678")[0] == 409
    assert balances(double, login) == [5]


def test_a_refusal_is_kept_too(double, client, login):
    body = {"login": login, "amount": "-5", "comment": "x", "check_margin": "1"}
    assert ask(client, "balance", "out-1", **body) == (200, {"code": "134", "name": "NO_MONEY"})
    double.engine.balance_operation(int(login), Cmd.BALANCE, Decimal(100), "")
    assert ask(client, "balance", "out-1", **body)[1]["code"] == "134"
    answer = done(client, "outcome", id="out-1")
    assert (answer["outcome"], answer["answer"]["code"]) == ("refused", "134")


def test_what_was_asked_about_before_it_came_does_nothing_when_it_comes(double, client, login):
    body = {"login": login, "amount": "5", "comment": "x", "check_margin": "0"}
    assert done(client, "outcome", id="late-1")["outcome"] == "never"
    status, answer = ask(client, "balance", "late-1", **body)
    assert (status, answer["outcome"]) == (409, "never")
    assert done(client, "outcome", id="late-1")["outcome"] == "never"
    assert balances(double, login) == []


def test_an_answer_that_is_lost_can_be_asked_for(double, client, login):
    body = {"login": login, "amount": "5", "comment": "x", "check_margin": "0"}
    for number, fault in enumerate((Fault("execute_then_drop", "/v1/balance"), Fault("silent", "/v1/balance", seconds=0.1))):
        double.faults.set([fault])
        with pytest.raises(httpx.TransportError):
            ask(client, "balance", f"in-{number}", **body)
        answer = done(client, "outcome", id=f"in-{number}")
        assert answer["outcome"] == "done"
        assert answer["answer"]["order"] == str(double.engine.trades()[-1].order)
    assert balances(double, login) == [5, 5]


def test_a_connection_that_breaks_before_leaves_nothing(double, client, login):
    double.faults.set([Fault("drop", "/v1/balance")])
    body = {"login": login, "amount": "5", "comment": "x", "check_margin": "0"}
    with pytest.raises(httpx.TransportError):
        ask(client, "balance", "in-1", **body)
    assert balances(double, login) == []
    assert done(client, "balance", "in-1", **body)


@pytest.mark.parametrize("code", [6, 8, 137, 141, 146])
def test_a_busy_server_did_nothing_and_the_same_id_may_come_again(double, client, login, code):
    double.faults.set([Fault("retcode", "/v1/balance", code=code)])
    body = {"login": login, "amount": "5", "comment": "x", "check_margin": "0"}
    status, answer = ask(client, "balance", "in-1", **body)
    assert (status, answer["code"]) == (503, str(code))
    done(client, "balance", "in-1", **body)
    assert balances(double, login) == [5]


@pytest.mark.parametrize(("code", "carried_out"), [(128, []), (142, [5]), (143, [5])])
def test_an_end_that_nobody_knows_stays_unknown(double, client, login, code, carried_out):
    double.faults.set([Fault("retcode", "/v1/balance", code=code)])
    body = {"login": login, "amount": "5", "comment": "x", "check_margin": "0"}
    for _ in range(2):
        status, answer = ask(client, "balance", "in-1", **body)
        assert (status, answer["outcome"]) == (409, "unknown")
    assert done(client, "outcome", id="in-1")["outcome"] == "unknown"
    assert balances(double, login) == carried_out


def test_a_code_that_mt4_answers_is_an_answer(double, client, login):
    double.faults.set([Fault("retcode", "/v1/", code=7, times=2)])
    assert ask(client, "users", logins=login) == (200, {"code": "7", "name": "NOT_ENOUGH_RIGHTS"})
    body = {"login": login, "amount": "5", "comment": "x", "check_margin": "0"}
    assert ask(client, "balance", "in-1", **body) == (200, {"code": "7", "name": "NOT_ENOUGH_RIGHTS"})
    assert done(client, "outcome", id="in-1")["outcome"] == "refused"


def test_half_an_answer_and_a_server_that_is_away(double, client, login):
    double.faults.set([Fault("garble", "/v1/users"), Fault("http_503", "/v1/groups")])
    response = client.post("users", json={"logins": login})
    assert response.status_code == 200
    with pytest.raises(ValueError):  # noqa: PT011  # whatever the JSON library says
        response.json()
    assert ask(client, "groups") == (503, {"code": "6", "name": "NO_CONNECT"})


def test_the_same_id_from_many_at_once_is_carried_out_once(double, client, login):
    body = {"login": login, "amount": "5", "comment": "x", "check_margin": "0"}
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(ask(client, "balance", "in-1", **body))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert balances(double, login) == [5]
    assert {status for status, _ in answers} <= {200, 409}
    assert len({answer["order"] for status, answer in answers if status == 200}) == 1


def test_ids_outlive_the_bridge(tmp_path, clock, double, client, login):
    body = {"login": login, "amount": "5", "comment": "x", "check_margin": "0"}
    first = ask(client, "balance", "in-1", **body)
    log = RequestLog(tmp_path / "server" / "requests.sqlite3", SECRET, clock)
    log.begin("in-2", "balance", log.digest("balance", body))
    log.close()
    double.stop()
    with MT4Simulator(state_dir=tmp_path / "server", password=SECRET, clock=clock, tick_s=0) as again:
        trust = ssl.create_default_context(cafile=str(again.ca_file))
        headers = {"Authorization": f"Bearer {SECRET}".encode()}
        with httpx.Client(base_url=f"{again.url}/v1/", verify=trust, headers=headers, trust_env=False) as anew:
            assert ask(anew, "balance", "in-1", **body) == (200, {**first[1], "repeated": "1"})
            assert ask(anew, "balance", "in-2", **body)[1]["outcome"] == "unknown"
        assert balances(again, login) == [5]


def test_the_log_holds_no_password(tmp_path, client, login):
    files = list((tmp_path / "server").glob("requests.sqlite3*"))
    assert files
    for path in files:
        assert b"Main1234" not in path.read_bytes()


def test_ids_are_forgotten_after_more_than_a_month(tmp_path, clock):
    log = RequestLog(tmp_path / "log.sqlite3", SECRET, clock)
    log.begin("old", "balance", "d")
    log.close()
    clock.move(days=31)
    log = RequestLog(tmp_path / "log.sqlite3", SECRET, clock)
    assert log.outcome("old").outcome == "unknown"
    log.close()
    clock.move(days=30)
    log = RequestLog(tmp_path / "log.sqlite3", SECRET, clock)
    assert log.begin("old", "balance", "d") is None
    log.close()


def test_faults_by_name_have_mt4s_codes():
    plan = parse_faults("busy=1%,too_frequent=2%,network=3%,drop_after_execute=4%")
    assert [rule.code for rule in plan.commands if rule.kind == "retcode"] == [146, 8, 6]
    assert "/v1/balance" in [rule.path for rule in plan.commands if rule.kind == "execute_then_drop"]


# ── the control interface ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def control(double):
    trust = ssl.create_default_context(cafile=str(double.ca_file))
    auth = (str(double.manager_login).encode(), SECRET.encode())
    with httpx.Client(base_url=f"{double.url}/sim/", verify=trust, auth=auth, trust_env=False, timeout=5) as made:
        yield made


def test_the_control_interface_trades_and_edits(double, client, control, login):
    done(client, "balance", "in-1", login=login, amount="5000", comment="D-1", check_margin="0")
    body = {"login": int(login), "symbol": "EURUSD", "side": "buy", "lots": "0.50", "move_points": 108}
    opening, closing = control.post("trade", json=body).json()["deals"]
    assert (opening["Entry"], closing["Entry"], closing["Profit"]) == ("0", "1", "50.00")
    edited = control.post("deal", json={"ticket": int(closing["Deal"]), "do": "edit", "profit": "60"}).json()
    assert edited["deal"]["Profit"] == "60.00"
    assert double.engine.login(int(login)).balance == 5060
    control.post("deal", json={"ticket": int(closing["Deal"]), "do": "delete"})
    assert double.engine.login(int(login)).balance == 5000
    held = control.post("trade", json={**body, "close": False}).json()["trades"][0]["order"]
    recent = control.get("recent").json()
    assert [one["Position"] for one in recent["positions"]] == [held]
    assert (recent["accounts"][0]["login"], recent["archived"]) == (int(login), [])
    assert control.post("close", json={"position": int(held), "lots": "0.2"}).json()["trades"][0]["state"] == "4"
    late = {"login": int(login), "symbol": "EURUSD", "side": "sell", "lots": "0.1", "profit": "7.5", "seconds_ago": 60}
    assert control.post("late_deal", json=late).json()["deal"]["Profit"] == "7.50"
    state = control.get("state").json()
    assert (state["server"], state["accounts"], state["positions"]) == ("sim4", [int(login)], 1)
    assert state["deals"] == 6  # the deposit, two trades that are over, the open rest


def test_the_control_interface_keeps_orders_faults_and_drifts(double, control, login):
    price = str(double.engine.market.quote("EURUSD").bid_price + 1)
    body = {"login": int(login), "symbol": "EURUSD", "type": 3, "lots": "0.1", "price": price}
    order = control.post("order", json=body).json()["order"]
    assert (order["Type"], order["State"]) == ("3", "1")
    assert control.post("order", json={"cancel": int(order["Order"])}).json()["order"]["State"] == "2"
    assert control.post("faults", json={"line": "busy=5%"}).json()["faults"][0]["code"] == 146
    assert control.post("faults", json={"line": "nonsense=5%"}).status_code == 400
    control.post("faults", json={"rules": []})
    control.post("account", json={"login": int(login), "do": "drift", "balance": "2"})
    assert double.engine.login(int(login)).balance == 2
    assert control.post("gap", json={"seconds": 5, "do": "lose"}).json() == {"seconds": 5.0}
    assert control.get("state").json()["is_away"] is True
    refused = control.post("trade", json={**body, "side": "buy"}).json()
    assert (refused["code"], refused["retcode"].partition(" ")[0]) == ("134", "10019")
    assert control.post("trade", json={**body, "side": "buy", "login": 7}).json()["retcode"].startswith("13 ")
    assert control.get("state", auth=("1", "wrong")).status_code == 401
    assert control.get("nothing").status_code == 404
