"""Whose client a visitor becomes: a typed code before visits, and of the visits what the policy says."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import ProgrammingError

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import InvalidInput
from app.models.clients import Client
from app.models.partners import Attribution, IBLink
from app.partners.attribution import Attributed, attribute_visitor
from app.partners.errors import NothingToChange
from app.partners.links import create_link, make_ib
from app.partners.policy import Policy, policy_at, set_policy
from app.partners.touches import Touch

STAFF = Actor.staff(1)


@pytest.fixture
def ibs(session):
    """Three IBs by the codes of their links."""
    found = {}
    for code in ("ALPHA8", "BETA77", "GAMMA9"):
        made = make_ib(session, person(session), "USD", STAFF)
        create_link(session, made.id, "Link", STAFF, code=code)
        found[code] = made.id
    return found


def person(session) -> int:
    number = session.scalar(text("SELECT count(*) FROM client"))
    row = Client(
        email=f"visitor{number}@example.com", password_hash="x", first_name="A", last_name="B", country="AE", terms_version="1",
        terms_accepted_at=now(),
    )  # fmt: skip
    session.add(row)
    session.flush()
    return row.id


def registered(session, promo_code: str = "", **days: int) -> Attributed | None:
    at = now()
    touches = [Touch(code, at - timedelta(days=ago)) for code, ago in days.items()]
    return attribute_visitor(session, client_id=person(session), promo_code=promo_code, touches=touches, at=at)


def test_the_last_visit_counts_until_staff_say_otherwise(session, ibs):
    made = registered(session, ALPHA8=9, BETA77=2)
    assert (made.ib_id, made.source) == (ibs["BETA77"], "link")
    set_policy(session, Policy("first", 5), "campaign", STAFF)
    assert registered(session, ALPHA8=9, GAMMA9=4, BETA77=2).ib_id == ibs["GAMMA9"], "the first one lies too far back"


def test_a_typed_code_counts_before_all_visits(session, ibs):
    made = registered(session, "GAMMA9", ALPHA8=9, BETA77=2)
    assert (made.ib_id, made.source) == (ibs["GAMMA9"], "promo_code")
    row = session.scalars(select(Attribution).where(Attribution.id == made.id)).one()
    assert row.explained["promo_code"] == "GAMMA9"
    assert [code for code, _ in row.explained["touches"]] == ["ALPHA8", "BETA77"]
    assert row.explained["policy"] == {"touch": "last", "window_days": 30, "join_mode": "application"}


def test_a_link_that_cannot_count_gives_way_to_the_next(session, ibs):
    session.scalars(select(IBLink).where(IBLink.code == "BETA77")).one().is_active = False
    session.flush()
    assert registered(session, ALPHA8=9, BETA77=2).ib_id == ibs["ALPHA8"]
    assert registered(session, ALPHA8=31) is None


def test_a_policy_is_added_never_changed(session, ibs):
    with pytest.raises(InvalidInput) as refused:
        set_policy(session, Policy("middle", 0), " ", STAFF)
    assert set(refused.value.problems) == {"touch", "window_days", "reason"}
    with pytest.raises(NothingToChange):
        set_policy(session, Policy(), "no change", STAFF)
    before = now()
    set_policy(session, Policy("first", 90), "campaign", STAFF)
    assert policy_at(session) == Policy("first", 90)
    assert policy_at(session, before - timedelta(days=1)) == Policy()
    with pytest.raises(ProgrammingError, match="permission denied"):
        session.execute(text("UPDATE partner_policy SET window_days = 1"))
