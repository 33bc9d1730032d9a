"""Pulls: what the stream lost is found, and nothing counts twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select, text

from app.core.clock import now
from app.core.tables import Event
from app.core.uow import unit_of_work
from app.jobs import gateways, handlers, queues, servers, tasks
from app.metatrader import booking, sync
from app.metatrader.backfill import PlatformBackfill
from app.metatrader.servertime import server_zone
from app.metatrader.simulator import Simulator
from app.models.metatrader import Deal, Position, Product, Server, ServerState
from tests.integration.trading.house import PASSWORD, SYSTEM, USER, House, in_threads, wait_until
from tests.unit.metatrader.samples import DEAL

HOUR = timedelta(hours=1)


def sweep(house: House, since: datetime | None = None) -> int:
    """How many deals it found new, changed or gone."""
    done = sync.sweep(house.session, house.platform, house.server_id, since=since or datetime.now(UTC) - HOUR)
    return done.new + done.voided


def tickets(house: House) -> list[int]:
    house.session.rollback()
    return list(house.session.scalars(select(Deal.ticket).order_by(Deal.ticket)))


def lose_the_stream(house: House) -> None:
    wait_until(lambda: house.simulator.store.outbox_size() == 0)
    house.redis.delete("mt:sim:0")


@pytest.fixture
def login(house: House) -> int:
    made = house.add_account().login
    house.simulator.exchange.balance_operation(made, 2, Decimal(5_000), "start")
    return made


def test_what_the_stream_lost_is_found(house, login):
    house.simulator.control.trade(login, "EURUSD", "buy", Decimal("0.10"))
    lose_the_stream(house)
    house.simulator.control.trade(login, "EURUSD", "sell", Decimal("0.10"))
    house.drain()
    assert len(tickets(house)) == 2
    assert sweep(house) == 3
    assert tickets(house) == [deal.ticket for deal in house.at_server(login)]
    owners = set(house.session.scalars(select(Deal.trading_account_id)))
    assert owners == {house.session.scalars(text("SELECT id FROM trading_account")).one()}
    assert sweep(house) == 0
    assert len(house.events(house.server_id, "deal.booked")) == 2


def test_a_lost_edit_is_found(house, login):
    house.drain()
    (deal,) = house.at_server(login)
    house.edit(deal.ticket, profit=Decimal(4_000))
    lose_the_stream(house)
    assert sweep(house) == 1
    rows = house.session.execute(select(Deal.revision, Deal.profit, Deal.is_current).order_by(Deal.revision)).all()
    assert [tuple(row) for row in rows] == [(1, 5_000, False), (2, 4_000, True)]


def test_a_pull_that_is_late_brings_nothing_deleted_back(house, login):
    house.drain()
    (deal,) = house.at_server(login)
    done_at, offset, asked_at = (*house.session.execute(select(Deal.done_at, Deal.utc_offset_min)).one(), now())
    house.delete(deal.ticket)
    house.drain()
    late = booking.DealReport(deal, done_at, offset, seen_at=asked_at, is_answer=True)
    with unit_of_work(house.session, SYSTEM) as unit:
        booking.lock_server(house.session, house.server_id)
        assert booking.book_deals(unit, house.server_id, [late]).deal_ids == []
    assert house.session.scalars(select(Deal.is_void).where(Deal.is_current)).one()


def test_an_operation_whose_deal_only_the_pull_saw(house, login):
    house.faults("execute_then_drop", path="trade/balance")
    operation_id = house.order(login)
    assert house.send(operation_id) == "unknown"
    lose_the_stream(house)
    sweep(house)
    assert house.operation(operation_id).status == "done"


def test_stream_and_pull_at_the_same_time(house, login, monkeypatch):
    monkeypatch.setattr(sync, "DEALS_PER_UNIT", 3)
    for _ in range(10):
        house.simulator.control.trade(login, "EURUSD", "buy", Decimal("0.10"))

    def pull():
        with house.database.session() as session, house.connect() as platform:
            return sync.sweep(session, platform, house.server_id, since=datetime.now(UTC) - HOUR)

    in_threads(house.drain, pull, pull)
    assert tickets(house) == [deal.ticket for deal in house.at_server(login)]
    assert len(tickets(house)) == 21


def test_only_the_groups_of_our_products_are_pulled(house):
    with unit_of_work(house.session, SYSTEM):
        house.session.delete(house.session.scalars(select(Product).where(Product.code == "eur")).one())
    other = house.simulator.control.users.add({**USER, "Group": r"real\std\eur"}).login
    house.simulator.exchange.balance_operation(other, 2, Decimal(1), "x")
    lose_the_stream(house)
    assert sweep(house) == 0


def test_the_hour_that_occurs_twice(house, tmp_path):
    """At 01:30 UTC the server's clock shows half past three for the second time that night."""
    moment = datetime(2025, 10, 26, 1, 30, tzinfo=UTC)
    with Simulator(state_dir=tmp_path / "night", password=PASSWORD, tick_s=0, clock=lambda: moment) as night:
        login = night.control.users.add(USER).login
        night.exchange.balance_operation(login, 2, Decimal(1), "x")
        with house.connect(url=night.url, ca_file=str(night.ca_file)) as platform:
            sync.sweep(house.session, platform, house.server_id, since=moment - timedelta(minutes=15))
    deal = house.session.scalars(select(Deal)).one()
    assert (deal.done_at, deal.utc_offset_min) == (moment, 120)


class Told:
    """A server that is asked for single deals long after that night."""

    def __init__(self, *deals):
        self._deals = {deal.ticket: deal for deal in deals}

    def deal(self, ticket):
        return self._deals[ticket]


@pytest.mark.parametrize(
    ("done_at", "neighbour_at"),
    [
        (datetime(2025, 10, 26, 0, 30, tzinfo=UTC), datetime(2025, 10, 26, 0, 40, tzinfo=UTC)),
        (datetime(2025, 10, 26, 1, 30, tzinfo=UTC), datetime(2025, 10, 26, 1, 20, tzinfo=UTC)),
    ],
)
def test_a_deal_that_was_lost_in_the_hour_that_occurs_twice(house, done_at, neighbour_at):
    """Found days later, its neighbours by ticket say in which of the two hours it was done; and an edit stays in its hour."""
    zone = server_zone("GMT+2/EU")

    def at(ticket, moment, **changes):
        return replace(DEAL, ticket=ticket, server_time_ms=zone.wall_ms(moment), **changes)

    lost = at(20, done_at)
    is_later = neighbour_at > done_at
    with unit_of_work(house.session, SYSTEM) as unit:
        booking.lock_server(house.session, house.server_id)
        neighbour = booking.DealReport(at(21 if is_later else 19, neighbour_at), neighbour_at, zone.offset_min(neighbour_at))
        booking.book_deals(unit, house.server_id, [neighbour])
    for told in (lost, replace(lost, profit=Decimal(7))):
        assert sync.refetch(house.session, Told(told), house.server_id, [20], actor=SYSTEM) == (1, [])
        house.session.rollback()
        row = house.session.scalars(select(Deal).where(Deal.ticket == 20, Deal.is_current)).one()
        assert (row.done_at, row.utc_offset_min, row.profit) == (done_at, zone.offset_min(done_at), told.profit)
    again = sync.book(
        house.session, house.server_id, [replace(lost, profit=Decimal(8))], zone, not_before=now(), actor=SYSTEM, asked_at=now()
    )
    house.session.rollback()
    assert (again, house.session.scalars(select(Deal.done_at).where(Deal.is_current, Deal.ticket == 20)).one()) == (1, done_at)


def test_the_task_goes_on_where_the_last_pull_ended(house, login, clock, monkeypatch):
    asked = []
    real = sync.sweep

    def remember(session, platform, server_id, *, since, source):
        asked.append(since)
        return real(session, platform, server_id, since=since, source=source)

    def task():
        tasks.sweep_server(house.session, house.settings, house.server_id)
        house.session.rollback()
        return house.session.get_one(ServerState, house.server_id, populate_existing=True)

    monkeypatch.setattr(sync, "sweep", remember)
    lose_the_stream(house)
    started = clock()
    state = task()
    assert (state.swept_new, state.error) == (1, "")
    assert len(tickets(house)) == 1
    assert abs(asked[0] - (started - tasks.FIRST_SWEEP - tasks.SWEEP_OVERLAP)) < timedelta(seconds=10)
    house.faults("drop", "drop", path="deal/get_batch")
    clock.advance(300)
    assert task().error.startswith("Unreachable")
    clock.advance(5 * 24 * 3600)
    assert task().error == ""
    assert asked[1] == asked[2]  # the failed one does not count, however long it is ago
    assert abs(asked[2] - (started - tasks.SWEEP_OVERLAP)) < timedelta(seconds=10)
    task()
    assert asked[3] > asked[2]


def test_a_server_whose_events_are_paused_is_left_alone(house, login):
    lose_the_stream(house)
    with unit_of_work(house.session, SYSTEM):
        house.session.get_one(Server, house.server_id).events_paused_at = datetime.now(UTC)
    tasks.sweep_server(house.session, house.settings, house.server_id)
    assert tickets(house) == []


def test_a_deletion_that_the_stream_lost_is_found(house, login):
    opened, closed = house.simulator.control.trade(login, "EURUSD", "buy", Decimal("0.10"), move_points=50)
    house.drain()
    house.delete(closed.ticket)
    lose_the_stream(house)
    assert sweep(house) == 1
    rows = select(Deal.ticket, Deal.revision, Deal.is_void).where(Deal.is_current, Deal.ticket >= opened.ticket)
    found = [tuple(row) for row in house.session.execute(rows.order_by(Deal.ticket))]
    assert found == [(opened.ticket, 1, False), (closed.ticket, 2, True)]
    assert sweep(house) == 0
    house.drain()  # what is told of it late changes nothing
    assert len(house.session.scalars(select(Deal.id)).all()) == 4


def test_what_is_only_out_of_sight_is_not_deleted(house, login):
    """The login moves to a group that no product names, such as one for closed accounts."""
    house.drain()
    with unit_of_work(house.session, SYSTEM):
        for product in house.session.scalars(select(Product).where(Product.code != "eur")):
            product.group = r"real\nowhere"
    assert sweep(house) == 0
    assert house.session.scalars(select(Deal.is_void)).all() == [False]


def test_many_that_vanish_at_once_are_left_to_people(house, login, monkeypatch):
    monkeypatch.setattr(sync, "MOST_BELIEVED_GONE", 2)
    for _ in range(3):
        house.simulator.control.trade(login, "EURUSD", "buy", Decimal("0.10"), close=False)
    house.drain()
    for ticket in tickets(house)[1:]:
        house.delete(ticket)
    lose_the_stream(house)
    assert sweep(house) == 0
    assert not any(house.session.scalars(select(Deal.is_void)).all())


def open_tickets(house: House) -> list[int]:
    house.session.rollback()
    return sorted(house.session.scalars(select(Position.ticket)))


def test_ghosts_go_and_missing_positions_come(house, login):
    kept, ghost = (house.simulator.control.trade(login, "EURUSD", "buy", Decimal("0.10"), close=False)[0] for _ in range(2))
    house.drain()
    house.simulator.exchange.close(ghost.position_ticket)
    missing = house.simulator.control.trade(login, "EURUSD", "sell", Decimal("0.20"), close=False)[0]
    lose_the_stream(house)
    assert open_tickets(house) == sorted((kept.position_ticket, ghost.position_ticket))
    done = sync.sweep(house.session, house.platform, house.server_id, since=datetime.now(UTC) - HOUR)
    assert (done.positions.removed, done.positions.added) == (1, 1)
    assert open_tickets(house) == sorted((kept.position_ticket, missing.position_ticket))


def test_a_position_that_a_late_snapshot_lacks_is_not_removed(house, login):
    """What the source gives may be older than what the stream told."""
    opened = house.simulator.control.trade(login, "EURUSD", "buy", Decimal("0.10"), close=False)[0]
    house.drain()

    class Late(PlatformBackfill):
        def positions(self):
            return iter(())

    source = Late(house.platform, [r"real\std\usd"])
    done = sync.sweep(house.session, house.platform, house.server_id, since=datetime.now(UTC) - HOUR, source=source)
    assert (done.positions.removed, open_tickets(house)) == (0, [opened.position_ticket])


def test_a_position_that_closed_while_we_looked_does_not_come_back(house, login):
    opened = house.simulator.control.trade(login, "EURUSD", "buy", Decimal("0.10"), close=False)[0]
    house.drain()

    class Meanwhile(PlatformBackfill):
        def positions(self):
            found = [replace(one, update_ms=one.update_ms + 1) for one in super().positions()]
            house.simulator.exchange.close(opened.position_ticket)
            house.drain()
            return iter(found)

    source = Meanwhile(house.platform, [r"real\std\usd"])
    sync.sweep(house.session, house.platform, house.server_id, since=datetime.now(UTC) - HOUR, source=source)
    assert open_tickets(house) == []


def test_each_server_has_a_job_of_its_own_and_only_one(house, app, redis):
    with unit_of_work(house.session, SYSTEM):
        for code in ("a-down", "closed"):
            house.session.add(
                Server(
                    code=code, name="x", platform="mt5_web", url="https://127.0.0.1:1", manager_login=1, time_zone="EET",
                    is_active=code != "closed",
                )
            )  # fmt: skip
    with app.app_context():
        for _ in range(2):
            tasks.sweep_deals(house.session, house.settings)
        waiting = queues.queue(redis, servers.QUEUE)
        down = house.session.scalars(select(Server.id).where(Server.code == "a-down")).one()
        assert sorted(waiting.job_ids) == sorted(f"sweep_server-{one}" for one in (house.server_id, down))
        handlers.sweep_server(house.session, Event(type="server.gap", subject_id=house.server_id), house.settings)
        assert len(waiting.job_ids) == 2
        app.extensions["settings"] = house.settings
        house.simulator.exchange.balance_operation(house.add_account().login, 2, Decimal(5), "x")
        servers.run_task("sweep_server", house.server_id)
        assert len(tickets(house)) == 1


def test_a_server_that_moved_gets_a_new_adapter(house):
    before = gateways.platform_of(house.session, house.settings, house.server_id)
    assert gateways.platform_of(house.session, house.settings, house.server_id) is before
    with unit_of_work(house.session, SYSTEM):
        house.session.get_one(Server, house.server_id).url = "https://127.0.0.1:2"
    after = gateways.platform_of(house.session, house.settings, house.server_id)
    assert after is not before
    before.close()
