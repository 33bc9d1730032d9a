"""The IB's questions: asked from a line with its explanation, answered, closed; the own ones only."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import select

from app.commissions import accrual
from app.core.actor import Actor
from app.engagement import tickets
from app.models.commissions import Accrual
from app.models.engagement import Ticket
from app.models.metatrader import Deal
from app.partners.links import make_ib
from tests.integration.portal.partner_house import partner_house

STAFF = Actor.staff(7)
PAGE = "/portal/partner/questions"


@pytest.fixture
def house(database, client_id):
    with database.session() as session:
        yield partner_house(session, client_id)


@pytest.fixture
def line(house) -> str:
    """The page of a line of 7 dollars."""
    house.trade(house.own_account)
    return f"/portal/partner/lines/{house.session.scalars(select(Accrual.id)).one()}"


def the_ticket(database) -> Ticket:
    with database.session() as session:
        found = session.scalars(select(Ticket)).one()
        session.expunge_all()
        return found


def test_asked_from_a_line_and_answered(signed_in, database, line):
    sent = signed_in.post(line, {"text": "Why not <b>9</b>?"})
    ticket = the_ticket(database)
    assert sent.location == f"{PAGE}/{ticket.id}"
    page = signed_in.get(sent.location).text
    assert "Why not &lt;b&gt;9&lt;/b&gt;?" in page
    assert "Rate per lot" in page
    assert "7 USD" in page
    assert "Standard IB, version 1" in page
    assert "We are to answer" in signed_in.get(PAGE).text
    assert "You asked about this line." in signed_in.get(line).text
    with database.session() as session:
        tickets.answer_ticket(session, ticket.id, text="<script>1</script>\nBy the rule.", actor=STAFF)
    page = signed_in.get(sent.location).text
    assert "&lt;script&gt;1&lt;/script&gt;" in page
    assert "Answered" in page
    assert "We answered your question" in signed_in.get("/portal/").text
    assert signed_in.post(f"{sent.location}/close", page=sent.location).location == sent.location
    assert the_ticket(database).state == "closed"
    assert "Is something wrong" in signed_in.get(line).text
    assert "You asked about this line." not in signed_in.get(line).text
    assert signed_in.post(sent.location, {"text": "And yet"}).status_code == 302
    assert the_ticket(database).state == "open"


def test_the_explanation_stays_as_it_was_when_asked(signed_in, database, house, line):
    signed_in.post(line, {"text": "Why 7?"})
    before = the_ticket(database)
    deal = house.session.scalars(select(Deal)).one()
    deal.is_current = False
    house.session.flush()
    house.trade(house.own_account, "2", ticket=deal.ticket, revision=deal.revision + 1)
    accrual.accrue_deals(house.session, [deal.id])
    house.session.commit()
    amounts = [str(one.normalize()) for one in house.session.scalars(select(Accrual.amount).order_by(Accrual.id))]
    assert sorted(amounts) == sorted(["7", "14", "-7"])
    assert the_ticket(database).about == before.about
    assert before.about["amount"].startswith("7.0")
    assert "7 USD" in signed_in.get(f"{PAGE}/{before.id}").text


def test_asked_about_anything_and_what_is_wrong_is_said(signed_in, database, house):
    refused = signed_in.post(f"{PAGE}/new", {"subject": "Payout day", "text": "x" * 4001})
    assert refused.status_code == 422
    assert "4,000 characters at most" in refused.text
    assert 'value="Payout day"' in refused.text
    sent = signed_in.post(f"{PAGE}/new", {"subject": "Payout <i>day</i>", "text": "When?"})
    page = signed_in.get(sent.location).text
    assert "Payout &lt;i&gt;day&lt;/i&gt;" in page
    assert "The line as it stood" not in page
    assert (the_ticket(database).kind, the_ticket(database).about) == ("general", None)


def test_no_more_open_questions_than_the_house_allows(signed_in, database, house, line):
    for number in range(tickets.MOST_OPEN):
        assert signed_in.post(f"{PAGE}/new", {"subject": f"Number {number}", "text": "?"}).status_code == 302
    refused = signed_in.post(line, {"text": "One more"})
    assert refused.status_code == 422
    assert f"You have {tickets.MOST_OPEN} open questions." in refused.text


def test_another_ibs_lines_and_questions_are_not_there(signed_in, another, make_client, database, house, line):
    signed_in.post(line, {"text": "Mine"})
    ticket_id = the_ticket(database).id
    with database.session() as session:
        make_ib(session, make_client("omar@example.com"), "USD", STAFF)
    another.sign_in("omar@example.com")
    token = another.token(f"{PAGE}/new")
    for path in (line, f"{PAGE}/{ticket_id}", f"{PAGE}/{ticket_id}/close", f"{PAGE}/987654", f"{PAGE}/987654/close"):
        assert another.bare_post(path, {"csrf_token": token, "text": "Theirs"}).status_code == 404, path
    for path in (line, f"{PAGE}/{ticket_id}"):
        assert another.get(path).status_code == 404
    assert not re.search(rf"questions/{ticket_id}\b", another.get(PAGE).text)
    assert the_ticket(database).state == "open"


def test_a_client_who_is_no_ib_has_no_questions_page(signed_in):
    assert signed_in.get(PAGE).status_code == 404
