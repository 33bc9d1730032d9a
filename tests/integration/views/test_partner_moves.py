"""Moves of clients and IBs in the back office: found, proposed by one person, decided by another."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from html import unescape

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.commissions import publishing
from app.commissions.accrual import accrue_deals
from app.core.actor import Actor
from app.core.clock import now
from app.models.clients import Client
from app.models.partner_moves import PartnerMove
from app.models.partners import Attribution, IBParent
from app.partners.links import make_ib
from app.partners.tree import move_client, place_ib
from tests.integration.commissions.brokerage import build
from tests.integration.views.conftest import LIBRARY_WARNINGS, Browser, Office

pytestmark = LIBRARY_WARNINGS

STAFF = Actor.system("test")


@dataclass(frozen=True)
class House:
    """Two IBs, the first with a sub-IB, and a client each of the first and of nobody."""

    old: int
    new: int
    low: int
    person: int
    stranger: int


@pytest.fixture
def house(office: Office) -> House:
    with office.session() as session:

        def client(name: str) -> int:
            number = office.number()
            row = Client(
                email=f"move{number}@example.com",
                password_hash="x",
                first_name=name,
                last_name=f"Mover{number}",
                country="CY",
                terms_version="1",
                terms_accepted_at=now(),
            )
            session.add(row)
            session.commit()
            return row.id

        old, new, low = (make_ib(session, client(name), "USD", STAFF).id for name in ("Olga", "Nadia", "Lorin"))
        at = now() - timedelta(days=30)
        place_ib(session, low, old, at, "joined", STAFF)
        person, stranger = client("Amira"), client("Stella")
        move_client(session, person, old, at, "asked for it", STAFF)
        return House(old, new, low, person, stranger)


@pytest.fixture(scope="module")
def manager(office: Office) -> Browser:
    return office.browser("Partner manager")


@pytest.fixture(scope="module")
def finance(office: Office) -> Browser:
    return office.browser("Finance officer")


def traded(session: Session, house: House) -> None:
    """The person's two deals of three lots, of which the first IB gets 7 a lot; the second would get 10."""
    brokerage = build(session)
    start = now() - timedelta(days=60)
    for ib_id, rate in ((house.old, "7"), (house.new, "10")):
        plan_id = publishing.create_plan(session, f"Moves {ib_id}", "USD", STAFF)
        rules = [{"key": "fx", "component": "per_lot", "rate": rate}]
        publishing.publish_version(session, plan_id, rules, start, STAFF)
        publishing.assign_plan(session, ib_id, plan_id, start, STAFF)
    account = brokerage.account(house.person)
    deals = [brokerage.deal(account, lots, done_at=now() - timedelta(days=days)) for lots, days in (("2", 20), ("1", 1))]
    brokerage.save()
    accrue_deals(session, deals)


def words(page: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


def form(kind: str, subject: int) -> str:
    return f"/partner-moves/propose?kind={kind}&subject={subject}"


def proposed(office: Office, browser: Browser, kind: str, subject: int, target: object, **more: str) -> int:
    values = {"action": "propose", "target": str(target), "reason": "Left the country", **more}
    answer = browser.post(form(kind, subject), values)
    assert answer.status_code == 200, words(answer.text)
    with office.session() as session:
        return session.scalars(select(PartnerMove.id).order_by(PartnerMove.id.desc()).limit(1)).one()


def test_a_client_moves_with_four_eyes_and_its_page_says_so(
    office: Office, manager: Browser, finance: Browser, house: House
) -> None:
    move_id = proposed(office, manager, "client", house.person, house.new)
    address = f"/partner-moves/{move_id}"
    assert "waits for a decision" in manager.get(f"/clientview/show/{house.person}").text
    assert "You proposed this move" in manager.get(address).text
    assert "You proposed this yourself" in manager.post(f"{address}/approve", {}).text

    done = words(finance.post(f"{address}/approve", {}).text)

    assert "Approved. It counts from the moment that stands below." in done
    assert office.row(PartnerMove, move_id).status == "approved"
    page = words(manager.get(f"/clientview/show/{house.person}").text)
    assert re.search(r"Introduced by Nadia Mover\d+ ", page)
    assert re.search(rf"move {move_id} Partner manager Finance officer Left the country", page)
    assert [entry.actor for entry in office.audited("client.moved")][-1].startswith("staff:")


def test_a_client_of_nobody_is_given_to_an_ib(office: Office, manager: Browser, finance: Browser, house: House) -> None:
    assert "Give to an IB" in manager.get(f"/clientview/show/{house.stranger}").text

    move_id = proposed(office, manager, "client", house.stranger, house.new)
    finance.post(f"/partner-moves/{move_id}/approve", {})

    with office.session() as session:
        assert session.scalars(select(Attribution.ib_id).where(Attribution.client_id == house.stranger)).all() == [house.new]


def test_a_branch_and_all_clients_of_an_ib_are_moved(office: Office, manager: Browser, finance: Browser, house: House) -> None:
    page = words(manager.get(f"/ib-network/{house.old}").text)
    assert "Move with its branch" in page
    assert "Move all its clients" in page

    branch = proposed(office, manager, "ib", house.low, "nobody")
    clients = proposed(office, manager, "clients", house.old, house.new)
    for move_id in (branch, clients):
        finance.post(f"/partner-moves/{move_id}/approve", {})

    with office.session() as session:
        assert session.scalars(select(IBParent.valid_to).where(IBParent.ib_id == house.low)).one() is not None
        moved = session.scalars(select(Attribution).where(Attribution.move_id == clients)).one()
        assert (moved.client_id, moved.ib_id) == (house.person, house.new)
    assert f"move {branch} Partner manager Finance officer Left the country" in words(
        manager.get(f"/ib-network/{house.low}").text
    )
    assert "Clients moved 1" in words(manager.get(f"/partner-moves/{clients}").text)
    assert "Mover" in words(manager.get(f"/attributionview/list/?_flt_0_move_id={clients}").text)


def test_the_ib_is_found_by_the_server_and_the_chosen_one_stays(office: Office, manager: Browser, house: House) -> None:
    answer = manager.get(f"/partner-moves/targets?kind=client&subject={house.person}&q=nobodyfits&target={house.new}").text
    assert f'value="{house.new}" checked' in answer
    assert 'value="nobody"' in answer
    assert (
        f'value="{house.old}"'
        not in manager.get(f"/partner-moves/targets?kind=client&subject={house.person}&q=%23{house.old}").text
    )
    searched = manager.post(form("client", house.person), {"action": "search", "q": f"#{house.low}", "reason": "kept"})
    assert searched.status_code == 200
    assert f'value="{house.low}"' in searched.text
    assert f'value="{house.new}"' not in searched.text
    assert "kept" in searched.text


def test_what_is_to_be_moved_is_found(manager: Browser, house: House) -> None:
    page = words(manager.get(f"/partner-moves/new?q=%23{house.old}").text)
    assert "The IB with its branch All its clients" in page
    assert "Nobody fits" in manager.get("/partner-moves/new?q=qqqqzzzz").text
    assert "appear here while you type" in manager.get("/partner-moves/new").text


@pytest.mark.parametrize(
    ("kind", "subject", "values", "sentence"),
    [
        ("client", "person", {"target": ""}, "Please choose the introducing broker, or nobody."),
        ("client", "person", {"target": "12345678901234567890"}, "Please choose the introducing broker, or nobody."),
        ("client", "person", {"target": "987654321"}, "This introducing broker does not exist."),
        ("client", "person", {"target": "old"}, "This is the present place already."),
        ("client", "person", {"target": "new", "reason": " "}, "Please give a reason."),
        ("client", "person", {"target": "new", "effective_at": "someday"}, "Please give a day and a time"),
        ("client", "person", {"target": "new", "effective_at": "2199-01-01T00:00"}, "within the next year"),
        ("client", "person", {"target": "new", "effective_at": "2001-01-01T00:00"}, "before the present place began"),
        ("clients", "new", {"target": "old"}, "No client of this introducing broker can move there"),
        ("ib", "old", {"target": "low"}, "cannot stand below itself"),
    ],
)
def test_what_cannot_be_moved_is_refused_at_the_form_with_the_reason(
    office: Office, manager: Browser, house: House, kind: str, subject: str, values: dict[str, str], sentence: str
) -> None:
    named = vars(house)
    target = values["target"]
    sent = {"action": "propose", "reason": "Left the country", **values, "target": str(named.get(target, target))}

    answer = manager.post(form(kind, named[subject]), sent)

    assert answer.status_code == 422
    assert sentence in words(answer.text)
    with office.session() as session:
        waiting = select(PartnerMove.id).where(PartnerMove.status == "proposed", PartnerMove.client_id == house.person)
        assert session.scalars(waiting).all() == []


def test_a_move_is_rejected_with_a_reason_or_withdrawn(
    office: Office, manager: Browser, finance: Browser, house: House
) -> None:
    first = proposed(office, manager, "client", house.person, house.new)
    finance.post(f"/partner-moves/{first}/reject", {"reason": " "})
    assert office.row(PartnerMove, first).status == "proposed"
    finance.post(f"/partner-moves/{first}/reject", {"reason": "The IB does not agree"})
    second = proposed(office, manager, "client", house.person, house.new)
    manager.post(f"/partner-moves/{second}/withdraw", {})

    assert "The IB does not agree" in manager.get(f"/partner-moves/{first}").text
    assert [office.row(PartnerMove, number).status for number in (first, second)] == ["rejected", "withdrawn"]
    listed = words(manager.get(f"/partner-moves/?client={house.person}&state=rejected").text)
    assert "Left the country" in listed
    assert f" {second} Client" not in listed
    file = manager.get(f"/partner-moves/?client={house.person}&export=csv")
    assert file.mimetype == "text/csv"
    assert [line.split(",")[:3] for line in file.text.splitlines()[1:]] == [
        [str(number), "client", str(house.person)] for number in (second, first)
    ]


def test_moves_are_for_those_who_may(manager: Browser, finance: Browser, house: House) -> None:
    assert finance.get("/partner-moves/").status_code == 200
    assert "Propose a move" not in finance.get("/partner-moves/").text
    assert finance.get(form("client", house.person)).status_code == 403
    assert manager.get(form("client", 987654321)).status_code == 404
    assert manager.get(form("everything", house.person)).status_code == 404
    assert manager.get("/partner-moves/987654").status_code == 404


def test_who_gains_and_who_loses_stands_at_the_form_and_at_the_proposal(
    office: Office, manager: Browser, finance: Browser, house: House
) -> None:
    with office.session() as session:
        traded(session, house)
    shown = words(manager.post(form("client", house.person), {"action": "preview", "target": str(house.new)}).text)
    past = f"{now() - timedelta(days=2):%Y-%m-%dT%H:%M}"
    move_id = proposed(office, manager, "client", house.person, house.new, effective_at=past)
    page = words(finance.get(f"/partner-moves/{move_id}").text)

    for text in (shown, page):
        assert "for the last 90 days (1 client, 2 deals)" in text
        assert re.search(r"Olga Mover\d+ loses 1 21.00 USD 0.00 USD loses −21.00 USD", text)
        assert re.search(r"Nadia Mover\d+ gains 1 0.00 USD 30.00 USD gains \+30.00 USD", text)
        assert "The house pays 21.00 USD 30.00 USD more: +9.00 USD" in text
    assert "The moment lies in the past 1 deal done since then has accrued 7.00 USD already." in page
    assert "only a replay changes it" not in shown
    finance.post(f"/partner-moves/{move_id}/approve", {})
    assert "It counts from before its approval." in words(finance.get(f"/partner-moves/{move_id}").text)


def test_a_preview_is_refused_for_what_the_move_is_refused(manager: Browser, house: House) -> None:
    answer = manager.post(form("ib", house.old), {"action": "preview", "target": str(house.low)})

    assert answer.status_code == 422
    assert "cannot stand below itself" in words(answer.text)
    assert "The house pays" not in answer.text


def test_an_approved_move_that_is_ahead_is_cancelled_with_a_reason(
    office: Office, manager: Browser, finance: Browser, house: House
) -> None:
    ahead = (now() + timedelta(days=3)).strftime("%Y-%m-%dT%H:%M")
    move_id = proposed(office, manager, "client", house.person, house.new, effective_at=ahead)
    address = f"/partner-moves/{move_id}"
    finance.post(f"{address}/approve", {})
    assert "Cancel this move?" in manager.get(address).text
    assert "Please give a reason" in manager.post(f"{address}/cancel", {"reason": " "}).text

    done = words(manager.post(f"{address}/cancel", {"reason": "Stays after all"}).text)

    assert "Cancelled. Everything goes on as if it had not been approved." in done
    assert "nobody was moved by it" in done
    assert "Stays after all" in done
    assert "Cancel this move?" not in done
    assert "Cancelled" in words(manager.get("/partner-moves/?state=cancelled").text)
    assert "Stays after all" in manager.get("/partner-moves/?export=csv&state=cancelled").text
    assert f"move {move_id} " not in words(manager.get(f"/clientview/show/{house.person}").text)
