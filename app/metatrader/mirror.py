"""The ledger's mirror of trading accounts: deal results posted in runs, each deal keeping the transaction that carries it.

A run is one transaction: what deals of one server, currency and UTC day changed on up to 199 logins, a leg per login,
against the server's trading counter-account. It is effective at the newest of its deals, so that a day's result lands on
its day. A correction of a deal is effective when we heard of it, because until then the balance stood otherwise. Nothing is
effective in a closed period, nor in the future.

Transfers are not posted here: the payments package posts them when the server has done them, and their deals take over that
transaction. What a server, or we, give back after a stop-out below zero is written off. Balance operations that are not ours,
and later changes to transfers, go against suspense, where staff find them. What a login did before we took it over is in its
opening balance. See docs/decisions/0003-trading-account-mirror.md.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, func, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import AppError
from app.core.money import InvalidMoney, Money
from app.core.uow import unit_of_work
from app.ledger import chart, posting
from app.metatrader.codes import DealAction
from app.models.ledger import PeriodClose, Transaction
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

#: Purposes of our own operations: who posts what they did, and against what.
TRANSFER, NEGATIVE_BALANCE = "transfer", "negative_balance"

#: The kinds of transactions that runs become.
RESULTS, WRITE_OFF, UNMATCHED = "deal_results", "negative_balance", "unmatched_balance_operation"


_Row = Row[*tuple[Any, ...]]


class UnpostableDeals(Exception):
    """The ledger refuses the results of these logins: amounts with too many digits, or an account that is closed."""


@dataclass(frozen=True)
class _Change:
    """What one deal changed on its account, and when that counts."""

    deal_id: int
    trading_account_id: int
    account: chart.AccountSpec
    amount: Decimal
    effective_at: datetime


@dataclass(frozen=True)
class _Pile:
    """What changes have in common that may stand in one transaction. `is_late`: their own day is closed."""

    server: str
    currency: str
    kind: str
    day: date
    is_late: bool

    @property
    def counter(self) -> chart.AccountSpec:
        """The other side of these changes."""
        if self.kind == RESULTS:
            return chart.mt_trading_counter(self.server, self.currency)
        if self.kind == WRITE_OFF:
            return chart.negative_balance_expense(self.currency)
        return chart.suspense(f"mt-{self.server}", self.currency)


@dataclass(frozen=True)
class _Run:
    """Deals, and the transaction that will carry them; none where their changes cancel out."""

    deal_ids: list[int]
    accounts: list[chart.AccountSpec]
    posting: posting.Posting | None


def mirror_deals(session: Session) -> int:
    """Post the results of all deals that no transaction carries yet. Returns how many deals were mirrored.

    What the ledger refuses to one trading account stops no other: raises UnpostableDeals when all others are posted.
    """
    total = 0
    refused: set[int] = set()
    while (count := _mirror_round(session, refused)) is not None:
        total += count
    if refused:
        logins = session.scalars(select(TradingAccount.login).where(TradingAccount.id.in_(refused))).all()
        session.rollback()
        raise UnpostableDeals(f"logins {sorted(filter(None, logins))}")
    return total


def _mirror_round(session: Session, refused: set[int]) -> int | None:
    """Mirror some deals; None when there are none. Trading accounts that the ledger refuses are added to `refused`."""
    try:
        return _post_round(session, refused, None)
    except AppError:
        ids = sorted({row.trading_account_id for row in session.execute(_unmirrored(refused, None))})
        session.rollback()
        return _mirror_apart(session, refused, ids)


def _mirror_apart(session: Session, refused: set[int], account_ids: list[int]) -> int:
    """Mirror these trading accounts, and find those that the ledger refuses by halving."""
    try:
        return _post_round(session, refused, account_ids) or 0
    except AppError as error:
        if len(account_ids) == 1:
            log.exception("unpostable deals trading_account=%s error=%s", account_ids[0], error.code)
            refused.update(account_ids)
            return 0
    half = len(account_ids) // 2
    return sum(_mirror_apart(session, refused, part) for part in (account_ids[:half], account_ids[half:]))


def _post_round(session: Session, refused: set[int], account_ids: list[int] | None) -> int | None:
    """One unit of work: some deals, all their runs posted together, each deal marked with the transaction that carries it."""
    with unit_of_work(session, Actor.system("mirror_deals")) as unit:
        session.execute(select(func.pg_advisory_xact_lock(LOCK_KEY)))
        # Who has read this table holds up the closing of periods until the end of the transaction.
        closed_through = session.scalar(select(func.max(PeriodClose.closed_through))) or datetime.min.replace(tzinfo=UTC)
        rows = session.execute(_unmirrored(refused, account_ids)).all()
        if not rows:
            return None
        carried: dict[UUID, list[int]] = defaultdict(list)
        piles: dict[_Pile, list[_Change]] = defaultdict(list)
        earlier, at = _earlier(session, rows), now()
        for row in rows:
            amount, counts_at = _change(row, earlier.get((row.server_id, row.ticket)))
            if not amount:
                carried[row.transfer_txn_id or NOTHING_POSTED].append(row.id)
                continue
            is_late = counts_at < closed_through
            counts_at = max(at, closed_through) if is_late else min(counts_at, at)
            account = chart.mt_balance(row.server, row.login, row.currency, client_id=row.client_id)
            pile = _Pile(row.server, row.currency, _kind(row), counts_at.astimezone(UTC).date(), is_late)
            piles[pile].append(_Change(row.id, row.trading_account_id, account, amount, counts_at))
        runs = [run for pile, changes in piles.items() for run in _runs(unit.actor, pile, changes, refused)]
        chart.open_accounts(session, *{account for run in runs for account in run.accounts})
        txn_ids = iter(posting.post_many(session, [run.posting for run in runs if run.posting]))
        for run in runs:
            carried[next(txn_ids) if run.posting else NOTHING_POSTED] += run.deal_ids
        for txn_id, deal_ids in carried.items():
            session.execute(update(Deal).where(Deal.id.in_(deal_ids)).values(ledger_txn_id=txn_id))
        return sum(map(len, carried.values()))


def _unmirrored(refused: set[int], account_ids: Sequence[int] | None) -> Select[*tuple[Any, ...]]:
    """Deals of our accounts that no transaction carries; those of transfers only when their transfer is posted.

    A deal that is being superseded just now is left alone: its next revision is looked at instead.
    """
    return (
        select(
            *(Deal.id, Deal.server_id, Deal.ticket, Deal.revision, Deal.login, Deal.trading_account_id, Deal.action),
            *(Deal.is_void, Deal.is_ours, Deal.profit, Deal.swap, Deal.commission, Deal.fee, Deal.done_at, Deal.booked_at),
            *(TradingAccount.currency, TradingAccount.client_id, Product.is_demo),
            Server.code.label("server"),
            ((TradingAccount.origin != "opened") & (Deal.done_at <= TradingAccount.opened_at)).label("is_in_opening"),
            *(BalanceOperation.amount_minor, BalanceOperation.purpose),
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
            or_(Deal.is_ours.is_(False), Transfer.ledger_txn_id.is_not(None), BalanceOperation.purpose != TRANSFER),
            Deal.trading_account_id.not_in(refused),
            *([] if account_ids is None else [Deal.trading_account_id.in_(account_ids)]),
        )
        .order_by(Deal.id)
        .limit(DEALS_PER_ROUND)
        .with_for_update(of=Deal, skip_locked=True)
    )


def _earlier(session: Session, rows: Sequence[_Row]) -> dict[tuple[int, int], _Row]:
    """By server and ticket: of those deals that are corrections, the newest revision that was mirrored before."""
    corrected = [(row.server_id, row.ticket) for row in rows if row.revision > 1]
    if not corrected:
        return {}
    found = session.execute(
        select(
            *(Deal.server_id, Deal.ticket, Deal.action, Deal.is_void, Deal.profit, Deal.swap, Deal.commission, Deal.fee),
            Transaction.effective_at,
        )
        .outerjoin(Transaction, Transaction.id == Deal.ledger_txn_id)
        .where(tuple_(Deal.server_id, Deal.ticket).in_(corrected), Deal.ledger_txn_id.is_not(None))
        .ext(distinct_on(Deal.server_id, Deal.ticket))
        .order_by(Deal.server_id, Deal.ticket, Deal.revision.desc())
    )
    return {(row.server_id, row.ticket): row for row in found}


def _change(row: _Row, earlier: _Row | None) -> tuple[Decimal, datetime]:
    """What a deal changes beyond what the ledger already has of it, and when that counts.

    The ledger has an earlier revision, or else the transfer that made the deal, or the opening balance that holds it.
    """
    if row.is_demo:
        return Decimal(0), row.done_at
    if earlier is not None:
        return result(row) - result(earlier), max(row.booked_at, earlier.effective_at or row.booked_at)
    if row.is_in_opening:
        return Decimal(0), row.done_at
    is_transfer = row.is_ours and row.purpose == TRANSFER
    return result(row) - (Money(row.amount_minor, row.currency).decimal if is_transfer else 0), row.done_at


def result(deal: Any) -> Decimal:
    """What a deal did to the account's balance: profit, swap, commission and fee; nothing when it is void or only credit."""
    whole: Decimal = deal.profit + deal.swap + deal.commission + deal.fee
    return Decimal(0) if deal.is_void or deal.action in CREDIT_ACTIONS else whole


def _kind(row: _Row) -> str:
    if row.action in TRADES:
        return RESULTS
    gives_back = row.action == DealAction.SO_COMPENSATION or (row.is_ours and row.purpose == NEGATIVE_BALANCE)
    return WRITE_OFF if gives_back else UNMATCHED


def _runs(actor: Actor, pile: _Pile, changes: list[_Change], refused: set[int]) -> Iterator[_Run]:
    """A pile as runs of up to 199 logins. Accounts whose sum the ledger cannot hold are refused."""
    by_account: dict[chart.AccountSpec, list[_Change]] = defaultdict(list)
    for change in changes:
        by_account[change.account].append(change)
    sums: list[tuple[chart.AccountSpec, Money]] = []
    for account, its in by_account.items():
        try:
            sums.append((account, Money.parse(sum((change.amount for change in its), Decimal(0)), pile.currency)))
        except InvalidMoney:
            log.error("unpostable deals account=%s", account)
            refused.add(its[0].trading_account_id)
    for start in range(0, len(sums), LOGINS_PER_RUN):
        part = sums[start : start + LOGINS_PER_RUN]
        carried = [change for account, _ in part for change in by_account[account]]
        yield _run(actor, pile, [(account, amount) for account, amount in part if amount], carried)


def _run(actor: Actor, pile: _Pile, sums: list[tuple[chart.AccountSpec, Money]], carried: list[_Change]) -> _Run:
    """One transaction; its key names the deals, so that the same run is the same transaction."""
    ids = sorted(change.deal_id for change in carried)
    if not sums:
        return _Run(ids, [], None)
    total = sum((amount for _, amount in sums), Money.zero(pile.currency))
    made = posting.Posting(
        key=f"mirror:{pile.server}:{pile.currency}:{ids[0]}:{ids[-1]}",
        kind=pile.kind,
        effective_at=max(change.effective_at for change in carried),
        actor=actor,
        legs=[_leg(account, amount) for account, amount in [*sums, (pile.counter, -total)] if amount],
        metadata={"deals": len(ids), "server": pile.server, **({"late": True} if pile.is_late else {})},
    )
    return _Run(ids, [pile.counter, *(account for account, _ in sums)], made)


def _leg(account: chart.AccountSpec, amount: Money) -> posting.Leg:
    return posting.credit(account, amount) if amount.amount_minor > 0 else posting.debit(account, -amount)
