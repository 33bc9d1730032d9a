"""A login whose deals the server wiped: play money is void here at once, real money is a matter for people."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from sqlalchemy import select

from app.core.clock import now
from app.core.tables import Event
from app.core.uow import unit_of_work
from app.jobs import handlers
from app.metatrader import cleaning, mirror, sync
from app.models.metatrader import Deal
from app.models.trading_desk import ServerBreak
from tests.integration.trading.house import SYSTEM, House
from tests.integration.trading.test_breaks import repair, the_break
from tests.integration.trading.test_reconcile import lose_the_stream


def opened(house: House, product: str) -> int:
    """A login with a deposit and a trade, all booked."""
    login = house.add_account(product=product).login
    house.simulator.exchange.balance_operation(login, 2, Decimal(5_000), "start")
    house.simulator.control.trade(login, "EURUSD", "buy", Decimal("0.10"), move_points=50)
    house.drain()
    return login


def followed(house: House) -> list[Event]:
    """Let the job follow what was told of wiped logins."""
    house.session.rollback()
    told = house.session.scalars(select(Event).where(Event.type == "account.cleaned").order_by(Event.id)).all()
    for event in told:
        house.session.expunge(event)
    house.session.rollback()
    for event in told:
        handlers.follow_cleaning(house.session, event, house.settings)
    return list(told)


def standing(house: House, login: int) -> list[int]:
    house.session.rollback()
    rows = select(Deal.ticket).where(Deal.login == login, Deal.is_current, Deal.is_void.is_(False)).order_by(Deal.ticket)
    return list(house.session.scalars(rows))


def test_deals_of_a_practice_login_become_void(house):
    login, other = opened(house, "demo"), opened(house, "demo")
    tickets = standing(house, login)
    assert len(tickets) == 3
    assert house.simulator.exchange.clean(login) == 3
    house.drain()
    assert standing(house, login) == tickets, "deciding that is the job's work"
    (event,) = followed(house)
    assert (event.payload["login"], event.payload["server_id"]) == (login, house.server_id)
    assert standing(house, login) == []
    assert len(standing(house, other)) == 3
    assert house.count(Deal, Deal.login == login) == 6, "void is a revision, nothing is deleted"
    told = house.session.scalars(select(Event.payload).where(Event.type == "deal.booked").order_by(Event.id.desc())).first()
    void = select(Deal.id).where(Deal.login == login, Deal.is_void)
    assert sorted(told["deal_ids"]) == sorted(house.session.scalars(void))
    assert house.count(ServerBreak) == 0


def test_told_again_it_leaves_later_deals_alone(house):
    login = opened(house, "demo")
    house.simulator.exchange.clean(login)
    house.drain()
    followed(house)
    ticket = house.simulator.exchange.balance_operation(login, 2, Decimal(100), "anew").ticket
    house.drain()
    followed(house)
    assert standing(house, login) == [ticket]


def test_a_deal_that_was_seen_after_the_wipe_is_left_to_the_servers_word(house):
    """What is told late, or out of order, is asked of the server."""
    login = opened(house, "demo")
    seen = standing(house, login)[-1]
    at = now()
    house.edit(seen, profit=Decimal("1.23"))
    house.drain()
    with unit_of_work(house.session, SYSTEM) as unit:
        cleaning.follow(unit, house.server_id, login, "", at)
    assert standing(house, login) == [seen]
    (disputed,) = house.session.scalars(select(Event.payload).where(Event.type == "deal.disputed")).all()
    assert disputed["tickets"] == [seen]


def test_a_practice_login_that_nobody_owns_is_told_by_its_group(house):
    login = house.simulator.control.users.add(
        {"Group": r"demo\forex\usd", "Leverage": "100", "PassMain": "Main1234!", "PassInvestor": "Invest1234!"}
    ).login
    house.simulator.exchange.balance_operation(login, 2, Decimal(5_000), "start")
    house.drain()
    house.simulator.exchange.clean(login)
    house.drain()
    followed(house)
    assert standing(house, login) == []


def test_a_real_login_that_was_wiped_waits_for_people(house):
    login = opened(house, "std")
    mirror.mirror_deals(house.session)
    house.simulator.exchange.clean(login)
    house.drain()
    for _ in range(2):
        followed(house)
    assert len(standing(house, login)) == 3
    row = the_break(house)
    assert (row.kind, row.subject, row.cause, row.state) == ("login_cleaned", str(login), "wiped", "open")
    assert row.here.startswith("3: 50")
    assert house.count(ServerBreak) == 1
    late = house.simulator.exchange.balance_operation(login, 2, Decimal(70), "late").ticket
    house.drain()
    repaired = repair(house, row)
    assert (repaired.state, repaired.repair["booked"]) == ("repaired", 3)
    assert standing(house, login) == [late]
    mirror.mirror_deals(house.session)
    assert house.mirrored(login).decimal == Decimal(70)
    house.prove()


def test_no_sweep_voids_what_people_have_to_look_into(house):
    login = opened(house, "std")
    tickets = standing(house, login)
    house.simulator.exchange.clean(login)
    house.drain()
    followed(house)
    swept = sync.sweep(house.session, house.platform, house.server_id, since=now() - timedelta(hours=1))
    assert swept.voided == 0
    assert standing(house, login) == tickets


def test_a_repair_changes_nothing_while_the_login_is_out_of_sight(house):
    login = opened(house, "std")
    house.simulator.exchange.clean(login)
    house.drain()
    followed(house)
    house.simulator.exchange.archive(login)
    lose_the_stream(house)
    failed = repair(house, the_break(house, "login_cleaned"))
    assert (failed.state, failed.repair["error"].partition(":")[0]) == ("open", "NotKnown")
    assert len(standing(house, login)) == 3
