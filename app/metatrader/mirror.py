"""The ledger's mirror of trading accounts: deal results posted in runs, each deal keeping the transaction that carries it.

A run posts, per server and currency, one leg per login against the server's trading counter-account. Transfers are not
posted here: the payments package posts them when the server has done them. Balance operations that are not ours go
against suspense, where staff find them.
"""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.money import Money
from app.core.uow import unit_of_work
from app.ledger import chart, posting
from app.metatrader.codes import DealAction
from app.models.metatrader import Deal, Product, Server, TradingAccount

#: One transaction has at most 200 legs: 199 logins and their counter-account.
LOGINS_PER_RUN = 199
DEALS_PER_RUN = 5_000
LOCK_KEY = 720103
#: They change the credit, which stays outside the ledger.
CREDIT_ACTIONS = (DealAction.CREDIT, DealAction.SO_COMPENSATION_CREDIT)
#: Marks deals that changed no balance, so that they are not looked at again.
NOTHING_POSTED = UUID(int=0)


def mirror_deals(session: Session) -> int:
    """Post the results of all deals that no transaction carries yet. Returns how many deals were mirrored."""
    total = 0
    while count := _mirror_run(session):
        total += count
    return total


def _mirror_run(session: Session) -> int:
    with unit_of_work(session, Actor.system("mirror_deals")) as unit:
        session.execute(select(func.pg_advisory_xact_lock(LOCK_KEY)))
        deals = session.execute(
            select(Deal, TradingAccount.currency, Server.code)
            .join(TradingAccount, TradingAccount.id == Deal.trading_account_id)
            .join(Product, Product.id == TradingAccount.product_id)
            .join(Server, Server.id == Deal.server_id)
            .where(Deal.ledger_txn_id.is_(None), Deal.is_ours.is_(False), Product.is_demo.is_(False), Deal.is_current.is_(True))
            .order_by(Deal.id)
            .limit(DEALS_PER_RUN)
            .with_for_update(of=Deal)
        ).all()
        if not deals:
            return 0
        runs: dict[tuple[str, str, bool], dict[int, list[Deal]]] = defaultdict(lambda: defaultdict(list))
        for deal, currency, server in deals:
            logins = runs[server, currency, deal.action in (0, 1)]
            if len(logins) < LOGINS_PER_RUN or deal.login in logins:
                logins[deal.login].append(deal)
        mirrored = 0
        for (server, currency, is_trade), logins in runs.items():
            mirrored += _post_run(session, unit.actor, server, currency, is_trade, logins)
        return mirrored


def _post_run(session: Session, actor: Actor, server: str, currency: str, is_trade: bool, logins: dict[int, list[Deal]]) -> int:
    """One transaction for the deals of up to 199 logins; the counter-account takes the sum."""
    counter = chart.mt_trading_counter(server, currency) if is_trade else chart.suspense(f"mt-{server}", currency)
    chart.open_account(session, counter)
    legs, total, ids = [], Money.zero(currency), []
    for login, deals in sorted(logins.items()):
        exact = sum((result(deal) - already_mirrored(session, deal) for deal in deals), Decimal(0))
        amount = Money.parse(exact, currency)
        ids += [deal.id for deal in deals]
        if amount:
            account = chart.mt_balance(server, login, currency)
            chart.open_account(session, account)
            legs.append(
                posting.credit(account, amount) if amount.amount_minor > 0 else posting.debit(account, -amount)
            )
            total += amount
    txn_id = None
    if legs:
        if total:
            legs.append(posting.debit(counter, total) if total.amount_minor > 0 else posting.credit(counter, -total))
        txn_id = posting.post(
            session,
            key=f"mirror:{server}:{currency}:{min(ids)}:{max(ids)}",
            kind="deal_results" if is_trade else "unmatched_balance_operation",
            effective_at=now(),
            actor=actor,
            legs=legs,
            metadata={"deals": len(ids), "server": server},
        )
    session.execute(update(Deal).where(Deal.id.in_(ids)).values(ledger_txn_id=txn_id or NOTHING_POSTED))
    return len(ids)


def result(deal: Deal) -> Decimal:
    """What a deal did to the account's balance: profit, swap, commission and fee; nothing when it is void or only credit."""
    return Decimal(0) if deal.is_void or deal.action in CREDIT_ACTIONS else deal.profit + deal.swap + deal.commission + deal.fee


def already_mirrored(session: Session, deal: Deal) -> Decimal:
    """What the newest mirrored earlier revision of this deal did; the new revision posts only the difference."""
    if deal.revision == 1:
        return Decimal(0)
    earlier = session.scalars(
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
    return result(earlier) if earlier else Decimal(0)
