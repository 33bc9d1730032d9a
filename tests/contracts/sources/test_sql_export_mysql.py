"""The SQL export on MariaDB, where one is installed on this machine (Debian: mariadb-server-core)."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace

import pymysql
import pytest

from app.metatrader.fields import write_deal, write_position
from app.metatrader.servertime import server_zone
from app.metatrader.simulator import export_tables
from app.metatrader.simulator.records import complete
from app.metatrader.sources import SourceError, sql_tables
from app.metatrader.sources.sql_export import SQLExport
from tests.contracts.sources.test_sql_export import source_of
from tests.contracts.sources.world import ZONE
from tests.integration.trading.house import wait_until
from tests.unit.metatrader.samples import DEAL, POSITION

EET = server_zone(ZONE)
MOMENT = datetime(2026, 11, 24, 12, 0, 0, 123000, tzinfo=UTC)


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """A MariaDB that lets everybody in, on a port of its own."""
    program = shutil.which("mariadbd")
    if program is None:
        pytest.skip("no mariadbd on this machine")
    data = tmp_path_factory.mktemp("mariadb")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        number = one.getsockname()[1]
    options = [
        program, "--no-defaults", "--user=root", f"--datadir={data}", f"--socket={data}/s", f"--port={number}",
        "--bind-address=127.0.0.1", "--skip-grant-tables", "--skip-networking=0",
    ]  # fmt: skip
    with subprocess.Popen(options, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            wait_until(lambda: _answers(number), within_s=60)
            yield number
        finally:
            server.terminate()
            server.wait(timeout=30)


def _answers(port):
    try:
        pymysql.connect(host="127.0.0.1", port=port, user="root").close()
    except pymysql.Error:
        return False
    return True


@pytest.fixture
def connection(port):
    """The export's tables, empty, with deals of a year apart."""
    made = pymysql.connect(host="127.0.0.1", port=port, user="root", charset="utf8mb4", autocommit=True)
    with made.cursor() as cursor:
        for statement in ("DROP DATABASE IF EXISTS mt5", "CREATE DATABASE mt5 CHARACTER SET utf8mb4", "USE mt5"):
            cursor.execute(statement)
        for table in export_tables.ALL:
            columns = ", ".join(f"`{column.name}` {_type(column.type)} NOT NULL" for column in table.columns)
            cursor.execute(f"CREATE TABLE {table.name} ({columns}, PRIMARY KEY (`{table.key}`))")
        cursor.execute("CREATE TABLE mt5_deals_2025 LIKE mt5_deals")
    yield made
    made.close()


def _type(postgresql: str) -> str:
    return postgresql.replace("float8", "double").replace("timestamp", "datetime").replace("integer", "int")


def put(connection, table, record, stamp, name=""):
    values = table.row(record, stamp).rstrip("\n").split("\t")
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO {name or table.name} VALUES ({', '.join(['%s'] * len(values))})", values)


def test_everything_is_read_as_it_was_written(port, connection):
    new = replace(DEAL, ticket=2, server_time_ms=EET.wall_ms(MOMENT), comment="Zoë's % \U0001f600", profit=Decimal("0.30"))
    old = replace(DEAL, ticket=1, server_time_ms=EET.wall_ms(MOMENT - timedelta(days=400)), profit=Decimal("-12345678.91"))
    position = replace(POSITION, created_ms=EET.wall_ms(MOMENT), update_ms=EET.wall_ms(MOMENT))
    put(connection, export_tables.DEALS, complete("deal", write_deal(new)), sql_tables.filetime(MOMENT))
    put(connection, export_tables.DEALS, complete("deal", write_deal(old)), sql_tables.filetime(MOMENT) - 1, "mt5_deals_2025")
    put(connection, export_tables.POSITIONS, complete("position", write_position(position)), 5)
    address = f"mysql://root@127.0.0.1:{port}/mt5?charset=utf8mb4"
    source = SQLExport(address, EET, {})
    deals = list(source.deals(MOMENT - timedelta(days=500), MOMENT + timedelta(days=1)))
    assert [deal.fingerprint() for deal in deals] == [old.fingerprint(), new.fingerprint()]
    assert list(source.positions()) == [position]
    with pytest.raises(SourceError, match="the SQL export's database"), source._reading() as reading:
        reading.exec_driver_sql("DELETE FROM mt5_deals")
    source.close()
    follower, told = source_of(SimpleNamespace(url=address), schema=""), []
    for batch in follower.read(threading.Event()):
        told += [(one.change, type(one.record).__name__) for one in batch.news]
        if len(told) >= 3:
            break
    assert told == [("add", "Deal"), ("add", "Deal"), ("add", "Position")]
    follower.close()


def test_groups_are_selected_by_masks(port, connection):
    names = ", ".join(f"`{column.name}`" for column in export_tables.USERS.columns if not column.type.startswith("timestamp"))
    plain = [column for column in export_tables.USERS.columns if not column.type.startswith("timestamp")]
    known = {"Login": 5, "Group": r"real\std\usd", "Leverage": 100, "Rights": 355, "Balance": 7.5, "Credit": 2, "ID": "A-1"}
    values = [known.get(column.name, "" if column.type.startswith(("varchar", "text")) else 0) for column in plain]
    moments = "Registration, LastAccess, LastPassChange"
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO mt5_users ({names}, {moments}) VALUES ({', '.join(['%s'] * len(values))}, now(), now(), now())",
            values,
        )
    found = {}
    for mask in (r"real\*", r"demo\*", r"*,!real\*"):
        source = SQLExport(f"mariadb://root@127.0.0.1:{port}/mt5", EET, {"groups": [mask]})
        found[mask] = [(state.login, state.balance, state.equity, state.mark) for state in source.accounts()]
        source.close()
    assert found == {r"real\*": [(5, Decimal("7.5"), Decimal("9.5"), "A-1")], r"demo\*": [], r"*,!real\*": []}
