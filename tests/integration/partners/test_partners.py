"""IBs, their links, and whose client a registration becomes."""

from __future__ import annotations

import itertools
import logging
import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import InvalidInput, NotFound
from app.core.money import InvalidMoney
from app.core.tables import AuditEntry, Event
from app.models.clients import Client
from app.models.partners import Attribution, IBLink, IBLinkDay, IntroducingBroker
from app.partners import links
from app.partners.attribution import attribute_client, clients_of, ib_of
from app.partners.errors import AlreadyIB, InvalidLink, LinkCodeTaken, TooManyLinks

STAFF = Actor.staff(1, "10.0.0.1")
NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
_numbers = itertools.count(1)


def client(session: Session, first: str = "Amira", last: str = "Haddad", **values: object) -> int:
    row = Client(
        email=f"partner{next(_numbers)}@example.com",
        password_hash="x",
        first_name=first,
        last_name=last,
        country="AE",
        terms_version="1",
        terms_accepted_at=NOON,
        **values,
    )
    session.add(row)
    session.flush()
    return row.id


def ib_with_link(session: Session) -> tuple[links.IB, links.Link]:
    ib = links.make_ib(session, client(session, "Ines", "Broker"), "USD", STAFF)
    return ib, links.create_link(session, ib.id, "Website", STAFF)


def attribute(session: Session, client_id: int, code: str, at: datetime = NOON):
    return attribute_client(session, client_id=client_id, link_code=code, at=at, source="link")


def test_a_client_becomes_an_ib_once(session: Session) -> None:
    client_id = client(session)

    made = links.make_ib(session, client_id, "EUR", STAFF)

    assert links.ib_by_client(session, client_id) == made == links.IB(made.id, client_id, "EUR", True)
    assert session.scalar(select(AuditEntry.after).where(AuditEntry.action == "ib.created")) == {
        "client_id": client_id,
        "currency": "EUR",
        "is_active": True,
    }
    with pytest.raises(AlreadyIB):
        links.make_ib(session, client_id, "EUR", STAFF)


def test_not_everybody_can_be_an_ib(session: Session) -> None:
    with pytest.raises(NotFound):
        links.make_ib(session, 10**9, "EUR", STAFF)
    with pytest.raises(InvalidMoney):
        links.make_ib(session, client(session), "ZZZ", STAFF)
    with pytest.raises(InvalidInput):
        links.make_ib(session, client(session, status="blocked"), "EUR", STAFF)
    assert links.ib_by_client(session, client(session)) is None


def test_links_have_codes_that_are_read_in_any_case(session: Session) -> None:
    ib, drawn = ib_with_link(session)
    chosen = links.create_link(session, ib.id, "  Summer   fair ", STAFF, code="summer-26")

    assert len(drawn.code) == 8
    assert (chosen.code, chosen.name) == ("SUMMER-26", "Summer fair")
    assert links.resolve_link(session, " Summer-26 ") == chosen
    assert links.links_of(session, ib.id) == [drawn, chosen]
    with pytest.raises(LinkCodeTaken):
        links.create_link(session, ib.id, "", STAFF, code="SUMMER-26")


@pytest.mark.parametrize(
    ("name", "code", "marked"),
    [("x" * 61, None, {"name"}), ("a\x00b", None, {"name"}), ("", "abc", {"code"}), ("x" * 61, "no spaces", {"name", "code"})],
)
def test_wrong_links_are_refused(session: Session, name: str, code: str | None, marked: set[str]) -> None:
    ib, _ = ib_with_link(session)

    with pytest.raises(InvalidLink) as refused:
        links.create_link(session, ib.id, name, STAFF, code=code)
    assert set(refused.value.problems) == marked


def test_links_are_for_active_ibs_and_not_without_end(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "MAX_LINKS", 2)
    ib, _ = ib_with_link(session)
    links.create_link(session, ib.id, "", STAFF)

    with pytest.raises(TooManyLinks):
        links.create_link(session, ib.id, "", STAFF)
    with pytest.raises(NotFound):
        links.create_link(session, 10**9, "", STAFF)


@pytest.mark.parametrize("code", ["", "NOSUCH", "x" * 500, "'; DROP TABLE ib_link", "\x00\x00\x00\x00", "١٢٣٤٥٦٧٨"])
def test_codes_nobody_gave_out_are_nobody_s(session: Session, code: str) -> None:
    assert links.resolve_link(session, code) is None
    assert links.count_visit(session, code) is False
    assert attribute(session, client(session), code) is None


def test_visits_are_counted(session: Session) -> None:
    _, link = ib_with_link(session)

    assert links.count_visit(session, link.code)
    assert links.count_visit(session, link.code.lower())

    assert session.scalar(select(IBLink.visits).where(IBLink.id == link.id)) == 2
    kept = session.execute(select(IBLinkDay.day, IBLinkDay.visits).where(IBLinkDay.link_id == link.id)).all()
    assert [tuple(row) for row in kept] == [(now().date(), 2)]


def test_who_registers_through_a_link_is_the_ib_s(session: Session) -> None:
    ib, link = ib_with_link(session)
    client_id = client(session)

    made = attribute(session, client_id, link.code.lower())

    assert made is not None
    assert (made.client_id, made.ib_id, made.link_id, made.valid_from) == (client_id, ib.id, link.id, NOON)
    assert ib_of(session, client_id, NOON) == made
    assert ib_of(session, client_id, NOON - timedelta(seconds=1)) is None
    event = session.scalars(select(Event).where(Event.type == "client.attributed")).one()
    assert (event.client_id, event.subject_id, event.payload["ib_id"]) == (client_id, made.id, ib.id)


def test_attribution_happens_once(session: Session) -> None:
    (ib, first), (_, second) = ib_with_link(session), ib_with_link(session)
    client_id = client(session)

    attribute(session, client_id, first.code)

    assert attribute(session, client_id, second.code, NOON + timedelta(days=1)) is None
    assert attribute(session, client_id, first.code) is None
    session.execute(update(Attribution).where(Attribution.client_id == client_id).values(valid_to=NOON + timedelta(days=2)))
    assert attribute(session, client_id, second.code, NOON + timedelta(days=3)) is None
    assert [found.client_id for found in clients_of(session, ib.id)] == [client_id]


def test_what_is_ignored_is_logged_without_names(session: Session, caplog: pytest.LogCaptureFixture) -> None:
    ib, link = ib_with_link(session)
    switched_off = links.create_link(session, ib.id, "old", STAFF)
    session.execute(update(IBLink).where(IBLink.id == switched_off.id).values(is_active=False))
    client_id = client(session)

    with caplog.at_level(logging.INFO, "lotwise.partners"):
        attribute(session, client_id, "NOSUCH")
        attribute(session, client_id, switched_off.code)
        attribute(session, ib.client_id, link.code)
        attribute(session, 10**9, link.code)
        session.execute(update(IntroducingBroker).where(IntroducingBroker.id == ib.id).values(is_active=False))
        session.expire_all()
        attribute(session, client_id, link.code)

    assert [message.split()[2] for message in caplog.messages] == [
        "reason=unknown_link",
        "reason=inactive_link",
        "reason=self_referral",
        "reason=unknown_client",
        "reason=inactive_link",
    ]
    assert "Amira" not in caplog.text
    assert session.scalar(select(Attribution.id)) is None


def test_ibs_do_not_stand_in_a_circle(session: Session) -> None:
    top, top_link = ib_with_link(session)
    middle, middle_link = ib_with_link(session)
    bottom, bottom_link = ib_with_link(session)
    attribute(session, middle.client_id, top_link.code)
    attribute(session, bottom.client_id, middle_link.code)

    assert attribute(session, top.client_id, bottom_link.code) is None
    assert ib_of(session, top.client_id, NOON) is None


def test_an_ib_sees_short_names_page_by_page(session: Session) -> None:
    ib, link = ib_with_link(session)
    names = [("Amira", "Haddad"), ("Jean-Luc", "d'Arc"), ("Madonna", ""), ("ليلى", "حسن")]
    for first, last in names:
        attribute(session, client(session, first, last), link.code)

    first_page = clients_of(session, ib.id, limit=3)
    second_page = clients_of(session, ib.id, before_id=first_page[-1].attribution_id, limit=3)

    assert [found.name for found in (*first_page, *second_page)] == ["ليلى ح.", "Madonna", "Jean-Luc d.", "Amira H."]


def test_two_registrations_at_once_attribute_once(database) -> None:
    with database.session() as session:
        codes = [ib_with_link(session)[1].code for _ in range(2)]
        client_id = client(session)
        session.commit()
    made = []
    start = threading.Barrier(4)

    def register(code: str) -> None:
        with database.session() as own:
            start.wait(20)
            made.append(attribute(own, client_id, code))

    workers = [threading.Thread(target=register, args=(codes[number % 2],)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)

    assert len([found for found in made if found]) == 1
    assert len(made) == 4
