"""The SQL export alone: tables as builds and databases differ, late commits, years, time zones, what a snapshot proves."""

from __future__ import annotations

import threading
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace

import pytest
from sqlalchemy import create_engine, select, text

from app.metatrader.codes import OrderType
from app.metatrader.platform import Deal, Order, Position
from app.metatrader.platforms.mt5_web import MT5WebPlatform
from app.metatrader.servertime import server_zone
from app.metatrader.simulator.export import SQLExport as Filled
from app.metatrader.sources import Place, SourceError, sql_tables
from app.metatrader.sources.sql_export import SQLExport, SQLExportSource
from app.models.metatrader import DeadLetter, ServerState
from app.models.metatrader import Deal as DealRow
from config import ServerSecrets
from tests.contracts.sources.world import ZONE
from tests.integration.trading.house import PASSWORD, QUICK, USER, access, wait_until
from tests.unit.metatrader.samples import DEAL

MOMENT = datetime(2026, 11, 24, 12, 0, 0, 123456, tzinfo=UTC)
EET = server_zone(ZONE)


class Export:
    """An export's database, filled by hand."""

    def __init__(self, url):
        self.url = url
        self.engine = create_engine(url)

    def run(self, statement, **values):
        with self.engine.begin() as connection:
            connection.execute(text(statement), values)

    def fill(self, *deals, by_year=False):
        filled = Filled(self.url, by_year=by_year)
        filled.create()
        for deal in deals:
            filled.copy_deals([deal], EET)
        filled.close()

    def open(self, zone=EET, **options):
        return SQLExport(self.url, zone, {"schema": "mt5", **options})


@pytest.fixture
def export(database):
    made = Export(database.settings.database_owner_url)
    yield made
    made.engine.dispose()


def at(moment, ticket, **changes) -> Deal:
    return replace(DEAL, ticket=ticket, server_time_ms=EET.wall_ms(moment), **changes)


def read(export, since=MOMENT - timedelta(days=400), until=MOMENT + timedelta(days=400), **options):
    source = export.open(**options)
    try:
        return list(source.deals(since, until))
    finally:
        source.close()


def test_it_gives_what_the_web_api_gives(make_world):
    world = make_world("sql")
    other = world.simulator.control.users.add({**USER, "Group": r"real\std\eur"}).login
    world.deposit()
    part = world.open("1.00")
    world.close(part, "0.30")
    world.simulator.exchange.balance_operation(other, 2, Decimal(500), "")
    world.simulator.control.trade(other, "USDJPY", "sell", Decimal("0.1"), close=False)
    for login in (other, world.login):
        world.simulator.exchange.place_order(login, "EURUSD", OrderType.BUY_LIMIT, 1_000_000, Decimal("0.90000"))
    source = SQLExport(world.settings.database_owner_url, EET, {"schema": "mt5"})
    mine = SQLExport(world.settings.database_owner_url, EET, {"schema": "mt5", "groups": [r"real\*,!real\std\e*"]})
    now = datetime.now(UTC)
    with MT5WebPlatform(access(world.simulator), timeouts=QUICK) as platform:
        for mask, exported in (("*", source), (r"real\std\usd", mine)):
            deals = platform.deals_by_group(mask, now - timedelta(hours=1), now + timedelta(hours=1))
            wait_until(lambda e=exported, d=deals: len(list(e.deals(now - timedelta(hours=1), now))) == len(d))
            told = list(exported.deals(now - timedelta(hours=1), now))
            assert [_exact(deal) for deal in told] == [_exact(deal) for deal in deals]
            assert [deal.fingerprint() for deal in told] == [deal.fingerprint() for deal in deals]
            positions = platform.positions_by_group(mask)
            wait_until(lambda e=exported, p=positions: len(list(e.positions())) == len(p))
            assert [replace(one, update_ms=0) for one in exported.positions()] == [
                replace(one, update_ms=0) for one in positions
            ]
            orders = platform.orders_by_group(mask)
            wait_until(lambda e=exported, o=orders: len(list(e.orders())) == len(o))
            assert list(exported.orders()) == orders
            assert len(orders) == (2 if mask == "*" else 1)
            accounts = {state.login: state for state in platform.accounts(mask)}
            wait_until(lambda e=exported, a=accounts: {state.login: state for state in e.accounts()} == a)
    source.close()
    mine.close()


def _still(position):
    """Without the moment of the last report, which is that of the asking."""
    return replace(position, update_ms=0)


def _exact(deal):
    return {field.name: getattr(deal, field.name) for field in fields(deal)}


@pytest.mark.parametrize("record", [(Deal, sql_tables.DEAL), (Position, sql_tables.POSITION), (Order, sql_tables.ORDER)])
def test_every_field_of_a_record_is_read(record):
    made, wanted = record
    assert len(fields(made)) == len(wanted)
    numbers = [number for number, field in enumerate(fields(made)) if field.type == "Decimal"]
    assert list(sql_tables.number_places(wanted)) == numbers


def test_an_older_build_in_small_letters(export):
    export.run("CREATE SCHEMA old")
    export.run(
        'CREATE TABLE old.MT5_Deals (deal bigint PRIMARY KEY, timestamp bigint, login bigint, dealer bigint, "order" bigint,'
        " action int, entry int, reason int, digits int, digitscurrency int, contractsize float8, time timestamp, symbol"
        " varchar(32), price float8, volume bigint, volumeclosed bigint, profit float8, storage float8, commission float8,"
        " rateprofit float8, ratemargin float8, positionid bigint, comment varchar(32))"
    )
    export.run(
        "INSERT INTO old.mt5_deals VALUES (7, 1, 5, 0, 9, 0, 0, 0, 5, 2, 100000, '2026-11-24 14:00:00', 'EURUSD', 1.1,"
        " 12500, 0, 0.1, -0.3, 0, 1, 1.1, 8, NULL)"
    )
    (deal,) = read(export, schema="old")
    assert (deal.ticket, deal.volume, deal.volume_closed, deal.fee, deal.market_ask) == (7, 125_000_000, 0, 0, 0)
    assert (deal.profit, deal.swap, deal.price, deal.comment) == (Decimal("0.1"), Decimal("-0.3"), Decimal("1.1"), "")
    assert EET.to_utc(deal.server_time_ms).utc == MOMENT.replace(microsecond=0)


def test_the_noise_of_doubles_is_no_money(export):
    export.fill(at(MOMENT, 1))
    export.run('UPDATE mt5.mt5_deals SET "Profit" = 0.1::float8 + 0.2::float8, "RateProfit" = 1.0::float8 / 3e7')
    (deal,) = read(export)
    assert (deal.profit, str(deal.rate_profit)) == (Decimal("0.3"), "3.33E-8")


def test_years_are_one_range(export):
    turn = datetime(2025, 12, 31, 22, tzinfo=UTC)  # the server's midnight
    known = [at(turn + timedelta(minutes=minute), 100 + minute) for minute in (-90, -1, 0, 1, 90)]
    export.fill(*known, by_year=True)
    with export.engine.connect() as connection:
        tables = sql_tables.discover(connection, "mt5").deals
    assert [(table.name, table.year) for table in tables] == [("mt5_deals_2025", 2025), ("mt5_deals_2026", 2026)]
    assert [deal.ticket for deal in read(export)] == [10, 99, 100, 101, 190]
    near = read(export, turn - timedelta(minutes=2), turn + timedelta(minutes=2))
    assert [deal.ticket for deal in near] == [99, 100, 101]
    assert [deal.ticket for deal in read(export, turn + timedelta(days=30), turn + timedelta(days=60))] == []


def test_both_passes_of_the_repeated_hour_are_in_the_range(export):
    first, second = datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
    export.fill(at(first, 1), at(second, 2))
    assert {deal.ticket for deal in read(export, first, first + timedelta(minutes=1))} >= {1}
    assert {deal.ticket for deal in read(export, second, second + timedelta(minutes=1))} >= {2}


def test_a_filetime_is_exact():
    assert sql_tables.filetime(datetime(1970, 1, 1, tzinfo=UTC)) == 116_444_736_000_000_000
    # the deal of a published dump: 2018-12-25 08:30:30.722 UTC
    assert sql_tables.moment_of(131_902_002_307_223_630) == datetime(2018, 12, 25, 8, 30, 30, 722363, tzinfo=UTC)
    assert sql_tables.moment_of(sql_tables.filetime(MOMENT)) == MOMENT


def source_of(export, cursors=None, held=(), **options) -> SQLExportSource:
    known = {"schema": "mt5", "every_s": 0.1, "look_back_every_s": 0.1, "positions_every_s": 0.1, "accounts_every_s": 0.1}
    place = Place(
        code="sim",
        zone=EET,
        options={**known, "first_s": 366 * 86_400, **options},
        secrets=ServerSecrets("", "", database_url=export.url),
        groups=[],
        cursors=cursors if cursors is not None else {},
        held=SimpleNamespace(positions=lambda: list(held)),
        connect=lambda: None,
        remember=lambda hints: None,
    )
    return SQLExportSource(place)


class Reading:
    """A source in a test's hand: `next` gives the news of the next batches until there are some."""

    def __init__(self, source, cursors):
        self.source, self.cursors, self.stop = source, cursors, threading.Event()
        self.batches = source.read(self.stop)

    def next(self, rounds=60):
        for _, batch in zip(range(rounds), self.batches, strict=False):
            self.cursors.update(batch.cursors)
            if batch.news:
                return [(told.change, told.record.ticket) for told in batch.news]
        return []

    def close(self):
        self.batches.close()
        self.source.close()


@pytest.fixture
def reading(export):
    opened = []

    def make(cursors=None, **options):
        kept = {} if cursors is None else cursors
        opened.append(Reading(source_of(export, kept, **options), kept))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def stamp(export, ticket, ticks):
    export.run('UPDATE mt5.mt5_deals SET "Timestamp" = :ticks WHERE "Deal" = :ticket', ticks=ticks, ticket=ticket)


def test_each_row_is_told_once_and_an_edit_again(export, reading):
    export.fill(at(MOMENT, 1), at(MOMENT, 2))
    one = reading()
    assert one.next() == [("add", 1), ("add", 2)]
    assert one.next(rounds=10) == []
    export.run('UPDATE mt5.mt5_deals SET "Profit" = 5, "ModifyFlags" = 1 WHERE "Deal" = 1')
    stamp(export, 1, int(one.cursors["mt5_deals"]) + 7)
    assert one.next() == [("update", 1)]


def test_what_is_committed_behind_the_cursor_is_found_by_looking_back(export, reading):
    export.fill(at(MOMENT, 1))
    one = reading()
    assert one.next() == [("add", 1)]
    before = dict(one.cursors)
    export.fill(at(MOMENT, 2), at(MOMENT, 3))
    stamp(export, 2, int(before["mt5_deals"]) - 299 * 10_000_000)
    stamp(export, 3, int(before["mt5_deals"]) - 3_000 * 10_000_000)  # longer than the overlap
    assert one.next() == [("add", 2)]
    assert one.next(rounds=10) == []
    assert one.cursors == before


def test_a_restart_repeats_the_overlap_and_nothing_before(export, reading):
    export.fill(*(at(MOMENT + timedelta(minutes=minute), 1 + minute) for minute in (0, 10, 12)))
    one = reading()
    assert len(one.next()) == 3
    again = reading(dict(one.cursors))
    assert again.next() == [("add", 11), ("add", 13)]


def test_the_moment_of_an_event_is_the_rows_own(export, reading):
    """In the repeated hour only the Timestamp, which is UTC, tells the passes apart."""
    second = datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
    export.fill(at(second, 1))
    stamp(export, 1, sql_tables.filetime(second))
    source = source_of(export)
    batch = next(batch for batch in source.read(threading.Event()) if batch.news)
    (told,) = batch.news
    assert (told.at, told.rev) == (second, str(sql_tables.filetime(second)))
    assert EET.to_utc(told.record.server_time_ms, near=told.at).utc == second
    source.close()


def test_the_clock_is_read_from_fresh_deals(make_world):
    world = make_world("sql")
    with world.reading():
        world.deposit()
        world.settles()
        wait_until(lambda: world.session.rollback() or world.session.scalars(select(ServerState.clock_offset_min)).one())
    assert world.session.scalars(select(ServerState.clock_offset_min)).one() == EET.offset_min(datetime.now(UTC))


def test_what_is_deleted_at_the_server_stays_until_a_comparison(make_world):
    world = make_world("sql")
    with world.reading():
        ticket = world.deposit()
        world.settles()
        world.delete(ticket)
        world.deposit(5)
        world.settles()
    assert not world.session.scalars(select(DealRow.is_void).where(DealRow.ticket == ticket)).one()


def test_a_table_that_is_filled_anew_closes_no_position(export, reading):
    held = [Position(ticket=7, login=5, symbol="EURUSD", action=0, reason=0, volume=1, price_open=Decimal(1),
                     price_current=Decimal(1), profit=Decimal(0), swap=Decimal(0), contract_size=Decimal(0), digits=5,
                     digits_currency=2, rate_profit=Decimal(1), rate_margin=Decimal(1), created_ms=1, update_ms=1)]  # fmt: skip
    export.fill()
    one = reading(held=held, positions_every_s=3_600)
    assert one.next(rounds=5) == []  # missing once
    two = reading(held=held)
    assert two.next() == [("delete", 7)]  # missing twice


def test_rows_that_cannot_be_meant_go_on_to_be_judged(make_world):
    world = make_world("sql")
    with world.reading():
        ticket = world.deposit()
        world.settles()
        engine = create_engine(world.settings.database_owner_url)
        with engine.begin() as connection:
            connection.execute(
                text(
                    'UPDATE mt5.mt5_deals SET "Volume" = -1, "VolumeExt" = -1, "Timestamp" = "Timestamp" + 1 WHERE "Deal" = :it'
                ),
                {"it": ticket},
            )
        engine.dispose()
        world.deposit(7)
        world.settles()
    assert "Volume" in world.session.scalars(select(DeadLetter.reason)).one()


@pytest.mark.parametrize(
    ("url", "options", "reason"),
    [
        ("", {}, "must be the SQL export's address"),
        ("sqlite:///x.db", {}, "must be the SQL export's address"),
        ("postgresql://h/db", {"every_s": "2"}, "every_s must be a number"),
        ("postgresql://h/db", {"every_s": 900}, "every_s must be a number"),
        ("postgresql://h/db", {"groups": "real"}, "groups must be a list"),
        ("postgresql://h:port/db", {}, "not a well-formed address"),
    ],
)
def test_what_is_missing_is_said(url, options, reason):
    with pytest.raises(SourceError, match=reason):
        source_of(SimpleNamespace(url=url), **options)


def test_a_database_without_the_tables_says_so(export):
    with pytest.raises(SourceError, match="no table mt5_deals"):
        read(export, schema="public")
    export.run('CREATE SCHEMA mt5; CREATE TABLE mt5.mt5_deals ("Login" bigint)')
    with pytest.raises(SourceError, match="has no column"):
        read(export)
    source = export.open()
    for look in (source.positions, source.accounts):
        with pytest.raises(SourceError, match="has no table"):
            list(look())
    source.close()


def test_a_database_that_does_not_answer_says_so(unused_port):
    source = SQLExport(f"postgresql://nobody@127.0.0.1:{unused_port}/mt5", EET, {})
    with pytest.raises(SourceError, match="the SQL export's database: "):
        list(source.accounts())
    source.close()


def test_it_can_only_read(export):
    export.fill(at(MOMENT, 1))
    source = export.open()
    with source._reading() as connection, pytest.raises(Exception, match="read-only transaction"):
        connection.exec_driver_sql("DELETE FROM mt5.mt5_deals")
    source.close()


def test_an_account_without_money_of_its_own_has_its_balance(export):
    export.fill()
    export.run("DROP TABLE mt5.mt5_users")
    export.run(
        'CREATE TABLE mt5.mt5_users ("Login" bigint, "Group" text, "Leverage" int, "Rights" bigint, "ID" text,'
        ' "Balance" float8, "Credit" float8)'
    )
    export.run("INSERT INTO mt5.mt5_users VALUES (5, 'real', 100, 355, 'A-1', 7.5, 2)")
    source = export.open()
    money = {"balance": "7.5", "credit": "2", "equity": "9.5", "margin_free": "9.5"}
    (state,) = source.accounts()
    assert (state.login, state.group, state.leverage, state.rights, state.mark) == (5, "real", 100, 355, "A-1")
    assert {name: getattr(state, name) for name in money} == {name: Decimal(value) for name, value in money.items()}
    assert (state.margin, state.floating, state.digits_currency) == (0, 0, 2)
    source.close()


def test_passwords_stand_in_no_error_and_no_name():
    source = SQLExport("mysql://reader:s3cret@127.0.0.1:1/mt5", EET, {})
    with pytest.raises(SourceError) as caught:
        list(source.positions())
    assert "s3cret" not in str(caught.value)
    assert PASSWORD not in repr(source)
    source.close()
