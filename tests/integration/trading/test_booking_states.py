"""Positions, orders and states of logins: the newest word stands, whatever comes late, twice or not at all."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select

from app.core.uow import unit_of_work
from app.metatrader import booking, state
from app.metatrader.batches import book_events
from app.metatrader.codes import DEFAULT_RIGHTS, UserRight
from app.metatrader.events import Stamp, account_event, control_event, deal_event, order_event, position_event
from app.models.metatrader import Order, Position, Server, ServerState
from tests.integration.trading.desk import ACTOR, ZONE, Desk
from tests.unit.metatrader.samples import ACCOUNT, DEAL, ORDER, ORIGIN, POSITION

OPENING = replace(DEAL, ticket=1, entry=0, action=0, position_ticket=POSITION.ticket, volume_closed=0)
CLOSING = replace(DEAL, ticket=2, entry=1, position_ticket=POSITION.ticket)
FILLED = replace(ORDER, state=4, volume_current=0, done_ms=ORDER.set_up_ms + 5_000)
#: 26 October 2025, 03:30 by the server's clock, which was shown twice: at 00:30 and at 01:30 UTC.
TWICE = int(datetime(2025, 10, 26, 3, 30, tzinfo=UTC).timestamp() * 1000)


def stamp(desk: Desk, seconds: float = 0) -> Stamp:
    moment = desk.at(seconds)
    return Stamp(1, ZONE.wall_ms(moment), ZONE.offset_min(moment), moment)


def at_utc(moment: datetime) -> Stamp:
    return Stamp(1, ZONE.wall_ms(moment), ZONE.offset_min(moment), moment)


def tell(desk: Desk, *events):
    with unit_of_work(desk.session, ACTOR) as unit:
        return book_events(unit, desk.session.get_one(Server, desk.server_id), events)


def rows(desk: Desk, table):
    desk.session.expire_all()
    return list(desk.session.scalars(select(table).order_by(table.ticket)))


def server_state(desk: Desk) -> ServerState:
    desk.session.expire_all()
    return desk.session.get_one(ServerState, desk.server_id)


def test_all_that_a_position_says_is_kept(desk):
    account = desk.add_account()
    position = replace(POSITION, price_stop_loss=Decimal("1.07"), price_take_profit=Decimal("1.09"), symbol="EUR\\USD.m")
    assert tell(desk, position_event(ORIGIN, stamp(desk), "add", position)).client_ids == {desk.client_id}
    (row,) = rows(desk, Position)
    names = [column.name for column in Position.__table__.c if hasattr(position, column.name)]
    assert {name: getattr(row, name) for name in names} == {name: getattr(position, name) for name in names}
    assert (row.trading_account_id, row.utc_offset_min) == (account.id, 120)
    assert row.opened_at == datetime(2025, 11, 26, 9, 29, 0, 123000, tzinfo=UTC)


def test_a_late_report_does_not_bring_a_closed_position_back(desk):
    tell(desk, deal_event(ORIGIN, stamp(desk), "add", OPENING), position_event(ORIGIN, stamp(desk), "add", POSITION))
    tell(desk, deal_event(ORIGIN, stamp(desk), "add", CLOSING), position_event(ORIGIN, stamp(desk), "delete", POSITION))
    assert rows(desk, Position) == []
    tell(desk, position_event(ORIGIN, stamp(desk), "update", replace(POSITION, update_ms=POSITION.update_ms + 1)))
    assert rows(desk, Position) == []


def test_a_position_that_was_closed_in_part_stays(desk):
    tell(desk, deal_event(ORIGIN, stamp(desk), "add", OPENING))
    tell(desk, deal_event(ORIGIN, stamp(desk), "add", replace(CLOSING, volume=25_000_000, volume_closed=25_000_000)))
    tell(desk, position_event(ORIGIN, stamp(desk), "update", replace(POSITION, volume=100_000_000)))
    assert [position.volume for position in rows(desk, Position)] == [100_000_000]


def test_a_position_whose_closing_was_deleted_comes_back(desk):
    tell(desk, deal_event(ORIGIN, stamp(desk), "add", OPENING), deal_event(ORIGIN, stamp(desk), "add", CLOSING))
    tell(desk, position_event(ORIGIN, stamp(desk), "update", POSITION))
    assert rows(desk, Position) == []
    tell(desk, deal_event(ORIGIN, stamp(desk, 5), "delete", CLOSING), position_event(ORIGIN, stamp(desk, 5), "add", POSITION))
    assert len(rows(desk, Position)) == 1


def test_a_position_opened_and_closed_in_one_batch_leaves_nothing(desk):
    tell(
        desk,
        position_event(ORIGIN, stamp(desk), "add", POSITION),
        position_event(ORIGIN, stamp(desk), "delete", POSITION),
        position_event(ORIGIN, stamp(desk), "update", POSITION),
    )
    assert rows(desk, Position) == []


def test_all_that_an_order_says_is_kept(desk):
    account = desk.add_account()
    order = replace(FILLED, comment="tab\t\\N", price_trigger=Decimal("1.5"), position_ticket=7)
    assert tell(desk, order_event(ORIGIN, stamp(desk), "add", order)).client_ids == {desk.client_id}
    (row,) = rows(desk, Order)
    names = [column.name for column in Order.__table__.c if hasattr(order, column.name)]
    assert {name: getattr(row, name) for name in names} == {name: getattr(order, name) for name in names}
    assert (row.trading_account_id, row.utc_offset_min, row.is_deleted) == (account.id, 120, False)
    assert (row.set_up_at, row.done_at) == (ZONE.to_utc(order.set_up_ms).utc, ZONE.to_utc(order.done_ms).utc)


def test_an_order_opens_changes_is_filled_and_stays_when_it_is_removed(desk):
    for seconds, change, order in (
        (0, "add", ORDER),
        (1, "update", replace(ORDER, price_order=Decimal("1.08"))),
        (2, "update", FILLED),
        (3, "delete", FILLED),
    ):
        tell(desk, order_event(ORIGIN, stamp(desk, seconds), change, order))
    (row,) = rows(desk, Order)
    assert (row.state, row.volume_current, row.done_ms, row.is_deleted) == (4, 0, FILLED.done_ms, True)


@pytest.mark.parametrize(
    ("late", "seconds"),
    [(replace(ORDER, price_order=Decimal("1.01")), 5), (replace(FILLED, state=2), 1), (ORDER, 0)],
    ids=["an open state seen later", "the same end seen earlier", "the beginning again"],
)
def test_what_is_older_changes_no_order(desk, late, seconds):
    tell(desk, order_event(ORIGIN, stamp(desk), "add", ORDER))
    tell(desk, order_event(ORIGIN, stamp(desk, 3), "update", FILLED))
    tell(desk, order_event(ORIGIN, stamp(desk, seconds), "update", late))
    (row,) = rows(desk, Order)
    assert (row.state, row.price_order) == (4, FILLED.price_order)


def test_several_reports_of_an_order_in_one_batch(desk):
    tell(
        desk,
        order_event(ORIGIN, stamp(desk, 2), "update", FILLED),
        order_event(ORIGIN, stamp(desk, 0), "add", ORDER),
        order_event(ORIGIN, stamp(desk, 1), "update", replace(ORDER, price_order=Decimal(2))),
    )
    assert [(row.state, row.price_order) for row in rows(desk, Order)] == [(4, FILLED.price_order)]


@pytest.mark.parametrize(("utc_hour", "offset_min"), [(0, 180), (1, 120)], ids=["first pass", "second pass"])
def test_the_repeated_hour_is_told_apart_in_deals_orders_and_positions(desk, utc_hour, offset_min):
    moment = datetime(2025, 10, 26, utc_hour, 30, tzinfo=UTC)
    heard = at_utc(moment)
    assert heard.server_time_ms == TWICE
    tell(
        desk,
        deal_event(ORIGIN, heard, "add", replace(DEAL, server_time_ms=TWICE)),
        order_event(ORIGIN, heard, "add", replace(ORDER, set_up_ms=TWICE, done_ms=TWICE)),
        position_event(ORIGIN, heard, "add", replace(POSITION, created_ms=TWICE, update_ms=TWICE)),
    )
    (deal,), (order,), (position,) = desk.deals(), rows(desk, Order), rows(desk, Position)
    assert (deal.server_time_ms, deal.utc_offset_min, deal.done_at) == (TWICE, offset_min, moment)
    assert (order.done_ms, order.utc_offset_min, order.done_at, order.set_up_at) == (TWICE, offset_min, moment, moment)
    assert (position.created_ms, position.utc_offset_min, position.opened_at) == (TWICE, offset_min, moment)


def test_states_of_many_logins_in_one_batch(desk):
    accounts = [desk.add_account(login) for login in (11, 12, 13)]
    tell(
        desk,
        account_event(ORIGIN, stamp(desk, 1), replace(ACCOUNT, login=11, balance=Decimal(1), group="real\\a", rights=99)),
        account_event(ORIGIN, stamp(desk, 3), replace(ACCOUNT, login=12, balance=Decimal(3))),
        account_event(ORIGIN, stamp(desk, 2), replace(ACCOUNT, login=12, balance=Decimal(2))),
        account_event(ORIGIN, stamp(desk, 1), replace(ACCOUNT, login=14, balance=Decimal(9))),
    )
    desk.session.expire_all()
    assert [account.balance for account in accounts] == [1, 3, 0]
    assert (accounts[0].group, accounts[0].rights, accounts[0].equity) == ("real\\a", 99, ACCOUNT.equity)
    assert accounts[2].state_at is None


@pytest.mark.parametrize("change", ["archived", "deleted"])
def test_a_login_that_is_archived_at_the_server_is_archived_here_and_comes_back(desk, change):
    account = desk.add_account()
    tell(desk, account_event(ORIGIN, stamp(desk, 1), ACCOUNT, change))
    desk.session.refresh(account)
    assert (account.status, account.balance) == ("archived", ACCOUNT.balance)
    tell(desk, account_event(ORIGIN, stamp(desk, 1), ACCOUNT, change))
    told = desk.events("account.archived")
    assert told == [{"login": ACCOUNT.login, "at_server": change}]
    tell(desk, account_event(ORIGIN, stamp(desk, 0), ACCOUNT, "restored"))
    desk.session.refresh(account)
    assert account.status == "archived"  # what came late is older than what we know
    tell(desk, account_event(ORIGIN, stamp(desk, 2), ACCOUNT, "restored"))
    desk.session.refresh(account)
    assert account.status == "active"


def test_a_restored_login_that_may_not_sign_in_is_disabled(desk):
    account = desk.add_account(status="archived")
    rights = DEFAULT_RIGHTS & ~UserRight.ENABLED
    tell(desk, account_event(ORIGIN, stamp(desk), replace(ACCOUNT, rights=int(rights)), "restored"))
    desk.session.refresh(account)
    assert account.status == "disabled"


def test_an_account_that_is_not_open_yet_is_left_to_its_opening(desk):
    account = desk.add_account(status="opening")
    tell(desk, account_event(ORIGIN, stamp(desk), ACCOUNT, "archived"))
    desk.session.refresh(account)
    assert account.status == "opening"


def test_a_login_that_was_wiped_is_told_of_and_stays_as_it_is(desk):
    """Also where it is deleted at once: what becomes of its deals is decided by a job."""
    account = desk.add_account()
    wiped = replace(ACCOUNT, balance=Decimal(0))
    tell(desk, account_event(ORIGIN, stamp(desk, 1), wiped, "cleaned"), account_event(ORIGIN, stamp(desk, 2), wiped, "deleted"))
    desk.session.refresh(account)
    assert (account.status, account.balance) == ("archived", 0)
    (told,) = desk.events("account.cleaned")
    assert (told["login"], told["server_id"], told["group"]) == (ACCOUNT.login, desk.server_id, ACCOUNT.group)
    assert abs(datetime.fromisoformat(told["at"]) - desk.at(1)) < timedelta(milliseconds=1)


def test_a_bridges_heartbeat_tells_the_servers_clock(desk):
    tell(desk, control_event(ORIGIN, stamp(desk, 1), "heartbeat", {"clock_offset_min": "180"}))
    assert server_state(desk).clock_offset_min == 180
    for odd in ("", "x", "-", "9999", "900"):
        tell(desk, control_event(ORIGIN, stamp(desk, 2), "heartbeat", {"clock_offset_min": odd}))
    tell(desk, control_event(ORIGIN, stamp(desk, 3), "disconnected", {"clock_offset_min": "60"}))
    assert server_state(desk).clock_offset_min == 180
    tell(desk, control_event(ORIGIN, stamp(desk, 4), "heartbeat", {"clock_offset_min": "-300"}))
    assert server_state(desk).clock_offset_min == -300
    assert server_state(desk).clock_seen_at is not None


def test_what_was_heard_of_a_server_only_moves_forward(desk):
    tell(desk, control_event(ORIGIN, stamp(desk, 5), "connected"), deal_event(ORIGIN, stamp(desk, 6), "add", DEAL))
    tell(desk, control_event(ORIGIN, stamp(desk, 1), "disconnected"), deal_event(ORIGIN, stamp(desk, 2), "add", CLOSING))
    tell(desk, control_event(ORIGIN, stamp(desk, 4), "heartbeat"))
    heard = server_state(desk)
    assert (heard.connected_at, heard.disconnected_at, heard.heartbeat_at) == (desk.at(5), desk.at(1), desk.at(5))
    assert abs(heard.event_at - desk.at(6)) < timedelta(milliseconds=1)
    assert heard.booked_at is not None


def test_sweeps_errors_and_the_clock_are_noted(desk):
    session, server_id = desk.session, desk.server_id
    state.note_error(session, server_id, "x" * 1000)
    state.note_clock(session, server_id, 180)
    assert len(server_state(desk).error) == state.ERROR_LIMIT
    assert server_state(desk).error_at is not None
    state.note_swept(session, server_id, desk.at(0), desk.at(5), 3)
    noted = server_state(desk)
    assert (noted.swept_at, noted.swept_through, noted.swept_new) == (desk.at(0), desk.at(5), 3)
    assert (noted.error, noted.error_at, noted.clock_offset_min) == ("", None, 180)


def test_a_sweep_is_ordered_once_until_it_has_begun(desk, monkeypatch):
    session, server_id = desk.session, desk.server_id
    clock = [desk.at(0)]
    monkeypatch.setattr(state, "now", lambda: clock[0])

    def gap(seconds: float) -> bool:
        clock[0] = desk.at(seconds)
        return state.note_gap(session, server_id, 2)

    assert [gap(0), gap(1), gap(2)] == [True, False, False]
    state.note_swept(session, server_id, desk.at(3), desk.at(3), 0)
    assert [gap(4), gap(5)] == [True, False]
    assert gap(5 + state.ORDERED_FOR.total_seconds() + 1)  # nobody began it
    assert server_state(desk).gaps == 12


def test_a_login_that_becomes_ours_gets_its_orders_too(desk):
    tell(
        desk,
        deal_event(ORIGIN, stamp(desk), "add", DEAL),
        order_event(ORIGIN, stamp(desk), "add", ORDER),
        position_event(ORIGIN, stamp(desk), "add", POSITION),
    )
    account = desk.add_account()
    with unit_of_work(desk.session, ACTOR) as unit:
        booking.lock_server(desk.session, desk.server_id)
        booking.adopt_login(unit, desk.server_id, DEAL.login, account.id)
    for row in (*desk.deals(), *rows(desk, Order), *rows(desk, Position)):
        assert row.trading_account_id == account.id
