"""Everybody at once: runs, requests, settlements, payments and reversals. Money moves once, whole, or not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from itertools import pairwise

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.commissions import payables, payout_reversals, payout_runs, payout_statements, payouts
from app.commissions.accrual import accrue_deals
from app.commissions.errors import NothingToPay
from app.commissions.payout_runs import Decision
from app.commissions.settlement import settle_all
from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import AppError
from app.core.money import Money
from app.ledger import chart, proofs, queries
from app.ledger.proofs import causes
from app.models.commissions import Settlement
from app.models.payouts import Payout, PayoutRun
from tests.conftest import Database
from tests.integration.commissions.brokerage import build
from tests.integration.commissions.earnings import FINANCE, OTHER, Earnings, nowhere


def together(database: Database, *works: Callable[[Session], object]) -> list[object]:
    """All of them at the same moment, each in a session of its own; what each returned, or its refusal."""
    start = threading.Barrier(len(works))

    def one(work: Callable[[Session], object]) -> object:
        with database.session() as session:
            start.wait()
            try:
                return work(session)
            except AppError as error:
                return error

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(one, works))


def usd(text: str) -> Money:
    return Money.parse(text, "USD")


def propose(session: Session) -> int:
    return payout_runs.propose_run(session, until=now(), reason="r", actor=FINANCE).id


def approve(session: Session, run_id: int, actor: Actor = OTHER) -> str:
    return payout_runs.approve_run(session, run_id, decisions={}, actor=actor).status


def check(session: Session, ib_ids: list[int]) -> None:
    """Settled = on the commission account + in the wallet; held is what waits; and the books are in order."""
    for ib_id in ib_ids:
        account = queries.balance(session, chart.ib_commission(ib_id, "USD"))
        mine = session.scalars(select(Payout).where(Payout.ib_id == ib_id)).all()
        wallet = queries.find_balance(session, chart.client_wallet(mine[0].client_id, "USD")) if mine else None
        settled = sum(session.scalars(select(Settlement.amount_minor).where(Settlement.ib_id == ib_id)))
        paid = sum(one.amount_minor for one in mine if one.state == "paid")
        waiting = sum(one.amount_minor for one in mine if one.state in ("requested", "proposed", "held", "approved"))
        assert account.posted.amount_minor == settled - paid
        assert account.held.amount_minor == waiting
        assert (wallet.posted.amount_minor if wallet else 0) == paid
    found = [*proofs.prove(session), causes.prove_one(session)]
    assert [line for proof in found for line in proof.breaks] == []


def test_two_runs_and_the_ibs_own_requests_take_each_cent_once(database: Database) -> None:
    with database.session() as session:
        earnings = Earnings(build(session))
        ib_ids = [earnings.ib("1") for _ in range(4)]

    def ask(session: Session) -> None:
        for ib_id in reversed(ib_ids):
            with suppress(AppError):
                payouts.request_payout(
                    session, ib_id=ib_id, amount=usd("5"), destination="wallet", key="k", actor=Actor.client(ib_id)
                )

    together(database, propose, ask, propose, ask)

    with database.session() as session:
        check(session, ib_ids)
        for run_id in session.scalars(select(PayoutRun.id)).all():
            approve(session, run_id)
        approved = session.scalars(select(Payout.id).where(Payout.state == "approved")).all()
    together(
        database,
        *[lambda session: [payouts.pay(session, payout_id, nowhere) for payout_id in approved]] * 3,
        lambda session: [payouts.pay(session, payout_id, nowhere) for payout_id in reversed(approved)],
    )
    with database.session() as session:
        check(session, ib_ids)
        assert {payouts.pay(session, payout_id, nowhere) for payout_id in approved} == {"paid"}


def test_a_run_is_decided_once(database: Database) -> None:
    with database.session() as session:
        earnings = Earnings(build(session))
        ib_ids = [earnings.ib("1") for _ in range(3)]
        run_id = propose(session)
    together(
        database,
        lambda session: approve(session, run_id),
        lambda session: approve(session, run_id, Actor.staff(3)),
        lambda session: payout_runs.reject_run(session, run_id, reason="no", actor=Actor.staff(4)),
        lambda session: payout_runs.withdraw_run(session, run_id, actor=FINANCE),
    )
    with database.session() as session:
        check(session, ib_ids)
        run = session.get_one(PayoutRun, run_id)
        wanted = {"approved": "approved", "rejected": "rejected", "withdrawn": "cancelled"}[run.status]
        assert {one.state for one in run.payouts} == {wanted}


def test_a_held_line_is_decided_once(database: Database) -> None:
    with database.session() as session:
        earnings = Earnings(build(session))
        ib_id = earnings.ib("1")
        run_id = propose(session)
        (payout_id,) = session.scalars(select(Payout.id)).all()
        payout_runs.approve_run(session, run_id, decisions={payout_id: Decision("hold", "wait")}, actor=OTHER)

    def decide(session: Session, verdict: payout_runs.Verdict, number: int) -> str:
        decision = Decision(verdict, "r")
        state = payout_runs.decide_held(session, payout_id, decision, actor=Actor.staff(number)).state
        return payouts.pay(session, payout_id, nowhere) if state == "approved" else state

    done = together(
        database,
        *[lambda session: decide(session, "pay", 3), lambda session: decide(session, "reject", 4)] * 2,
    )
    with database.session() as session:
        check(session, [ib_id])
    assert sum(isinstance(one, str) for one in done) == 1


def test_a_payout_is_taken_back_once(database: Database) -> None:
    with database.session() as session:
        earnings = Earnings(build(session))
        ib_id = earnings.ib("2")
        approve(session, propose(session))
        (payout_id,) = session.scalars(select(Payout.id)).all()
        payouts.pay(session, payout_id, nowhere)

    def take_back(session: Session, number: int) -> str:
        asked = payout_reversals.propose_reversal(session, payout_id, reason="wrong", actor=Actor.staff(number))
        return payout_reversals.approve_reversal(session, asked.id, actor=Actor.staff(number + 10)).status

    done = together(database, *[lambda session, number=number: take_back(session, number) for number in range(4)])
    with database.session() as session:
        check(session, [ib_id])
        assert session.get_one(Payout, payout_id).state == "reversed"
    assert done.count("approved") == 1


def test_statements_follow_each_other_while_commission_is_settled(database: Database) -> None:
    """Each opens with what the one before closed with, and every settlement is in one of them."""
    with database.session() as session:
        earnings = Earnings(build(session))
        ib_id = earnings.ib("1")
        account_id = earnings.accounts[ib_id]
        for _ in range(12):
            accrue_deals(session, [earnings.house.deal(account_id, "1.003")])
            earnings.house.save()

    def settle(session: Session) -> None:
        for number in range(1, 13):
            deal_id = Earnings(build(session)).house.deal(account_id, "0.501")
            session.commit()
            accrue_deals(session, [deal_id])
            settle_all(session, now() + timedelta(minutes=10 * number))

    def pay(session: Session) -> None:
        for _ in range(12):
            pay_all(session)

    together(database, settle, pay)
    with database.session() as session:
        settle_all(session, now() + timedelta(days=2))
        pay_all(session)
        check(session, [ib_id])
        paid = session.scalars(select(Payout).where(Payout.state == "paid").order_by(Payout.id)).all()
        told = [dict(payout_statements.document(session, one.id).content) for one in paid]
        assert told[0]["opening"]["amount_minor"] == 0
        for before, after in pairwise(told):
            assert after["opening"] == before["closing"]
        settled = sum(one["settled"]["posted"]["amount_minor"] for one in told)
        assert settled == sum(session.scalars(select(Settlement.amount_minor).where(Settlement.ib_id == ib_id)))
        assert payables.payable(session, ib_id, now()).balance == usd("0")


def pay_all(session: Session) -> None:
    with suppress(NothingToPay):
        run_id = propose(session)
        lines = [one.id for one in session.get_one(PayoutRun, run_id).payouts]
        payout_runs.approve_run(
            session, run_id, decisions={payout_id: Decision("pay", "r") for payout_id in lines}, actor=OTHER
        )
        for payout_id in lines:
            payouts.pay(session, payout_id, nowhere)
