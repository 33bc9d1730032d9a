"""What stands in a client's statement: every wallet and every trading account, from opening to closing balance.

A wallet is told from the ledger. A trading account is told from the deals its server reported, and then held against the
ledger's mirror of it (app/reporting/accounts.py). Where the two differ the statement says so itself (`differences`).
Days are days in UTC.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy.orm import Session

from app.core.clock import now
from app.core.errors import N_
from app.core.money import Money
from app.ledger import queries
from app.models.clients import Client
from app.reporting.accounts import AccountStatement, Difference, Period, account_statements
from app.reporting.errors import InvalidPeriod, TooManyLines, UnknownClient

MAX_DAYS = 366
#: About ten milliseconds of layout each.
MAX_LINES = 5_000

#: What a transaction was to the client, by its kind; a reversal by the kind it reverses.
MOVEMENTS = {
    "deposit": N_("Deposit"),
    "withdrawal": N_("Withdrawal"),
    "transfer_to_account": N_("To trading account"),
    "transfer_to_wallet": N_("From trading account"),
    "commission_payout": N_("Commission paid out"),
    "migration_opening": N_("Brought over from the former system"),
}
REVERSALS = {
    "deposit": N_("Deposit taken back"),
    "withdrawal": N_("Withdrawal given back"),
    "commission_payout": N_("Commission payout taken back"),
    "transfer_to_account": N_("Transfer taken back"),
    "transfer_to_wallet": N_("Transfer taken back"),
}
OTHER = N_("Other movement")


@dataclass(frozen=True)
class Movement:
    """One change of a wallet: a debit lowers it, a credit raises it. `what` is a message id, `reference` ours."""

    at: datetime
    what: str
    reference: str
    debit: Money | None
    credit: Money | None
    balance: Money


@dataclass(frozen=True)
class WalletStatement:
    """`closing` equals `opening` less `debits` plus `credits`."""

    currency: str
    opening: Money
    movements: tuple[Movement, ...]
    debits: Money
    credits: Money
    change: Money
    closing: Money


@dataclass(frozen=True)
class Statement:
    """All of one client's money over a period of whole days, the last one included.

    `until` is the moment the closing balances stand for: the end of the last day, or now when that day is not over.
    `differences` is empty when every figure agrees with the ledger.
    """

    client_id: int
    name: str
    address: str
    country: str
    first: date
    last: date
    until: datetime
    is_complete: bool
    wallets: tuple[WalletStatement, ...]
    accounts: tuple[AccountStatement, ...]
    differences: tuple[Difference, ...]


def client_statement(session: Session, *, client_id: int, first: date, last: date) -> Statement:
    """The statement of one client from the beginning of `first` to the end of `last`, in UTC.

    Demo accounts are left out: no money stands on them. Raises UnknownClient, InvalidPeriod and TooManyLines.
    """
    at = now()
    if not (first <= last and (last - first).days < MAX_DAYS and first <= at.date()):
        raise InvalidPeriod({"period": InvalidPeriod.message})
    client = session.get(Client, client_id)
    if client is None:
        raise UnknownClient()
    period = Period(_midnight(first), _midnight(last + timedelta(days=1)))
    wallets = tuple(_wallet(session, code, period) for code in _wallet_codes(session, client_id))
    accounts, differences = account_statements(session, client_id, period)
    if sum(len(wallet.movements) for wallet in wallets) + sum(len(account.lines) for account in accounts) > MAX_LINES:
        raise TooManyLines({"period": TooManyLines.message}, most=MAX_LINES)
    return Statement(
        client_id=client_id,
        name=client.full_name,
        address=client.address,
        country=client.country,
        first=first,
        last=last,
        until=min(period.end, at),
        is_complete=period.end <= at,
        wallets=wallets,
        accounts=accounts,
        differences=(*_wrong_sums(wallets), *differences),
    )


def as_values(statement: Statement) -> dict[str, Any]:
    """The statement as plain JSON, as the report under reports/statement reads it: moments and days in ISO 8601,
    amounts as whole minor units with their currency, other decimals as text.
    """
    plain: dict[str, Any] = _plain(asdict(statement))
    return plain


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _wallet_codes(session: Session, client_id: int) -> list[str]:
    prefix = f"client:{client_id}:wallet:"
    return [account.code for account in queries.client_balances(session, client_id) if account.code.startswith(prefix)]


def _wallet(session: Session, code: str, period: Period) -> WalletStatement:
    told = queries.statement(session, code, period.start, period.end)
    movements = tuple(_movement(line) for line in told.lines)
    zero = Money.zero(told.opening.currency)
    return WalletStatement(
        currency=zero.currency,
        opening=told.opening,
        movements=movements,
        debits=sum((movement.debit for movement in movements if movement.debit), zero),
        credits=sum((movement.credit for movement in movements if movement.credit), zero),
        change=told.closing - told.opening,
        closing=told.closing,
    )


def _movement(line: queries.Line) -> Movement:
    words, kind = (REVERSALS, line.metadata.get("of", "")) if line.kind == "reversal" else (MOVEMENTS, line.kind)
    is_credit = line.change.amount_minor > 0
    return Movement(
        at=line.effective_at,
        what=words.get(kind, OTHER),
        reference=_reference(line.metadata),
        debit=None if is_credit else -line.change,
        credit=line.change if is_credit else None,
        balance=line.balance,
    )


def _reference(metadata: dict[str, Any]) -> str:
    """What the client knows the movement by: the login for transfers, else the number of the deposit, withdrawal or payout."""
    for name in ("login", "deposit_id", "withdrawal_id", "payout_id"):
        if metadata.get(name):
            return str(metadata[name])
    return ""


def _wrong_sums(wallets: tuple[WalletStatement, ...]) -> list[Difference]:
    """Wallets whose lines do not add up to the ledger's closing balance."""
    sums = [(wallet, wallet.opening - wallet.debits + wallet.credits) for wallet in wallets]
    return [Difference(wallet.currency, told, wallet.closing) for wallet, told in sums if told != wallet.closing]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value
