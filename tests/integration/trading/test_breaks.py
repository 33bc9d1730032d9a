"""Breaks in the hands of people: what a repair books, when it settles a break, explanations, alerts, adjustments."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select, update

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import InvalidInput
from app.core.tables import AuditEntry, Event
from app.core.uow import unit_of_work
from app.jobs import handlers
from app.ledger import chart, requests
from app.ledger.requests import Evidence
from app.metatrader import breaks, findings, mirror, open_positions, reconcile, sync
from app.models.controls import Alert
from app.models.metatrader import Deal, Position, Server, TradingAccount
from app.models.trading_desk import ServerBreak
from tests.integration.trading.house import SYSTEM, House
from tests.integration.trading.test_reconcile import check, current, login, lose_the_stream, trade

__all__ = ["login"]

OFFICER, OTHER = Actor.staff(7), Actor.staff(8)
EVIDENCE = Evidence("key", "mail.pdf", "application/pdf")


def the_break(house: House, kind: str | None = None) -> ServerBreak:
    house.session.rollback()
    rows = select(ServerBreak).order_by(ServerBreak.id)
    return house.session.scalars(rows.where(ServerBreak.kind == kind) if kind else rows).first()


def repair(house: House, one: ServerBreak) -> ServerBreak:
    """Order the repair and let the job carry it out."""
    id_, kind = one.id, one.kind
    breaks.order_repair(house.session, id_, OFFICER)
    order = house.session.scalars(select(Event).where(Event.type == "break.repair_ordered").order_by(Event.id.desc())).first()
    house.session.expunge(order)
    house.session.rollback()
    handlers.repair_break(house.session, order, house.settings)
    return the_break(house, kind)


@pytest.fixture
def careful(monkeypatch):
    """Nothing is believed gone without a person."""
    monkeypatch.setattr(sync, "MOST_BELIEVED_GONE", 0)
    monkeypatch.setattr(open_positions, "MOST_GHOSTS", 0)


def test_a_vanished_deal_becomes_void(house, login, careful):
    gone = house.at_server(login)[-1].ticket
    house.delete(gone)
    lose_the_stream(house)
    check(house)
    repaired = repair(house, the_break(house, "deal_vanished"))
    assert (repaired.state, repaired.closed_by, repaired.repair["booked"]) == ("repaired", "staff:7", 1)
    assert current(house, gone).is_void
    actions = house.session.scalars(select(AuditEntry.action).where(AuditEntry.target == f"mt_break:{repaired.id}")).all()
    assert actions == ["mt_break.repair", "mt_break.repaired"]
    mirror.mirror_deals(house.session)
    house.prove()


def test_a_repair_that_settles_nothing_leaves_the_break_open(house, login, careful):
    """The deal is back at the server by the time: there is nothing to void, and the difference is none."""
    deal = house.at_server(login)[-1]
    house.delete(deal.ticket)
    lose_the_stream(house)
    check(house)
    house.faults("retcode", path="deal/get", code=8)
    failed = repair(house, the_break(house, "deal_vanished"))
    assert (failed.state, failed.repair["error"].partition(":")[0]) == ("open", "AccessDenied")
    house.simulator.store.add_deal(deal)
    assert repair(house, failed).state == "repaired"
    assert not current(house, deal.ticket).is_void


def test_a_day_of_a_login_becomes_the_servers(house, login, careful, monkeypatch):
    monkeypatch.setattr(reconcile, "BREAKS_PER_LOGIN", 1)
    before = len(house.at_server(login))
    gone = [deal.ticket for _ in range(2) for deal in trade(house, login, move_points=30)]
    house.drain()
    for ticket in gone:
        house.delete(ticket)
    lose_the_stream(house)
    check(house)
    repaired = repair(house, the_break(house, "deal_count"))
    assert (repaired.state, repaired.repair["booked"]) == ("repaired", 4)
    void = house.session.scalars(select(Deal.ticket).where(Deal.is_current, Deal.is_void)).all()
    assert (sorted(void), house.count(Deal, Deal.is_current, Deal.is_void.is_(False))) == (gone, before)


def test_a_ghost_position_goes(house, login, careful):
    opened = trade(house, login, close=False)[0]
    house.drain()
    house.delete(house.simulator.exchange.close(opened.position_ticket).ticket)  # or its deals would show that it is closed
    lose_the_stream(house)
    check(house)
    assert repair(house, the_break(house, "ghost_position")).state == "repaired"
    assert house.count(Position) == 0


def test_a_login_in_the_servers_archive_is_archived_here(house, login):
    mine = house.add_account()
    house.simulator.exchange.archive(mine.login)
    lose_the_stream(house)
    check(house)
    assert repair(house, the_break(house, "login_vanished")).state == "repaired"
    house.session.rollback()
    assert house.session.get_one(TradingAccount, mine.id).status == "archived"
    assert check(house).breaks == 0


def test_a_balance_that_booking_and_mirroring_settle(house, login, monkeypatch):
    trade(house, login, move_points=80)
    lose_the_stream(house)
    with unit_of_work(house.session, SYSTEM):
        house.session.add(
            ServerBreak(server_id=house.server_id, kind="balance", subject=str(login), login=login, repair={"difference": "1"})
        )
    repaired = repair(house, the_break(house))
    assert (repaired.state, repaired.repair["booked"] >= 1) == ("repaired", True)
    assert house.mirrored(login).decimal == house.simulator.exchange.state(login).balance


def tampered(house: House, login: int, by: int) -> ServerBreak:
    mirror.mirror_deals(house.session)
    store = house.simulator.store
    with store.transaction():
        account = store.account(login)
        account.balance += by
        store.save_account(account)
    check(house)
    return the_break(house, "balance")


@pytest.mark.parametrize("by", [1_234, -1_234])
def test_a_tampered_balance_needs_two_people(house, login, by):
    one = tampered(house, login, by)
    id_ = one.id
    assert repair(house, one).repair["error"] == "still_there"
    request = breaks.propose_adjustment(
        house.session, id_, account="", reason="The dealer says so.", evidence=EVIDENCE, actor=OFFICER
    )
    assert house.mirrored(login).amount_minor == house.simulator.exchange.state(login).balance * 100 - by
    requests.approve(house.session, request.request_id, OTHER)
    assert house.mirrored(login).decimal == house.simulator.exchange.state(login).balance
    assert house.ledger(chart.suspense("mt-sim", "USD")).amount_minor == 100 * -5_000 - by
    check(house)
    closed = the_break(house, "balance")
    assert (closed.id, closed.state, closed.repair["request_id"]) == (id_, "gone", request.request_id)
    house.prove()


def test_an_adjustment_is_proposed_once(house, login):
    one = tampered(house, login, 500)
    first, second = (
        breaks.propose_adjustment(house.session, one.id, account="", reason="Why.", evidence=EVIDENCE, actor=OFFICER)
        for _ in range(2)
    )
    assert first.request_id == second.request_id


def test_an_explanation_needs_words_and_an_open_break(house, login):
    one = tampered(house, login, 500)
    id_ = one.id
    with pytest.raises(InvalidInput):
        breaks.explain(house.session, id_, "  ", OFFICER)
    breaks.explain(house.session, id_, "Known to the\n dealing desk", OFFICER)
    closed = the_break(house)
    assert (closed.state, closed.note, closed.closed_by) == ("explained", "Known to the dealing desk", "staff:7")
    with pytest.raises(breaks.BreakClosed):
        breaks.explain(house.session, id_, "again", OFFICER)
    assert check(house).breaks == 0


def test_what_cannot_be_repaired_and_what_is_under_way(house, login, careful):
    with unit_of_work(house.session, SYSTEM):
        house.session.add(ServerBreak(server_id=house.server_id, kind="unknown_login", subject="5", login=5))
    with pytest.raises(breaks.NotRepairable):
        breaks.order_repair(house.session, the_break(house).id, OFFICER)
    house.delete(house.at_server(login)[-1].ticket)
    lose_the_stream(house)
    check(house)
    id_ = the_break(house, "deal_vanished").id
    breaks.order_repair(house.session, id_, OFFICER)
    with pytest.raises(breaks.RepairUnderWay):
        breaks.order_repair(house.session, id_, OTHER)


def test_old_breaks_are_told(house, login):
    tampered(house, login, 500)
    breaks.watch(house.session)
    assert house.count(Alert) == 0
    house.session.execute(update(ServerBreak).values(found_at=now() - timedelta(hours=5)))
    house.session.commit()
    breaks.watch(house.session)
    assert house.count(Alert) == 0
    with unit_of_work(house.session, SYSTEM):
        house.session.get_one(Server, house.server_id).options = {"break_alert_hours": 4}
    breaks.watch(house.session)
    alert = house.session.scalars(select(Alert)).one()
    assert (alert.code, alert.subject, alert.data, alert.closed_at) == ("server.breaks", "sim", {"breaks": 1}, None)
    breaks.explain(house.session, the_break(house).id, "fine", OFFICER)
    breaks.watch(house.session)
    house.session.rollback()
    assert house.session.scalars(select(Alert.closed_at)).one() is not None


def test_a_doubtful_report_is_settled_by_asking(house, login):
    """Old content that is told late, of a deal that has changed since: the server's word holds."""
    closed = house.at_server(login)[-1]
    house.edit(closed.ticket, profit=Decimal(7))
    lose_the_stream(house)
    event = Event(type="deal.disputed", payload={"server_id": house.server_id, "tickets": [closed.ticket]})
    handlers.refetch_deals(house.session, event, house.settings)
    assert (current(house, closed.ticket).profit, current(house, closed.ticket).revision) == (7, 2)
    house.delete(closed.ticket)
    lose_the_stream(house)
    handlers.refetch_deals(house.session, event, house.settings)
    assert current(house, closed.ticket).is_void


def test_a_repair_that_died_may_be_ordered_again(house, login, careful):
    house.delete(house.at_server(login)[-1].ticket)
    lose_the_stream(house)
    check(house)
    one = the_break(house, "deal_vanished")
    breaks.order_repair(house.session, one.id, OFFICER)
    with pytest.raises(breaks.RepairUnderWay):
        breaks.order_repair(house.session, one.id, OTHER)
    with unit_of_work(house.session, SYSTEM):
        row = house.session.get_one(ServerBreak, one.id)
        row.repair = {**row.repair, "ordered_at": (now() - breaks.UNDER_WAY_FOR).isoformat()}
    assert repair(house, one).state == "repaired"


def test_what_a_repair_made_is_told_also_where_a_check_closed_the_break_meanwhile(house, login, careful, monkeypatch):
    gone = house.at_server(login)[-1].ticket
    house.delete(gone)
    lose_the_stream(house)
    check(house)
    one, settled = the_break(house, "deal_vanished"), reconcile.is_settled
    id_ = one.id

    def closed_meanwhile(*arguments, **named):
        with house.database.session() as session, unit_of_work(session, SYSTEM) as unit:
            findings.close(unit, [id_])
        return settled(*arguments, **named)

    monkeypatch.setattr(reconcile, "is_settled", closed_meanwhile)
    repaired = repair(house, one)
    assert (repaired.state, repaired.repair["booked"]) == ("gone", 1)
    actions = house.session.scalars(select(AuditEntry.action).where(AuditEntry.target == f"mt_break:{id_}")).all()
    assert actions == ["mt_break.repair", "mt_break.repaired"]


def test_a_day_of_a_login_that_is_out_of_sight_is_left_as_it_is(house, login, careful, monkeypatch):
    monkeypatch.setattr(reconcile, "BREAKS_PER_LOGIN", 1)
    gone = [deal.ticket for deal in trade(house, login, move_points=30)]
    house.drain()
    for ticket in gone:
        house.delete(ticket)
    lose_the_stream(house)
    check(house)
    house.simulator.exchange.archive(login)
    failed = repair(house, the_break(house, "deal_count"))
    assert (failed.state, failed.repair["error"].partition(":")[0]) == ("open", "NotKnown")
    assert not any(house.session.scalars(select(Deal.is_void)))
