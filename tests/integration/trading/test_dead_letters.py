"""Dead letters: one per login that nobody owns, booked again once mended, or dismissed with a reason."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal

import pytest
from sqlalchemy import select

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import InvalidInput, NotFound
from app.core.tables import AuditEntry
from app.core.uow import unit_of_work
from app.metatrader import booking, dead_letters, ingest
from app.metatrader.dead_letters import AlreadyDecided, StillUnbookable
from app.metatrader.events import Stamp, account_event, deal_event, encode, order_event, position_event
from app.metatrader.stream import Entry
from app.models.metatrader import DeadLetter, Order, Position, Server
from tests.integration.trading.desk import ACTOR, ZONE, Desk
from tests.unit.metatrader.samples import ACCOUNT, DEAL, ORDER, ORIGIN, POSITION

OFFICER = Actor("staff", "7", "203.0.113.9")
STREAM = "mt:sim:0"


def stamp() -> Stamp:
    return Stamp(1, ZONE.wall_ms(now()), ZONE.offset_min(now()), now())


def raw(event, **changes: str) -> dict[bytes, bytes]:
    return {name.encode(): value.encode() for name, value in {**encode(event), **changes}.items()}


def read(desk: Desk, *entries: dict[bytes, bytes], start: int = 1) -> set[int]:
    servers = {server.code: server for server in desk.session.scalars(select(Server))}
    numbered = [Entry(STREAM, f"{number}-0", fields) for number, fields in enumerate(entries, start)]
    return ingest.book_entries(desk.session, servers, numbered)


def letters(desk: Desk) -> list[DeadLetter]:
    desk.session.expire_all()
    return list(desk.session.scalars(select(DeadLetter).order_by(DeadLetter.id)))


def deal(**changes):
    return deal_event(ORIGIN, stamp(), "add", replace(DEAL, **changes))


def test_a_login_that_nobody_owns_is_told_once_and_booked_all_the_same(desk):
    desk.add_account(login=11)
    read(desk, raw(deal(ticket=1)), raw(deal(ticket=2)), raw(deal(ticket=3, login=11)))
    read(desk, raw(deal(ticket=4)), raw(order_event(ORIGIN, stamp(), "add", ORDER)), start=10)
    (letter,) = letters(desk)
    assert (letter.server_id, letter.login, letter.reason) == (desk.server_id, DEAL.login, "unknown login")
    assert (letter.stream, letter.entry_id) == (STREAM, "1-0")
    assert json.loads(letter.fields["payload"])["Deal"] == "1"
    assert len(desk.deals()) == 4


def test_positions_orders_and_states_tell_of_an_unknown_login_too(desk):
    read(
        desk,
        raw(position_event(ORIGIN, stamp(), "add", replace(POSITION, login=1))),
        raw(order_event(ORIGIN, stamp(), "add", replace(ORDER, login=2))),
        raw(account_event(ORIGIN, stamp(), replace(ACCOUNT, login=3))),
    )
    assert [letter.login for letter in letters(desk)] == [1, 2, 3]


def test_an_owner_closes_the_letter(desk):
    read(desk, raw(deal()))
    account = desk.add_account()
    with unit_of_work(desk.session, ACTOR) as unit:
        booking.lock_server(desk.session, desk.server_id)
        booking.adopt_login(unit, desk.server_id, DEAL.login, account.id)
    (letter,) = letters(desk)
    assert (letter.replayed_at is not None, letter.decided_by) == (True, str(ACTOR))
    assert [row.trading_account_id for row in desk.deals()] == [account.id]


def test_a_login_that_was_dismissed_is_not_told_again(desk):
    read(desk, raw(deal(ticket=1)))
    dead_letters.dismiss(desk.session, letters(desk)[0].id, OFFICER, "  the broker's own account ")
    read(desk, raw(deal(ticket=2)), start=5)
    (letter,) = letters(desk)
    assert (letter.dismissed_at is not None, letter.decided_by) == (True, str(OFFICER))
    assert len(desk.deals()) == 2
    audit = desk.session.scalars(select(AuditEntry).where(AuditEntry.action == "dead_letter.dismissed")).one()
    assert (audit.target, audit.reason, audit.actor) == (
        f"mt_dead_letter:{letter.id}",
        "the broker's own account",
        str(OFFICER),
    )


def test_a_dismissal_needs_a_reason(desk):
    read(desk, raw(deal()))
    with pytest.raises(InvalidInput) as caught:
        dead_letters.dismiss(desk.session, letters(desk)[0].id, OFFICER, " ")
    assert list(caught.value.problems) == ["note"]
    assert letters(desk)[0].dismissed_at is None


@pytest.mark.parametrize(
    ("event", "field", "value", "reason"),
    [
        (deal_event, "Volume", "-1", "Volume is out of range: -1"),
        (order_event, "VolumeInitialExt", "-1", "VolumeInitialExt is out of range: -1"),
        (position_event, "VolumeExt", "x", "VolumeExt is not a whole number: 'x'"),
        (order_event, "TimeSetupMsc", "1", "TimeSetupMsc is out of range: 1"),
        (position_event, "Comment", "x" * 32, "Comment is longer than 31 characters"),
    ],
)
def test_impossible_fields_are_parked_and_the_rest_is_booked(desk, event, field, value, reason):
    desk.add_account()
    record = {deal_event: DEAL, order_event: ORDER, position_event: POSITION}[event]
    wrong = encode(event(ORIGIN, stamp(), "add", record))
    wrong["payload"] = json.dumps({**json.loads(wrong["payload"]), field: value})
    good = [
        raw(deal(ticket=99)),
        raw(order_event(ORIGIN, stamp(), "add", replace(ORDER, ticket=99))),
        raw(position_event(ORIGIN, stamp(), "add", replace(POSITION, ticket=99))),
    ]
    read(desk, *good[:1], {name.encode(): text.encode() for name, text in wrong.items()}, *good[1:])
    assert [(letter.reason, letter.server_id) for letter in letters(desk)] == [(reason, desk.server_id)]
    assert [row.ticket for row in desk.deals()] == [99]
    for table in (Order, Position):
        assert desk.session.scalars(select(table.ticket)).all() == [99]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"recv_utc": "2199-01-01T00:00:00.000000Z"}, "impossible time: recv_utc lies more than a day ahead"),
        ({"server": "other"}, "server 'other' in the stream of another"),
        ({"server": "nowhere"}, "unknown server 'nowhere'"),
    ],
)
def test_what_its_stream_may_not_carry_is_parked(desk, changes, reason):
    with unit_of_work(desk.session, ACTOR):
        desk.session.add(
            Server(code="other", name="O", platform="mt5_web", url="https://localhost", manager_login=1, time_zone="EET")
        )
    read(desk, raw(deal(), **changes))
    assert [(letter.reason, letter.server_id) for letter in letters(desk)] == [(reason, desk.server_id)]
    assert desk.deals() == []


def parked(desk: Desk, **changes: str) -> DeadLetter:
    desk.add_account()
    read(desk, raw(deal(), **changes))
    (letter,) = letters(desk)
    return letter


def test_what_was_mended_is_booked_again(desk):
    """Its server was not registered when it came."""
    letter = parked(desk, server="later")
    letter.stream = "mt:later:0"
    desk.session.commit()
    with pytest.raises(StillUnbookable, match="unknown server 'later'"):
        dead_letters.replay(desk.session, letter.id, OFFICER)
    desk.session.get_one(Server, desk.server_id).code = "later"
    desk.session.commit()
    dead_letters.replay(desk.session, letter.id, OFFICER)
    (letter,) = letters(desk)
    assert (letter.replayed_at is not None, letter.decided_by) == (True, str(OFFICER))
    assert [row.ticket for row in desk.deals()] == [DEAL.ticket]
    audit = desk.session.scalars(select(AuditEntry).where(AuditEntry.action == "dead_letter.replayed")).one()
    assert (audit.target, audit.actor) == (f"mt_dead_letter:{letter.id}", str(OFFICER))
    with pytest.raises(AlreadyDecided):
        dead_letters.replay(desk.session, letter.id, OFFICER)
    with pytest.raises(AlreadyDecided):
        dead_letters.dismiss(desk.session, letter.id, OFFICER, "again")


def test_what_fails_again_stays_with_its_reason(desk):
    letter = parked(desk, v="9")
    reason = letter.reason
    with pytest.raises(StillUnbookable, match="unknown version '9'"):
        dead_letters.replay(desk.session, letter.id, OFFICER)
    (letter,) = letters(desk)
    assert (letter.reason, letter.replayed_at, letter.decided_by) == (reason, None, "")
    assert desk.session.scalars(select(AuditEntry).where(AuditEntry.action.like("dead_letter%"))).all() == []


def test_what_the_database_refuses_again_stays(desk):
    huge = encode(deal())
    huge["payload"] = json.dumps({**json.loads(huge["payload"]), "RateProfit": "9" * 12})
    desk.add_account()
    read(desk, {name.encode(): text.encode() for name, text in huge.items()})
    with pytest.raises(StillUnbookable, match="NumericValueOutOfRange"):
        dead_letters.replay(desk.session, letters(desk)[0].id, OFFICER)
    assert letters(desk)[0].replayed_at is None


def test_bytes_that_are_no_text_stay_readable_and_unbookable(desk):
    read(desk, {**raw(deal()), b"payload": b"\xff\x00{"})
    (letter,) = letters(desk)
    assert letter.fields["payload"] == "\\xff\\x00{"
    with pytest.raises(StillUnbookable):
        dead_letters.replay(desk.session, letter.id, OFFICER)


def test_the_letter_of_a_login_closes_only_when_somebody_owns_it(desk):
    read(desk, raw(deal()))
    letter_id = letters(desk)[0].id
    with pytest.raises(StillUnbookable, match="unknown login"):
        dead_letters.replay(desk.session, letter_id, OFFICER)
    desk.add_account()
    dead_letters.replay(desk.session, letter_id, OFFICER)
    assert letters(desk)[0].replayed_at is not None
    assert len(desk.deals()) == 1


def test_a_letter_that_does_not_exist(desk):
    with pytest.raises(NotFound):
        dead_letters.replay(desk.session, 12345, OFFICER)


def test_a_replay_brings_back_nothing_that_changed_meanwhile(desk):
    edited = replace(DEAL, profit=Decimal(1), modification_flags=1)
    letter = parked(desk, v="9")
    read(desk, raw(deal_event(ORIGIN, stamp(), "update", edited)), start=7)
    letter.fields = {**letter.fields, "v": "1"}
    desk.session.commit()
    dead_letters.replay(desk.session, letter.id, OFFICER)
    assert [(row.profit, row.is_current) for row in desk.deals()] == [(1, True)]
