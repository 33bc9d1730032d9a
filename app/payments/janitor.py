"""The janitor asks providers about every payment that still waits for their word, on a growing delay.

A callback may never come; an answer may be lost. Whatever is unresolved is asked about until it is final.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.uow import unit_of_work
from app.models.payments import Deposit, Withdrawal
from app.payments import deposits, withdrawals
from app.payments.connector import Connector, Refunds, Unknown
from app.payments.state import DEPOSIT, WITHDRAWAL, IllegalMove

log = logging.getLogger("lotwise.payments")

BATCH = 100


def delay(asks: int) -> timedelta:
    """How long to wait before asking again: 1 minute, doubling, at most 6 hours."""
    return min(timedelta(minutes=2 ** min(asks, 10)), timedelta(hours=6))


def ask_providers(session: Session, connector_of: Callable[[str], Connector]) -> int:
    """Ask about every unresolved deposit and withdrawal that is due. Returns how many were asked about."""
    moment = now()
    due_deposits = session.scalars(
        select(Deposit.id)
        .where(Deposit.state.in_(DEPOSIT.unresolved), Deposit.next_ask_at <= moment)
        .order_by(Deposit.id)
        .limit(BATCH)
    ).all()
    due_withdrawals = session.scalars(
        select(Withdrawal.id)
        .where(Withdrawal.state.in_(WITHDRAWAL.unresolved), Withdrawal.next_ask_at <= moment)
        .order_by(Withdrawal.id)
        .limit(BATCH)
    ).all()
    session.rollback()
    for deposit_id in due_deposits:
        ask_about_deposit(session, connector_of, deposit_id)
    for withdrawal_id in due_withdrawals:
        ask_about_withdrawal(session, connector_of, withdrawal_id)
    return len(due_deposits) + len(due_withdrawals)


def ask_about_deposit(session: Session, connector_of: Callable[[str], Connector], deposit_id: int) -> None:
    """Fetch one deposit's state from its provider and apply it. The provider is asked outside any transaction."""
    actor = Actor.system("janitor")
    with unit_of_work(session, actor):
        deposit = session.get_one(Deposit, deposit_id, with_for_update=True)
        deposit.asks += 1
        deposit.next_ask_at = now() + delay(deposit.asks)
        connector, reference = connector_of(deposit.connector), deposit.provider_reference
    # Without a reference the provider never answered the first call; the client's next click repeats it under its key.
    outcome = connector.fetch_deposit(reference) if reference else Unknown("no_reference")
    with unit_of_work(session, actor) as unit:
        deposit = session.get_one(Deposit, deposit_id, with_for_update=True)
        try:
            deposits.apply_outcome(unit, deposit, outcome)
        except IllegalMove:
            log.warning(
                "provider contradicts deposit=%s state=%s outcome=%s", deposit_id, deposit.state, type(outcome).__name__
            )


def ask_about_withdrawal(session: Session, connector_of: Callable[[str], Connector], withdrawal_id: int) -> None:
    """Fetch one payout's state; where the provider shows none, repeat the equal request, which makes no second payout."""
    actor = Actor.system("janitor")
    with unit_of_work(session, actor) as unit:
        withdrawal = session.get_one(Withdrawal, withdrawal_id, with_for_update=True)
        withdrawal.asks += 1
        if withdrawal.state == "submitting":
            withdrawals.apply_outcome(unit, withdrawal, Unknown("no answer recorded"), None)
        withdrawal.next_ask_at = now() + delay(withdrawal.asks)
        connector, reference = connector_of(withdrawal.connector), withdrawal.provider_reference
        request = withdrawals.refund_request(session, withdrawal)
    if not isinstance(connector, Refunds):
        return
    started = connector.fetch_refund(request, reference)
    if started.outcome == Unknown("absent"):
        started = connector.start_refund(request)
    with unit_of_work(session, actor) as unit:
        withdrawal = session.get_one(Withdrawal, withdrawal_id, with_for_update=True)
        try:
            withdrawals.apply_outcome(unit, withdrawal, started.outcome, started.provider_reference)
        except IllegalMove:
            log.warning("provider contradicts withdrawal=%s state=%s", withdrawal_id, withdrawal.state)
