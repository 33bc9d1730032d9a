"""The Web API's commands beyond the basic ones, as the simulator answers them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import httpx
import pytest

from app.metatrader.fields import read_deal, read_order, read_position
from app.metatrader.platforms import mt5_auth
from app.metatrader.simulator import Simulator
from tests.integration.metatrader_link.conftest import PASSWORD, USER
from tests.integration.metatrader_link.test_simulator_http import connect, retcode, sign_in

EVER = {"from": "0", "to": str(2**33)}


class Timer:
    """The clock of sessions, turned by hand."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def timer():
    return Timer()


@pytest.fixture
def simulator(tmp_path, timer):
    made = Simulator(state_dir=tmp_path, password=PASSWORD, tick_s=0)
    made.control.habits.timer = timer
    with made:
        yield made


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
    made = simulator.control.users.add({**USER, "LastName": "Bee", "EMail": "ann@example.com"}).login
    simulator.exchange.balance_operation(made, 2, Decimal(26000), "deposit")
    return made


@pytest.fixture
def ask(client):
    """A function that asks a command and returns its answer; it must be done."""

    def get(command, **query):
        answer = client.get(f"/api/{command}", params=query).json()
        assert answer["retcode"] == "0 Done", answer
        return answer.get("answer")

    return get


def test_archive_and_restore(client, ask, simulator, login):
    ask("user/archive/add", login=login)
    assert retcode(client.get("/api/user/get", params={"login": login})) == 13
    assert ask("user/logins", group="*") == []
    assert ask("user/archive/get", login=login)["Balance"] == "26000.00"
    assert [one["Login"] for one in ask("user/archive/get_batch", group="real\\*,!real\\ecn\\*")] == [str(login)]
    assert ask("user/archive/get_batch", group="*,!real\\std\\*") == []
    assert [one["Login"] for one in ask("user/archive/get_batch", login=login)] == [str(login)]
    assert retcode(client.get("/api/user/archive/get_batch", params={"login": login, "group": "*"})) == 3
    assert retcode(client.get("/api/user/archive/add", params={"login": login})) == 13
    assert ask("user/restore", login=login)["Login"] == str(login)
    assert retcode(client.get("/api/user/restore", params={"login": login})) == 3004
    assert retcode(client.get("/api/user/archive/get", params={"login": login})) == 13
    assert ask("user/get", login=login)["Group"] == "real\\std\\usd"


def test_an_account_with_trades_is_neither_archived_nor_deleted(client, ask, simulator, login):
    position = simulator.exchange.open(login, "EURUSD", 0, 10_000_000).position_ticket
    assert retcode(client.get("/api/user/archive/add", params={"login": login})) == 3008
    assert retcode(client.get("/api/user/delete", params={"login": login})) == 3008
    simulator.exchange.close(position)
    ask("user/delete", login=login)
    assert retcode(client.get("/api/user/get", params={"login": login})) == 13


def test_a_list_is_deleted_whole_or_not_at_all(client, simulator, login):
    other = simulator.control.users.add(USER).login
    simulator.exchange.open(login, "EURUSD", 0, 10_000_000)
    assert retcode(client.get("/api/user/delete", params={"login": f"{other},{login}"})) == 3008
    assert retcode(client.get("/api/user/get", params={"login": other})) == 0


def test_logins_taken_and_of_other_servers(client, login):
    body = {**USER, "Login": str(login)}
    assert retcode(client.post("/api/user/add", json=body)) == 3004
    assert retcode(client.post("/api/user/add", json={**USER, "Login": "1100001"})) == 3003
    assert retcode(client.post("/api/user/add", json={**USER, "Login": "100777"})) == 0


def test_passwords_and_group_may_stand_in_the_query(client):
    body = {name: value for name, value in USER.items() if not name.startswith("Pass") and name != "Group"}
    query = {"group": USER["Group"], "pass_main": USER["PassMain"], "pass_investor": USER["PassInvestor"]}
    assert retcode(client.post("/api/user/add", params=query, json=body)) == 0
    assert retcode(client.post("/api/user/add", params={**query, "pass_main": "short"}, json=body)) == 3006


def test_group_changes(client, login):
    def change(group):
        return retcode(client.post("/api/user/update", params={"login": login}, json={"Group": group}))

    assert change("real\\std\\eur") == 3010
    assert change("real2\\std\\usd") == 3009
    assert change("nowhere") == 13
    assert change("real\\swapfree\\usd") == 0


def test_check_balance_reports_and_only_fixes_when_told(client, ask, control, login):
    in_order = {"User": "26000.00", "History": "26000.00"}
    assert ask("user/check_balance", login=login, fixflag=0) == {
        "Balance": in_order,
        "Credit": {"User": "0.00", "History": "0.00"},
    }
    assert control.post("/sim/account", json={"login": login, "do": "drift", "balance": "-10.50"}).status_code == 200
    drifted = {"User": "25989.50", "History": "26000.00"}
    assert ask("user/check_balance", login=login, fixflag=0)["Balance"] == drifted
    assert ask("user/check_balance", login=login, fixflag=0)["Balance"] == drifted, "a report changes nothing"
    assert ask("user/check_balance", login=login, fixflag=1)["Balance"] == drifted
    assert ask("user/check_balance", login=login, fixflag=0)["Balance"] == in_order
    assert retcode(client.get("/api/user/check_balance", params={"login": login, "fixflag": 2})) == 3


def test_batches_by_masks(ask, simulator, login):
    ecn = simulator.control.users.add({**USER, "Group": "real\\ecn\\usd"}).login
    simulator.exchange.balance_operation(ecn, 2, Decimal(5000), "deposit")
    for one in (login, ecn):
        simulator.exchange.open(one, "EURUSD", 0, 10_000_000)
        simulator.exchange.open(one, "GBPUSD", 1, 10_000_000)
    only_std = "real\\*,!real\\ecn\\*"
    assert {one["Login"] for one in ask("user/get_batch", group=only_std)} == {str(login)}
    assert {one["Login"] for one in ask("user/account/get_batch", group="real\\*")} == {str(login), str(ecn)}
    deals = ask("deal/get_batch", group=only_std, symbol="GBPUSD", **EVER)
    assert [(read_deal(one).login, read_deal(one).symbol) for one in deals] == [(login, "GBPUSD")]
    positions = ask("position/get_batch", group="*", symbol="EURUSD")
    assert [read_position(one).login for one in positions] == [login, ecn]
    assert len(ask("position/get_batch", login=f"{login}, {ecn}")) == 4
    assert len(ask("deal/get_batch", login=f"{login},{ecn}", **EVER)) == 6


def test_many_logins_of_a_mask_are_read_in_one_go(ask, simulator):
    for n in range(55):
        login = simulator.control.users.add({**USER, "PassMain": "Main1234!", "FirstName": f"A{n}"}).login
        simulator.exchange.balance_operation(login, 2, Decimal(1), "x")
    assert len(ask("deal/get_batch", group="real\\*", **EVER)) == 55
    assert ask("deal/get_batch", group="demo\\*", **EVER) == []


def test_orders_that_wait_and_orders_that_are_done(client, ask, simulator, login):
    waiting = simulator.exchange.place_order(login, "EURUSD", 2, 10_000_000, Decimal("0.90000"))
    filled = simulator.exchange.open(login, "EURUSD", 0, 20_000_000)
    assert read_order(ask("order/get", ticket=waiting.ticket)).state == 1
    assert ask("order/get_total", login=login) == {"Total": "1"}
    assert [one["Order"] for one in ask("order/get_page", login=login, offset=0, total=100)] == [str(waiting.ticket)]
    assert [one["Order"] for one in ask("order/get_batch", group="real\\*")] == [str(waiting.ticket)]
    assert ask("order/get_batch", group="real\\*", symbol="GBPUSD") == []
    assert [one["Order"] for one in ask("order/get_batch", ticket=f"{waiting.ticket},{filled.order_ticket}")] == [
        str(waiting.ticket)
    ]
    assert ask("history/get_total", login=login, **EVER) == {"Total": "1"}
    done = read_order(ask("history/get", ticket=filled.order_ticket))
    assert (done.state, done.volume_current, done.position_ticket) == (4, 0, filled.position_ticket)
    assert [one["Order"] for one in ask("history/get_page", login=login, offset=0, total=10, **EVER)] == [
        str(filled.order_ticket)
    ]
    assert len(ask("history/get_batch", group="*", **EVER)) == 1
    assert len(ask("history/get_batch", ticket=f"{filled.order_ticket},1")) == 1
    assert retcode(client.get("/api/order/get", params={"ticket": filled.order_ticket})) == 13
    assert retcode(client.get("/api/history/get", params={"ticket": waiting.ticket})) == 13
    assert retcode(client.get("/api/order/get_page", params={"login": login, "total": 101})) == 3
    simulator.exchange.cancel_order(waiting.ticket)
    assert ask("order/get_batch", login=login) == []
    assert ask("history/get_total", login=login, **EVER) == {"Total": "2"}


def test_totals_are_called_as_the_switch_says(ask, control, login):
    assert ask("deal/get_total", login=login, **EVER) == {"Total": "1"}
    assert ask("position/get_total", login=login) == {"total": "0"}
    for name in ("total", "Total"):
        assert control.post("/sim/habits", json={"total_name": name}).status_code == 200
        for command in ("deal/get_total", "position/get_total", "order/get_total", "user/total", "group/total"):
            assert list(ask(command, login=login, **EVER)) == [name]
    assert control.post("/sim/habits", json={"total_name": "TOTAL"}).status_code == 400
    assert control.post("/sim/habits", json={"timer": 1}).status_code == 400


def test_too_many_groups_answer_code_14_with_a_part(client, control):
    control.post("/sim/habits", json={"groups_max": 3})
    answer = client.get("/api/group/get", params={"mask": "*"}).json()
    assert answer["retcode"].startswith("14 ")
    assert len(answer["answer"]) == 3
    assert len(client.get("/api/group/get", params={"mask": "real\\std\\*"}).json()["answer"]) == 3
    assert client.get("/api/group/get", params={"mask": "real\\std\\*"}).json()["retcode"] == "0 Done"


def test_groups_are_those_of_this_server(client, ask):
    names = [one["Group"] for one in ask("group/get", mask="*")]
    assert "real\\std\\usd" in names
    assert not any(name.startswith("real2") for name in names)
    assert ask("group/next", index=0)["Group"] == names[0]
    assert ask("group/total") == {"Total": str(len(names))}
    assert retcode(client.get("/api/group/get", params={"group": "real2\\std\\usd"})) == 13
    assert ask("symbol/get_group", symbol="EURUSD", group=names[0])["Symbol"] == "EURUSD"
    assert ask("symbol/get", symbol="XAUUSD")["ContractSize"] == "100"


def test_rates(client, ask, simulator):
    quote = simulator.exchange.market.quote("EURUSD")
    assert Decimal(ask("trade/calc_rate_buy", base="EUR", currency="USD")["Rate"]) == quote.ask_price
    assert Decimal(ask("trade/calc_rate_sell", base="EUR", currency="USD", group="real\\std\\usd")["Rate"]) == quote.bid_price
    assert ask("trade/calc_rate_sell", base="USD", currency="USD")["Rate"] == "1.000000"
    assert retcode(client.get("/api/trade/calc_rate_buy", params={"base": "EUR", "currency": "XXX"})) == 13


def test_profit_is_that_of_a_trade(ask):
    query = {"group": "real\\std\\usd", "symbol": "EURUSD", "volume": 10_000_000, "price_open": "1.11500"}
    assert ask("trade/calc_profit", type=0, price_close="1.12500", **query)["Profit"] == "100.00"
    assert ask("trade/calc_profit", type=1, price_close="1.12500", **query)["Profit"] == "-100.00"
    assert ask("trade/calc_profit", type=0, price_close="1.12500", **query)["Profit_rate"] == "1.00000000"


def test_margin_with_one_more_position(client, ask, simulator, login):
    query = {"login": login, "symbol": "EURUSD", "type": 0, "volume": 100_000_000}
    answer = ask("trade/check_margin", **query)
    assert (answer["current"]["Margin"], answer["current"]["MarginFree"]) == ("0.00", "26000.00")
    simulator.exchange.open(login, "EURUSD", 0, 100_000_000)
    real = ask("user/account/get", login=login)
    assert answer["new"]["Margin"] == real["Margin"]
    assert answer["new"]["MarginFree"] == real["MarginFree"]
    assert retcode(client.get("/api/trade/check_margin", params={**query, "type": 2})) == 3
    assert retcode(client.get("/api/trade/check_margin", params={**query, "volume": 0})) == 10014
    assert retcode(client.get("/api/trade/check_margin", params={**query, "symbol": "ABCDEF"})) == 13


def test_every_value_of_a_record_is_text(ask, simulator, login):
    simulator.exchange.open(login, "EURUSD", 0, 10_000_000)
    records = [
        ask("user/get", login=login),
        ask("user/account/get", login=login),
        *ask("deal/get_batch", login=login, **EVER),
        *ask("position/get_batch", login=login),
        *ask("history/get_batch", login=login, **EVER),
        *ask("symbol/get", mask="*"),
        *ask("tick/last", symbol="EURUSD,XAUUSD"),
    ]
    assert len(records) > 30
    assert all(isinstance(value, str) for record in records for value in record.values())


def test_silence_closes_the_connection(client, simulator, timer):
    assert client.get("/api/test/access").status_code == 200
    timer.now_s += 179
    assert client.get("/api/test/access").status_code == 200
    timer.now_s += 181
    with pytest.raises(httpx.TransportError):
        client.get("/api/test/access")
    assert client.get("/api/test/access").status_code == 403, "a new connection has no session"


def test_an_answer_after_ten_seconds_is_refused(simulator, timer):
    with connect(simulator) as late:
        start = late.get(
            "/api/auth/start", params={"version": "4000", "agent": "Test", "login": "1000", "type": "manager"}
        ).json()
        proof = mt5_auth.answer(PASSWORD, bytes.fromhex(start["srv_rand"]))
        timer.now_s += 10.5
        answer = late.get("/api/auth/answer", params={"srv_rand_answer": proof, "cli_rand": "0" * 32})
        assert retcode(answer) == 1001
        assert late.get("/api/test/access").status_code == 403


def test_daily_reports(tmp_path):
    moment = [datetime(2026, 11, 24, 12, tzinfo=UTC)]
    with Simulator(state_dir=tmp_path, password=PASSWORD, tick_s=0, clock=lambda: moment[0]) as simulator:
        login = simulator.control.users.add({**USER, "LastName": "Bee"}).login
        simulator.exchange.balance_operation(login, 2, Decimal(1000), "deposit")
        moment[0] += timedelta(days=1)
        simulator.exchange.balance_operation(login, 3, Decimal(50), "bonus")
        deals = simulator.control.trade(login, "EURUSD", "buy", Decimal("0.10"), move_points=108)
        moment[0] += timedelta(days=1)
        with connect(simulator) as client:
            sign_in(client)
            query = {"login": login, "from": 0, "to": 2**33}
            days = client.get("/api/daily_get_light", params=query).json()["answer"]
    assert (days[0]["DailyBalance"], days[0]["DailyCredit"], days[0]["Balance"]) == ("1000.00", "0.00", "1000.00")
    assert len(days) == 2, "the day that goes on has no report yet"
    assert days[1]["DailyCredit"] == "50.00"
    assert days[1]["DailyProfit"] == str(deals[1].profit)
    assert Decimal(days[1]["Balance"]) == 1000 + deals[1].profit
    assert days[1]["BalancePrevDay"] == "1000.00"
    assert int(days[1]["Datetime"]) - int(days[0]["Datetime"]) == 86_400
    assert days[0]["Name"] == "Ann Bee"


def test_a_dealers_work_by_the_control_interface(control, simulator, login):
    opened, closed = simulator.control.trade(login, "EURUSD", "buy", Decimal("0.10"), move_points=58)
    edited = control.post("/sim/deal", json={"ticket": closed.ticket, "do": "edit", "profit": "7.77", "comment": "by hand"})
    assert (edited.json()["deal"]["Profit"], edited.json()["deal"]["Comment"]) == ("7.77", "by hand")
    assert edited.json()["deal"]["ModificationFlags"] != "0"
    assert control.post("/sim/deal", json={"ticket": closed.ticket, "do": "cancel"}).json()["deal"]["Action"] == "14"
    assert control.post("/sim/deal", json={"ticket": opened.ticket, "do": "delete"}).json() == {"deal": None}
    assert simulator.store.deal(opened.ticket) is None
    late = {"login": login, "symbol": "EURUSD", "side": "sell", "lots": "0.10", "profit": "3.00", "seconds_ago": 3600}
    told = read_deal(control.post("/sim/late_deal", json=late).json()["deal"])
    assert simulator.exchange.now_ms() - told.server_time_ms >= 3_600_000
    assert told.ticket > closed.ticket
    for path, body in (
        ("deal", {"ticket": 1, "do": "delete"}),
        ("deal", {"ticket": closed.ticket, "do": "improve"}),
        ("deal", {"ticket": closed.ticket, "do": "edit", "profit": "lots"}),
        ("late_deal", {"login": login}),
        ("account", {"login": login, "do": "marry"}),
        ("gap", {"seconds": -1, "do": "lose"}),
        ("gap", {"seconds": 5, "do": "nothing"}),
        ("order", {"login": login}),
        ("faults", {"events": {"duplicates": 2}}),
    ):
        assert control.post(f"/sim/{path}", json=body).status_code == 400, (path, body)


def test_faults_by_a_line_and_what_is_wrong_with_it(control):
    done = control.post("/sim/faults", json={"line": "duplicates=5%,drop_after_execute=2%"})
    assert done.json()["event_faults"]["duplicates"] == 0.05
    assert "/api/trade/balance" in [rule["path"] for rule in done.json()["faults"]]
    wrong = control.post("/sim/faults", json={"line": "duplicates=5"})
    assert (wrong.status_code, wrong.json()["error"]) == (
        400,
        "duplicates=5: a percentage from 0% to 100% is meant; write it like duplicates=5%",
    )
    assert control.get("/sim/state").json()["event_faults"]["duplicates"] == 0.05
    assert control.post("/sim/faults", json={"line": ""}).json()["faults"] == []


def test_recent_things(control, simulator, login):
    simulator.exchange.open(login, "EURUSD", 0, 10_000_000)
    recent = control.get("/sim/recent").json()
    assert [one["Action"] for one in recent["deals"]] == ["0", "2"], "the newest first"
    assert [one["Symbol"] for one in recent["positions"]] == ["EURUSD"]
    assert recent["accounts"][0] == {
        "login": login,
        "group": "real\\std\\usd",
        "name": "Ann Bee",
        "currency": "USD",
        "balance": "26000.00",
    }
    state = control.get("/sim/state").json()
    assert (state["server"], state["positions"], state["is_away"], state["is_held"]) == ("sim", 1, False, False)
    assert control.post("/sim/gap", json={"seconds": 30, "do": "lose"}).status_code == 200
    assert control.get("/sim/state").json()["is_away"]
