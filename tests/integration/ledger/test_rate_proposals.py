"""Manual rates: one proposes, another decides, and the table itself refuses one person doing both."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from threading import Barrier

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from app.core.actor import Actor
from app.core.errors import InvalidInput, NotFound
from app.core.tables import AuditEntry, Event
from app.ledger import errors, rates
from app.ledger.proposals import approve_rate, propose_rate, reject_rate, withdraw_rate
from app.models.fx import FXRate, FXRateProposal
from tests.integration.ledger.market import a_rate

OLGA, OSCAR = Actor.staff(3, "10.0.0.3"), Actor.staff(4, "10.0.0.4")


def propose(session, rate="90000.50", base="BTC", quote="USD", reason="The market's price at noon", actor=OLGA):
    return propose_rate(session, base=base, quote=quote, rate=rate, reason=reason, actor=actor)


def test_a_manual_rate(session):
    proposal = propose(session)
    assert (proposal.status, proposal.proposed_by, proposal.rate) == ("proposed", "staff:3", Decimal("90000.5"))
    with pytest.raises(errors.NoRate):
        rates.rate_at(session, "BTC", "USD")
    decided = approve_rate(session, proposal.id, actor=OSCAR)
    assert (decided.status, decided.decided_by) == ("approved", "staff:4")
    found = rates.rate_at(session, "USD", "BTC")
    (used,) = found.sources
    assert (used.source, used.base, used.quote, used.rate) == ("manual", "BTC", "USD", Decimal("90000.5"))
    recorded = session.get_one(FXRate, used.id)
    assert (recorded.reference, recorded.id) == (f"proposal:{proposal.id}", decided.rate_id)
    assert recorded.observed_at == decided.decided_at


def test_it_counts_before_others(session):
    a_rate(session, "EUR/USD", "1.25")
    approve_rate(session, propose(session, "1.5", "EUR", "USD").id, actor=OSCAR)
    assert rates.rate_at(session, "EUR", "USD").rate == Decimal("1.5")
    approve_rate(session, propose(session, "1.6", "EUR", "USD").id, actor=OSCAR)
    assert rates.rate_at(session, "EUR", "USD").rate == Decimal("1.6")


def test_who_proposes_does_not_decide(session):
    proposal = propose(session)
    with pytest.raises(errors.OwnRequest, match="somebody else must decide"):
        approve_rate(session, proposal.id, actor=OLGA)
    proposal = propose(session)
    with pytest.raises(errors.OwnRequest):
        reject_rate(session, proposal.id, reason="no", actor=OLGA)
    assert session.scalars(select(FXRate)).all() == []


def test_the_table_refuses_it_too(session):
    proposal = propose(session)
    with pytest.raises(IntegrityError, match="ck_fx_rate_proposal_four_eyes"):
        session.execute(
            text(
                "UPDATE fx_rate_proposal SET status = 'approved', decided_by = proposed_by, decided_at = now() WHERE id = :id"
            ),
            {"id": proposal.id},
        )
    session.rollback()


def test_rejected_with_a_reason(session):
    proposal = propose(session)
    with pytest.raises(InvalidInput) as caught:
        reject_rate(session, proposal.id, reason="  ", actor=OSCAR)
    assert set(caught.value.problems) == {"reason"}
    decided = reject_rate(session, proposal.id, reason="Off by far", actor=OSCAR)
    assert (decided.status, decided.decision_reason, decided.rate_id) == ("rejected", "Off by far", None)
    with pytest.raises(errors.NoRate):
        rates.rate_at(session, "BTC", "USD")


def test_withdrawn_by_who_proposed_it(session):
    proposal = propose(session)
    with pytest.raises(errors.NotYourRequest):
        withdraw_rate(session, proposal.id, actor=OSCAR)
    proposal = propose(session)
    assert withdraw_rate(session, proposal.id, actor=OLGA).status == "withdrawn"


@pytest.mark.parametrize("first", ["approved", "rejected", "withdrawn"])
def test_decided_once(session, first):
    proposal = propose(session)
    {
        "approved": lambda: approve_rate(session, proposal.id, actor=OSCAR),
        "rejected": lambda: reject_rate(session, proposal.id, reason="no", actor=OSCAR),
        "withdrawn": lambda: withdraw_rate(session, proposal.id, actor=OLGA),
    }[first]()
    who = "staff:3 withdrew" if first == "withdrawn" else f"staff:4 {first}"
    for again in (
        lambda: approve_rate(session, proposal.id, actor=Actor.staff(5)),
        lambda: reject_rate(session, proposal.id, reason="no", actor=Actor.staff(5)),
        lambda: withdraw_rate(session, proposal.id, actor=OLGA),
    ):
        with pytest.raises(errors.RequestDecided, match=rf"{who} this request.*, at 20\d\d-\d\d-\d\d \d\d:\d\d UTC"):
            again()


def test_two_officers_at_once(database):
    with database.session() as session:
        number = propose(session).id
    together = Barrier(2)

    def act(officer: int) -> str:
        with database.session() as session:
            together.wait(10)
            try:
                approve_rate(session, number, actor=Actor.staff(officer))
            except errors.RequestDecided:
                return "late"
            return "approved"

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(act, (4, 5))) == ["approved", "late"]
    with database.session() as session:
        assert len(session.scalars(select(FXRate)).all()) == 1


def test_it_leaves_a_trail(session):
    proposal = propose(session)
    approve_rate(session, proposal.id, actor=OSCAR)
    trail = session.execute(
        select(AuditEntry.action, AuditEntry.actor, AuditEntry.address, AuditEntry.reason)
        .where(AuditEntry.target == f"fx_rate_proposal:{proposal.id}")
        .order_by(AuditEntry.id)
    ).all()
    assert [tuple(row) for row in trail] == [
        ("fx_rate.propose", "staff:3", "10.0.0.3", "The market's price at noon"),
        ("fx_rate.approve", "staff:4", "10.0.0.4", ""),
    ]
    events = session.execute(select(Event.type, Event.payload).where(Event.subject_id == proposal.id).order_by(Event.id)).all()
    facts = {"base": "BTC", "quote": "USD", "rate": "90000.5"}
    assert [tuple(event) for event in events] == [("fx_rate.proposed", facts), ("fx_rate.approved", facts)]


def test_unknown(session):
    for act in (
        lambda: approve_rate(session, 404, actor=OSCAR),
        lambda: reject_rate(session, 404, reason="no", actor=OSCAR),
        lambda: withdraw_rate(session, 404, actor=OSCAR),
    ):
        with pytest.raises(NotFound):
            act()


@pytest.mark.parametrize(
    ("wrong", "fields"),
    [
        ({"base": "XYZ"}, {"base"}),
        ({"quote": ""}, {"quote"}),
        ({"base": "USC"}, {"base"}),
        ({"base": "USD"}, {"quote"}),
        ({"reason": " "}, {"reason"}),
        ({"rate": "abc"}, {"rate"}),
        ({"rate": ""}, {"rate"}),
        ({"rate": "0"}, {"rate"}),
        ({"rate": "-1"}, {"rate"}),
        ({"rate": "NaN"}, {"rate"}),
        ({"rate": "1e5"}, {"rate"}),
        ({"rate": "1,000"}, {"rate"}),
        ({"rate": "1.12345678901"}, {"rate"}),
        ({"rate": "0.000001"}, {"rate"}),
        ({"rate": "10000000000"}, {"rate"}),
        ({"rate": "1" * 5000}, {"rate"}),
        ({"rate": Decimal("Infinity")}, {"rate"}),
        ({"rate": Decimal("1e300")}, {"rate"}),
        ({"rate": "x", "reason": "", "base": "x", "quote": "y"}, {"rate", "reason", "base", "quote"}),
    ],
    ids=lambda value: str(sorted(value) if isinstance(value, set) else value)[:40],
)
def test_all_that_is_wrong_is_said(session, wrong, fields):
    with pytest.raises(InvalidInput) as caught:
        propose(session, **wrong)
    assert set(caught.value.problems) == fields
    assert session.scalars(select(FXRateProposal)).all() == []


@pytest.mark.parametrize(("typed", "exact"), [(" 1.50 ", "1.5"), ("0.0001234567", "0.0001234567"), (Decimal("7E+2"), "700")])
def test_rates_as_typed(session, typed, exact):
    assert propose(session, typed).rate == Decimal(exact)
