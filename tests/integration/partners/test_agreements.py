"""New versions of the partner agreement: whom they ask, who accepted, and what is held after the day."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from app.commissions.payout_warnings import Planned, stops, warnings
from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import InvalidInput, NotFound
from app.core.money import Money
from app.core.tables import Event
from app.models.clients import Client
from app.models.partner_joining import PartnerAcceptance
from app.models.partners import IntroducingBroker
from app.models.payouts import Payout
from app.partners import agreements, joining
from app.partners.errors import AgreementChanged, RemindedLately
from app.partners.links import make_ib
from app.partners.policy import Policy, set_policy

STAFF = Actor.staff(1)


def person(session) -> int:
    number = session.scalar(text("SELECT count(*) FROM client"))
    row = Client(
        email=f"party{number}@example.com", password_hash="x", first_name="A", last_name="B", country="AE", terms_version="1",
        terms_accepted_at=now(), status="approved",
    )  # fmt: skip
    session.add(row)
    session.flush()
    return row.id


def partner(session) -> tuple[int, int]:
    """The numbers of a client and of the IB that it is."""
    client_id = person(session)
    return client_id, make_ib(session, client_id, "USD", STAFF).id


def publish(session, version: str, days: int | None = None, *, holds: bool = False):
    accept_by = None if days is None else now().date() + timedelta(days=days)
    return agreements.publish_agreement(
        session, version, {"en": f"Text {version}"}, STAFF, accept_by=accept_by, holds_payouts=holds
    )


def accept(session, client_id: int, agreed_id: int | None) -> None:
    agreements.accept_agreement(session, client_id, agreed_id=agreed_id, actor=Actor.client(client_id, "10.1.2.3"))


def asked(session) -> list[int | None]:
    return list(session.scalars(select(Event.client_id).where(Event.type == "partner_agreement.asked").order_by(Event.id)))


def test_a_version_with_a_day_asks_every_active_ib_and_nobody_else(session):
    first, second, gone = partner(session)[0], partner(session)[0], partner(session)
    person(session)
    session.get_one(IntroducingBroker, gone[1]).is_active = False
    session.flush()
    publish(session, "1")
    assert asked(session) == []
    assert agreements.asked_of_ib(session, first) is None

    publish(session, "2", 10)

    assert asked(session) == [first, second]
    assert agreements.asked_of_ib(session, first).version == "2"
    assert agreements.asked_of_ib(session, person(session)) is None


def test_what_an_ib_accepts_stands_with_version_moment_and_address_and_for_good(session):
    client_id, _ = partner(session)
    with pytest.raises(NotFound):
        accept(session, client_id, 1)
    row = publish(session, "1", 5)
    with pytest.raises(InvalidInput):
        accept(session, client_id, None)
    accept(session, client_id, row.id)
    accept(session, client_id, row.id)

    kept = session.scalars(select(PartnerAcceptance)).one()
    assert (kept.client_id, kept.agreement.version, kept.address) == (client_id, "1", "10.1.2.3")
    assert agreements.asked_of_ib(session, client_id) is None
    with pytest.raises(NotFound):
        accept(session, person(session), row.id)
    session.commit()
    with pytest.raises(DBAPIError):
        session.execute(text("UPDATE partner_acceptance SET address = 'x'"))
    session.rollback()


def test_the_text_that_was_shown_is_the_one_that_is_accepted(session):
    client_id, _ = partner(session)
    shown = publish(session, "1", 5)
    newer = publish(session, "2")
    with pytest.raises(AgreementChanged):
        accept(session, client_id, shown.id)
    assert agreements.asked_of_ib(session, client_id).version == "1"
    accept(session, client_id, newer.id)
    assert agreements.asked_of_ib(session, client_id) is None
    (stand,) = agreements.stands(session, shown.id)
    assert (stand.accepted, stand.address) == ("2", "10.1.2.3")


def test_joining_accepts_too_and_one_who_joins_is_not_asked_again(session):
    set_policy(session, Policy(join_mode="open"), "test", STAFF)
    row = publish(session, "1", 5)
    client_id = person(session)
    joined = joining.join(
        session, client_id, currency="USD", words="", agreed_id=row.id, actor=Actor.client(client_id, "10.9.9.9")
    )
    assert joined.ib_id is not None
    assert agreements.last_acceptance(session, client_id).address == "10.9.9.9"
    assert agreements.asked_of_ib(session, client_id) is None
    assert agreements.counts(session, row.id) == (1, 0)


def test_the_office_sees_who_accepted_and_who_has_not(session):
    people = [partner(session) for _ in range(3)]
    row = publish(session, "1", 5)
    accept(session, people[1][0], row.id)
    assert agreements.counts(session, row.id) == (1, 2)
    assert [one.ib_id for one in agreements.stands(session, row.id, accepted=True)] == [people[1][1]]
    missing = agreements.stands(session, row.id, accepted=False, limit=1)
    assert [one.ib_id for one in missing] == [people[0][1]]
    following = agreements.stands(session, row.id, accepted=False, after_ib=missing[0].ib_id)
    assert [(one.ib_id, one.accepted, one.accepted_at) for one in following] == [(people[2][1], "", None)]


def test_only_who_has_not_accepted_is_reminded_and_not_twice_a_day(database):
    with database.session() as session:
        (first, _), (second, _) = partner(session), partner(session)
        row = publish(session, "1", 5)
        accept(session, first, row.id)
        with pytest.raises(RemindedLately):
            agreements.remind(session, row.id, STAFF)
        with pytest.raises(NotFound):
            agreements.remind(session, publish(session, "2").id, STAFF)
        session.commit()
        with database.owner_session() as owner:
            owner.execute(text("ALTER TABLE audit_entry DISABLE TRIGGER USER"))
            owner.execute(text("UPDATE audit_entry SET at = at - interval '25 hours'"))
            owner.execute(text("ALTER TABLE audit_entry ENABLE TRIGGER USER"))
            owner.commit()
        assert agreements.remind(session, row.id, STAFF) == 1
        assert asked(session) == [first, second, second]
        with pytest.raises(RemindedLately):
            agreements.remind(session, row.id, STAFF)


@pytest.mark.parametrize(
    ("days", "holds", "wrong"), [(-1, False, "accept_by"), (400, False, "accept_by"), (None, True, "accept_by")]
)
def test_a_day_is_asked_for_that_can_be_kept(session, days, holds, wrong):
    with pytest.raises(InvalidInput) as refused:
        publish(session, "1", days, holds=holds)
    assert set(refused.value.problems) == {wrong}


@pytest.mark.parametrize("holds", [False, True])
def test_after_the_day_payouts_are_held_only_where_the_version_says_so(session, holds):
    client_id, ib_id = partner(session)
    row = publish(session, "1", 5, holds=holds)
    planned = [Planned(ib_id, client_id, Money(100, "USD"), "wallet")]

    def told(days: int) -> list[dict]:
        (found,) = warnings(session, planned, now() + timedelta(days=days))
        return [one["data"] for one in found if one["code"] == "agreement"]

    assert told(5) == []
    assert told(6) == ([{"version": "1", "day": str(row.accept_by)}] if holds else [])
    approved = Payout(
        id=1, ib_id=ib_id, client_id=client_id, amount_minor=100, currency="USD", destination="wallet", warnings=[]
    )
    assert bool(stops(session, approved, now() + timedelta(days=6))) is holds
    accept(session, client_id, row.id)
    assert told(6) == []
