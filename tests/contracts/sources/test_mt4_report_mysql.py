"""The MT4 report database on MariaDB, where one is installed on this machine (Debian: mariadb-server-core)."""

from __future__ import annotations

import threading
from dataclasses import replace
from decimal import Decimal

import pymysql
import pytest

from app.metatrader import mt4
from app.metatrader.mt4 import Cmd
from app.metatrader.platform import Deal, Order, Position
from app.metatrader.sources import SourceError
from tests.contracts.sources.mt4_rows import MOMENT, USER, Filled, closed, money, opened, pending, source_of
from tests.contracts.sources.test_mt4_report import HOUR, SIZE
from tests.contracts.sources.test_sql_export_mysql import port

__all__ = ["port"]


@pytest.fixture
def report(port):  # the server of the module that has it
    """The report's tables, empty."""
    with (
        pymysql.connect(host="127.0.0.1", port=port, user="root", autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("DROP DATABASE IF EXISTS mt4")
        cursor.execute("CREATE DATABASE mt4 CHARACTER SET utf8mb4")
    made = Filled(f"mysql+pymysql://root@127.0.0.1:{port}/mt4?charset=utf8mb4")
    yield made
    made.close()


def test_everything_is_read_as_it_was_written(report):
    rows = [
        opened(1, MOMENT, comment="Zoë's % \U0001f600", profit=Decimal("-12345678.91")),
        closed(opened(2, MOMENT, cmd=Cmd.SELL), MOMENT + HOUR, profit=Decimal("0.3")),
        pending(3, MOMENT),
        money(4, MOMENT, 500),
    ]
    report.put(*rows, logins=[USER, replace(USER, login=6, group="demo")])
    source = report.open(groups=["std-*"])
    assert list(source.deals(MOMENT, MOMENT + HOUR)) == [deal for row in rows for deal in mt4.deals_of(row, SIZE)]
    assert list(source.positions()) == [mt4.position_of(rows[0], SIZE)]
    assert list(source.orders()) == [mt4.pending_of(rows[2], SIZE)]
    assert list(source.accounts()) == [mt4.account_of(USER)]
    with pytest.raises(SourceError, match="the MT4 report's database"), source._reading() as reading:
        reading.exec_driver_sql("DELETE FROM mt4_trades")
    source.close()


def test_changes_are_told_once(report):
    report.put(opened(1, MOMENT), pending(2, MOMENT), logins=[USER])
    reading = source_of(report.url)
    batches, told = reading.read(threading.Event()), []

    def news(count):
        told.clear()
        for batch in batches:
            told.extend((one.change, type(one.record)) for one in batch.news)
            if len(told) >= count:
                return told[:]
        return []

    assert news(4)[:3] == [("add", Deal), ("add", Order), ("add", Position)]
    report.put(closed(opened(1, MOMENT), MOMENT + HOUR), gone=[2])
    assert news(2) == [("add", Deal), ("delete", Position)]
    reading.close()
