"""When a plan's commission is settled and paid out: how often it is gathered, how long it is held, the least that is paid.

They say when an IB gets its pay, never how much it is, and count for everything that is not settled or paid yet. So does the
currency that an IB is paid in: what is settled already stays as it is, and is paid by the next run.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy.orm import Session

from app.commissions.settlement import EVERY
from app.core.actor import Actor
from app.core.errors import N_, InvalidInput, NotFound
from app.core.money import InvalidMoney, Money, parent
from app.core.uow import unit_of_work
from app.ledger import rates
from app.models.commissions import Plan
from app.models.partners import IntroducingBroker

MOST_HOLD_DAYS = 366


@dataclass(frozen=True)
class PaymentTerms:
    """`minimum_minor` in the plan's currency; `settle_every` one of settlement.EVERY."""

    settle_every: str
    hold_days: int
    minimum_minor: int


def terms_of(plan: Plan) -> PaymentTerms:
    """As they stand now."""
    return PaymentTerms(plan.settle_every, plan.hold_days, plan.min_payout_minor)


def set_terms(
    session: Session, plan_id: int, *, settle_every: str, hold_days: int, minimum: Money, reason: str, actor: Actor
) -> PaymentTerms:
    """Change a plan's terms; the audit trail keeps the former ones. Raises NotFound, InvalidInput with all problems."""
    problems: dict[str, str] = {}
    said = " ".join(reason.split())
    with unit_of_work(session, actor) as unit:
        plan = session.get(Plan, plan_id, with_for_update=True)
        if plan is None:
            raise NotFound
        if settle_every not in EVERY:
            problems["settle_every"] = N_("Please choose one of the list.")
        if not 0 <= hold_days <= MOST_HOLD_DAYS:
            problems["hold_days"] = N_("Please give a number of days from 0 to 366.")
        if minimum.currency != plan.currency or minimum.amount_minor < 0:
            problems["minimum"] = N_("Please enter an amount of the plan's currency, zero or more.")
        if not said:
            problems["reason"] = N_("Please give a reason.")
        if problems:
            raise InvalidInput(problems)
        before = terms_of(plan)
        plan.settle_every, plan.hold_days, plan.min_payout_minor = settle_every, hold_days, minimum.amount_minor
        after = terms_of(plan)
        if after != before:
            unit.audit("plan.payment_terms", f"plan:{plan.id}", before=asdict(before), after=asdict(after), reason=said[:500])
            unit.emit("plan.payment_terms_changed", subject_id=plan.id)
        return after


def set_currency(session: Session, ib_id: int, *, currency: str, reason: str, actor: Actor) -> None:
    """Have an IB be paid in this currency from its next settlement on; the audit trail keeps the former one.

    Raises InvalidInput with all problems: `ib_id` for an IB that is not there, `currency` for one that nobody knows, that a
    wallet is not kept in (cents), or that no rate leads to.
    """
    problems: dict[str, str] = {}
    said = " ".join(reason.split())
    with unit_of_work(session, actor) as unit:
        ib = session.get(IntroducingBroker, ib_id, with_for_update={"key_share": True})
        if ib is None:
            problems["ib_id"] = N_("There is no IB of this number.")
        if not _has_wallets(currency):
            problems["currency"] = N_("Please give the code of a currency, such as EUR.")
        elif ib is not None and rates.known(session).find(ib.currency, currency) is None:
            problems["currency"] = N_("There is no exchange rate into this currency at present.")
        if not said:
            problems["reason"] = N_("Please give a reason.")
        if problems or ib is None:
            raise InvalidInput(problems)
        before = ib.currency
        ib.currency = currency
        if currency != before:
            values = {"before": {"currency": before}, "after": {"currency": currency}}
            unit.audit("ib.currency", f"introducing_broker:{ib.id}", **values, reason=said[:500])
            unit.emit("ib.currency_changed", subject_id=ib.id, client_id=ib.client_id, currency=currency, before=before)


def _has_wallets(currency: str) -> bool:
    try:
        return Money.zero(currency).currency == parent(currency)[0]
    except InvalidMoney:
        return False
