"""Deals and their revisions: what a message may change, what only the server's own answer may, and where rows lie."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import permutations

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import ProgrammingError

from app.core.uow import unit_of_work
from app.metatrader import months
from app.models.metatrader import Deal, DealHead
from app.models.trading_desk import ForeignOperation
from tests.integration.trading.desk import ACTOR, Desk
from tests.unit.metatrader.samples import DEAL

FIRST = DEAL
SECOND = replace(DEAL, profit=Decimal("120.00"), modification_flags=1)
THIRD = replace(DEAL, profit=Decimal("121.00"), modification_flags=1)
#: A wall clock of the server in each of three months, the last minutes of one among them.
WALLS = [datetime(2025, month, day, 23, 59, tzinfo=UTC) for month, day in ((1, 31), (2, 1), (5, 9))]


def stands(desk: Desk) -> list[tuple[int, Decimal, bool, bool]]:
    return [(deal.revision, deal.profit, deal.is_current, deal.is_void) for deal in desk.deals()]


def at_wall(moment: datetime, ticket: int):
    return replace(DEAL, ticket=ticket, server_time_ms=int(moment.timestamp() * 1000))


def partition_of(desk: Desk, ticket: int) -> set[str]:
    return set(desk.session.scalars(text("SELECT tableoid::regclass::text FROM deal WHERE ticket = :t"), {"t": ticket}))


def test_all_that_a_deal_says_is_kept(desk):
    account = desk.add_account()
    deal = replace(
        DEAL, comment='tab\there \\ back\r\nline \\N "', symbol="EUR\\USD.m", price=Decimal("0.00000001"), swap=Decimal("-0.00")
    )
    desk.book(desk.heard(0, deal))
    (row,) = desk.deals()
    kept = {name: getattr(row, name) for name in (column.name for column in Deal.__table__.c) if hasattr(deal, name)}
    assert kept.pop("fingerprint") == deal.fingerprint()
    assert kept == {name: getattr(deal, name) for name in kept}
    assert (row.trading_account_id, row.revision, row.is_current, row.is_void, row.is_ours) == (
        account.id,
        1,
        True,
        False,
        False,
    )
    assert (row.utc_offset_min, row.done_at, row.filed_at) == (
        120,
        datetime(2025, 11, 26, 9, 30, 0, 123000, tzinfo=UTC),
        row.done_at,
    )
    head = desk.session.scalars(select(DealHead)).one()
    assert (head.ticket, head.revision, head.fingerprint, head.filed_at) == (DEAL.ticket, 1, deal.fingerprint(), row.filed_at)


def test_numbers_with_many_zeros_are_kept(desk):
    desk.book(desk.heard(0, replace(DEAL, rate_profit=Decimal("0.0000000000"), market_bid=Decimal("1E+3"))))
    (row,) = desk.deals()
    assert (row.rate_profit, row.market_bid) == (0, 1000)


def test_an_older_message_never_overwrites_a_newer_one(desk):
    desk.book(desk.heard(20, THIRD))
    booked = desk.book(desk.heard(10, SECOND), desk.heard(0, FIRST))
    assert stands(desk) == [(1, THIRD.profit, True, False)]
    assert booked.deal_ids == []
    assert booked.disputed == {DEAL.ticket}
    assert desk.events("deal.disputed") == [{"server_id": desk.server_id, "tickets": [DEAL.ticket]}]


def test_an_older_message_never_overwrites_a_newer_answer(desk):
    desk.book(desk.heard(0, FIRST))
    desk.book(desk.answered(20, THIRD))
    desk.book(desk.heard(10, SECOND))
    assert stands(desk)[-1] == (2, THIRD.profit, True, False)


def test_an_older_answer_never_overwrites_a_newer_message(desk):
    """A sweep was on its way when the edit came."""
    desk.book(desk.heard(0, FIRST))
    desk.book(desk.heard(10, SECOND))
    booked = desk.book(desk.answered(5, FIRST))
    assert stands(desk)[-1] == (2, SECOND.profit, True, False)
    assert (booked.deal_ids, booked.disputed) == ([], set())


def test_a_message_that_repeats_changes_nothing_and_disputes_nothing(desk):
    for seconds, deal in ((0, FIRST), (10, SECOND), (0, FIRST), (10, SECOND)):
        booked = desk.book(desk.heard(seconds, deal))
    assert [row[0] for row in stands(desk)] == [1, 2]
    assert booked.disputed == set()
    assert desk.events("deal.disputed") == []


def test_old_content_that_is_told_anew_is_asked_for_and_the_answer_counts(desk):
    """A dealer took an edit back: only the server can tell that from a message that was sent again."""
    desk.book(desk.heard(0, FIRST), desk.heard(10, SECOND))
    assert desk.book(desk.heard(20, FIRST)).disputed == {DEAL.ticket}
    assert stands(desk)[-1] == (2, SECOND.profit, True, False)
    desk.book(desk.answered(30, FIRST))
    assert stands(desk)[-1] == (3, FIRST.profit, True, False)
    desk.book(desk.answered(40, FIRST))
    assert len(stands(desk)) == 3


@pytest.mark.parametrize("order", list(permutations([0, 10, 20])), ids=str)
@pytest.mark.parametrize("at_once", [True, False], ids=["one batch", "three batches"])
def test_whatever_the_order_the_newest_message_stands(desk, order, at_once):
    reports = [desk.heard(seconds, {0: FIRST, 10: SECOND, 20: THIRD}[seconds]) for seconds in order]
    for batch in [reports] if at_once else [[report] for report in reports]:
        desk.book(*batch)
    current = [row for row in stands(desk) if row[2]]
    assert [(profit, is_void) for _, profit, _, is_void in current] == [(THIRD.profit, False)]
    head = desk.session.scalars(select(DealHead)).one()
    assert (head.revision, head.fingerprint) == (len(stands(desk)), THIRD.fingerprint())


def test_a_deletion_stays_until_the_server_says_that_the_deal_is_there(desk):
    desk.book(desk.heard(0, FIRST), desk.heard(10, SECOND, deleted=True))
    assert stands(desk)[-1] == (2, SECOND.profit, True, True)
    desk.book(desk.heard(20, THIRD, deleted=True), desk.heard(5, SECOND))  # a deletion told twice, an edit before it
    assert len(stands(desk)) == 2
    desk.book(desk.answered(30, SECOND))
    assert stands(desk)[-1] == (3, SECOND.profit, True, False)


def test_money_of_others_is_noted_once_and_of_ours_never(desk):
    money = replace(DEAL, action=2, symbol="", volume=0, volume_closed=0, comment="deposit by wire", ticket=5)
    desk.book(desk.heard(0, money), desk.heard(0, DEAL))
    desk.book(desk.heard(0, money))
    noted = desk.session.scalars(select(ForeignOperation)).one()
    assert (noted.deal_ticket, noted.login, noted.amount) == (5, DEAL.login, money.result)


def test_deals_lie_in_the_month_in_which_they_were_done(desk):
    for index, wall in enumerate(WALLS):
        desk.book(desk.heard(0, at_wall(wall, index + 1)))
    # 31 January 23:59 by the server's clock is the same day by UTC, two hours earlier.
    assert [partition_of(desk, ticket) for ticket in (1, 2, 3)] == [{"deal_2025_01"}, {"deal_2025_02"}, {"deal_2025_05"}]


def test_all_revisions_of_a_ticket_lie_in_the_month_of_the_first(desk):
    january = at_wall(WALLS[0], 1)
    desk.book(desk.heard(0, january))
    desk.book(desk.heard(10, replace(january, server_time_ms=january.server_time_ms + 5 * 86_400_000)))
    desk.book(desk.heard(20, january, deleted=True))
    assert partition_of(desk, 1) == {"deal_2025_01"}
    assert [(deal.revision, deal.is_current) for deal in desk.deals()] == [(1, False), (2, False), (3, True)]


def test_a_deal_of_a_month_to_come_stays_in_the_default_partition(desk):
    ahead = datetime.now(UTC) + timedelta(days=200)
    desk.book(desk.heard(0, at_wall(ahead, 1)))
    assert partition_of(desk, 1) == {"deal_other"}


def test_tidying_moves_rows_of_the_default_partition_into_their_months(database):
    march, far = datetime(2021, 3, 5, tzinfo=UTC), datetime.now(UTC) + timedelta(days=900)
    with database.owner_session() as owner:
        owner.execute(
            text(
                "INSERT INTO mt_server (code, name, platform, url, manager_login, time_zone)"
                " VALUES ('s', 's', 'x', 'u', 1, 'EET')"
            )
        )
        for ticket, moment in ((1, march), (2, march), (3, far)):
            owner.execute(
                text(
                    "INSERT INTO deal_other (server_id, ticket, fingerprint, login, action, entry, reason, order_ticket,"
                    " position_ticket, symbol, volume, price, profit, server_time_ms, utc_offset_min, done_at, filed_at)"
                    " SELECT id, :ticket, 'x', 1, 0, 0, 0, 0, 0, '', 0, 0, 0, 0, 0, :moment, :moment FROM mt_server"
                ),
                {"ticket": ticket, "moment": moment},
            )
        owner.commit()
    with database.session() as session:
        assert months.tidy_months(session) == 1
        rows = session.execute(text("SELECT ticket, tableoid::regclass::text FROM deal ORDER BY ticket")).all()
        assert rows == [(1, "deal_2021_03"), (2, "deal_2021_03"), (3, "deal_other")]
        session.rollback()
        assert months.tidy_months(session) == 0


def test_a_reader_that_does_not_end_holds_up_no_booking(database):
    """The month's partition cannot be made meanwhile; its deals wait in the default partition for the nightly tidying."""
    with database.session() as reader, database.session() as writer:
        reader.execute(select(Deal)).all()
        with unit_of_work(writer, ACTOR):
            months.ensure_months(writer, [datetime(2019, 6, 1, tzinfo=UTC)])
        assert writer.scalar(text("SELECT to_regclass('deal_2019_06')")) is None
        reader.rollback()
        writer.rollback()
        with unit_of_work(writer, ACTOR):
            months.ensure_months(writer, [datetime(2019, 6, 1, tzinfo=UTC)])
        assert writer.scalar(text("SELECT to_regclass('deal_2019_06')")) is not None


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM deal",
        "UPDATE deal SET profit = 0",
        "UPDATE deal SET is_void = false",
        "TRUNCATE deal",
        "DELETE FROM deal_head",
        "UPDATE deal_head SET filed_at = now()",
        "DELETE FROM mt_order",
        "DELETE FROM deal_other",
        "UPDATE deal_other SET profit = 0",
    ],
)
def test_the_application_cannot_rewrite_or_remove_what_a_server_said(desk, statement):
    desk.book(desk.heard(0))
    with pytest.raises(ProgrammingError, match="permission denied"), desk.session.begin_nested():
        desk.session.execute(text(statement))


def test_a_month_that_is_made_later_is_guarded_too(desk):
    desk.book(desk.heard(0, at_wall(WALLS[2], 1)))
    with pytest.raises(ProgrammingError, match="permission denied"), desk.session.begin_nested():
        desk.session.execute(text("DELETE FROM deal_2025_05"))
