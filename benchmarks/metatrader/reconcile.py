"""A server's whole day beside ours: through the SQL export, and through the Web API of a simulator with a part of a day.

Deals and export are made by SQL. A few deals are missing here, differ, or vanished there, as on a day on which something
was lost; the second look at each of those is answered from the export, too, where a house would ask the server.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.metatrader import reconcile
from app.metatrader.backfill import PlatformBackfill
from app.metatrader.balances import Look
from app.metatrader.compare import ServerDay, comparing
from app.metatrader.errors import NotKnown
from app.metatrader.platform import AccountState, Deal, ServerAccess
from app.metatrader.platforms.mt5_web import MT5WebPlatform
from app.metatrader.servertime import server_zone
from app.metatrader.simulator import Simulator
from app.metatrader.simulator.export import SQLExport as ExportTables
from app.metatrader.sources.sql_copy import CopyingSQLExport
from benchmarks.form import Limit, Result, Run
from benchmarks.metatrader import flow
from benchmarks.servers import BenchDatabase, BenchFailed, database

DAY = date(2026, 3, 17)
ZONE = server_zone(flow.ZONE)
DEALS, SMALL_DEALS = 2_000_000, 20_000
ACCOUNTS, SMALL_ACCOUNTS = 10_000, 200
#: What the simulator holds: its answers are as large as a day's, its day is shorter.
API_DEALS, SMALL_API_DEALS = 200_000, 5_000
GOAL_S = 60.0
MISSING, DIFFERENT, VANISHED = 10, 5, 5
FIRST_TICKET = 50_000_000
PASSWORD = "Bench#Manager1"  # noqa: S105  of a server that lives as long as the benchmark

#: The same deals on both sides. Every login has as many; money is exact in eight bytes.
_NUMBERS = """
    SELECT n, :first_ticket + n AS ticket, :first_login + n % :accounts AS login, n % 2 AS entry,
           :first_ms + n * :step_ms AS ms, ((n % 2000) - 1000) * (n % 2) AS cents, 108000 + n % 997 AS points
      FROM generate_series(1, :deals) AS n
"""
_FILL = (
    """
    INSERT INTO deal (server_id, ticket, revision, fingerprint, login, trading_account_id, action, entry, reason,
        order_ticket, position_ticket, symbol, volume, volume_closed, price, profit, commission, contract_size, rate_profit,
        digits_currency, comment, server_time_ms, utc_offset_min, done_at, filed_at, ledger_txn_id)
    SELECT :server_id, ticket, 1, 'bench', login, account.id, n % 2, entry, 0, 7000000 + n, 8000000 + n / 2, 'EURUSD', 10000000,
           10000000 * entry, points / 100000.0, cents / 100.0, -0.35, 100000, 1, 2, '', ms, :offset_min,
           to_timestamp((ms - :offset_min * 60000) / 1000.0), to_timestamp((ms - :offset_min * 60000) / 1000.0),
           '00000000-0000-0000-0000-000000000000'
      FROM (%(numbers)s) AS made JOIN trading_account AS account USING (login)
    """,
    """
    INSERT INTO deal_head (server_id, ticket, revision, fingerprint, filed_at, seen_at)
    SELECT server_id, ticket, revision, fingerprint, filed_at, filed_at FROM deal
    """,
    """
    INSERT INTO mt5.mt5_deals
    SELECT ticket, 134000000000000000 + n, '', login, 0, 7000000 + n, n % 2, entry, 0, 5, 2, 100000,
           timestamp 'epoch' + (ms / 1000) * interval '1 second', timestamp 'epoch' + ms * interval '1 millisecond', 'EURUSD',
           points / 100000.0, 0, 0, 1000, 10000000, 1000 * entry, 10000000 * entry, cents / 100.0, 0, 0, -0.35, 0, 1, 1, 0,
           8000000 + n / 2, '', 0, 0, 0, 0, 0, '', 0, 0, 0, 0, 0, ''
      FROM (%(numbers)s) AS made
    """,
    """
    INSERT INTO mt5.mt5_users ("Login", "Group", "Leverage", "Rights", "Balance", "Credit", "ID", %(user_rest)s)
    SELECT login, :group, 100, 355, 0, 0, '', %(user_values)s FROM trading_account
    """,
)


def measure(run: Run) -> None:
    """The day through the export beside the bare copy of its rows; a part of a day through the Web API."""
    deals, accounts = (SMALL_DEALS, SMALL_ACCOUNTS) if run.small else (DEALS, ACCOUNTS)
    with database() as place:
        flow.build_house(place, accounts)
        run.tell(f"making a day of {deals:,} deals on both sides")
        bench = _Day(place, deals, accounts)
        copied = bench.copy()
        run.add(Result("copying the day's rows, nothing else", copied, "s"))
        before = _peak_mib()
        seconds, checked = bench.check()
        if checked.booked != MISSING + DIFFERENT + VANISHED or checked.deals_there != deals - VANISHED:
            raise BenchFailed(f"found {checked}, which is not what was made different")
        run.add(Result(f"a day of {deals:,} deals, SQL export", seconds, "s", GOAL_S, better="lower"))
        run.add(Result("beside copying its rows", seconds, "s", limit=Limit("bare copy", copied), better="lower"))
        run.add(Result("memory it took, of this process", _peak_mib() - before, "MiB", better="lower"))
    _measure_api(run, SMALL_API_DEALS if run.small else API_DEALS, deals)


class _Day:
    """One house and one export, filled with the same day."""

    def __init__(self, place: BenchDatabase, deals: int, accounts: int) -> None:
        self._place = place
        self._engine = create_engine(place.application.replace("postgresql://", "postgresql+psycopg://", 1))
        self.day = ServerDay.of(DAY, ZONE)
        export = ExportTables(place.superuser)
        export.create()
        export.close()
        with self._engine.connect() as connection:
            self.server_id = int(connection.scalar(text("SELECT id FROM mt_server")) or 0)
        self._fill(deals, accounts)
        self.export = CopyingSQLExport(place.superuser, ZONE, {"schema": "mt5"})

    def copy(self) -> float:
        """Seconds for the rows alone: out of the export, as text, into a table of ours."""
        started = time.perf_counter()
        with psycopg.connect(self._place.superuser, autocommit=True) as ours, psycopg.connect(self._place.superuser) as theirs:
            ours.execute("CREATE TEMP TABLE bare (LIKE mt5.mt5_deals)")
            with theirs.cursor() as reader, ours.cursor() as writer:
                source = reader.copy("COPY mt5.mt5_deals TO STDOUT")
                with source as lines, writer.copy("COPY bare FROM STDIN") as into:
                    for block in lines:
                        into.write(block)
        return time.perf_counter() - started

    def check(self) -> tuple[float, reconcile.Checked]:
        with Session(self._engine) as session:
            platform: Any = _Answers(self.export, self.day)
            look = Look(session, platform, self.export, self.server_id, ZONE, Actor.system("bench"), pause=lambda _: None)
            started = time.perf_counter()
            checked = reconcile.check_server(look, DAY)
            seconds = time.perf_counter() - started
        if checked is None:
            raise BenchFailed("another check was under way")
        return seconds, checked

    def _fill(self, deals: int, accounts: int) -> None:
        values = {
            "first_ticket": FIRST_TICKET,
            "first_login": flow.FIRST_LOGIN,
            "accounts": accounts,
            "deals": deals,
            "server_id": self.server_id,
            "first_ms": self.day.first_ms,
            "step_ms": (86_400_000 - 1) // deals,
            "offset_min": ZONE.offset_min(self.day.since),
            "group": "real\\std\\usd",
        }
        owner = create_engine(self._place.superuser.replace("postgresql://", "postgresql+psycopg://", 1))
        with owner.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("SELECT deal_month(:at)"), {"at": self.day.since + timedelta(days=1)})
            rest = _rest_of_users(connection)
            for statement in _FILL:
                words = statement.replace("%(numbers)s", _NUMBERS)
                words = words.replace("%(user_rest)s", rest[0]).replace("%(user_values)s", rest[1])
                connection.execute(text(words), values)
            _make_different(connection)
            for table in ("deal", "deal_head", "mt5.mt5_deals", "mt5.mt5_users"):
                connection.execute(text(f"VACUUM (ANALYZE) {table}"))
        owner.dispose()


def _rest_of_users(connection: Any) -> tuple[str, str]:
    """The other columns of mt5_users and values that will do: the export allows no empty ones."""
    given = {"Login", "Group", "Leverage", "Rights", "Balance", "Credit", "ID"}
    rows = connection.execute(
        text(
            "SELECT column_name, data_type FROM information_schema.columns"
            " WHERE table_schema = 'mt5' AND table_name = 'mt5_users'"
        )
    ).all()
    others = [(name, kind) for name, kind in rows if name not in given]
    values = [
        "'2026-01-01'" if "timestamp" in kind else "''" if "char" in kind or kind == "text" else "0" for _, kind in others
    ]
    return ", ".join(f'"{name}"' for name, _ in others), ", ".join(values)


#: What was lost here, edited there, deleted there; the balances at the server are those that follow. An index on Timestamp
#: is what a broker is asked for.
_DIFFERENT = (
    "DELETE FROM deal WHERE ticket IN (SELECT ticket FROM deal WHERE ticket % 1000 = 7 ORDER BY ticket LIMIT :missing)",
    "DELETE FROM deal_head WHERE ticket % 1000 = 7 AND ticket NOT IN (SELECT ticket FROM deal WHERE ticket % 1000 = 7)",
    """
    UPDATE mt5.mt5_deals SET "Profit" = "Profit" + 1, "ModifyFlags" = 2
     WHERE "Deal" IN (SELECT ticket FROM deal WHERE ticket % 1000 = 11 ORDER BY ticket LIMIT :different)
    """,
    """
    DELETE FROM mt5.mt5_deals
     WHERE "Deal" IN (SELECT ticket FROM deal WHERE ticket % 1000 = 13 ORDER BY ticket LIMIT :vanished)
    """,
    """
    UPDATE mt5.mt5_users SET "Balance" = moved.amount FROM (
        SELECT coalesce(there."Login", here.login) AS login,
               sum(coalesce(there."Profit" + there."Commission", 0) - coalesce(here.profit + here.commission, 0)) AS amount
          FROM mt5.mt5_deals AS there FULL JOIN deal AS here ON here.ticket = there."Deal" GROUP BY 1
    ) AS moved WHERE moved.login = mt5_users."Login"
    """,
    'UPDATE mt5.mt5_users SET "Balance" = round("Balance"::numeric, 2)',
    'CREATE INDEX ON mt5.mt5_deals ("Timestamp")',
)


def _make_different(connection: Any) -> None:
    values = {"missing": MISSING, "different": DIFFERENT, "vanished": VANISHED}
    for words in _DIFFERENT:
        needed = {name: value for name, value in values.items() if f":{name}" in words}
        connection.execute(text(words), needed)


class _Answers:
    """The second looks, answered from the export: single deals, single logins, no positions."""

    def __init__(self, export: CopyingSQLExport, day: ServerDay) -> None:
        self._export, self._day = export, day

    def deal(self, ticket: int) -> Deal:
        for deal in self._of(ticket):
            return deal
        raise NotKnown()

    def get_account(self, login: int) -> AccountState:
        none = Decimal(0)
        return AccountState(login, "real\\std\\usd", 100, 355, none, none, none, none, none, none, none, 2)

    def deals(self, login: int, since: datetime, until: datetime) -> list[Deal]:
        return []

    def archived(self, group: str) -> list[AccountState]:
        return []

    def _of(self, ticket: int) -> Iterator[Deal]:
        stamp = 134_000_000_000_000_000 + ticket - FIRST_TICKET
        found = next(table for table in self._export.followed() if "deals" in table.name)
        return (one for _, one in self._export.changed(found, stamp - 1, 1) if isinstance(one, Deal) and one.ticket == ticket)


def _measure_api(run: Run, deals: int, whole: int) -> None:
    """Reading and comparing a part of a day through the Web API's batch call, and what that makes for a whole day."""
    with tempfile.TemporaryDirectory() as folder, database() as place:
        flow.build_house(place, 100)
        seconds = _through_api(place, Path(folder), deals)
    run.add(Result(f"{deals:,} deals, Web API", seconds, "s"))
    run.add(Result("Web API", deals / seconds, "deals/s"))
    run.add(Result(f"a day of {whole:,} deals, Web API, reckoned from that", seconds / deals * whole, "s"))


def _through_api(place: BenchDatabase, folder: Path, deals: int) -> float:
    simulator = Simulator(state_dir=folder, password=PASSWORD, tick_s=0)
    day = ServerDay.of(DAY, ZONE)
    with simulator:
        store = simulator.store
        login = simulator.control.users.add(
            {"Group": r"real\std\usd", "Leverage": "100", "PassMain": "Main1234!", "PassInvestor": "Invest1234!"}
        ).login
        step = (86_400_000 - 1) // deals
        none = Decimal(0)
        sample = Deal(
            ticket=0, login=login, action=0, entry=0, reason=0, order_ticket=7_000_000, position_ticket=8_000_000,
            symbol="EURUSD", volume=10_000_000, volume_closed=0, price=Decimal("1.08455"), price_position=none,
            market_bid=Decimal("1.08450"), market_ask=Decimal("1.08455"), contract_size=Decimal(100_000), digits=5,
            digits_currency=2, profit=none, swap=none, commission=Decimal("-0.35"), fee=none, rate_profit=Decimal(1),
            rate_margin=Decimal("1.08455"), server_time_ms=0, comment="",
        )  # fmt: skip
        with store.transaction():
            for number in range(deals):
                store.add_deal(
                    replace(sample, ticket=FIRST_TICKET + number, login=login, server_time_ms=day.first_ms + number * step)
                )
        access = ServerAccess(
            code="bench", platform="mt5_web", url=simulator.url, manager_login=simulator.manager_login, password=PASSWORD,
            ca_file=str(simulator.ca_file), time_zone=flow.ZONE,
        )  # fmt: skip
        engine = create_engine(place.application.replace("postgresql://", "postgresql+psycopg://", 1))
        with Session(engine) as session, MT5WebPlatform(access) as platform:
            server_id = int(session.scalar(text("SELECT id FROM mt_server")) or 0)
            source = PlatformBackfill(platform, [r"real\std\usd"])
            started = time.perf_counter()
            with comparing(session, server_id, day) as comparison:
                comparison.load(source.deals(day.since, day.until))
                found = comparison.compare()
            seconds = time.perf_counter() - started
        engine.dispose()
        if found.there != deals:
            raise BenchFailed(f"{found.there} deals came through the Web API, not {deals}")
        return seconds


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
