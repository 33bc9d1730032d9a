"""What every source must tell: the life of an account as the server holds it, whatever restarts, repeats or fails between."""

from __future__ import annotations

from decimal import Decimal

from redis.exceptions import ConnectionError as RedisConnectionError
from sqlalchemy import select

from app.metatrader.sources import feed as feeds
from app.models.metatrader import DeadLetter, Deal, Order, ServerState
from tests.integration.trading.house import wait_until


def live(world) -> dict[str, int]:
    """A deposit, trades, a partial close, an edit, a deletion; one position stays open."""
    tickets = {"deposit": world.deposit()}
    whole = world.open("0.50")
    tickets["closed"] = world.close(whole)
    part = world.open("1.00", "sell")
    tickets["part"] = world.close(part, "0.40")
    world.settles()
    world.edit(tickets["part"], commission=Decimal("-1.25"))
    world.settles()
    tickets["deleted"] = world.deposit(77)
    world.settles()
    world.delete(tickets["deleted"])
    return tickets


def test_a_life_is_told_as_the_server_holds_it(world):
    with world.reading():
        tickets = live(world)
        world.settles()
        wait_until(lambda: world.drain() or world.account().balance == world.balance_there())
    rows = world.session.scalars(select(Deal).where(Deal.ticket == tickets["part"]).order_by(Deal.revision)).all()
    assert [row.commission for row in rows] == [0, Decimal("-1.25")]
    assert len(world.positions()) == 1
    assert world.session.scalars(select(DeadLetter)).all() == []


def test_what_happens_while_nobody_reads_is_told_afterwards(world):
    with world.reading():
        world.deposit()
        world.settles()
    position = world.open("0.30")
    world.close(position, "0.10")
    with world.reading():
        world.settles()
        world.close(position)
        world.settles()
    assert world.positions() == {}


def test_orders_are_told_until_they_are_done(read_world):
    world = read_world

    def orders() -> dict[int, tuple[object, ...]]:
        world.drain()
        rows = world.session.scalars(select(Order).execution_options(populate_existing=True))
        return {row.ticket: (row.state, row.price_order, bool(row.done_ms), row.is_deleted) for row in rows}

    price, other = Decimal("0.9"), Decimal("0.91")
    with world.reading():
        world.deposit()
        changed, cancelled = world.place(price), world.place(price)
        wait_until(lambda: orders() == dict.fromkeys((changed, cancelled), (1, price, False, False)))
        world.reprice(changed, other)
        world.cancel(cancelled)
        wait_until(lambda: orders() == {changed: (1, other, False, False), cancelled: (2, price, True, False)})
    missed = world.place(price)
    world.cancel(changed)
    with world.reading():
        wait_until(lambda: orders().keys() == {changed, cancelled, missed})
        wait_until(lambda: orders()[changed] == (2, other, True, False))
        if not world.sees_deletions:
            return  # a row that is deleted leaves no trace there; sweeps find it
        world.delete_order(missed)
        wait_until(lambda: orders()[missed] == (1, price, False, True))


def test_a_crash_between_stream_and_cursor_repeats_and_loses_nothing(read_world, monkeypatch):
    world = read_world
    with world.reading():
        world.deposit()
        world.settles()
    save, crashes = feeds.Feed.save, []

    def crash(self, cursors):
        if cursors and not crashes:
            crashes.append(dict(cursors))
            raise MemoryError
        save(self, cursors)

    monkeypatch.setattr(feeds.Feed, "save", crash)
    with world.reading():
        world.close(world.open("0.20"))
        world.settles()
        wait_until(lambda: crashes)
        world.close(world.open("0.10"))
        world.settles()
    revisions = world.session.scalars(select(Deal.revision)).all()
    assert set(revisions) == {1}
    assert world.session.scalars(select(ServerState.gaps)).one() == 0


def test_redis_away_for_a_moment_loses_nothing(read_world, monkeypatch):
    world = read_world
    publish, refused = feeds.publish, []

    def away(redis, entries):
        if len(refused) < 3:
            refused.append(entries)
            raise RedisConnectionError
        publish(redis, entries)

    monkeypatch.setattr(feeds, "publish", away)
    monkeypatch.setattr(feeds, "RETRY_S", 0.01)
    with world.reading():
        world.deposit()
        world.close(world.open("0.20"))
        world.settles()
    assert len(refused) == 3
    assert world.session.scalars(select(DeadLetter)).all() == []


def test_a_repeat_of_everything_changes_nothing(world):
    with world.reading():
        world.deposit()
        world.close(world.open("0.20"))
        world.settles()
    before = world.session.execute(select(Deal.ticket, Deal.revision)).all()
    for _, fields in world.redis.xrange("mt:sim:0"):
        world.redis.xadd("mt:sim:0", fields)
    world.drain()
    assert world.session.execute(select(Deal.ticket, Deal.revision)).all() == before
    world.settles()
