"""A trading account's part of a statement, told from the deals its server reported and held against the ledger.

The ledger mirrors a trading account a little later than its server: deal results are posted in runs, transfers when the
server has confirmed them. So two questions are answered apart. Does the ledger hold what it should hold by the end of the
period, deal by deal and transfer by transfer? If not, that is a difference. And what has the server done by then that the
ledger took in later? That is `in_transit`: no error, but shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, ScalarSelect, case, exists, func, or_, select, true
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session, aliased

from app.core.errors import N_
from app.core.money import Money
from app.ledger import chart
from app.metatrader import negative_balance
from app.metatrader.codes import DealAction, DealEntry
from app.metatrader.mirror import CREDIT_ACTIONS
from app.models.ledger import Account, Entry, Transaction
from app.models.metatrader import BalanceOperation, Deal, TradingAccount
from app.models.payments import Transfer
from app.reporting.positions import OpenPosition, align_prices, open_positions

TRADES = (DealAction.BUY, DealAction.SELL)

#: What a deal was, by its action; balance operations of our own are transfers.
ACTIONS = {
    DealAction.BUY: N_("Buy"),
    DealAction.SELL: N_("Sell"),
    DealAction.BALANCE: N_("Balance operation"),
    DealAction.CHARGE: N_("Charge"),
    DealAction.CORRECTION: N_("Correction"),
    DealAction.BONUS: N_("Bonus"),
    DealAction.COMMISSION: N_("Commission"),
    DealAction.COMMISSION_DAILY: N_("Commission"),
    DealAction.COMMISSION_MONTHLY: N_("Commission"),
    DealAction.INTEREST_RATE: N_("Interest"),
    DealAction.DIVIDEND: N_("Dividend"),
    DealAction.DIVIDEND_FRANKED: N_("Dividend"),
    DealAction.TAX: N_("Tax"),
    DealAction.SO_COMPENSATION: N_("Compensation after stop-out"),
}
FROM_WALLET, TO_WALLET, OTHER = N_("From wallet"), N_("To wallet"), N_("Other operation")
ENTRIES = {
    DealEntry.IN: N_("opens"),
    DealEntry.OUT: N_("closes"),
    DealEntry.INOUT: N_("reverses"),
    DealEntry.OUT_BY: N_("closes"),
}


@dataclass(frozen=True)
class Period:
    """From `start` on and before `end`."""

    start: datetime
    end: datetime


@dataclass(frozen=True)
class Difference:
    """A figure of the statement that the ledger does not confirm; `where` is a login or the currency of a wallet."""

    where: str
    stated: Money
    ledger: Money


@dataclass(frozen=True)
class AccountLine:
    """One deal that changed the balance. `what` and `entry` are message ids; operations have no symbol, volume and price.

    `volume` is in 1/100000000 lot; `commission` includes fees; `result` is the sum of the four parts.
    """

    at: datetime
    ticket: int
    is_trade: bool
    what: str
    entry: str
    symbol: str
    volume: int
    price: Decimal | None
    commission: Money
    swap: Money
    profit: Money
    balance: Money


@dataclass(frozen=True)
class AccountStatement:
    """One login. `closing` equals `opening` plus `operations` plus trading's `commission`, `swap` and `profit`."""

    login: int
    server: str
    product: str
    currency: str
    leverage: int
    opening: Money
    lines: tuple[AccountLine, ...]
    operations: Money
    commission: Money
    swap: Money
    profit: Money
    change: Money
    closing: Money
    in_transit: Money
    positions: tuple[OpenPosition, ...]


def account_statements(
    session: Session, client_id: int, period: Period
) -> tuple[tuple[AccountStatement, ...], tuple[Difference, ...]]:
    """All trading accounts with real money that the client had by the end of the period, and what the ledger denies."""
    accounts = session.scalars(
        select(TradingAccount)
        .where(
            TradingAccount.client_id == client_id,
            TradingAccount.login.is_not(None),
            func.coalesce(TradingAccount.opened_at, TradingAccount.requested_at) < period.end,
            TradingAccount.product.has(is_demo=False),
        )
        .order_by(TradingAccount.server_id, TradingAccount.login)
    ).all()
    told = [_account(session, account, period) for account in accounts]
    return tuple(made for made, _ in told), tuple(difference for _, difference in told if difference)


def _account(session: Session, account: TradingAccount, period: Period) -> tuple[AccountStatement, Difference | None]:
    assert account.login is not None
    currency = account.currency
    rows = session.execute(_figures(account, period)).all()
    taken_over = Money(int(rows[0].taken_over), currency)
    opening = taken_over + Money.parse(rows[0].opening, currency)
    expected = taken_over + Money.parse(rows[0].mirrored, currency) + Money(int(rows[0].transferred), currency)
    in_ledger = Money(int(rows[0].in_ledger), currency)
    lines: list[AccountLine] = []
    for row in rows:
        if row.ticket is not None:
            lines.append(_line(row, account, lines[-1].balance if lines else opening))
    closing = lines[-1].balance if lines else opening
    zero, trades = Money.zero(currency), [line for line in lines if line.is_trade]
    made = AccountStatement(
        login=account.login,
        server=account.server.name,
        product=account.product.name,
        currency=currency,
        leverage=account.leverage,
        opening=opening,
        lines=align_prices(lines),
        operations=sum((line.commission + line.swap + line.profit for line in lines if not line.is_trade), zero),
        commission=sum((line.commission for line in trades), zero),
        swap=sum((line.swap for line in trades), zero),
        profit=sum((line.profit for line in trades), zero),
        change=closing - opening,
        closing=closing,
        in_transit=closing - expected,
        positions=_open_positions(session, account, period.end),
    )
    differs = None if expected == in_ledger else Difference(str(account.login), expected, in_ledger)
    return made, differs


def _figures(account: TradingAccount, period: Period) -> Any:
    """One query, so that a deal or posting that commits meanwhile is in all figures or in none.

    A row per deal of the period (one with empty columns when there is none), each with the account's sums beside it:
    `opening` by deals, and for the end of the period `taken_over`, `mirrored` and `transferred`, which the ledger should
    hold, and `in_ledger`, which it holds. A login that existed before it was ours begins with the balance that it had when
    it was taken over; deals until then are in that and stand in no statement.
    """
    current = (*_ours(account), Deal.is_current, Deal.is_void.is_(False))
    sums = select(
        _taken_over(account, period.end).label("taken_over"),
        _sum(select(_result()).where(*current, Deal.done_at < period.start)).label("opening"),
        _mirrored(account, period.end).label("mirrored"),
        _transferred(account, period.end).label("transferred"),
        _in_ledger(account, period.end).label("in_ledger"),
    ).subquery("sums")
    lines = (
        select(
            Deal.ticket,
            Deal.done_at,
            Deal.action,
            Deal.entry,
            Deal.symbol,
            Deal.volume,
            Deal.price,
            (Deal.commission + Deal.fee).label("commission"),
            Deal.swap,
            Deal.profit,
            Deal.is_ours,
            _purpose().label("purpose"),
        )
        .where(*current, Deal.done_at >= period.start, Deal.done_at < period.end, Deal.action.not_in(CREDIT_ACTIONS))
        .subquery("lines")
    )
    return select(sums, lines).select_from(sums).outerjoin(lines, true()).order_by(lines.c.done_at, lines.c.ticket)


def _ours(account: TradingAccount) -> tuple[ColumnElement[bool], ...]:
    """The account's deals that its opening balance does not hold already."""
    of_account = (Deal.trading_account_id == account.id,)
    return of_account if account.origin == "opened" else (*of_account, Deal.done_at > account.opened_at)


def _taken_over(account: TradingAccount, end: datetime) -> ScalarSelect[int]:
    """The opening balance in the ledger, in minor units, when it was posted before `end`; 0 for a login that we opened."""
    return (
        select(func.coalesce(func.sum(Entry.credit - Entry.debit), 0))
        .join(Account, Account.id == Entry.account_id)
        .where(Entry.txn_id == account.opening_txn_id, Account.code == _mirror_code(account), Entry.effective_at < end)
        .scalar_subquery()
    )


def _mirror_code(account: TradingAccount) -> str:
    assert account.login is not None
    return chart.mt_balance(account.server.code, account.login, account.currency).code


def _purpose() -> ScalarSelect[str]:
    """What an operation of ours was for; nothing for all other deals."""
    is_its_deal = (BalanceOperation.server_id == Deal.server_id) & (BalanceOperation.deal_ticket == Deal.ticket)
    return select(BalanceOperation.purpose).where(is_its_deal).correlate(Deal).scalar_subquery()


def _result() -> ColumnElement[Decimal]:
    """What a deal did to the balance, as app.metatrader.mirror.result says it for one deal."""
    nothing = or_(Deal.is_void, Deal.action.in_(CREDIT_ACTIONS))
    return case((nothing, 0), else_=Deal.profit + Deal.swap + Deal.commission + Deal.fee).label("result")


def _sum(results: Any) -> ScalarSelect[Decimal]:
    rows = results.subquery()
    return select(func.coalesce(func.sum(rows.c.result), 0)).scalar_subquery()


def _mirrored(account: TradingAccount, end: datetime) -> ScalarSelect[Decimal]:
    """The results that transactions before `end` carry: of each ticket the newest revision that one of them carries."""
    return _sum(
        select(Deal.ticket, _result())
        .join(Transaction, Transaction.id == Deal.ledger_txn_id)
        .where(*_ours(account), Transaction.effective_at < end)
        .ext(distinct_on(Deal.ticket))
        .order_by(Deal.ticket, Deal.revision.desc())
    )


def _transferred(account: TradingAccount, end: datetime) -> ScalarSelect[int]:
    """What transfers booked before `end` brought in, less what they took out, in minor units.

    Only those whose deal at the server no transaction carries yet: the others are among the mirrored deals.
    """
    posted_for_deal = aliased(Transaction)
    is_mirrored = exists().where(
        Deal.server_id == BalanceOperation.server_id,
        Deal.ticket == BalanceOperation.deal_ticket,
        Deal.ledger_txn_id == posted_for_deal.id,
        posted_for_deal.effective_at < end,
    )
    return (
        select(func.coalesce(func.sum(BalanceOperation.amount_minor), 0))
        .select_from(Transfer)
        .join(Transaction, Transaction.id == Transfer.ledger_txn_id)
        .join(BalanceOperation, BalanceOperation.id == Transfer.operation_id)
        .where(Transfer.trading_account_id == account.id, Transaction.effective_at < end, ~is_mirrored)
        .scalar_subquery()
    )


def _in_ledger(account: TradingAccount, end: datetime) -> ScalarSelect[int]:
    return (
        select(func.coalesce(func.sum(Entry.credit - Entry.debit), 0))
        .join(Account, Account.id == Entry.account_id)
        .where(Account.code == _mirror_code(account), Entry.effective_at < end)
        .scalar_subquery()
    )


def _line(row: Any, account: TradingAccount, before: Money) -> AccountLine:
    currency = account.currency
    commission, swap, profit = (Money.parse(value, currency) for value in (row.commission, row.swap, row.profit))
    is_trade = row.action in TRADES
    what = ACTIONS.get(row.action, OTHER)
    if row.is_ours and row.purpose == negative_balance.KIND:
        what = ACTIONS[DealAction.SO_COMPENSATION]
    elif row.is_ours:
        what = FROM_WALLET if row.profit > 0 else TO_WALLET
    return AccountLine(
        at=row.done_at,
        ticket=account.server.shown_ticket(row.ticket),
        is_trade=is_trade,
        what=what,
        entry=ENTRIES.get(row.entry, "") if is_trade else "",
        symbol=row.symbol if is_trade else "",
        volume=row.volume if is_trade else 0,
        price=row.price if is_trade else None,
        commission=commission,
        swap=swap,
        profit=profit,
        balance=before + commission + swap + profit,
    )


def _open_positions(session: Session, account: TradingAccount, end: datetime) -> tuple[OpenPosition, ...]:
    """The positions whose deals before `end` do not cancel out: told from deals, because the past has no other witness."""
    trades = (
        Deal.trading_account_id == account.id,
        Deal.is_current,
        Deal.is_void.is_(False),
        Deal.action.in_(TRADES),
        Deal.done_at < end,
    )
    net = func.sum(case((Deal.action == DealAction.BUY, Deal.volume), else_=-Deal.volume))
    still_open = select(Deal.position_ticket).where(*trades).group_by(Deal.position_ticket).having(net != 0)
    deals = session.scalars(
        select(Deal)
        .where(*trades, Deal.position_ticket.in_(still_open))
        .order_by(Deal.position_ticket, Deal.done_at, Deal.ticket)
    ).all()
    return open_positions(deals)
