"""The MT4 report database alone: what is read of rows, what is told of their changes, what a snapshot proves."""

from __future__ import annotations

import threading
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select

from app.jobs.gateways import backfill_of
from app.metatrader import mt4, reconcile, sync
from app.metatrader.backfill import asked_now
from app.metatrader.balances import Look
from app.metatrader.codes import OrderState
from app.metatrader.mt4 import Cmd
from app.metatrader.platform import Deal, Order, Position
from app.metatrader.platforms import connect
from app.metatrader.sources import SourceError, Unreadable, mt4_report, mt4_report_events
from app.models.metatrader import Deal as DealRow
from app.models.metatrader import Server
from tests.contracts.sources.mt4_rows import (
    EET,
    GOLD,
    MOMENT,
    OPEN,
    USER,
    Filled,
    closed,
    money,
    opened,
    pending,
    source_of,
    wall,
)
from tests.contracts.sources.world import business
from tests.integration.trading.house import SYSTEM, wait_until

HOUR = timedelta(hours=1)
SIZE = Decimal(100_000)


@pytest.fixture
def report(database):
    made = Filled(database.settings.database_owner_url)
    yield made
    made.close()


def read(report, since=MOMENT - 400 * 24 * HOUR, until=MOMENT + 400 * 24 * HOUR, **options) -> list[Deal]:
    source = report.open(**options)
    try:
        return list(source.deals(since, until))
    finally:
        source.close()


# ── what sweeps and comparisons read ───────────────────────────────────────────────────────────────────────────────────


def test_every_field_is_read():
    assert len(mt4_report.TRADE) + 1 == len(fields(mt4.Trade))  # a row has no state
    assert len(mt4_report.LOGIN) == len(fields(mt4.Login))


def test_rows_are_read_as_they_were_written(report):
    rows = [
        opened(1, MOMENT),
        closed(opened(2, MOMENT, cmd=Cmd.SELL, comment="Zoë's % [sl]"), MOMENT + HOUR),
        pending(3, MOMENT, expiration=wall(MOMENT + HOUR)),
        closed(pending(4, MOMENT, cmd=Cmd.SELL_STOP), MOMENT + HOUR),
        money(5, MOMENT, 500, comment="D-0000000000001"),
        money(6, MOMENT, -20, Cmd.CREDIT),
    ]
    report.put(*rows, logins=[USER])
    source = report.open()
    deals = list(source.deals(MOMENT - HOUR, MOMENT + HOUR))
    positions, orders, accounts = list(source.positions()), list(source.orders()), list(source.accounts())
    source.close()
    assert deals == [deal for row in rows for deal in mt4.deals_of(row, SIZE)]
    assert [deal.ticket for deal in deals] == [2, 4, 5, 10, 12]
    assert positions == [mt4.position_of(rows[0], SIZE)]
    assert orders == [mt4.pending_of(rows[2], SIZE)]
    assert accounts == [mt4.account_of(USER)]


def test_each_deal_belongs_to_its_own_time_and_one_that_closed_tells_what_opened(report):
    report.put(closed(opened(1, MOMENT - 48 * HOUR), MOMENT), opened(2, MOMENT - 48 * HOUR), opened(3, MOMENT + HOUR))
    assert [deal.ticket for deal in read(report, MOMENT, MOMENT)] == [2, 3]
    assert [deal.ticket for deal in read(report, MOMENT - 48 * HOUR, MOMENT - 47 * HOUR)] == [2, 4]
    assert [deal.ticket for deal in read(report, MOMENT, MOMENT + HOUR)] == [2, 3, 6]
    assert [deal.ticket for deal in read(report, MOMENT - 40 * HOUR, MOMENT - HOUR)] == []


def test_a_part_that_was_closed_leaves_two_openings(report):
    before = opened(1, MOMENT, volume=100)
    part = closed(replace(before, volume=40, comment="to #2"), MOMENT + HOUR)
    report.put(part, replace(before, order=2, volume=60, comment="from #1"))
    assert [(deal.ticket, deal.volume // 1_000_000) for deal in read(report)] == [(2, 40), (3, 40), (4, 60)]
    source = report.open()
    assert [(one.ticket, one.volume // 1_000_000) for one in source.positions()] == [(2, 60)]
    source.close()


def test_what_is_left_of_a_hedge_without_volume_stops_nobody(report):
    left = closed(replace(opened(1, MOMENT), volume=0, comment="close hedge by #2"), MOMENT + HOUR)
    report.put(left, closed(opened(2, MOMENT), MOMENT + HOUR))
    assert [deal.ticket for deal in read(report)] == [4, 5]


def test_both_passes_of_the_repeated_hour_are_in_the_range(report):
    first, second = datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
    report.put(opened(1, first), opened(2, second))
    for moment, ticket in ((first, 2), (second, 4)):
        assert ticket in {deal.ticket for deal in read(report, moment, moment + timedelta(minutes=1))}


def test_groups_are_selected_by_masks(report):
    others = replace(USER, login=6, group="std-eur")
    report.put(opened(1, MOMENT), opened(2, MOMENT, login=6), opened(3, MOMENT, login=7), logins=[USER, others])
    found = {}
    for masks in (["std-*"], ["std-*,!std-e*"], ["std-eur"], ["demo"]):
        source = report.open(groups=masks)
        found[masks[0]] = ([one.ticket for one in source.positions()], [one.login for one in source.accounts()])
        source.close()
    assert found == {"std-*": ([1, 2], [5, 6]), "std-*,!std-e*": ([1], [5]), "std-eur": ([2], [6]), "demo": ([], [])}


def test_contract_sizes_are_those_of_the_options_or_of_the_bridge(report):
    report.put(opened(1, MOMENT), opened(2, MOMENT, symbol="XAUUSD"), money(3, MOMENT, 5))

    def sizes(**options):
        return [deal.contract_size for deal in read(report, **options)]

    assert sizes() == [SIZE, SIZE, 0]
    assert sizes(contract_sizes={"XAUUSD": 100}) == [SIZE, 100, 0]
    assert sizes(contract_sizes={"EURUSD": 2.5}, contract_size=10) == [Decimal("2.5"), 10, 0]
    assert sizes(contract_sizes="bridge", symbols=[GOLD]) == [0, 100, 0]


def test_an_older_build_in_small_letters_with_times_as_numbers(report):
    report.run("CREATE SCHEMA old")
    report.run(
        "CREATE TABLE old.MT4_Trades (ticket int PRIMARY KEY, login int, symbol char(16), digits int, cmd int, volume int,"
        " open_time int, open_price float8, sl float8, tp float8, close_time int, expiration int, conv_rate1 float8,"
        " conv_rate2 float8, commission float8, swaps float8, close_price float8, profit float8, taxes float8,"
        " comment char(32), timestamp int)"
    )
    report.run('CREATE TABLE old.mt4_users (login int PRIMARY KEY, "group" char(16), enable int, leverage int)')
    report.run(
        "INSERT INTO old.mt4_trades VALUES (7, 5, 'EURUSD', 5, 0, 10, :opened, 1.1, 0, 0, :closed, 0, 1, 1, NULL, -0.3, 1.2,"
        " 0.1::float8 + 0.2::float8, 0, NULL, 9)",
        opened=wall(MOMENT), closed=wall(MOMENT + HOUR),
    )  # fmt: skip
    report.run("INSERT INTO old.mt4_users VALUES (5, 'std-usd', 1, 100)")
    entry, closing = read(report, schema="old")
    assert (entry.symbol, entry.volume, entry.price, entry.comment) == ("EURUSD", 10_000_000, Decimal("1.1"), "")
    assert (closing.profit, closing.swap, closing.commission) == (Decimal("0.3"), Decimal("-0.3"), 0)
    assert [EET.to_utc(deal.server_time_ms).utc for deal in (entry, closing)] == [MOMENT, MOMENT + HOUR]
    source = report.open(schema="old")
    assert [(state.login, state.group, state.leverage) for state in source.accounts()] == [(5, "std-usd", 100)]
    assert source.changed(9, 0)[0].order == 7
    assert source.changed(9, 7) == []
    source.close()


def test_a_database_without_the_tables_says_so(report):
    with pytest.raises(SourceError, match="no table mt4_trades or mt4_users"):
        read(report, schema="public")
    report.run('ALTER TABLE mt4.mt4_trades RENAME "CLOSE_TIME" TO "ENDED"')
    with pytest.raises(SourceError, match="table mt4_trades has no column CLOSE_TIME"):
        read(report)


def test_a_database_that_does_not_answer_says_so(unused_port):
    source = mt4_report.MT4Report(f"postgresql://nobody@127.0.0.1:{unused_port}/mt4", EET, {}, list)
    with pytest.raises(SourceError, match="the MT4 report's database: "):
        list(source.accounts())
    source.close()


def test_it_can_only_read(report):
    source = report.open()
    with pytest.raises(SourceError, match="ReadOnlySqlTransaction"), source._reading() as connection:
        connection.exec_driver_sql("DELETE FROM mt4.mt4_trades")
    source.close()


def reported(world, source) -> bool:
    """Whether the report shows what the server has."""
    moment = datetime.now(UTC)
    there = list(source.deals(moment - HOUR, moment + HOUR))
    return {deal.ticket: business(deal) for deal in there} == world.deals_there()


def test_a_sweep_reads_it_and_the_bridge_has_the_last_word(make_world):
    world = make_world("mt4_report")
    world.set(options={"mt4_report": {"schema": "mt4", "contract_sizes": "bridge"}})
    ticket = world.deposit()
    world.close(world.open("1.00"), "0.30")
    gold = world.simulator.engine.open(world.login, "XAUUSD", Cmd.SELL, Decimal("0.10"))
    server, session = world.session.get_one(Server, world.server_id), world.session
    secrets = world.settings.server_secrets("sim")
    with connect(server, password=secrets.password, ca_file=secrets.ca_file) as bridge:
        source = backfill_of(session, world.settings, world.server_id, bridge)
        assert isinstance(source, mt4_report.MT4Report)
        assert asked_now(source) is None  # a copy may lag behind

        def sweep():
            wait_until(lambda: reported(world, source))
            return sync.sweep(session, bridge, world.server_id, since=datetime.now(UTC) - HOUR, source=source)

        swept = sweep()
        assert (swept.new, swept.voided) == (5, 0)
        assert (world.deals(), world.positions()) == (world.deals_there(), world.positions_there())
        sizes = dict(session.execute(select(DealRow.ticket, DealRow.contract_size)).all())
        assert (sizes[mt4.opening_ticket(gold.order)], sizes[ticket + 2], sizes[ticket]) == (100, SIZE, 0)
        world.simulator.engine.delete(mt4.order_of_ticket(ticket))
        assert sweep().voided == 1
        assert world.deals() == world.deals_there()
        source.close()


def test_a_day_is_checked_against_it(make_world):
    """What was edited, deleted and done while nobody read is found by the nightly comparison."""
    world = make_world("mt4_report")
    session = world.session
    with world.reading():
        vanishing = world.deposit(77)
        world.deposit()
        edited = world.close(world.open("0.20"))
        world.settles()
    world.simulator.engine.delete(mt4.order_of_ticket(vanishing))
    world.edit(edited, profit=Decimal("1.10"))
    world.close(world.open("0.10"))
    server, secrets = session.get_one(Server, world.server_id), world.settings.server_secrets("sim")
    with connect(server, password=secrets.password, ca_file=secrets.ca_file) as bridge:
        source = backfill_of(session, world.settings, world.server_id, bridge)
        wait_until(lambda: reported(world, source))
        look = Look(session, bridge, source, world.server_id, EET, SYSTEM, pause=lambda _: None)
        today = datetime.fromtimestamp(wall(datetime.now(UTC)), UTC).date()
        first, again = (reconcile.check_server(look, today) for _ in range(2))
        source.close()
    assert (first.booked, first.breaks, first.deals_there) == (4, 0, len(world.deals_there()))
    assert (again.booked, again.deals_here) == (0, again.deals_there)
    assert world.deals() == world.deals_there()


# ── what is told ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Reading:
    """A source in a test's hand: `next` gives the news of the next batches until there are some."""

    def __init__(self, source, cursors):
        self.source, self.cursors, self.stop = source, cursors, threading.Event()
        self.batches = source.read(self.stop)

    def news(self, rounds=60):
        for _, batch in zip(range(rounds), self.batches, strict=False):
            self.cursors.update(batch.cursors)
            if batch.news:
                return list(batch.news)
        return []

    def next(self, rounds=60):
        return [(told.change, type(told.record), told.record.ticket) for told in self.news(rounds)]

    def close(self):
        self.batches.close()
        self.source.close()


@pytest.fixture
def reading(report):
    made = []

    def make(cursors=None, positions_every_s=3_600, **options):
        kept = {} if cursors is None else cursors
        given = {"positions_every_s": positions_every_s, "accounts_every_s": 3_600, **options}
        made.append(Reading(source_of(report.url, kept, **given), kept))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_each_step_of_a_row_is_told_once(report, reading):
    report.put(opened(1, MOMENT), money(2, MOMENT, 500))
    one = reading()
    assert one.next() == [("add", Deal, 2), ("add", Deal, 4)]
    assert [(kind, ticket) for _, kind, ticket in one.next()] == [(Position, 1)]
    assert one.next(rounds=5) == []
    report.put(closed(opened(1, MOMENT), MOMENT + timedelta(minutes=1)))
    assert one.next() == [("add", Deal, 3)]
    report.put(closed(opened(1, MOMENT), MOMENT + timedelta(minutes=1), profit=Decimal(7)))
    assert one.next() == [("update", Deal, 3)]
    assert one.next(rounds=5) == []


def test_rows_of_one_second_are_all_told(report, reading, monkeypatch):
    monkeypatch.setattr(mt4_report_events, "PER_FETCH", 2)
    monkeypatch.setattr(mt4_report.MT4Report.changed, "__defaults__", (2,))
    report.put(*(money(order, MOMENT, 5) for order in range(1, 6)))
    one = reading()
    assert [ticket for _ in range(3) for _, _, ticket in one.next()] == [2, 4, 6, 8, 10]
    report.put(money(7, MOMENT, 5), money(6, MOMENT, 5))
    assert [ticket for _ in range(2) for _, _, ticket in one.next()] == [12, 14]
    assert one.next(rounds=5) == []


def test_a_change_of_prices_alone_is_no_news_of_deals(report, reading):
    report.put(opened(1, MOMENT))
    one = reading()
    one.next(), one.next()
    report.put(replace(opened(1, MOMENT), profit=Decimal(-9), close_price=Decimal("1.07"), timestamp=wall(MOMENT) + 5))
    assert one.next(rounds=5) == []


def test_a_part_that_is_closed_changes_the_opening_and_adds_another(report, reading):
    before = opened(1, MOMENT, volume=100)
    report.put(before)
    one = reading()
    assert one.next() == [("add", Deal, 2)]
    one.next()
    report.put(
        closed(replace(before, volume=40), MOMENT + HOUR), replace(before, order=2, volume=60, timestamp=wall(MOMENT + HOUR))
    )
    assert one.next() == [("update", Deal, 2), ("add", Deal, 3), ("add", Deal, 4)]


def test_a_pending_order_that_comes_true_is_filled(report, reading):
    waiting = pending(1, MOMENT)
    report.put(waiting, pending(2, MOMENT))
    one = reading()
    assert one.next() == [("add", Order, 1), ("add", Order, 2)]
    assert one.next(rounds=3) == []
    at = MOMENT + timedelta(minutes=2)
    report.put(replace(waiting, cmd=Cmd.BUY, open_time=wall(at), timestamp=wall(at)), closed(pending(2, MOMENT), at))
    filled, deal, canceled = one.news()
    assert (filled.change, filled.record.state, filled.record.done_ms) == ("update", OrderState.FILLED, 1000 * wall(at))
    assert (filled.record.ticket, filled.record.type, filled.record.volume_current) == (1, Cmd.BUY_LIMIT, 0)
    assert (deal.change, deal.record.ticket, deal.record.server_time_ms) == ("add", 2, 1000 * wall(at))
    assert (canceled.change, canceled.record.ticket, canceled.record.state) == ("update", 2, OrderState.CANCELED)


def test_a_pending_order_that_came_true_while_nobody_read_is_filled(report, reading):
    waiting = mt4.pending_of(pending(1, MOMENT), SIZE)
    report.put(opened(1, MOMENT + HOUR))
    one = reading(held_orders=[waiting])
    told = one.news()
    assert [(one.change, one.record.ticket) for one in told] == [("update", 1), ("add", 2)]
    assert told[0].record == replace(
        waiting, state=OrderState.FILLED, volume_current=0, position_ticket=1, done_ms=1000 * wall(MOMENT + HOUR)
    )


def test_what_is_committed_behind_the_cursor_is_found_by_looking_back(report, reading):
    report.put(money(1, MOMENT, 5))
    one = reading()
    one.next()
    before = dict(one.cursors)
    late, too_late = MOMENT - timedelta(seconds=299), MOMENT - timedelta(seconds=900)
    report.put(money(2, late, 5), money(3, too_late, 5))
    assert one.next() == [("add", Deal, 4)]
    assert one.next(rounds=5) == []
    assert one.cursors == before == {"mt4_trades": str(wall(MOMENT))}


def test_a_restart_repeats_the_overlap_and_nothing_before(report, reading):
    report.put(*(money(1 + minute, MOMENT + timedelta(minutes=minute), 5) for minute in (0, 10, 12)))
    one = reading()
    assert len(one.next()) == 3
    again = reading(dict(one.cursors))
    assert [ticket for _, _, ticket in again.next()] == [22, 26]


@pytest.mark.parametrize("is_autumn", [True, False])
def test_a_clock_that_goes_back_hides_nothing(report, reading, monkeypatch, is_autumn):
    """The rows of the repeated hour's second pass come behind a cursor that the first pass has left."""
    change = datetime(2026, 10, 25 if is_autumn else 24, 1, tzinfo=UTC)
    report.put(money(1, change - timedelta(seconds=10), 5))
    one = reading()
    assert [ticket for _, _, ticket in one.next()] == [2]
    monkeypatch.setattr(mt4_report_events, "now", lambda: change + timedelta(minutes=6))
    behind = wall(change - timedelta(seconds=10)) - 55 * 60
    report.put(replace(money(2, change, 5), open_time=behind, close_time=behind, timestamp=behind))
    assert [ticket for _, _, ticket in one.next(rounds=8)] == ([4] if is_autumn else [])
    assert one.next(rounds=5) == []


def test_the_first_look_goes_back_as_far_as_it_is_told(report, reading):
    present = datetime.now(UTC)
    old, new = present - 50 * HOUR, present - 5 * HOUR
    report.put(money(1, old, 5), closed(opened(2, old), new), money(3, new + HOUR, 5))
    one = reading(first_s=86_400)
    assert [ticket for _, _, ticket in one.next()] == [4, 5, 6]
    report.put(gone=[2, 3])
    again = reading(first_s=86_400)
    assert [ticket for _, _, ticket in again.next()] == [2]  # the newest there is


def test_an_empty_database_is_no_error(report, reading):
    one = reading()
    assert one.next(rounds=3) == []
    report.put(money(1, datetime.now(UTC), 5))
    assert one.next() == [("add", Deal, 2)]


def test_positions_are_those_that_are_open(report, reading):
    report.put(opened(1, MOMENT), opened(2, MOMENT))
    one = reading(positions_every_s=0.1, held=[mt4.position_of(opened(9, MOMENT), SIZE)])
    one.next()
    assert one.next() == [("add", Position, 1), ("add", Position, 2)]
    assert one.next() == [("delete", Position, 9)]  # two looks did not show it
    report.put(closed(opened(1, MOMENT), MOMENT + HOUR), gone=[2])
    assert one.next() == [("add", Deal, 3)]
    assert one.next() == [("delete", Position, 1), ("delete", Position, 2)]
    assert one.next(rounds=5) == []  # deals of a row that vanished are left to comparisons


def test_states_of_logins_are_told_when_they_change(report, reading):
    report.put(logins=[USER])
    one = reading(accounts_every_s=0.1)
    (state,) = one.news()
    assert (state.change, state.record) == ("state", mt4.account_of(USER))
    assert one.news(rounds=5) == []
    report.put(logins=[replace(USER, enable_read_only=1, balance=Decimal(7))])
    (state,) = one.news()
    assert (state.record.may_trade, state.record.balance) == (False, 7)


def test_a_row_of_an_unknown_kind_goes_on_to_be_judged(report, reading):
    report.put(replace(opened(1, MOMENT), cmd=9))
    one = reading()
    (told,) = one.news()
    assert isinstance(told, Unreadable)
    assert (told.key, told.login, told.note) == ("1", OPEN.login, "a row of an unknown kind: CMD 9")
    assert one.news(rounds=5) == []
