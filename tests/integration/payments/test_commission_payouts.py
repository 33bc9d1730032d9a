"""Payouts of commission go on from the wallet by transfer or withdrawal, whole or not at all, whatever breaks in between."""

from __future__ import annotations

from decimal import Decimal
from functools import partial

import pytest
from sqlalchemy import select

from app.commissions import payout_runs, payouts
from app.commissions.payout_runs import Decision
from app.core.actor import Actor
from app.core.clock import now
from app.core.money import Money
from app.core.tables import Event
from app.core.uow import unit_of_work
from app.jobs import handlers
from app.ledger import chart, posting, proofs, queries
from app.ledger.proofs import causes
from app.metatrader import commands
from app.models.commissions import Settlement
from app.models.metatrader import BalanceOperation, TradingAccount
from app.models.partners import IntroducingBroker
from app.models.payments import Transfer, Withdrawal
from app.models.payouts import Payout
from app.payments import transfers, withdrawals
from app.payments.connector import Failed, Settled
from tests.integration.payments.conftest import OFFICER, OTHER_OFFICER

EARNED = Money(5_000, "USD")
SYSTEM = Actor.system("test")


class Died(Exception):
    """The process ended here."""


@pytest.fixture
def ib_id(desk) -> int:
    """The desk's client is an IB who has earned 50.00 USD."""
    with unit_of_work(desk.session, SYSTEM):
        ib = IntroducingBroker(client_id=desk.client_id, currency="USD")
        desk.session.add(ib)
        desk.session.flush()
        row = Settlement(
            ib_id=ib.id, currency="USD", accrued=Decimal(50), paid_currency="USD", converted=Decimal(50),
            carried_in=Decimal(0), amount_minor=EARNED.amount_minor, carried_out=Decimal(0), period="1",
        )  # fmt: skip
        desk.session.add(row)
        expense, owed = chart.commission_expense("USD"), chart.ib_commission(ib.id, "USD", client_id=desk.client_id)
        chart.open_accounts(desk.session, expense, owed)
        row.ledger_txn_id = posting.post(
            desk.session, key="commission-settlement:1", kind="commission_settlement", effective_at=now(), actor=SYSTEM,
            legs=[posting.debit(expense, EARNED), posting.credit(owed, EARNED)],
        )  # fmt: skip
        return ib.id


def approved(desk, ib_id: int, destination: str, amount: Money = EARNED) -> int:
    """The id of a payout that two members of staff agreed on."""
    account_id = desk.account_id if destination == "account" else None
    asked = payouts.request_payout(
        desk.session, ib_id=ib_id, amount=amount, destination=destination, trading_account_id=account_id, key="k",
        actor=desk.client,
    )  # fmt: skip
    run = payout_runs.propose_run(desk.session, until=now(), reason="November", actor=OFFICER)
    decisions = {asked.id: Decision("pay", "known")}
    payout_runs.approve_run(desk.session, run.id, decisions=decisions, actor=OTHER_OFFICER)
    return asked.id


def deliver(desk, name: str, type_: str, subject_id: int) -> None:
    """What the job of a handler does with a fact."""
    event = Event(type=type_, subject_id=subject_id, actor="system:test", payload={})
    handlers.HANDLERS[name].function(desk.session, event, desk.database.settings)
    desk.session.rollback()


pay = partial(deliver, name="pay_payout", type_="payout.approved")


def commission(desk, ib_id: int) -> queries.Balance:
    desk.session.rollback()
    return queries.balance(desk.session, chart.ib_commission(ib_id, "USD"))


def breaks(desk) -> list[str]:
    desk.session.rollback()
    found = [*proofs.prove(desk.session), causes.prove_one(desk.session)]
    return [line for proof in found for line in proof.breaks]


def finish(desk, transfer: Transfer, status: str) -> None:
    """The trading server has answered."""
    operation_id = transfer.operation_id
    with unit_of_work(desk.session, SYSTEM) as unit:
        if status == "done":
            commands.finish_operation(unit, operation_id, 777)
        else:
            operation = desk.session.get_one(BalanceOperation, operation_id)
            operation.status, operation.error = status, "no such login"
        desk.session.flush()
        desk.session.expire_all()
        transfers.follow_operation(unit, operation_id)


@pytest.mark.parametrize(("answer", "state", "wallet"), [("done", "paid", 0), ("failed", "failed", 5_000)])
def test_to_the_trading_account(desk, ib_id, answer, state, wallet):
    payout_id = approved(desk, ib_id, "account")
    pay(desk, subject_id=payout_id)
    payout = desk.session.get_one(Payout, payout_id)
    assert (payout.state, desk.wallet().held) == ("paying", EARNED)
    assert commission(desk, ib_id).posted == Money(0, "USD")

    transfer_id = payout.transfer_id
    finish(desk, desk.session.get_one(Transfer, transfer_id), answer)
    for _ in range(2):
        deliver(desk, "follow_payout", f"transfer.{answer}", transfer_id)

    payout = desk.session.get_one(Payout, payout_id)
    assert (payout.state, payout.failure) == (state, "" if state == "paid" else "no such login")
    assert desk.wallet() == queries.Balance(Money(wallet, "USD"), Money(0, "USD"))
    assert breaks(desk) == []


def test_to_the_means_of_payment_that_the_ib_paid_in_with(desk, ib_id):
    desk.settled(100_000)
    payout_id = approved(desk, ib_id, "withdrawal")
    pay(desk, subject_id=payout_id)
    withdrawal = desk.session.scalars(select(Withdrawal)).one()
    assert (withdrawal.state, withdrawal.amount, withdrawal.requested_by) == ("requested", EARNED, "system:pay_payout")

    withdrawal_id = withdrawal.id
    withdrawals.approve_withdrawal(desk.session, withdrawal_id, OFFICER)
    withdrawals.submit_payout(desk.session, desk.connector, withdrawal_id)
    desk.session.rollback()
    assert desk.session.get_one(Withdrawal, withdrawal_id).state in ("pending", "paid")
    deliver(desk, "follow_payout", "withdrawal.paid", withdrawal_id)
    assert desk.session.get_one(Payout, payout_id).state == ("paid" if withdrawal.state == "paid" else "paying")
    assert desk.wallet().posted == Money(100_000, "USD")
    assert breaks(desk) == []


def test_a_withdrawal_that_an_officer_refuses_leaves_it_in_the_wallet(desk, ib_id):
    desk.settled(100_000)
    payout_id = approved(desk, ib_id, "withdrawal")
    pay(desk, subject_id=payout_id)
    withdrawal_id = desk.session.scalars(select(Withdrawal.id)).one()
    withdrawals.reject_withdrawal(desk.session, withdrawal_id, "Ask us first", OFFICER)
    deliver(desk, "follow_payout", "withdrawal.rejected", withdrawal_id)
    payout = desk.session.get_one(Payout, payout_id)
    assert (payout.state, payout.failure) == ("failed", "Ask us first")
    assert desk.wallet().available == Money(105_000, "USD")


def test_where_nothing_can_be_refunded_it_stays_in_the_wallet(desk, ib_id):
    payout_id = approved(desk, ib_id, "withdrawal")
    pay(desk, subject_id=payout_id)
    payout = desk.session.get_one(Payout, payout_id)
    assert (payout.state, payout.withdrawal_id) == ("failed", None)
    assert payout.failure
    assert desk.wallet() == queries.Balance(EARNED, Money(0, "USD"))
    assert breaks(desk) == []


def test_an_account_that_closed_meanwhile_leaves_it_in_the_wallet(desk, ib_id):
    payout_id = approved(desk, ib_id, "account")
    desk.session.get_one(TradingAccount, desk.account_id).status = "archived"
    desk.session.commit()
    pay(desk, subject_id=payout_id)
    payout = desk.session.get_one(Payout, payout_id)
    assert (payout.state, payout.transfer_id, desk.wallet().available) == ("failed", None, EARNED)


def test_a_process_that_dies_on_the_way_leaves_nothing_half_done(desk, ib_id):
    """Between the wallet and the transfer, and between the transfer and the commit: the next run ends it whole, once."""
    payout_id = approved(desk, ib_id, "account")

    def dies(payout: Payout, key: str) -> payouts.SentOn:
        raise Died

    def dies_after(payout: Payout, key: str) -> payouts.SentOn:
        transfers.request_transfer(
            desk.session, client_id=payout.client_id, trading_account_id=desk.account_id, direction="to_account",
            amount=payout.amount, key=key, actor=SYSTEM,
        )  # fmt: skip
        raise Died

    for step in (dies, dies_after):
        with pytest.raises(Died):
            payouts.pay(desk.session, payout_id, step)
        assert commission(desk, ib_id) == queries.Balance(EARNED, EARNED)
        assert desk.session.get_one(Payout, payout_id).state == "approved"
        assert desk.session.scalars(select(Transfer)).all() == []
    for _ in range(3):
        pay(desk, subject_id=payout_id)
    assert len(desk.session.scalars(select(Transfer)).all()) == 1
    assert commission(desk, ib_id) == queries.Balance(Money(0, "USD"), Money(0, "USD"))
    assert desk.wallet() == queries.Balance(EARNED, EARNED)
    assert breaks(desk) == []


def test_what_the_provider_sends_back_later_is_in_the_wallet_after_all(desk, ib_id):
    desk.settled(100_000)
    payout_id = approved(desk, ib_id, "withdrawal")
    pay(desk, subject_id=payout_id)
    withdrawal_id = desk.session.scalars(select(Withdrawal.id)).one()
    withdrawals.approve_withdrawal(desk.session, withdrawal_id, OFFICER)
    withdrawals.submit_payout(desk.session, desk.connector, withdrawal_id)
    for outcome, event, state in (
        (Settled(EARNED), "withdrawal.paid", "paid"),
        (Failed("returned"), "withdrawal.failed", "failed"),
    ):
        with unit_of_work(desk.session, SYSTEM) as unit:
            found = desk.session.get_one(Withdrawal, withdrawal_id, with_for_update=True)
            withdrawals.apply_outcome(unit, found, outcome, None)
        deliver(desk, "follow_payout", event, withdrawal_id)
        assert desk.session.get_one(Payout, payout_id).state == state
    deliver(desk, "follow_payout", "withdrawal.paid", withdrawal_id)
    payout = desk.session.get_one(Payout, payout_id)
    assert (payout.state, bool(payout.failure)) == ("failed", True)
    assert desk.wallet().available == Money(105_000, "USD")
    assert breaks(desk) == []
