"""Between proposal, approval and payment things happen: whoever decides sees them, and what was not seen is not paid."""

from __future__ import annotations

import pytest
from sqlalchemy import select, update

from app.commissions import payout_runs, payouts
from app.commissions.errors import PayoutWaiting
from app.commissions.payout_runs import Decision
from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import InvalidInput
from app.core.money import Money
from app.core.tables import AuditEntry
from app.models.clients import Client
from app.models.partners import IntroducingBroker
from app.models.payouts import Payout, PayoutRun
from app.models.security import User
from tests.integration.commissions.brokerage import Brokerage
from tests.integration.commissions.earnings import FINANCE, OTHER, Earnings, nowhere


@pytest.fixture
def earnings(house: Brokerage) -> Earnings:
    return Earnings(house)


def usd(text: str) -> Money:
    return Money.parse(text, "USD")


def propose(earnings: Earnings) -> PayoutRun:
    return payout_runs.propose_run(earnings.session, until=now(), reason="November", actor=FINANCE)


def approve(earnings: Earnings, run: PayoutRun, decisions: dict[int, Decision] | None = None) -> None:
    payout_runs.approve_run(earnings.session, run.id, decisions=decisions or {}, actor=OTHER)


def ask(earnings: Earnings, ib_id: int, amount: str, key: str = "k") -> Payout:
    return payouts.request_payout(
        earnings.session, ib_id=ib_id, amount=usd(amount), destination="wallet", key=key, actor=Actor.client(1)
    )


def codes(payout: Payout) -> list[str]:
    return [one["code"] for one in payout.warnings]


def block(earnings: Earnings, ib_id: int, status: str = "blocked") -> None:
    earnings.session.execute(update(Client).where(Client.id == earnings.client_of(ib_id)).values(status=status))
    earnings.house.save()
    earnings.session.expire_all()


def test_who_is_blocked_after_the_proposal_is_not_paid_unseen(earnings: Earnings) -> None:
    ib_id = earnings.ib("1")
    run = propose(earnings)
    (payout,) = run.payouts
    assert payout.warnings == []
    block(earnings, ib_id)
    with pytest.raises(InvalidInput) as refused:
        approve(earnings, run)
    assert list(refused.value.problems) == [str(payout.id)]
    assert [one["code"] for one in payout_runs.current_warnings(earnings.session, [payout])[payout.id]] == ["not_approved"]
    approve(earnings, run, {payout.id: Decision("hold", "blocked")})
    assert (payout.state, codes(payout)) == ("held", ["not_approved"])


def test_a_warning_that_came_while_somebody_looked_is_not_passed_over(earnings: Earnings) -> None:
    """The reason was given for the warning that was shown, not for the one that came after."""
    ib_id = earnings.ib("1", documents=False)
    run = propose(earnings)
    (payout,) = run.payouts
    looked = Decision("pay", "papers seen", frozenset({"documents"}))
    block(earnings, ib_id)
    with pytest.raises(InvalidInput) as refused:
        approve(earnings, run, {payout.id: looked})
    assert refused.value.problems == {str(payout.id): payout_runs.UNSEEN}
    approve(earnings, run, {payout.id: Decision("hold", "look again", looked.seen)})
    with pytest.raises(InvalidInput):
        payout_runs.decide_held(earnings.session, payout.id, looked, actor=OTHER)
    both = Decision("pay", "known", frozenset({"documents", "not_approved"}))
    assert payout_runs.decide_held(earnings.session, payout.id, both, actor=OTHER).state == "approved"


def test_nobody_decides_about_their_own_pay(earnings: Earnings) -> None:
    """A member of staff who is an IB, too, by the mail address: another one decides."""
    ib_id, other_id = earnings.ib("1"), earnings.ib("1")
    address = earnings.session.get_one(Client, earnings.client_of(ib_id)).email
    number = earnings.house.add(
        User(id=500, first_name="Ines", last_name="Broker", username="ines", email=address.title(), active=True)
    )
    earnings.house.save()
    myself = Actor.staff(number)
    run = propose(earnings)
    mine, other = sorted(run.payouts, key=lambda one: one.ib_id != ib_id)
    with pytest.raises(InvalidInput) as refused:
        payout_runs.approve_run(earnings.session, run.id, decisions={}, actor=myself)
    assert refused.value.problems == {str(mine.id): payout_runs.OWN}
    held = {mine.id: Decision("hold", "my own")}
    payout_runs.approve_run(earnings.session, run.id, decisions=held, actor=myself)
    assert (mine.state, other.ib_id, other.state) == ("held", other_id, "approved")
    with pytest.raises(InvalidInput):
        payout_runs.decide_held(earnings.session, mine.id, Decision("pay", "now"), actor=myself)
    assert payout_runs.decide_held(earnings.session, mine.id, Decision("pay", "fine"), actor=OTHER).state == "approved"


def test_a_warning_of_the_proposal_stays_although_its_cause_is_gone(earnings: Earnings) -> None:
    ib_id = earnings.ib("1")
    block(earnings, ib_id)
    run = propose(earnings)
    (payout,) = run.payouts
    block(earnings, ib_id, "approved")
    with pytest.raises(InvalidInput):
        approve(earnings, run)
    approve(earnings, run, {payout.id: Decision("pay", "is approved again")})
    assert codes(payout) == ["not_approved"]


def test_a_debt_that_came_after_the_proposal_is_shown_at_the_approval(earnings: Earnings) -> None:
    """All 21 USD are in the run when a deal of 14 USD is taken back: nothing is left that makes up for it."""
    ib_id = earnings.ib()
    deal_id = earnings.earn(ib_id, "2")
    earnings.earn(ib_id, "1")
    run = propose(earnings)
    (payout,) = run.payouts
    earnings.lose(ib_id, deal_id)
    with pytest.raises(InvalidInput):
        approve(earnings, run)
    (told,) = payout_runs.current_warnings(earnings.session, [payout])[payout.id]
    assert told == {"code": "owes", "data": {"amount": "14.00 USD"}}


def test_a_debt_after_a_request_is_shown_when_a_run_takes_it_up(earnings: Earnings) -> None:
    ib_id = earnings.ib()
    deal_id = earnings.earn(ib_id, "2")
    ask(earnings, ib_id, "10")
    earnings.lose(ib_id, deal_id)
    (payout,) = propose(earnings).payouts
    assert payout.warnings == [{"code": "owes", "data": {"amount": "10.00 USD"}}]


def test_a_debt_that_the_rest_of_the_account_covers_is_no_warning(earnings: Earnings) -> None:
    ib_id = earnings.ib()
    deal_id = earnings.earn(ib_id, "1")
    earnings.earn(ib_id, "2")
    earnings.lose(ib_id, deal_id)
    run = propose(earnings)
    (payout,) = run.payouts
    assert (payout.amount, payout.warnings) == (usd("14.00"), [])
    approve(earnings, run)
    assert payout.state == "approved"


def test_a_debt_without_a_rate_is_told(earnings: Earnings) -> None:
    ib_id = earnings.ib()
    deal_id = earnings.earn(ib_id, "1")
    earnings.earn(ib_id, "1")
    run = propose(earnings)
    (payout,) = run.payouts
    earnings.lose(ib_id, deal_id)
    earnings.session.execute(update(IntroducingBroker).values(currency="BHD"))
    earnings.house.save()
    assert payout_runs.current_warnings(earnings.session, [payout])[payout.id] == [{"code": "no_rate", "data": {}}]


@pytest.mark.parametrize("what", ["blocked", "inactive"])
def test_who_is_stopped_after_the_approval_is_held_back(earnings: Earnings, what: str) -> None:
    ib_id = earnings.ib("1")
    run = propose(earnings)
    (payout,) = run.payouts
    approve(earnings, run)
    if what == "blocked":
        block(earnings, ib_id)
    else:
        earnings.session.execute(update(IntroducingBroker).where(IntroducingBroker.id == ib_id).values(is_active=False))
        earnings.house.save()
    assert payouts.pay(earnings.session, payout.id, nowhere) == "held"
    assert codes(payout) == [{"blocked": "not_approved", "inactive": "inactive"}[what]]
    assert (payout.decided_by, payout.decision_reason) == ("system:pay_payout", payouts.STOPPED)
    assert (earnings.wallet(ib_id), earnings.commission(ib_id)) == (usd("0"), (usd("7.00"), usd("7.00")))
    assert payouts.pay(earnings.session, payout.id, nowhere) == "held"
    payout_runs.decide_held(earnings.session, payout.id, Decision("pay", "known"), actor=OTHER)
    assert payouts.pay(earnings.session, payout.id, nowhere) == "paid"
    assert earnings.wallet(ib_id) == usd("7.00")
    assert earnings.breaks() == []


def test_an_approved_request_is_paid_before_the_next_is_asked_for(earnings: Earnings) -> None:
    ib_id = earnings.ib("3")
    asked = ask(earnings, ib_id, "10")
    run = propose(earnings)
    approve(earnings, run)
    assert asked.state == "approved"
    with pytest.raises(PayoutWaiting):
        ask(earnings, ib_id, "5", key="k2")
    payouts.pay(earnings.session, asked.id, nowhere)
    assert ask(earnings, ib_id, "5", key="k2").state == "requested"


def test_who_held_and_why_stays_in_the_audit_trail(earnings: Earnings) -> None:
    """The line itself tells the newest decision only."""
    earnings.ib("1")
    run = propose(earnings)
    (payout,) = run.payouts
    approve(earnings, run, {payout.id: Decision("hold", "papers first")})
    payout_runs.decide_held(earnings.session, payout.id, Decision("pay", "papers seen"), actor=Actor.staff(3))
    query = select(AuditEntry).where(AuditEntry.action.in_(("payout_run.approve", "payout.pay"))).order_by(AuditEntry.id)
    approved, paid = earnings.session.scalars(query)
    assert approved.after["payouts"] == {str(payout.id): {"state": "held", "reason": "papers first"}}
    assert paid.before == {"state": "held", "reason": "papers first", "decided_by": str(OTHER)}
    assert (paid.reason, payout.decision_reason) == ("papers seen", "papers seen")


def test_what_is_held_and_decided_shows_what_there_is_to_know_now(earnings: Earnings) -> None:
    ib_id = earnings.ib("1")
    run = propose(earnings)
    (payout,) = run.payouts
    approve(earnings, run, {payout.id: Decision("hold", "wait")})
    block(earnings, ib_id)
    payout_runs.decide_held(earnings.session, payout.id, Decision("pay", "known"), actor=OTHER)
    assert codes(payout) == ["not_approved"]
    assert payouts.pay(earnings.session, payout.id, nowhere) == "paid"
