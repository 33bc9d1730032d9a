"""The daily check: what was lost, edited, deleted or tampered with is found, put right where the server's word is enough, and
stands before people where it is not. Nothing is doubled.
"""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select, update

from app.core.tables import Event
from app.core.uow import unit_of_work
from app.jobs import handlers, queues, servers, tasks
from app.metatrader import mirror, open_positions, reconcile, sync
from app.metatrader.backfill import PlatformBackfill, our_groups
from app.metatrader.balances import Look
from app.metatrader.compare import ServerDay
from app.metatrader.errors import Unreachable
from app.metatrader.servertime import server_zone
from app.metatrader.simulator.event_faults import EventSettings
from app.metatrader.simulator.export import ExportOutput
from app.metatrader.sources.sql_copy import CopyingSQLExport
from app.models.metatrader import Deal, Position, Server, TradingAccount
from app.models.trading_desk import ServerBreak, ServerCheck
from tests.integration.trading.house import SYSTEM, USER, House, wait_until

ZONE = server_zone("GMT+2/EU")


def today() -> date:
    return datetime.fromtimestamp(ZONE.wall_ms(datetime.now(UTC)) / 1000, UTC).date()


def look_at(house: House) -> Look:
    source = PlatformBackfill(house.platform, our_groups(house.session, house.server_id))
    return Look(house.session, house.platform, source, house.server_id, ZONE, SYSTEM, pause=lambda _: None)


def check(house: House) -> reconcile.Checked:
    house.session.rollback()
    done = reconcile.check_server(look_at(house), today())
    house.session.rollback()
    assert done is not None
    return done


def breaks(house: House, *, state: str = "open") -> list[tuple[str, str, str]]:
    house.session.rollback()
    rows = select(ServerBreak).where(ServerBreak.state == state).order_by(ServerBreak.id)
    return [(row.kind, row.subject, row.cause) for row in house.session.scalars(rows)]


def lose_the_stream(house: House) -> None:
    wait_until(lambda: house.simulator.store.outbox_size() == 0)
    house.redis.delete("mt:sim:0")


def current(house: House, ticket: int) -> Deal:
    house.session.rollback()
    return house.session.scalars(select(Deal).where(Deal.ticket == ticket, Deal.is_current)).one()


def trade(house: House, login: int, **more):
    return house.simulator.control.trade(login, "EURUSD", "buy", Decimal("0.10"), **more)


@pytest.fixture
def login(house: House) -> int:
    made = house.add_account().login
    house.simulator.exchange.balance_operation(made, 2, Decimal(5_000), "start")
    trade(house, made, move_points=50)
    house.drain()
    return made


def test_a_quiet_day(house, login):
    mirror.mirror_deals(house.session)
    done = check(house)
    assert (done.deals_there, done.deals_here, done.booked, done.breaks) == (3, 3, 0, 0)
    row = house.session.scalars(select(ServerCheck)).one()
    assert (row.status, row.accounts, row.source, row.day) == ("done", 1, "platform", today())


def test_what_was_lost_edited_and_deleted_is_booked_and_counted(house, login):
    _, closed = trade(house, login, move_points=70)
    _, edited = trade(house, login, move_points=30)
    house.drain()
    house.delete(closed.ticket)
    house.edit(edited.ticket, profit=Decimal("9.99"))
    lost = [*trade(house, login, move_points=20), *trade(house, login, close=False)]
    lose_the_stream(house)
    before = house.count(Deal)
    done = check(house)
    assert (done.booked, done.breaks, breaks(house)) == (5, 0, [])
    assert current(house, closed.ticket).is_void
    assert (current(house, edited.ticket).profit, current(house, edited.ticket).revision) == (Decimal("9.99"), 2)
    assert {deal.ticket for deal in lost} <= set(house.session.scalars(select(Deal.ticket)))
    assert house.session.scalars(select(Position.ticket)).all() == [lost[-1].position_ticket]
    assert house.count(Deal) == before + 5
    again = check(house)
    assert (again.booked, again.deals_here, again.deals_there) == (0, len(house.at_server(login)), len(house.at_server(login)))
    mirror.mirror_deals(house.session)
    assert house.mirrored(login).decimal == house.simulator.exchange.state(login).balance
    house.prove()


def export_of(house: House) -> CopyingSQLExport:
    """The server's SQL export as it stands now."""
    filled = ExportOutput(house.simulator.exchange, house.settings.database_owner_url)
    filled.open()
    filled.close()
    return CopyingSQLExport(house.settings.database_owner_url, ZONE, {"schema": "mt5"})


@pytest.mark.parametrize("in_lines", [True, False])
def test_the_day_out_of_an_sql_export(house, login, monkeypatch, in_lines):
    """Deals come as lines of COPY where the database can, as records elsewhere; what is found is the same."""
    house.simulator.exchange.balance_operation(login, 2, Decimal("0.30"), "a\\b 'c' é \"d\"")
    trade(house, login, move_points=37)
    _, gone = trade(house, login, move_points=10)
    house.drain()
    house.edit(house.at_server(login)[2].ticket, profit=Decimal("1.10"))
    house.delete(gone.ticket)
    trade(house, login)
    lose_the_stream(house)
    with unit_of_work(house.session, SYSTEM):
        house.session.get_one(Server, house.server_id).backfill = "sql"
    export = export_of(house)
    if not in_lines:
        monkeypatch.setattr(CopyingSQLExport, "deal_lines", lambda *_: None)
    look = Look(house.session, house.platform, export, house.server_id, ZONE, SYSTEM, pause=lambda _: None)
    first = reconcile.check_server(look, today())
    assert (first.booked, first.breaks, first.deals_there) == (4, 0, len(house.at_server(login)))
    assert current(house, gone.ticket).is_void
    again = reconcile.check_server(look, today())
    assert (again.booked, again.deals_here) == (0, again.deals_there)
    house.session.rollback()
    assert house.session.scalars(select(ServerCheck.source)).all() == ["sql", "sql"]


def test_an_edit_that_was_taken_back_is_followed(house, login):
    """The same content as before is no repeat when the server itself says so."""
    closed = house.at_server(login)[-1]
    for profit in (Decimal(7), Decimal(8), Decimal(7)):
        house.edit(closed.ticket, profit=profit)
        if profit != 7 or current(house, closed.ticket).revision < 2:
            house.drain()
    lose_the_stream(house)
    assert check(house).booked == 1
    assert (current(house, closed.ticket).profit, current(house, closed.ticket).revision) == (7, 4)


def test_a_deal_that_a_wrong_report_deleted_comes_back(house, login):
    closed = house.at_server(login)[-1]
    sync.void(house.session, house.server_id, [closed.ticket], actor=SYSTEM)
    assert current(house, closed.ticket).is_void
    assert check(house).booked == 1
    assert not current(house, closed.ticket).is_void


def test_a_deal_from_before_its_digits_were_kept_is_voided_too(house, login, database):
    _, closed = trade(house, login, move_points=70)
    house.drain()
    with database.owner_session() as owner:
        owner.execute(update(Deal).where(Deal.ticket == closed.ticket).values(digits=None))
        owner.commit()
    sync.void(house.session, house.server_id, [closed.ticket], actor=SYSTEM)
    assert current(house, closed.ticket).is_void


def test_a_day_of_which_nothing_came(house, login, monkeypatch):
    monkeypatch.setattr(reconcile, "ONE_BY_ONE", 2)
    for _ in range(4):
        trade(house, login, move_points=10)
    lose_the_stream(house)
    done = check(house)
    assert (done.booked, done.breaks) == (8, 0)
    assert check(house).booked == 0


def test_deals_that_vanish_in_numbers_wait_for_people(house, login, monkeypatch):
    monkeypatch.setattr(sync, "MOST_BELIEVED_GONE", 1)
    other = house.add_account().login
    house.simulator.exchange.balance_operation(other, 2, Decimal(5_000), "start")
    gone = [deal.ticket for _ in range(2) for deal in trade(house, other)]
    house.drain()
    monkeypatch.setattr(reconcile, "BREAKS_PER_LOGIN", 3)
    few = house.at_server(login)[-1].ticket
    for ticket in (*gone, few):
        house.delete(ticket)
    lose_the_stream(house)
    mirror.mirror_deals(house.session)
    done = check(house)
    subject = f"{other}@{today().isoformat()}"
    found = breaks(house)
    assert found[:2] == [("deal_count", subject, ""), ("deal_vanished", str(few), "in_numbers")]
    # The balances that follow from them say so.
    assert set(found[2:]) == {("balance", str(login), "deals_differ"), ("balance", str(other), "deals_differ")}
    assert done.breaks == 4
    assert not current(house, few).is_void
    row = house.session.scalars(select(ServerBreak).where(ServerBreak.kind == "deal_count")).one()
    assert (row.here.split(":")[0], row.there) == ("5", "1: 5000")


def test_a_balance_that_somebody_changed_at_the_server(house, login):
    mirror.mirror_deals(house.session)
    store = house.simulator.store
    with store.transaction():
        account = store.account(login)
        account.balance += 1_234
        store.save_account(account)
    assert check(house).breaks == 1
    assert breaks(house) == [("balance", str(login), "server_drift")]
    row = house.session.scalars(select(ServerBreak)).one()
    assert (row.repair["difference"], row.closed_at) == ("12.34", None)
    check(house)
    assert house.count(ServerBreak) == 1
    with store.transaction():
        account = store.account(login)
        account.balance -= 1_234
        store.save_account(account)
    check(house)
    assert breaks(house, state="gone") == [("balance", str(login), "server_drift")]


def test_what_is_not_mirrored_yet_is_no_break(house, login):
    assert house.mirrored(login).amount_minor == 0
    house.edit(house.at_server(login)[-1].ticket, profit=Decimal(3))
    house.drain()
    assert check(house).breaks == 0
    mirror.mirror_deals(house.session)
    house.edit(house.at_server(login)[-1].ticket, profit=Decimal(4))
    house.drain()
    assert check(house).breaks == 0


def test_an_operation_whose_answer_was_lost_explains_a_balance(house, login, monkeypatch):
    mirror.mirror_deals(house.session)
    house.faults("execute_then_drop", path="trade/balance")
    operation_id = house.order(login)
    assert house.send(operation_id) == "unknown"
    # As if the deal could not be seen: only then does the balance differ.
    monkeypatch.setattr(house.platform.__class__, "deals", lambda *_: [])
    monkeypatch.setattr(reconcile, "_check_deals", lambda *_: (reconcile.Differences(), 0, []))
    check(house)
    assert breaks(house) == [("balance", str(login), "in_flight")]


def test_credit_is_compared_with_the_credit_that_we_know(house, login):
    house.simulator.exchange.balance_operation(login, 3, Decimal(100), "bonus credit")
    house.drain()
    assert check(house).breaks == 0
    store = house.simulator.store
    with store.transaction():
        account = store.account(login)
        account.credit += 500
        store.save_account(account)
    check(house)
    assert [(kind, subject) for kind, subject, _ in breaks(house)] == [("credit", str(login))]


def test_an_account_that_moves_while_we_look_is_no_break(house, login):
    mirror.mirror_deals(house.session)

    class Moving(PlatformBackfill):
        def accounts(self):
            trade(house, login, move_points=40)  # booked neither by the stream nor by the check of deals
            return super().accounts()

    look = look_at(house)
    moving = Look(
        look.session, look.platform, Moving(house.platform, [r"real\std\usd"]), look.server_id, ZONE, SYSTEM, look.pause
    )
    reconcile.check_server(moving, today())
    assert breaks(house) == []


def test_logins_that_only_one_side_has(house, login):
    stranger = house.simulator.control.users.add(USER).login
    house.add_account(login=999_999)
    archived = house.add_account().login
    house.simulator.exchange.archive(archived)
    lose_the_stream(house)
    check(house)
    assert {one for one in breaks(house) if one[0] != "balance"} == {
        ("unknown_login", str(stranger), "not_imported"),
        ("login_vanished", "999999", ""),
        ("login_vanished", str(archived), "archived_login"),
    }


def test_an_explanation_holds_while_the_difference_is_the_same(house, login):
    mirror.mirror_deals(house.session)
    store = house.simulator.store

    def tamper(by: int) -> None:
        with store.transaction():
            account = store.account(login)
            account.balance += by
            store.save_account(account)

    tamper(700)
    check(house)
    with unit_of_work(house.session, SYSTEM):
        row = house.session.scalars(select(ServerBreak)).one()
        row.state, row.closed_at, row.closed_by, row.note = "explained", datetime.now(UTC), "staff:1", "known"
    trade(house, login, move_points=90)
    house.drain()
    mirror.mirror_deals(house.session)
    assert check(house).breaks == 0
    tamper(1)
    assert check(house).breaks == 1


def test_a_check_that_cannot_read_the_server_stands_as_failed(house, login):
    house.faults(*["drop"] * 4, path="deal/get_batch")
    with pytest.raises(Unreachable):
        check(house)
    house.session.rollback()
    row = house.session.scalars(select(ServerCheck)).one()
    assert (row.status, row.error.partition(":")[0]) == ("failed", "Unreachable")


def test_ghosts_that_our_deals_have_closed_go_in_any_number(house, login, monkeypatch):
    monkeypatch.setattr(open_positions, "MOST_GHOSTS", 0)
    opened = trade(house, login, close=False)[0]
    kept = trade(house, login, close=False)[0]
    house.drain()
    house.simulator.exchange.close(opened.position_ticket)
    house.simulator.exchange.close(kept.position_ticket, kept.volume // 2)
    lose_the_stream(house)
    check(house)
    assert breaks(house) == []
    assert house.session.scalars(select(Position.ticket)).all() == [kept.position_ticket]


def test_ghosts_in_numbers_wait_for_people(house, login, monkeypatch):
    monkeypatch.setattr(open_positions, "MOST_GHOSTS", 0)
    opened = trade(house, login, close=False)[0]
    house.drain()
    house.delete(house.simulator.exchange.close(opened.position_ticket).ticket)
    lose_the_stream(house)
    check(house)
    assert ("ghost_position", str(opened.position_ticket), "") in breaks(house)
    monkeypatch.setattr(open_positions, "MOST_GHOSTS", 100)
    check(house)
    assert breaks(house) == []


def test_which_day_is_due(house):
    def due(*moment: int) -> date | None:
        return reconcile.due_day(house.session, house.server_id, datetime(*moment, tzinfo=UTC))

    assert due(2026, 7, 7, 21, 10) == date(2026, 7, 6)  # its midnight was ten minutes ago
    assert due(2026, 7, 7, 21, 30) == date(2026, 7, 7)
    assert due(2026, 12, 7, 21, 30) == date(2026, 12, 6)  # in winter it is at ten
    with unit_of_work(house.session, SYSTEM):
        for day, status in ((7, "done"), *((8, "failed"),) * reconcile.MOST_TRIES):
            night = datetime(2026, 7, day, 22, tzinfo=UTC)
            house.session.add(
                ServerCheck(
                    server_id=house.server_id, day=date(2026, 7, day), source="platform", status=status, started_at=night
                )
            )  # fmt: skip
    assert due(2026, 7, 7, 21, 30) is None
    assert due(2026, 7, 8, 21, 30) is None


def test_what_was_not_checked_whole_is_made_up_for(house):
    def due() -> date | None:
        return reconcile.due_day(house.session, house.server_id, datetime(2026, 7, 9, 3, tzinfo=UTC))

    def checked(day: int, *moment: int, status: str = "done") -> None:
        started_at = datetime(2026, 7, *moment, tzinfo=UTC)
        with unit_of_work(house.session, SYSTEM):
            house.session.add(
                ServerCheck(
                    server_id=house.server_id, day=date(2026, 7, day), source="platform", status=status, started_at=started_at
                )
            )  # fmt: skip

    assert due() == date(2026, 7, 8), "the first is yesterday's"
    checked(8, 8, 12)
    assert due() == date(2026, 7, 8), "staff had it checked at noon"
    checked(5, 5, 22)
    checked(7, 7, 22)
    assert due() == date(2026, 7, 6), "nobody was there that night"
    for _ in range(reconcile.MOST_TRIES):
        checked(6, 9, 1, status="failed")
    assert due() == date(2026, 7, 8)
    checked(8, 8, 21)
    assert due() is None


def test_deals_that_are_done_while_we_read_are_no_difference(house, login, monkeypatch):
    """A check of the day that is not over: what the stream brings meanwhile has not vanished."""
    monkeypatch.setattr(sync, "MOST_BELIEVED_GONE", 0)
    monkeypatch.setattr(reconcile, "ONE_BY_ONE", 0)

    class Busy(PlatformBackfill):
        def deals(self, since, until):
            yield from super().deals(since, until)
            trade(house, login, move_points=10)
            house.drain()

    mirror.mirror_deals(house.session)
    look = look_at(house)
    busy = Look(look.session, look.platform, Busy(house.platform, [r"real\std\usd"]), look.server_id, ZONE, SYSTEM, look.pause)
    assert reconcile.check_server(busy, today()).breaks == 0
    assert breaks(house) == []


def test_a_login_that_moved_to_a_strange_group_is_followed(house, login):
    """Nothing told us: its group is none of ours. From the check on it is, and what it did meanwhile is booked."""
    house.simulator.exchange.change_group(login, r"real\protected\usd")
    lost = trade(house, login, move_points=40)
    lose_the_stream(house)
    assert sync.sweep(house.session, house.platform, house.server_id, since=datetime.now(UTC) - timedelta(hours=1)).new == 0
    check(house)
    assert {deal.ticket for deal in lost} <= set(house.session.scalars(select(Deal.ticket)))
    assert r"real\protected\usd" in our_groups(house.session, house.server_id)
    assert [one for one in breaks(house) if one[0] == "login_vanished"] == []
    later = trade(house, login)
    lose_the_stream(house)
    assert sync.sweep(house.session, house.platform, house.server_id, since=datetime.now(UTC) - timedelta(hours=1)).new == 2
    assert current(house, later[-1].ticket).login == login


def test_a_copy_takes_no_account_back_to_what_it_was(house, login):
    export = export_of(house)
    house.simulator.exchange.balance_operation(login, 2, Decimal(700), "later")
    house.drain()
    before = house.session.scalars(select(TradingAccount.balance).where(TradingAccount.login == login)).one()
    look = Look(house.session, house.platform, export, house.server_id, ZONE, SYSTEM, pause=lambda _: None)
    reconcile.check_server(look, today())
    house.session.rollback()
    assert house.session.scalars(select(TradingAccount.balance).where(TradingAccount.login == login)).one() == before


def test_a_difference_that_no_words_show_is_not_settled(house, login):
    deal = house.at_server(login)[-1]
    house.drain()
    look = look_at(house)
    assert reconcile.is_settled(look, "deal_differs", str(deal.ticket))
    with house.simulator.store.transaction():
        house.simulator.store.add_deal(replace(deal, volume=deal.volume * 2))
    assert not reconcile.is_settled(look, "deal_differs", str(deal.ticket))


def test_a_day_is_the_servers_own():
    winter, change = ServerDay.of(date(2026, 1, 5), ZONE), ServerDay.of(date(2025, 10, 26), ZONE)
    assert winter.first_ms == 1_767_571_200_000
    assert winter.since == datetime(2026, 1, 4, 22, tzinfo=UTC) - timedelta(hours=2)
    assert change.until - change.since == timedelta(hours=25 + 4) - timedelta(milliseconds=1)


@pytest.mark.parametrize("seed", [1, 2])
def test_after_a_wild_day_everything_stands_as_at_the_server(house, seed):
    """Events doubled, out of order, spoiled and lost, deals edited and deleted, positions closed unheard: one sweep and one
    check later nothing is missing, nothing counts twice, and the ledger has what the server has.
    """
    chance, faults = random.Random(seed), house.simulator.journal.faults
    logins = [house.add_account().login for _ in range(3)]
    for login in logins:
        house.simulator.exchange.balance_operation(login, 2, Decimal(20_000), "start")
    faults.set(EventSettings(duplicates=0.3, reorder_s=0.1, garbage=0.1))
    for step in range(45):
        if step in (15, 32):
            faults.lose(datetime.now(UTC), 3_600)
        if step in (22, 40):
            faults.lose(datetime.now(UTC), 0)
        login = chance.choice(logins)
        closed = [deal.ticket for deal in house.at_server(login) if deal.closes]
        what = chance.choices(("trade", "open", "close", "edit", "delete"), (4, 3, 2, 2, 1))[0]
        positions = house.simulator.exchange.positions(login)
        if what in ("trade", "open"):
            trade(house, login, close=what == "trade", move_points=chance.randint(-60, 60) if what == "trade" else 0)
        elif what == "close" and positions:
            house.simulator.exchange.close(positions[0].ticket)
        elif what == "edit" and closed:
            house.edit(chance.choice(closed), profit=Decimal(chance.randint(-9_999, 9_999)).scaleb(-2))
        elif what == "delete" and closed:
            house.delete(chance.choice(closed))
    faults.set(EventSettings())
    house.drain()
    mirror.mirror_deals(house.session)
    swept = sync.sweep(house.session, house.platform, house.server_id, since=datetime.now(UTC) - timedelta(hours=1))
    assert swept.new > 0  # something was lost
    assert check(house).breaks == 0
    assert check(house).booked == 0
    mirror.mirror_deals(house.session)
    there = {deal.ticket: (deal.login, deal.result) for login in logins for deal in house.at_server(login)}
    rows = house.session.scalars(select(Deal).where(Deal.is_current, Deal.is_void.is_(False))).all()
    assert {row.ticket: (row.login, mirror.result(row)) for row in rows} == there
    assert len(rows) == len(there)
    open_there = {one.ticket for login in logins for one in house.simulator.exchange.positions(login)}
    house.session.rollback()
    assert set(house.session.scalars(select(Position.ticket))) == open_there
    for login in logins:
        assert house.mirrored(login).decimal == house.simulator.exchange.state(login).balance
    house.prove()


def test_checks_by_the_clock_and_on_demand_are_one_job(house, login, app, redis, monkeypatch):
    monkeypatch.setattr(reconcile, "due_day", lambda *_: today())
    app.extensions["settings"] = house.settings
    with app.app_context():
        tasks.check_servers(house.session, house.settings)
        reconcile.order_check(house.session, house.server_id, today(), SYSTEM)
        order = house.session.scalars(select(Event).where(Event.type == "server.check_requested")).one()
        house.session.expunge(order)
        handlers.check_server(house.session, order, house.settings)
        job_id = f"check_server-{house.server_id}-{today().isoformat()}"
        assert queues.queue(redis, servers.QUEUE).job_ids == [job_id]
        servers.run_task("check_server", house.server_id, day=today().isoformat())
    assert house.session.scalars(select(ServerCheck.status)).all() == ["done"]


def test_a_server_that_is_sick_fails_its_check_and_no_job(house, login):
    house.faults("retcode", path="deal/get_batch", code=8)
    tasks.check_server(house.session, house.settings, house.server_id, today().isoformat())
    assert house.session.scalars(select(ServerCheck.status)).all() == ["failed"]
