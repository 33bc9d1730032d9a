"""Runs of payouts: who gets what, held while it waits, paid once, with four eyes; the books explain every cent."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from app.commissions import payables, payment_terms, payout_runs, payouts
from app.commissions.errors import AskedTwice, NothingToPay, PayoutDecided
from app.commissions.payout_runs import Decision
from app.commissions.payout_warnings import Planned
from app.core.clock import now
from app.core.errors import InvalidInput
from app.core.money import Money
from app.core.tables import AuditEntry
from app.core.uow import unit_of_work
from app.ledger import holds, proofs
from app.ledger.errors import InsufficientFunds, NotYourRequest, OwnRequest, RequestDecided
from app.models.clients import Client
from app.models.commission_flags import CommissionFlag
from app.models.ledger import Hold, Transaction
from app.models.partners import IntroducingBroker
from app.models.payouts import Payout, PayoutRun
from tests.conftest import Database
from tests.integration.commissions.brokerage import Brokerage, build
from tests.integration.commissions.earnings import FINANCE, OTHER, Earnings, nowhere, settled


@pytest.fixture
def earnings(house: Brokerage) -> Earnings:
    return Earnings(house)


def usd(text: str) -> Money:
    return Money.parse(text, "USD")


def propose(earnings: Earnings, **changes: Any) -> PayoutRun:
    wanted: dict[str, Any] = {"until": now(), "reason": "November", "actor": FINANCE}
    return payout_runs.propose_run(earnings.session, **wanted | changes)


def approve(earnings: Earnings, run: PayoutRun, decisions: dict[int, Decision] | None = None) -> PayoutRun:
    return payout_runs.approve_run(earnings.session, run.id, decisions=decisions or {}, actor=OTHER)


def only(run: PayoutRun) -> Payout:
    (payout,) = run.payouts
    return payout


def test_a_run_holds_what_is_settled_and_pays_it_into_the_wallet(earnings: Earnings) -> None:
    ib_id = earnings.ib("3")
    run = propose(earnings)
    payout = only(run)
    assert (payout.amount, payout.state, payout.warnings) == (usd("21.00"), "proposed", [])
    assert earnings.commission(ib_id) == (usd("21.00"), usd("21.00"))

    approve(earnings, run)
    assert (run.status, payout.state, earnings.wallet(ib_id)) == ("approved", "approved", usd("0"))
    assert payouts.pay(earnings.session, payout.id, nowhere) == "paid"

    assert (earnings.commission(ib_id), earnings.wallet(ib_id)) == ((usd("0"), usd("0")), usd("21.00"))
    txn = earnings.session.scalars(select(Transaction).where(Transaction.id == payout.ledger_txn_id)).one()
    assert (txn.kind, txn.idempotency_key) == ("commission_payout", f"payout:{payout.id}")
    assert earnings.breaks() == []
    for event in ("payout.proposed", "payout.approved", "payout.moved", "payout.paid"):
        (told,) = earnings.house.events(event)
        assert (told.subject_id, told.client_id) == (payout.id, earnings.client_of(ib_id))


def test_paying_again_moves_nothing(earnings: Earnings) -> None:
    ib_id = earnings.ib("1")
    run = propose(earnings)
    approve(earnings, run)
    assert [payouts.pay(earnings.session, only(run).id, nowhere) for _ in range(3)] == ["paid"] * 3
    assert earnings.wallet(ib_id) == usd("7.00")
    with pytest.raises(NothingToPay):
        propose(earnings)


def test_the_hold_has_no_end_for_the_clock_to_find(earnings: Earnings) -> None:
    earnings.ib("1")
    payout = only(propose(earnings))
    hold = earnings.session.scalars(select(Hold).where(Hold.id == payout.hold_id)).one()
    assert hold.expires_at is None
    assert payout.hold_id not in holds.due_holds(earnings.session, limit=1000)


def test_what_is_held_for_a_run_is_not_in_the_next_one(earnings: Earnings) -> None:
    ib_id = earnings.ib("2")
    propose(earnings)
    earnings.earn(ib_id, "1")
    assert only(propose(earnings)).amount == usd("7.00")
    assert earnings.commission(ib_id) == (usd("21.00"), usd("21.00"))


def test_hold_days_count_from_the_settlement(earnings: Earnings) -> None:
    ib_id = earnings.ib("2")
    earnings.terms(hold_days=10)
    preview = payout_runs.preview_run(earnings.session, now())
    assert [(one.ib_id, one.reason, one.in_hold) for one in preview.left_out] == [(ib_id, "in_hold_days", usd("14.00"))]

    settled(earnings.session, now() - timedelta(days=11))
    earnings.house.save()
    earnings.earn(ib_id, "1")
    payout = only(propose(earnings))
    assert (payout.amount, payout.figures["in_hold_minor"]) == (usd("14.00"), 700)


def test_what_was_settled_after_the_period_waits_for_the_next(earnings: Earnings) -> None:
    earnings.ib("2")
    with pytest.raises(NothingToPay):
        propose(earnings, until=now() - timedelta(days=1))


def test_less_than_the_minimum_is_left_for_later(earnings: Earnings) -> None:
    ib_id = earnings.ib("1")
    earnings.terms(min_payout_minor=1000)
    (left,) = payout_runs.preview_run(earnings.session, now()).left_out
    assert (left.reason, left.available, left.minimum) == ("below_minimum", usd("7.00"), usd("10.00"))
    earnings.earn(ib_id, "1")
    assert only(propose(earnings)).amount == usd("14.00")


def test_what_an_ib_owes_is_taken_off_and_shown(earnings: Earnings) -> None:
    ib_id = earnings.ib()
    deal_id = earnings.earn(ib_id, "1")
    earnings.earn(ib_id, "2")
    earnings.lose(ib_id, deal_id)
    payout = only(propose(earnings))
    assert (payout.amount, payout.figures["owes_minor"], payout.figures["balance_minor"]) == (usd("14.00"), 700, 2100)


def test_an_ib_below_zero_gets_nothing_and_is_shown(earnings: Earnings) -> None:
    ib_id = earnings.ib()
    deal_id = earnings.earn(ib_id, "1")
    run = propose(earnings)
    approve(earnings, run)
    payouts.pay(earnings.session, only(run).id, nowhere)
    earnings.lose(ib_id, deal_id)

    preview = payout_runs.preview_run(earnings.session, now())

    assert preview.lines == ()
    (left,) = preview.left_out
    assert (left.ib_id, left.reason, left.owes, left.available) == (ib_id, "owes", usd("7.00"), usd("0"))
    earnings.earn(ib_id, "3")
    assert payables.payable(earnings.session, ib_id, now()).available == usd("14.00")


def test_nobody_decides_their_own_run(earnings: Earnings) -> None:
    earnings.ib("1")
    run = propose(earnings)
    with pytest.raises(OwnRequest):
        payout_runs.approve_run(earnings.session, run.id, decisions={}, actor=FINANCE)
    with pytest.raises(OwnRequest):
        payout_runs.reject_run(earnings.session, run.id, reason="no", actor=FINANCE)
    with pytest.raises(NotYourRequest):
        payout_runs.withdraw_run(earnings.session, run.id, actor=OTHER)
    approve(earnings, run)
    with pytest.raises(RequestDecided):
        approve(earnings, run)
    actions = earnings.session.scalars(select(AuditEntry.action).where(AuditEntry.target == f"payout_run:{run.id}")).all()
    assert list(actions) == ["payout_run.propose", "payout_run.approve"]


@pytest.mark.parametrize("how", ["reject", "withdraw"])
def test_a_run_that_is_not_approved_gives_everything_back(earnings: Earnings, how: str) -> None:
    ib_id = earnings.ib("1")
    run = propose(earnings)
    if how == "reject":
        payout_runs.reject_run(earnings.session, run.id, reason="Wrong month", actor=OTHER)
    else:
        payout_runs.withdraw_run(earnings.session, run.id, actor=FINANCE)
    assert only(run).state == {"reject": "rejected", "withdraw": "cancelled"}[how]
    assert earnings.commission(ib_id) == (usd("7.00"), usd("0"))
    assert only(propose(earnings)).amount == usd("7.00")
    assert earnings.breaks() == []


def test_a_line_with_warnings_must_be_named_with_a_reason(earnings: Earnings) -> None:
    ib_id, plain_id = earnings.ib("1", documents=False), earnings.ib("1")
    earnings.session.execute(update(Client).where(Client.id == earnings.client_of(ib_id)).values(status="blocked"))
    earnings.session.execute(update(IntroducingBroker).where(IntroducingBroker.id == ib_id).values(is_active=False))
    earnings.house.save()
    run = propose(earnings)
    warned, plain = run.payouts
    assert [one["code"] for one in warned.warnings] == ["inactive", "not_approved", "documents"]
    assert (plain.ib_id, plain.warnings) == (plain_id, [])

    for decision in ({}, {warned.id: Decision("pay")}, {warned.id: Decision("hold", " ")}):
        with pytest.raises(InvalidInput) as refused:
            approve(earnings, run, decision)
        assert list(refused.value.problems) == [str(warned.id)]
    approve(earnings, run, {warned.id: Decision("hold", "Papers first")})
    assert (warned.state, warned.decision_reason, plain.state) == ("held", "Papers first", "approved")
    assert earnings.commission(ib_id) == (usd("7.00"), usd("7.00"))


def test_a_held_line_is_decided_later_by_somebody_else(earnings: Earnings) -> None:
    first_id, second_id = earnings.ib("1"), earnings.ib("2")
    run = propose(earnings)
    first, second = run.payouts
    approve(earnings, run, {one.id: Decision("hold", "Wait") for one in run.payouts})
    with pytest.raises(OwnRequest):
        payout_runs.decide_held(earnings.session, first.id, Decision("pay", "fine"), actor=FINANCE)
    with pytest.raises(InvalidInput):
        payout_runs.decide_held(earnings.session, first.id, Decision("pay"), actor=OTHER)
    payout_runs.decide_held(earnings.session, first.id, Decision("pay", "fine"), actor=OTHER)
    payout_runs.decide_held(earnings.session, second.id, Decision("reject", "not yet"), actor=OTHER)
    with pytest.raises(PayoutDecided):
        payout_runs.decide_held(earnings.session, second.id, Decision("pay", "changed my mind"), actor=OTHER)
    assert payouts.pay(earnings.session, first.id, nowhere) == "paid"
    assert payouts.pay(earnings.session, second.id, nowhere) == "rejected"
    assert (earnings.wallet(first_id), earnings.commission(first_id)) == (usd("7.00"), (usd("0"), usd("0")))
    assert (earnings.wallet(second_id), earnings.commission(second_id)) == (usd("0"), (usd("14.00"), usd("0")))
    assert earnings.breaks() == []


def test_a_payout_much_larger_than_the_last_ones_stands_out(earnings: Earnings) -> None:
    ib_id = earnings.ib()
    for lots in ("1", "2"):
        earnings.earn(ib_id, lots)
        run = propose(earnings)
        approve(earnings, run)
        payouts.pay(earnings.session, only(run).id, nowhere)
    earnings.earn(ib_id, "5")
    assert payout_runs.preview_run(earnings.session, now()).lines[0].warnings == [
        {"code": "growth", "data": {"times": 3, "mean": "10.50 USD"}}
    ]


def test_changed_details_stand_out_for_two_weeks(earnings: Earnings) -> None:
    ib_id = earnings.ib("1")
    with unit_of_work(earnings.session, FINANCE) as unit:
        unit.emit("client.password_changed", subject_id=1, client_id=earnings.client_of(ib_id))
    assert [one["code"] for one in only(propose(earnings)).warnings] == ["details_changed"]


def test_an_ib_asks_and_gets_just_that(earnings: Earnings) -> None:
    ib_id = earnings.ib("3")
    actor = OTHER
    wanted = {"ib_id": ib_id, "amount": usd("10.00"), "destination": "wallet", "key": "k1", "actor": actor}
    asked = payouts.request_payout(earnings.session, **wanted)
    assert payouts.request_payout(earnings.session, **wanted).id == asked.id
    assert earnings.commission(ib_id) == (usd("21.00"), usd("10.00"))

    run = propose(earnings)
    assert only(run).id == asked.id
    payout_runs.withdraw_run(earnings.session, run.id, actor=FINANCE)
    assert (asked.state, asked.run_id) == ("requested", None)
    run = propose(earnings, requests_only=True)
    approve(earnings, run)
    payouts.pay(earnings.session, asked.id, nowhere)
    assert (earnings.wallet(ib_id), earnings.commission(ib_id)) == (usd("10.00"), (usd("11.00"), usd("0")))
    assert earnings.breaks() == []


def test_a_request_is_checked_and_can_be_cancelled(earnings: Earnings) -> None:
    ib_id = earnings.ib("3")

    def ask(amount: str, **changes: Any) -> Payout:
        wanted = {"ib_id": ib_id, "amount": usd(amount), "destination": "wallet", "key": "k1", "actor": OTHER}
        return payouts.request_payout(earnings.session, **wanted | changes)

    for amount, changes, field in (
        ("21.01", {}, "amount"),
        ("0", {}, "amount"),
        ("5", {"destination": "moon"}, "destination"),
        ("5", {"destination": "account", "trading_account_id": earnings.accounts[ib_id]}, "destination"),
    ):
        with pytest.raises(InvalidInput) as refused:
            ask(amount, **changes)
        assert list(refused.value.problems) == [field]
    asked = ask("21.00")
    payouts.cancel_payout(earnings.session, ib_id=ib_id, payout_id=asked.id, actor=OTHER)
    assert (asked.state, earnings.commission(ib_id)) == ("cancelled", (usd("21.00"), usd("0")))
    with pytest.raises(PayoutDecided):
        payouts.cancel_payout(earnings.session, ib_id=ib_id, payout_id=asked.id, actor=OTHER)
    with pytest.raises(AskedTwice):  # the page of before, sent once more: the answer is not that it was asked for
        ask("21.00")
    assert ask("21.00", key="k2").state == "requested"


def test_more_than_there_is_cannot_be_held(earnings: Earnings) -> None:
    """The database is the last to refuse, whatever the figures said."""
    ib_id = earnings.ib("1")
    with pytest.raises(InsufficientFunds), unit_of_work(earnings.session, FINANCE) as unit:
        payouts.open_payout(unit, Planned(ib_id, earnings.client_of(ib_id), usd("7.01"), "wallet"), {})


def test_suspicions_that_wait_stand_out(earnings: Earnings) -> None:
    ib_id = earnings.ib("1")
    earnings.house.add(CommissionFlag(kind="self_referral", key="x", ib_id=ib_id, details={}))
    earnings.house.save()
    assert only(propose(earnings)).warnings == [{"code": "flags", "data": {"count": 1}}]


def test_terms_are_changed_with_a_reason_and_kept_in_the_audit_trail(earnings: Earnings) -> None:
    earnings.ib("1")
    plan_id = earnings.house.ids["plan"]
    wanted: dict[str, Any] = {"settle_every": "day", "hold_days": 7, "minimum": usd("50"), "reason": "new", "actor": FINANCE}
    with pytest.raises(InvalidInput) as refused:
        payment_terms.set_terms(
            earnings.session, plan_id, settle_every="never", hold_days=-1, minimum=Money(1, "EUR"), reason=" ", actor=FINANCE
        )
    assert set(refused.value.problems) == {"settle_every", "hold_days", "minimum", "reason"}
    for _ in range(2):
        assert payment_terms.set_terms(earnings.session, plan_id, **wanted).hold_days == 7
    (entry,) = earnings.session.scalars(select(AuditEntry).where(AuditEntry.action == "plan.payment_terms"))
    assert (entry.before["settle_every"], entry.after) == (
        "minutes",
        {"settle_every": "day", "hold_days": 7, "minimum_minor": 5000},
    )


def test_a_run_and_a_cancellation_at_the_same_moment_do_not_both_win(database: Database) -> None:
    """Whichever is first: a cancelled payout is in no run, and one in a run is not cancelled; its hold says the same."""
    with database.session() as session:
        earnings = Earnings(build(session))
        ib_ids = [earnings.ib("1") for _ in range(6)]
        asked = [
            payouts.request_payout(session, ib_id=ib_id, amount=usd("7"), destination="wallet", key="k", actor=OTHER).id
            for ib_id in ib_ids
        ]
    start = threading.Barrier(2)

    def cancel() -> None:
        with database.session() as session:
            start.wait()
            for ib_id, payout_id in zip(ib_ids, asked, strict=True):
                with suppress(PayoutDecided):
                    payouts.cancel_payout(session, ib_id=ib_id, payout_id=payout_id, actor=OTHER)

    def run() -> None:
        with database.session() as session:
            start.wait()
            with suppress(NothingToPay):
                payout_runs.propose_run(session, until=now(), reason="r", actor=FINANCE)

    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(cancel), pool.submit(run)]:
            done.result()
    with database.session() as session:
        found = {one.id: one for one in session.scalars(select(Payout))}
        for payout_id in asked:
            assert (found[payout_id].state == "cancelled") == (found[payout_id].run_id is None)
        assert [line for proof in proofs.prove(session) for line in proof.breaks] == []
