"""What caused each transaction: from its kind to the row that stands behind it, and back.

Every kind that the code posts is one line of `SOURCES`. A row knows its transaction by a column that holds the
transaction's id, or by the business key under which it was posted. `due` says from which states on a row must have its
transaction; proof P7 compares both ways with the same lines that the money desk follows from a transaction to its cause.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, SQLColumnExpression, String, and_, case, cast, func, select, true
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.core.errors import N_
from app.core.orm import Model
from app.models.commissions import Settlement
from app.models.controls import ExternalLine, LedgerRequest
from app.models.fx import FXQuote
from app.models.ledger import Account, Transaction
from app.models.metatrader import Deal, TradingAccount
from app.models.payments import Deposit, Transfer, Withdrawal
from app.models.payouts import Payout

_FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Moved:
    """What a row's transaction must have done to one account: code of the account, and minor units credited (or debited)."""

    account: ColumnElement[str]
    credit_minor: SQLColumnExpression[Any]


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of one table that cause transactions, and how each knows its own.

    `txn`: the id of the transaction; or `key`: its business key, with columns of the row in braces. `due`: the rows that
    must have their transaction; no others have one. `only`: the rows meant at all. `moved`: what the transaction must have
    done. `shared`: one transaction may carry several rows. `also`: kinds of transactions that the rows name without being
    their cause.
    """

    model: type[Model]
    txn: InstrumentedAttribute[Any] | None = None
    key: str | None = None
    due: ColumnElement[bool] | None = None
    only: ColumnElement[bool] | None = None
    moved: tuple[Moved, ...] = ()
    shared: bool = False
    also: tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        """The table's name, by which screens find the page of a row."""
        return str(self.model.__tablename__)

    def key_of_row(self) -> ColumnElement[str]:
        """The key of a row's transaction, as an expression over its columns."""
        parts = _FIELD.split(self.key or "")
        return func.concat(*(_in_key(getattr(self.model, part)) if at % 2 else part for at, part in enumerate(parts)))

    def of(self, txn: Transaction) -> ColumnElement[bool] | None:
        """The condition on rows that caused this transaction; None when its key shows that none of them did."""
        if self.txn is not None:
            return and_(self.txn == txn.id)
        parts = _FIELD.split(self.key or "")
        columns = [getattr(self.model, name) for name in parts[1::2]]
        values = [_VALUES[column.type.python_type] for column in columns]
        pattern = re.escape(parts[0])
        for (looks, _), then in zip(values, parts[2::2], strict=True):
            pattern += f"({looks}){re.escape(then)}"
        found = re.fullmatch(pattern, txn.idempotency_key)
        if found is None:
            return None
        try:
            wanted = [column == read(of) for column, (_, read), of in zip(columns, values, found.groups(), strict=True)]
        except ValueError:  # such as the 31st of February
            return None
        return and_(true() if self.only is None else self.only, *wanted)


class Source:
    """A kind of transaction in words, and the rows that may have caused one."""

    def __init__(self, label: str, *rows: Rows) -> None:
        self.label = label
        self.rows = rows


@dataclass(frozen=True)
class Cause:
    """The row behind a transaction: its table, its id, and in words (a message id) what kind of transaction it caused."""

    subject: str
    id: int
    label: str


#: How values of a type look inside a key, and how they are read back.
_VALUES: dict[type, tuple[str, Callable[[str], Any]]] = {
    UUID: ("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", UUID),
    int: ("[0-9]{1,18}", int),
    datetime: (r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+\+00:00", datetime.fromisoformat),
    str: ("[^:]+", str),
}


def _in_key(column: InstrumentedAttribute[Any]) -> ColumnElement[str]:
    """A column as it stands in a key; moments as `isoformat` writes them, whatever the session's time zone."""
    if column.type.python_type is datetime:
        return func.to_char(func.timezone("UTC", column), 'YYYY-MM-DD"T"HH24:MI:SS"+00:00"')
    return cast(column, String)


def _code(owner: str, whose: Any, purpose: str, currency: Any) -> ColumnElement[str]:
    return func.concat(owner, ":", whose, f":{purpose}:", currency)


def _wallet(model: Any, currency: Any) -> ColumnElement[str]:
    return _code("client", model.client_id, "wallet", currency)


_DONE = ("done", "compensated")
_GIVEN_BACK = ("failed", "returned")

_TRANSFERS = Rows(
    Transfer,
    txn=Transfer.ledger_txn_id,
    due=Transfer.state.in_(_DONE),
    moved=(
        Moved(
            _wallet(Transfer, Transfer.currency),
            case((Transfer.direction == "to_account", -Transfer.amount_minor), else_=Transfer.amount_minor),
        ),
    ),
)
_DEALS = Rows(
    Deal,
    txn=Deal.ledger_txn_id,
    shared=True,
    also=("transfer_to_account", "transfer_to_wallet"),
)
_SETTLEMENTS = Rows(
    Settlement,
    txn=Settlement.ledger_txn_id,
    due=Settlement.amount_minor > 0,
    moved=(
        Moved(
            case(
                (Settlement.ib_id.is_(None), _wallet(Settlement, Settlement.paid_currency)),
                else_=_code("ib", Settlement.ib_id, "commission", Settlement.paid_currency),
            ),
            Settlement.amount_minor,
        ),
    ),
)
_PAYOUTS = Rows(
    Payout,
    txn=Payout.ledger_txn_id,
    due=Payout.state.in_(("paying", "paid", "failed", "reversed")),
    moved=(
        Moved(_code("ib", Payout.ib_id, "commission", Payout.currency), -Payout.amount_minor),
        Moved(_wallet(Payout, Payout.currency), Payout.amount_minor),
    ),
)
_REQUESTS = Rows(
    LedgerRequest,
    txn=LedgerRequest.txn_id,
    due=(LedgerRequest.status == "approved") & LedgerRequest.kind.in_(("adjustment", "reversal")),
)

#: Every kind that the code posts.
SOURCES: dict[str, Source] = {
    "deposit": Source(
        N_("Deposit"),
        Rows(
            Deposit,
            txn=Deposit.ledger_txn_id,
            due=Deposit.state.in_(("settled", "refunded_part", "refunded", "charged_back")),
            moved=(Moved(_wallet(Deposit, Deposit.currency), Deposit.settled_minor),),
        ),
    ),
    "psp_fee": Source(
        N_("Payment provider's fee"),
        Rows(Deposit, key="deposit-fee:{connector}:{public_id}", due=Deposit.fee_minor > 0),
    ),
    "withdrawal": Source(
        N_("Withdrawal"),
        Rows(
            Withdrawal,
            txn=Withdrawal.capture_txn_id,
            due=Withdrawal.state.in_(("approved", "submitting", "unknown", "pending", "paid", *_GIVEN_BACK)),
            moved=(Moved(_wallet(Withdrawal, Withdrawal.currency), -Withdrawal.amount_minor),),
        ),
    ),
    "payout": Source(
        N_("Payout"),
        Rows(
            Withdrawal,
            txn=Withdrawal.final_txn_id,
            due=Withdrawal.state.in_(("paid", "returned")),
            moved=(Moved(_code("psp", Withdrawal.connector, "payouts", Withdrawal.currency), -Withdrawal.amount_minor),),
        ),
    ),
    "reversal": Source(
        N_("Reversal"),
        Rows(Withdrawal, key="withdrawal:{public_id}:failed", due=Withdrawal.state.in_(_GIVEN_BACK)),
        Rows(Withdrawal, key="withdrawal:{public_id}:returned", due=Withdrawal.state == "returned"),
        Rows(Payout, key="payout:{id}:reversed", due=Payout.state == "reversed"),
        _REQUESTS,
    ),
    "transfer_to_account": Source(N_("Transfer to a trading account"), _TRANSFERS),
    "transfer_to_wallet": Source(N_("Transfer to the wallet"), _TRANSFERS),
    "deal_results": Source(N_("Trading results"), _DEALS),
    "unmatched_balance_operation": Source(N_("Balance operation at the server"), _DEALS),
    "negative_balance": Source(N_("Negative balance written off"), _DEALS),
    "commission_settlement": Source(N_("Commission settlement"), _SETTLEMENTS),
    "rebate_settlement": Source(N_("Rebate"), _SETTLEMENTS),
    "commission_payout": Source(N_("Commission payout"), _PAYOUTS),
    "conversion": Source(
        N_("Conversion"),
        Rows(
            FXQuote,
            txn=FXQuote.txn_id,
            due=FXQuote.converted_at.is_not(None),
            moved=(
                Moved(_wallet(FXQuote, FXQuote.sell_currency), -FXQuote.sell_minor),
                Moved(_wallet(FXQuote, FXQuote.buy_currency), FXQuote.buy_minor),
            ),
        ),
    ),
    "adjustment": Source(N_("Adjustment"), _REQUESTS),
    "revaluation": Source(
        N_("FX result of a period"),
        Rows(LedgerRequest, key="revaluation:{closed_through}", only=LedgerRequest.status == "approved"),
    ),
    "suspense_receipt": Source(N_("Receipt in suspense"), Rows(ExternalLine, key="external-line:{id}")),
    "migration_opening": Source(
        N_("Opening balance"),
        Rows(Account, key="migration:{client_id}:{currency}", only=Account.code.like("client:%:wallet:%")),
        Rows(Account, key="migration-account:{id}", only=Account.code.like("bank:%")),
        Rows(TradingAccount, txn=TradingAccount.opening_txn_id, shared=True),
    ),
}


def cause_of(session: Session, txn: Transaction) -> Cause | None:
    """The row that caused a transaction; the first one where several share it. None where there is none (P7 names it)."""
    source = SOURCES.get(txn.kind)
    for rows in source.rows if source else ():
        condition = rows.of(txn)
        if source is not None and condition is not None:
            key = rows.model.__table__.c.id
            found = session.scalar(select(key).where(condition).order_by(key).limit(1))
            if found is not None:
                return Cause(rows.subject, int(found), source.label)
    return None


def all_rows() -> dict[Rows, tuple[str, ...]]:
    """Each kind of rows once, with the kinds of transactions that they may name."""
    named: dict[Rows, tuple[str, ...]] = {}
    for kind, source in SOURCES.items():
        for rows in source.rows:
            named[rows] = (*named.get(rows, rows.also), kind)
    return named
