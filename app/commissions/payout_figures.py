"""What the house owes its IBs and has paid them, per currency; and lists of payouts."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session, joinedload

from app.core.money import Money
from app.models.commissions import AccrualSum
from app.models.ledger import Account
from app.models.partners import IntroducingBroker
from app.models.payouts import Payout

#: States in which the money has left the commission account.
MOVED = ("paying", "paid", "failed")


@dataclass(frozen=True)
class Figures:
    """Of all IBs, or of one, in one currency.

    `accrued`: not settled yet, unrounded. `settled`: on the commission accounts; of it `held`: in payouts that wait, `approved`
    and not moved yet. `paid`: moved to wallets, payouts that were taken back left out.
    """

    currency: str
    accrued: Decimal
    settled: Money
    held: Money
    approved: Money
    paid: Money


def figures(session: Session, ib_id: int | None = None) -> list[Figures]:
    """Per currency, in order; empty before the first accrual."""
    accrued = (
        select(AccrualSum.currency, func.sum(AccrualSum.amount))
        .where(AccrualSum.settlement_id.is_(None), AccrualSum.ib_id.is_not(None))
        .group_by(AccrualSum.currency)
    )
    prefix = "ib:%" if ib_id is None else f"ib:{ib_id}"
    accounts = (
        select(Account.currency, func.sum(Account.balance), func.sum(Account.held))
        .where(Account.code.like(f"{prefix}:commission:%"))
        .group_by(Account.currency)
    )
    states = select(Payout.currency, Payout.state, func.sum(Payout.amount_minor)).group_by(Payout.currency, Payout.state)
    if ib_id is not None:
        accrued, states = accrued.where(AccrualSum.ib_id == ib_id), states.where(Payout.ib_id == ib_id)
    unsettled: dict[str, Decimal] = {row[0]: row[1] for row in session.execute(accrued)}
    balances = {currency: (int(balance), int(held)) for currency, balance, held in session.execute(accounts)}
    by_state: dict[str, dict[str, int]] = defaultdict(dict)
    for currency, state, amount in session.execute(states):
        by_state[currency][state] = int(amount)
    return [
        Figures(
            currency=currency,
            accrued=unsettled.get(currency, Decimal(0)),
            settled=Money(balances.get(currency, (0, 0))[0], currency),
            held=Money(balances.get(currency, (0, 0))[1], currency),
            approved=Money(by_state[currency].get("approved", 0), currency),
            paid=Money(sum(by_state[currency].get(state, 0) for state in MOVED), currency),
        )
        for currency in sorted({*unsettled, *balances, *by_state})
    ]


def payouts() -> Select[Payout]:
    """Payouts with the names that a list shows, in one query; newest first."""
    return (
        select(Payout)
        .options(
            joinedload(Payout.ib).joinedload(IntroducingBroker.client),
            joinedload(Payout.client),
            joinedload(Payout.trading_account),
        )
        .order_by(Payout.id.desc())
    )
