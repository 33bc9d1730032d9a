"""The MT4 double keeps a report database: all rows at its start, then what changes, also while the database was away."""

from __future__ import annotations

from decimal import Decimal

import pytest
from sqlalchemy import create_engine, text

from app.metatrader.mt4 import Cmd
from app.metatrader.simulator.mt4 import MT4Simulator
from tests.integration.trading.house import wait_until


@pytest.fixture
def report(database):
    engine = create_engine(database.settings.database_owner_url)
    yield engine
    engine.dispose()


def begin(folder, database):
    return MT4Simulator(state_dir=folder, password="secret", tick_s=0, report_url=database.settings.database_owner_url)


def rows(report):
    with report.connect() as connection:
        if not connection.scalar(text("SELECT to_regclass('mt4.mt4_trades')")):
            return {}
        found = connection.execute(text('SELECT "TICKET", "CMD", "VOLUME", "PROFIT", "TIMESTAMP" FROM mt4.mt4_trades'))
        return {row[0]: (row[1], row[2], Decimal(str(row[3])), row[4]) for row in found}


def balance(report, login):
    with report.connect() as connection:
        query = text('SELECT "BALANCE" FROM mt4.mt4_users WHERE "LOGIN" = :login')
        return Decimal(str(connection.scalar(query, {"login": login})))


def wanted(engine):
    return {row.order: (row.cmd, row.volume, row.profit, row.timestamp) for row in engine.trades()}


def test_the_report_database_follows_the_rows(tmp_path, database, report):
    with begin(tmp_path, database) as double:
        engine = double.engine
        login = engine.users.add("std-usd", 100, "Main1234", "Look1234").login
        engine.balance_operation(login, Cmd.BALANCE, Decimal(1000), "D-1")
        first = engine.open(login, "EURUSD", Cmd.BUY, Decimal("0.2"))
        wait_until(lambda: rows(report) == wanted(engine))
        engine.close(first.order, Decimal("0.1"))
        wait_until(lambda: rows(report) == wanted(engine))
        wait_until(lambda: balance(report, login) == engine.login(login).balance)
        engine.delete(first.order)
        wait_until(lambda: rows(report) == wanted(engine))
    with report.begin() as connection:
        connection.execute(text("DROP SCHEMA mt4 CASCADE"))
    with begin(tmp_path, database) as again:
        wait_until(lambda: rows(report) == wanted(again.engine))
