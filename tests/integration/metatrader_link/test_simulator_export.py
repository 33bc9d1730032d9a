"""The SQL export of the simulator: what stands in PostgreSQL is what the server holds, with Timestamps that tell of changes."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import psycopg
import pytest

from app.metatrader.servertime import server_zone
from app.metatrader.simulator import Simulator
from app.metatrader.simulator import export_tables as tables
from app.metatrader.simulator.export import SQLExport, deal_line
from app.metatrader.simulator.records import deal_record
from tests.integration.metatrader_link.conftest import PASSWORD, USER


@pytest.fixture
def url(database):
    return database.settings.database_owner_url


@pytest.fixture
def rows(url):
    """A function that reads a table as dicts by its key; nothing while there is no such table yet."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True, row_factory=psycopg.rows.dict_row) as connection:

        def read(table, key):
            if not connection.execute("SELECT to_regclass(%s) AS found", [f"mt5.{table}"]).fetchone()["found"]:
                return {}
            return {row[key]: row for row in connection.execute(f'SELECT * FROM mt5.{table} ORDER BY "{key}"').fetchall()}

        yield read


@pytest.fixture
def simulator(tmp_path, url):
    with Simulator(state_dir=tmp_path / "server", password=PASSWORD, tick_s=0, export_url=url) as running:
        yield running


def until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)
    return found


def filetime_moment(stamp):
    return datetime(1601, 1, 1, tzinfo=UTC) + timedelta(microseconds=stamp / 10)


def test_deals_positions_accounts_and_users_arrive(simulator, rows):
    login = simulator.control.users.add(USER).login
    simulator.exchange.balance_operation(login, 2, Decimal("26000.00"), "D-8QK2N0V5ZT3RM")
    opened = simulator.exchange.open(login, "EURUSD", 0, 125_000_000)
    until(lambda: opened.ticket in rows("mt5_deals", "Deal"))
    deals = rows("mt5_deals", "Deal")
    deposit = deals[opened.ticket - 1]
    assert (deposit["Action"], deposit["Profit"], deposit["Symbol"]) == (2, 26000.0, "")
    assert deposit["Comment"] == "D-8QK2N0V5ZT3RM"
    trade = deals[opened.ticket]
    assert (trade["Volume"], trade["VolumeExt"]) == (12_500, 125_000_000)
    assert Decimal(str(trade["Price"])) == opened.price
    assert trade["TimeMsc"] == datetime.fromtimestamp(opened.server_time_ms / 1000, UTC).replace(tzinfo=None)
    until(lambda: rows("mt5_accounts", "Login").get(login, {"Margin": 0})["Margin"] > 0)
    assert rows("mt5_users", "Login")[login]["Balance"] == 26000.0
    assert rows("mt5_users", "Login")[login]["Group"] == "real\\std\\usd"
    position = until(lambda: rows("mt5_positions", "Position").get(opened.position_ticket))
    assert position["VolumeExt"] == 125_000_000
    simulator.exchange.close(opened.position_ticket)
    until(lambda: not rows("mt5_positions", "Position"))


def test_the_timestamp_is_the_moment_in_utc_and_tells_the_server_offset(simulator, rows):
    login = simulator.control.users.add(USER).login
    deal = simulator.exchange.balance_operation(login, 2, Decimal(100), "x")
    row = until(lambda: rows("mt5_deals", "Deal").get(deal.ticket))
    offset = row["TimeMsc"].replace(tzinfo=UTC) - filetime_moment(row["Timestamp"])
    assert abs(offset - timedelta(minutes=simulator.exchange.zone.offset_min(datetime.now(UTC)))) < timedelta(seconds=1)


def test_an_edit_gets_a_newer_timestamp_and_a_deletion_leaves_nothing(simulator, rows):
    login = simulator.control.users.add(USER).login
    first = simulator.exchange.balance_operation(login, 2, Decimal(100), "first")
    second = simulator.exchange.balance_operation(login, 2, Decimal(200), "second")
    until(lambda: len(rows("mt5_deals", "Deal")) == 2)
    before = rows("mt5_deals", "Deal")
    with simulator.store.transaction():
        simulator.journal.deal("update", replace(first, profit=Decimal("101.00"), modification_flags=2))
        simulator.journal.deal("update", second)
        simulator.journal.deal("delete", second)
    until(lambda: second.ticket not in rows("mt5_deals", "Deal"))
    row = rows("mt5_deals", "Deal")[first.ticket]
    assert (row["Profit"], row["ModifyFlags"]) == (101.0, 2)
    assert row["Timestamp"] > max(one["Timestamp"] for one in before.values())


def test_an_event_that_says_nothing_new_leaves_the_timestamp(simulator, rows):
    login = simulator.control.users.add(USER).login
    deal = simulator.exchange.balance_operation(login, 2, Decimal(100), "first")
    stamp = until(lambda: rows("mt5_deals", "Deal").get(deal.ticket))["Timestamp"]
    with simulator.store.transaction():
        simulator.journal.deal("update", deal)
    other = simulator.exchange.balance_operation(login, 2, Decimal(1), "other")
    until(lambda: other.ticket in rows("mt5_deals", "Deal"))
    assert rows("mt5_deals", "Deal")[deal.ticket]["Timestamp"] == stamp


def test_the_start_replaces_what_differs_and_deletes_what_is_gone(tmp_path, url, rows):
    options = {"state_dir": tmp_path / "server", "password": PASSWORD, "tick_s": 0}
    with Simulator(**options, export_url=url) as simulator:
        login = simulator.control.users.add(USER).login
        deals = [simulator.exchange.balance_operation(login, 2, Decimal(100 + n), "x") for n in range(3)]
        until(lambda: len(rows("mt5_deals", "Deal")) == 3)
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute('UPDATE mt5.mt5_deals SET "Profit" = 1 WHERE "Deal" = %s', [deals[0].ticket])
        connection.execute('DELETE FROM mt5.mt5_deals WHERE "Deal" = %s', [deals[1].ticket])
        connection.execute(
            "INSERT INTO mt5.mt5_deals SELECT (jsonb_populate_record(d, '{\"Deal\": 9}')).* FROM mt5.mt5_deals d "
            'WHERE "Deal" = %s',
            [deals[2].ticket],
        )
    before = rows("mt5_deals", "Deal")
    assert set(before) == {deals[0].ticket, deals[2].ticket, 9}
    with Simulator(**options, export_url=url):
        until(lambda: set(rows("mt5_deals", "Deal")) == {deal.ticket for deal in deals})
        after = rows("mt5_deals", "Deal")
    assert after[deals[0].ticket]["Profit"] == 100.0
    assert after[deals[0].ticket]["Timestamp"] > before[deals[0].ticket]["Timestamp"]
    assert after[deals[2].ticket]["Timestamp"] == before[deals[2].ticket]["Timestamp"]


def test_a_gap_of_the_events_does_not_touch_the_export(simulator, rows):
    login = simulator.control.users.add(USER).login
    simulator.journal.faults.lose(simulator.exchange.clock(), 60)
    deal = simulator.exchange.balance_operation(login, 2, Decimal(100), "while away")
    until(lambda: deal.ticket in rows("mt5_deals", "Deal"))
    until(lambda: rows("mt5_users", "Login").get(login, {"Balance": 0})["Balance"] == 100.0)


def test_years_apart(tmp_path, url, rows):
    moment = [datetime(2026, 12, 31, 21, 59, tzinfo=UTC)]
    with Simulator(
        state_dir=tmp_path / "server",
        password=PASSWORD,
        tick_s=0,
        clock=lambda: moment[0],
        export_url=url,
        export_by_year=True,
    ) as simulator:
        login = simulator.control.users.add(USER).login
        old = simulator.exchange.balance_operation(login, 2, Decimal(1), "old year")
        moment[0] += timedelta(minutes=2)  # midnight at the server, GMT+2
        new = simulator.exchange.balance_operation(login, 2, Decimal(2), "new year")
        until(lambda: simulator.store.outbox_size() == 0)
        until(lambda: set(rows("mt5_deals_2027", "Deal")) == {new.ticket})
    assert set(rows("mt5_deals_2026", "Deal")) == {old.ticket}


def test_many_deals_at_once(url, rows, simulator):
    login = simulator.control.users.add(USER).login
    sample = simulator.exchange.balance_operation(login, 2, Decimal("12.34"), "a\tb\\c")
    export = SQLExport(url, schema="loaded")
    try:
        export.create()
        count = export.copy_deals((replace(sample, ticket=n) for n in range(1, 1_001)), server_zone("GMT+2/EU"))
    finally:
        export.close()
    assert count == 1_000
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        found = connection.execute(
            'SELECT count(*), count(DISTINCT "Timestamp"), min("Comment"), sum("Profit") FROM loaded.mt5_deals'
        ).fetchone()
    assert found[:3] == (1_000, 1_000, "a\tb\\c")
    assert round(found[3], 2) == 12_340.0


def test_the_fast_way_writes_the_same_row(simulator):
    login = simulator.control.users.add(USER).login
    simulator.exchange.balance_operation(login, 2, Decimal(26000), "deposit")
    for deal in simulator.control.trade(login, "USDJPY", "sell", Decimal("0.37"), move_points=-55):
        odd = replace(deal, comment="tab\there", external_id="a\\b", fee=Decimal("-0.10"), dealer=7)
        assert deal_line(odd, 17) == tables.DEALS.row(deal_record(odd), 17)
