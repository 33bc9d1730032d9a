"""The page of the simulated servers, against a real one: what is pressed happens there, and what it refuses is said."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from app import create_app
from app.metatrader.simulator import Simulator
from app.metatrader.simulator.mt4 import MT4Simulator
from app.models.metatrader import Server
from app.views.simulator_forms import chosen
from config import ServerSecrets
from tests.integration.metatrader_link.conftest import USER
from tests.integration.views.conftest import LIBRARY_WARNINGS

pytestmark = LIBRARY_WARNINGS
PAGE = "/simulator/?server=page"


@pytest.fixture(scope="module")
def simulator(tmp_path_factory, office):
    settings = office.app.extensions["settings"]
    with Simulator(state_dir=tmp_path_factory.mktemp("simulator"), password=settings.mt5_password, tick_s=0) as running:
        with office.session() as session:
            session.add(
                Server(
                    code="page",
                    name="Page server",
                    platform="mt5_web",
                    url=running.url,
                    manager_login=running.manager_login,
                    time_zone="GMT+2/EU",
                )
            )
            session.commit()
        office.app.extensions["settings"] = replace(settings, mt5_ca_file=str(running.ca_file))
        yield running
        office.app.extensions["settings"] = settings


@pytest.fixture
def login(simulator):
    made = simulator.control.users.add({**USER, "FirstName": "Zoë", "LastName": "Müller"}).login
    simulator.exchange.balance_operation(made, 2, Decimal(26000), "deposit")
    return made


@pytest.fixture
def press(office, simulator):
    """A function that sends one of the page's forms as the administrator."""
    browser = office.browser("Admin")

    def send(action, **fields):
        name = action.partition("?")[0]
        return browser.post(
            f"/simulator/{action}?server=page", {f"{name}-{field}": value for field, value in fields.items()}, page=PAGE
        )

    return send


def test_the_page_shows_the_server_and_its_accounts(office, simulator, login):
    page = office.browser("Admin").get(PAGE)
    assert page.status_code == 200
    assert f"{login} Zoë Müller, 26000.00 USD" in page.text
    assert "Running" in page.text
    state = office.browser("Admin").get("/simulator/state?server=page")
    assert "Page server" in state.text
    assert "<html" not in state.text


def test_only_the_administrator_may(office, simulator):
    assert office.browser("Operator").get(PAGE).status_code in (302, 403)
    assert "/simulator/" not in office.browser("Operator").get("/").text


def test_a_price_moves(press, simulator):
    before = simulator.exchange.market.quote("EURUSD").bid
    assert press("move", symbol="EURUSD", points="-120").status_code == 200
    assert simulator.exchange.market.quote("EURUSD").bid == before - 120
    refused = press("move", symbol="EURGBP", points="5")
    assert refused.status_code == 422
    assert "this price only follows from others" in refused.text


def test_a_trade_is_made(press, simulator, login):
    said = press("trade", login=login, symbol="EURUSD", side="buy", lots="0.50", then="close", points="108")
    assert "Opened and closed; the result is 50.00." in said.text
    press("trade", login=login, symbol="EURUSD", side="sell", lots="0.10", then="leave", points="")
    assert [position.volume for position in simulator.store.positions(login)] == [10_000_000]


def test_what_cannot_be_meant_keeps_what_was_typed(press, simulator, login):
    page = press("trade", login=login, symbol="GBPUSD", side="buy", lots="500", then="close", points="")
    assert page.status_code == 422
    assert 'value="500"' in page.text
    assert "From 0.01 to 100 lots." in page.text
    assert '<option selected value="GBPUSD">' in page.text
    page = press("trade", login=login, symbol="EURUSD", side="buy", lots="100", then="leave", points="")
    assert (page.status_code, "The free money of this account is not enough for it." in page.text) == (422, True)
    assert simulator.store.positions(login) == []


def test_a_dealer_edits_deletes_and_voids(press, simulator, login):
    _, closed = simulator.control.trade(login, "EURUSD", "buy", Decimal("0.10"), move_points=58)
    assert press("deal", ticket=closed.ticket, do="edit", profit="").status_code == 422
    assert press("deal", ticket=closed.ticket, do="edit", profit="12.34").status_code == 200
    assert simulator.store.deal(closed.ticket).profit == Decimal("12.34")
    press("deal", ticket=closed.ticket, do="cancel", profit="")
    assert simulator.store.deal(closed.ticket).profit == 0
    press("deal", ticket=closed.ticket, do="delete", profit="")
    assert simulator.store.deal(closed.ticket) is None


def test_a_forgotten_trade(press, simulator, login):
    press("late", login=login, symbol="EURUSD", side="sell", lots="0.10", profit="-5.55", minutes="90")
    newest = simulator.store.deals(login, 0, 2**62)[-1]
    assert newest.profit == Decimal("-5.55")
    assert simulator.exchange.now_ms() - newest.server_time_ms >= 90 * 60_000


def test_an_account_is_archived_brought_back_and_made_wrong(press, simulator, login):
    press("account", login=login, do="archive", amount="")
    assert simulator.store.archived(login) is not None
    press("account", login=login, do="restore", amount="")
    assert simulator.store.account(login) is not None
    assert press("account", login=login, do="drift", amount="").status_code == 422
    press("account", login=login, do="drift", amount="-3")
    assert not simulator.exchange.check_balance(login).agrees


def test_faults_are_set_shown_and_switched_off(office, press, simulator):
    off = dict.fromkeys(("reorder", "late", "garbage", "edits", "deletes", "too_frequent", "unavailable"), "")
    said = press("faults", **off, duplicates="5%", gap="30s/120s", drop_after_execute="20%", slow="5%/3s")
    assert said.status_code == 200
    settings = simulator.journal.faults.settings
    assert (settings.duplicates, settings.gap_s, settings.gap_every_s) == (0.05, 30, 120)
    page = office.browser("Admin").get(PAGE).text
    assert page.count('<option selected value="5%">') == 1
    assert '<option selected value="30s/120s">' in page
    assert '<option selected value="20%">' in page
    assert "Faults are on." in page
    assert office.browser("Admin").post("/simulator/do/calm?server=page", page=PAGE).status_code == 200
    assert simulator.journal.faults.settings.duplicates == 0
    assert simulator.control.faults.listed() == []


def test_buttons(office, simulator):
    admin = office.browser("Admin")
    admin.post("/simulator/do/lose?server=page", page=PAGE)
    assert simulator.journal.faults.is_away(simulator.exchange.clock())
    admin.post("/simulator/do/hold?server=page", page=PAGE)
    assert simulator.journal.faults.is_held(simulator.exchange.clock())
    admin.post("/simulator/do/lose-answer?server=page", page=PAGE)
    assert [(rule["kind"], rule["times"]) for rule in simulator.control.faults.listed()] == [("execute_then_drop", 1)]
    assert admin.post("/simulator/do/dance?server=page", page=PAGE).status_code == 404
    assert admin.post("/simulator/do/calm?server=nowhere", page=PAGE).status_code == 404
    assert admin.get("/simulator/?server=nowhere").status_code == 404
    admin.post("/simulator/do/calm?server=page", page=PAGE)


def test_nothing_goes_without_a_token(office, simulator):
    before = simulator.exchange.market.quote("EURUSD").bid
    answer = office.browser("Admin").bare_post("/simulator/move?server=page", {"move-symbol": "EURUSD", "move-points": "50"})
    assert answer.status_code == 400
    assert simulator.exchange.market.quote("EURUSD").bid == before


def test_a_server_that_is_away_is_said_to_be(office, simulator):
    with office.session() as session:
        session.add(
            Server(
                code="gone", name="Gone", platform="mt5_web", url="https://127.0.0.1:9", manager_login=1, time_zone="GMT+2/EU"
            )
        )
        session.commit()
    page = office.browser("Admin").get("/simulator/?server=gone")
    assert page.status_code == 200
    assert "does not answer" in page.text
    said = office.browser("Admin").post("/simulator/do/lose?server=gone", page=PAGE)
    assert "does not answer" in said.text


def test_values_that_are_no_choice_are_shown_too():
    off = {"reorder_s": 0, "late": 0, "late_s": 60, "gap_s": 0, "gap_every_s": 120, "duplicates": 0, "garbage": 0}
    state = {"event_faults": {**off, "edits": 0.033, "deletes": 0}, "faults": []}
    assert chosen(state) == {"edits": "3.3%"}
    rule = {"kind": "slow", "code": 12, "chance": 0.05, "seconds": 3.0}
    assert chosen({**state, "faults": [rule, {**rule, "kind": "drop"}]})["slow"] == "5%/3s"


def test_it_does_not_exist_in_production(office):
    app = create_app(replace(office.app.extensions["settings"], environment="production"))
    assert not [rule for rule in app.url_map.iter_rules() if str(rule).startswith("/simulator")]


def test_an_mt4_server_has_what_mt4_knows(office, tmp_path):
    settings = office.app.extensions["settings"]
    with MT4Simulator(state_dir=tmp_path / "mt4", password="a-secret", tick_s=0) as running:
        with office.session() as session:
            session.add(
                Server(
                    code="page4",
                    name="Page MT4",
                    platform="mt4_bridge",
                    url=running.url,
                    manager_login=running.manager_login,
                    time_zone="GMT+2/EU",
                )
            )
            session.commit()
        secrets = (*settings.mt_secrets, ("page4", ServerSecrets("a-secret", str(running.ca_file))))
        office.app.extensions["settings"] = replace(settings, mt_secrets=secrets)
        try:
            login = running.engine.users.add("std-usd", 100, "Main1234!", "Invest1234!", name="Zoë Müller").login
            running.engine.balance_operation(login, 6, Decimal(26000), "deposit")
            admin = office.browser("Admin")
            page = admin.get("/simulator/?server=page4").text
            assert f"{login} Zoë Müller, 26000.00 USD" in page
            assert "It is archived" not in page
            assert "It is declared void" not in page
            admin.post("/simulator/do/lose-answer?server=page4", page="/simulator/?server=page4")
            assert [rule["path"] for rule in running.faults.listed()] == ["/v1/balance"]
            wished = {"login": login, "symbol": "EURUSD", "side": "buy", "lots": "0.10", "then": "close", "points": "50"}
            traded = {f"trade-{name}": value for name, value in wished.items()}
            admin.post("/simulator/trade?server=page4", traded, page="/simulator/?server=page4")
            assert [(row.cmd, row.volume) for row in running.engine.trades()][1:] == [(0, 10)]
        finally:
            office.app.extensions["settings"] = settings
