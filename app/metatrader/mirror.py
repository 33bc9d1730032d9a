"""The ledger's mirror of trading accounts: deal results posted in runs, each deal keeping the transaction that carries it.

A run posts, per server and currency, one leg per login against the server's trading counter-account. Transfers are not
posted here: the payments package posts them when the server has done them, and their deals take over that transaction.
Balance operations that are not ours, and later changes to those that are, go against suspense, where staff find them.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, func, or_, select, update
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.money import InvalidMoney, Money
from app.core.uow import unit_of_work
from app.ledger import chart, posting
from app.metatrader.codes import DealAction
from app.models.metatrader import BalanceOperation, Deal, Product, Server, TradingAccount
from app.models.payments import Transfer

log = logging.getLogger("lotwise.metatrader")

#: One transaction has at most 200 legs: 199 logins and their counter-account.
LOGINS_PER_RUN = 199
DEALS_PER_ROUND = 5_000
LOCK_KEY = 720103
#: A cancelled trade takes back what the trade did, on the same counter-account.
TRADES = (DealAction.BUY, DealAction.SELL, DealAction.BUY_CANCELED, DealAction.SELL_CANCELED)
#: They change the credit, which stays outside the ledger.
CREDIT_ACTIONS = (DealAction.CREDIT, DealAction.SO_COMPENSATION_CREDIT)
#: Marks deals that changed no balance of the ledger, so that they are not looked at again.
NOTHING_POSTED = UUID(int=0)


class UnpostableDeals(Exception):
    """The ledger cannot hold the results of these logins: their amounts have more digits than their currency."""


@dataclass(frozen=True)
class _Run:
    """What one transaction carries: deals of one server and currency, trades and other deals kept apart."""

    server: str
    currency: str
    is_trade: bool


#: Per login: the deals, with what each changed.
_Changes = dict[int, list[tuple[Deal, Decimal]]]


def mirror_deals(session: Session) -> int:
    """Post the results of all deals that no transaction carries yet. Returns how many deals were mirrored.

    Raises UnpostableDeals when everything else has been posted.
    """
    total = 0
    refused: set[int] = set()
    while (count := _mirror_round(session, refused)) is not None:
        total += count
    if refused:
        raise UnpostableDeals(f"logins {sorted(refused)}")
    return total


def _mirror_round(session: Session, refused: set[int]) -> int | None:
    """Mirror some deals; None when there are none. Logins whose amounts the ledger cannot hold are added to `refused`."""
    with unit_of_work(session, Actor.system("mirror_deals")) as unit:
        session.execute(select(func.pg_advisory_xact_lock(LOCK_KEY)))
        rows = session.execute(_unmirrored(refused)).all()
        if not rows:
            return None
        carried: dict[UUID, list[int]] = defaultdict(list)
        runs: dict[_Run, _Changes] = defaultdict(dict)
        for row in rows:
            deal: Deal = row.Deal
            change = Decimal(0) if row.is_demo else result(deal) - already_mirrored(session, row)
            if not change:
                carried[row.transfer_txn_id or NOTHING_POSTED].append(deal.id)
                continue
            logins = runs[_Run(row.server, row.currency, deal.action in TRADES)]
            if len(logins) < LOGINS_PER_RUN or deal.login in logins:
                logins.setdefault(deal.login, []).append((deal, change))
        for run, logins in runs.items():
            txn_id, deal_ids = _post(session, unit.actor, run, logins, refused)
            carried[txn_id] += deal_ids
        for txn_id, deal_ids in carried.items():
            session.execute(update(Deal).where(Deal.id.in_(deal_ids)).values(ledger_txn_id=txn_id))
        return sum(map(len, carried.values()))


def _unmirrored(refused: set[int]) -> Select[Any]:
    """Deals of our accounts that no transaction carries; those of our own operations only when their transfer is posted."""
    return (
        select(
            Deal,
            TradingAccount.currency,
            Server.code.label("server"),
            Product.is_demo,
            BalanceOperation.amount_minor,
            Transfer.ledger_txn_id.label("transfer_txn_id"),
        )
        .join(TradingAccount, TradingAccount.id == Deal.trading_account_id)
        .join(Product, Product.id == TradingAccount.product_id)
        .join(Server, Server.id == Deal.server_id)
        .outerjoin(
            BalanceOperation,
            (BalanceOperation.server_id == Deal.server_id) & (BalanceOperation.deal_ticket == Deal.ticket) & Deal.is_ours,
        )
        .outerjoin(Transfer, Transfer.operation_id == BalanceOperation.id)
        .where(
            Deal.ledger_txn_id.is_(None),
            Deal.is_current.is_(True),
            or_(Deal.is_ours.is_(False), Transfer.ledger_txn_id.is_not(None)),
            Deal.login.not_in(refused),
        )
        .order_by(Deal.id)
        .limit(DEALS_PER_ROUND)
        .with_for_update(of=Deal)
    )


def _post(session: Session, actor: Actor, run: _Run, logins: _Changes, refused: set[int]) -> tuple[UUID, list[int]]:
    """One transaction for the deals of up to 199 logins; the counter-account takes the sum."""
    currency = run.currency
    counter = chart.mt_trading_counter(run.server, currency) if run.is_trade else chart.suspense(f"mt-{run.server}", currency)
    chart.open_account(session, counter)
    legs, total, ids = [], Money.zero(currency), []
    for login, changes in sorted(logins.items()):
        try:
            amount = Money.parse(sum((change for _, change in changes), Decimal(0)), currency)
        except InvalidMoney:
            log.error("unpostable deals server=%s login=%s currency=%s", run.server, login, currency)
            refused.add(login)
            continue
        ids += [deal.id for deal, _ in changes]
        if amount:
            account = chart.mt_balance(run.server, login, currency)
            chart.open_account(session, account)
            legs.append(_leg(account, amount))
            total += amount
    if total:
        legs.append(_leg(counter, -total))
    if not legs:
        return NOTHING_POSTED, ids
    txn_id = posting.post(
        session,
        key=f"mirror:{run.server}:{currency}:{min(ids)}:{max(ids)}",
        kind="deal_results" if run.is_trade else "unmatched_balance_operation",
        effective_at=now(),
        actor=actor,
        legs=legs,
        metadata={"deals": len(ids), "server": run.server},
    )
    return txn_id, ids


def _leg(account: chart.AccountSpec, amount: Money) -> posting.Leg:
    return posting.credit(account, amount) if amount.amount_minor > 0 else posting.debit(account, -amount)


def result(deal: Deal) -> Decimal:
    """What a deal did to the account's balance: profit, swap, commission and fee; nothing when it is void or only credit."""
    return Decimal(0) if deal.is_void or deal.action in CREDIT_ACTIONS else deal.profit + deal.swap + deal.commission + deal.fee


def already_mirrored(session: Session, row: Row[Any]) -> Decimal:
    """What the ledger already has of this deal: the newest mirrored revision before it, or else the transfer that made it.

    A new revision posts only the difference.
    """
    deal: Deal = row.Deal
    earlier = (
        session.scalars(
            select(Deal)
            .where(
                Deal.server_id == deal.server_id,
                Deal.ticket == deal.ticket,
                Deal.revision < deal.revision,
                Deal.ledger_txn_id.is_not(None),
            )
            .order_by(Deal.revision.desc())
            .limit(1)
        ).one_or_none()
        if deal.revision > 1
        else None
    )
    if earlier is not None:
        return result(earlier)
    return Money(row.amount_minor, row.currency).decimal if deal.is_ours else Decimal(0)
