"""Withdrawals: reserved, decided once, paid once, and the way back when the provider refuses."""

from __future__ import annotations

import threading
import time
import uuid

import pytest
from sqlalchemy import func, select

from app.core.actor import Actor
from app.core.errors import NotFound
from app.core.money import Money
from app.core.uow import unit_of_work
from app.ledger import chart, proofs, queries
from app.ledger.errors import InsufficientFunds
from app.models.ledger import Transaction
from app.models.payments import Deposit, Withdrawal
from app.payments import janitor, withdrawals
from app.payments.connector import Failed, Settled
from app.payments.errors import AlreadyDecided, NoPaymentToRefund, NotRefundable, ReasonMissing
from tests.integration.payments.conftest import OFFICER, OTHER_OFFICER, add_client


def ask(desk, amount_minor=30_000, key=None) -> Withdrawal:
    return withdrawals.request_withdrawal(
        desk.session,
        client_id=desk.client_id,
        amount=Money(amount_minor, "USD"),
        key=key or str(uuid.uuid4()),
        actor=desk.client,
    )


def proven(desk) -> bool:
    desk.session.rollback()
    return all(not proof.breaks for proof in proofs.prove(desk.session))


def paid_out(desk, withdrawal_id: int) -> str:
    """Ask the provider until it has decided, as the janitor does."""
    deadline = time.monotonic() + 10
    while (state := desk.session.get_one(Withdrawal, withdrawal_id, populate_existing=True).state) not in ("paid", "failed"):
        assert time.monotonic() < deadline, state
        janitor.ask_about_withdrawal(desk.session, lambda _name: desk.connector, withdrawal_id)
    return state


def test_from_request_to_paid(desk):
    deposit = desk.settled(100_000)
    withdrawal = ask(desk)
    assert desk.wallet() == queries.Balance(Money(100_000, "USD"), Money(30_000, "USD"))
    withdrawals.approve_withdrawal(desk.session, withdrawal.id, OFFICER)
    assert desk.wallet() == queries.Balance(Money(70_000, "USD"), Money(0, "USD"))
    assert queries.balance(desk.session, chart.psp_payouts("stripe", "USD")).posted == Money(30_000, "USD")
    withdrawals.submit_payout(desk.session, desk.connector, withdrawal.id)
    assert paid_out(desk, withdrawal.id) == "paid"
    assert queries.balance(desk.session, chart.psp_payouts("stripe", "USD")).posted == Money(0, "USD")
    assert desk.session.get_one(Deposit, deposit.id, populate_existing=True).state == "refunded_part"
    assert proven(desk)


def test_two_officers_at_the_same_moment(desk):
    desk.settled()
    withdrawal_id = ask(desk).id
    desk.session.commit()
    results: list[object] = []
    gate = threading.Barrier(2)

    def decide(actor: Actor) -> None:
        with desk.database.session() as session:
            gate.wait()
            try:
                results.append(withdrawals.approve_withdrawal(session, withdrawal_id, actor).state)
            except AlreadyDecided as error:
                results.append(error)

    threads = [threading.Thread(target=decide, args=(actor,)) for actor in (OFFICER, OTHER_OFFICER)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [result for result in results if isinstance(result, AlreadyDecided)]
    assert len(results) == 2
    assert len(refused) == 1
    assert "approved" in str(refused[0])
    assert desk.wallet().posted == Money(70_000, "USD")
    assert desk.session.scalar(select(func.count()).select_from(Transaction).where(Transaction.kind == "withdrawal")) == 1


def test_submitting_twice_refunds_once(desk):
    desk.settled()
    withdrawal = ask(desk)
    withdrawals.approve_withdrawal(desk.session, withdrawal.id, OFFICER)
    for _ in range(3):
        withdrawals.submit_payout(desk.session, desk.connector, withdrawal.id)
    assert paid_out(desk, withdrawal.id) == "paid"
    started = desk.connector.fetch_refund(
        withdrawals.refund_request(desk.session, desk.session.get_one(Withdrawal, withdrawal.id)), None
    )
    assert isinstance(started.outcome, Settled)
    assert desk.wallet().posted == Money(70_000, "USD")


def test_crash_between_writing_and_calling_is_found_again(desk):
    """The process died after "submitting" was committed: the janitor asks, finds nothing, and sends the equal request."""
    desk.settled()
    withdrawal = ask(desk)
    withdrawals.approve_withdrawal(desk.session, withdrawal.id, OFFICER)
    with unit_of_work(desk.session, Actor.system("test")):
        desk.session.get_one(Withdrawal, withdrawal.id).state = "submitting"
    assert paid_out(desk, withdrawal.id) == "paid"
    assert desk.wallet().posted == Money(70_000, "USD")


def test_refusal_of_the_provider_gives_the_money_back(desk):
    deposit = desk.settled()
    withdrawal = ask(desk)
    withdrawals.approve_withdrawal(desk.session, withdrawal.id, OFFICER)
    withdrawals.submit_payout(desk.session, desk.connector, withdrawal.id)
    with unit_of_work(desk.session, Actor.system("test")) as unit:
        row = withdrawals.find_for_update(desk.session, str(withdrawal.public_id))
        withdrawals.apply_outcome(unit, row, Failed("expired_or_canceled_card"), None)
    assert desk.wallet() == queries.Balance(Money(100_000, "USD"), Money(0, "USD"))
    assert desk.session.get_one(Deposit, deposit.id, populate_existing=True).refunded_minor == 0
    assert desk.session.get_one(Withdrawal, withdrawal.id).state == "failed"
    assert proven(desk)


def test_payout_that_bounces_after_it_was_paid(desk):
    desk.settled()
    withdrawal = ask(desk)
    withdrawals.approve_withdrawal(desk.session, withdrawal.id, OFFICER)
    withdrawals.submit_payout(desk.session, desk.connector, withdrawal.id)
    paid_out(desk, withdrawal.id)
    with unit_of_work(desk.session, Actor.system("test")) as unit:
        row = withdrawals.find_for_update(desk.session, str(withdrawal.public_id))
        withdrawals.apply_outcome(unit, row, Failed("lost_or_stolen_card"), None)
    assert desk.session.get_one(Withdrawal, withdrawal.id).state == "returned"
    assert desk.wallet().posted == Money(100_000, "USD")
    assert proven(desk)


def test_reject_and_cancel_free_the_money(desk):
    desk.settled()
    rejected, cancelled = ask(desk, 10_000), ask(desk, 20_000)
    with pytest.raises(ReasonMissing):
        withdrawals.reject_withdrawal(desk.session, rejected.id, "  ", OFFICER)
    withdrawals.reject_withdrawal(desk.session, rejected.id, "Please send a newer proof of address.", OFFICER)
    withdrawals.cancel_withdrawal(desk.session, client_id=desk.client_id, withdrawal_id=cancelled.id, actor=desk.client)
    assert desk.wallet() == queries.Balance(Money(100_000, "USD"), Money(0, "USD"))
    with pytest.raises(AlreadyDecided):
        withdrawals.approve_withdrawal(desk.session, cancelled.id, OFFICER)


def test_only_ones_own_can_be_cancelled(desk):
    desk.settled()
    withdrawal = ask(desk)
    stranger = add_client(desk.session, "stranger@example.com")
    with pytest.raises(NotFound):
        withdrawals.cancel_withdrawal(
            desk.session, client_id=stranger, withdrawal_id=withdrawal.id, actor=Actor.client(stranger)
        )


def test_limits_and_repeats_of_asking(desk):
    with pytest.raises(NoPaymentToRefund):
        ask(desk)
    desk.session.rollback()
    desk.settled(100_000)
    first, again = ask(desk, 60_000, key="k1"), ask(desk, 60_000, key="k1")
    assert first.id == again.id
    with pytest.raises(NotRefundable):
        ask(desk, 50_000)
    desk.session.rollback()
    assert desk.wallet().held == Money(60_000, "USD")


def test_money_on_the_trading_account_cannot_be_withdrawn(desk):
    desk.settled(100_000)
    from app.payments import transfers

    transfers.request_transfer(
        desk.session, client_id=desk.client_id, trading_account_id=desk.account_id, direction="to_account",
        amount=Money(90_000, "USD"), key="t1", actor=desk.client,
    )  # fmt: skip
    with pytest.raises(InsufficientFunds):
        ask(desk, 20_000)
