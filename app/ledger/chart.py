"""The chart of accounts: how each account is called, what kind it is, and how it is opened.

Codes read `owner:id:purpose:currency`. Kinds decide the sign (docs/ledger.md): an asset or expense grows by debits, a
liability, income or equity account by credits. What belongs to clients and may not go below zero is refused below zero
by the database; accounts that mirror the outside world (a trading server, a bank, a provider) must be able to follow it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.core.money import InvalidMoney, exponent
from app.ledger.errors import AccountMismatch, typed_errors
from app.models.ledger import Account, Currency

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")


@dataclass(frozen=True)
class AccountSpec:
    """An account as the chart knows it. `client_id` says whose money it is; None for the house's own."""

    code: str
    kind: str
    currency: str
    may_go_negative: bool = False
    client_id: int | None = None

    def __str__(self) -> str:
        return self.code


def client_wallet(client_id: int, currency: str) -> AccountSpec:
    """What we owe the client, free to be withdrawn or moved to trading accounts. Never below zero."""
    return _account("liability", currency, "client", client_id, "wallet", client_id=client_id)


def client_bonus(client_id: int, currency: str) -> AccountSpec:
    """Bonus granted to the client, kept apart from the wallet."""
    return _account("liability", currency, "client", client_id, "bonus", client_id=client_id)


def client_receivable(client_id: int, currency: str) -> AccountSpec:
    """What the client owes us, such as a chargeback beyond the wallet; later credits repay it first."""
    return _account("asset", currency, "client", client_id, "receivable", client_id=client_id)


def ib_commission(ib_id: int, currency: str, *, client_id: int | None = None) -> AccountSpec:
    """Settled commission we owe an introducing broker. `client_id` is the broker's own client record."""
    return _account("liability", currency, "ib", ib_id, "commission", client_id=client_id)


def mt_balance(server: str, login: int, currency: str, *, client_id: int | None = None) -> AccountSpec:
    """The mirror of one trading account's balance (without credit); negative when the server's is."""
    return _account("liability", currency, "mt", server, login, "balance", may_go_negative=True, client_id=client_id)


def mt_trading_counter(server: str, currency: str) -> AccountSpec:
    """The house's result from clients' trading on one server: the other side of deal results."""
    return _account("income", currency, "income", "trading", server, may_go_negative=True)


def psp_clearing(name: str, currency: str) -> AccountSpec:
    """What a payment provider has collected for us and owes us."""
    return _account("asset", currency, "psp", name, "clearing", may_go_negative=True)


def psp_payouts(name: str, currency: str) -> AccountSpec:
    """Payouts handed to a provider whose outcome is not known yet. Never below zero."""
    return _account("liability", currency, "psp", name, "payouts")


def psp_fees(name: str, currency: str) -> AccountSpec:
    """What a payment provider charges us."""
    return _account("expense", currency, "expense", "psp_fees", name, may_go_negative=True)


def bank_client_money(name: str, currency: str) -> AccountSpec:
    """The segregated bank account with clients' money."""
    return _account("asset", currency, "bank", name, "client_money", may_go_negative=True)


def bank_own_money(name: str, currency: str) -> AccountSpec:
    """The house's own bank account."""
    return _account("asset", currency, "bank", name, "own_money", may_go_negative=True)


def fx_position(currency: str) -> AccountSpec:
    """What conversions have left the house holding, or owing, in one currency."""
    return _account("equity", currency, "fx", "position", may_go_negative=True)


def fx_spread(currency: str) -> AccountSpec:
    """What clients pay for conversions."""
    return _account("income", currency, "income", "fx_spread", may_go_negative=True)


def fx_revaluation(currency: str) -> AccountSpec:
    """The part of the FX positions' worth that closes have taken into income: its other side, in the reporting currency."""
    return _account("equity", currency, "fx", "revaluation", may_go_negative=True)


def fx_result(currency: str) -> AccountSpec:
    """What the FX positions have won, or lost, by the rates; posted at a period's close."""
    return _account("income", currency, "income", "fx_result", may_go_negative=True)


def fees(currency: str) -> AccountSpec:
    """Fees that clients pay us."""
    return _account("income", currency, "income", "fees", may_go_negative=True)


def commission_expense(currency: str) -> AccountSpec:
    """What introducing brokers cost us."""
    return _account("expense", currency, "expense", "commission", may_go_negative=True)


def bonus_expense(currency: str) -> AccountSpec:
    """What bonuses cost us."""
    return _account("expense", currency, "expense", "bonus", may_go_negative=True)


def negative_balance_expense(currency: str) -> AccountSpec:
    """Negative trading balances that we write off."""
    return _account("expense", currency, "expense", "negative_balance", may_go_negative=True)


def suspense(source: str, currency: str) -> AccountSpec:
    """Receipts from one source that nobody could be found for yet."""
    return _account("liability", currency, "suspense", source, may_go_negative=True)


def migration_opening(currency: str) -> AccountSpec:
    """The other side of balances brought over from an earlier system."""
    return _account("equity", currency, "migration", "opening", may_go_negative=True)


def spec_of(code: str) -> AccountSpec | None:
    """The account that the chart has under this code; None for a code that no function above makes."""
    try:
        made = _made_from(code.split(":"))
    except (ValueError, InvalidMoney):
        return None
    return made if made is not None and made.code == code else None


def _made_from(parts: list[str]) -> AccountSpec | None:
    match parts:
        case ["client", number, "wallet", currency]:
            return client_wallet(int(number), currency)
        case ["client", number, "bonus", currency]:
            return client_bonus(int(number), currency)
        case ["client", number, "receivable", currency]:
            return client_receivable(int(number), currency)
        case ["ib", number, "commission", currency]:
            return ib_commission(int(number), currency)
        case ["mt", server, login, "balance", currency]:
            return mt_balance(server, int(login), currency)
        case ["income", "trading", server, currency]:
            return mt_trading_counter(server, currency)
        case ["psp", name, "clearing", currency]:
            return psp_clearing(name, currency)
        case ["psp", name, "payouts", currency]:
            return psp_payouts(name, currency)
        case ["expense", "psp_fees", name, currency]:
            return psp_fees(name, currency)
        case ["bank", name, "client_money", currency]:
            return bank_client_money(name, currency)
        case ["bank", name, "own_money", currency]:
            return bank_own_money(name, currency)
        case ["suspense", source, currency]:
            return suspense(source, currency)
    houses_own = _HOUSE.get(tuple(parts[:-1]))
    return houses_own(parts[-1]) if houses_own else None


_HOUSE: dict[tuple[str, ...], Callable[[str], AccountSpec]] = {
    ("fx", "position"): fx_position,
    ("fx", "revaluation"): fx_revaluation,
    ("income", "fx_spread"): fx_spread,
    ("income", "fx_result"): fx_result,
    ("income", "fees"): fees,
    ("expense", "commission"): commission_expense,
    ("expense", "bonus"): bonus_expense,
    ("expense", "negative_balance"): negative_balance_expense,
    ("migration", "opening"): migration_opening,
}


def open_account(session: Session, spec: AccountSpec) -> int:
    """Open the account, and its currency, unless it is there. Returns its id; safe when several do it at once.

    Raises AccountMismatch when it is there with another kind, currency or sign rule, and InvalidMoney for a currency that
    nobody knows. To open several in one unit of work use `open_accounts`, which keeps one order for all.
    """
    return open_accounts(session, spec)[spec.code]


def open_accounts(session: Session, *specs: AccountSpec) -> dict[str, int]:
    """Open several accounts, in the order of their codes so that two units cannot wait for each other. Ids by code.

    Those that are there already, in most cases all of them, cost one query together. Raises as `open_account`.
    """
    wanted = {spec.code: spec for spec in specs}
    known = _find(session, wanted)
    missing = {code: wanted[code] for code in sorted(wanted.keys() - known)}
    if missing:
        with typed_errors():
            for currency in sorted({spec.currency for spec in missing.values()}):
                _open_currency(session, currency)
            rows = [
                {
                    "code": code,
                    "kind": spec.kind,
                    "currency": spec.currency,
                    "may_go_negative": spec.may_go_negative,
                    "client_id": spec.client_id,
                }
                for code, spec in missing.items()
            ]
            session.execute(insert(Account).values(rows).on_conflict_do_nothing(index_elements=[Account.code]))
        known |= _find(session, missing)  # inserted just now, by us or by the other one we waited for
    return known


def _open_currency(session: Session, currency: str) -> None:
    digits = exponent(currency)
    session.execute(insert(Currency).values(code=currency, exponent=digits).on_conflict_do_nothing())
    if session.scalar(select(Currency.exponent).where(Currency.code == currency)) != digits:
        raise AccountMismatch()


def _find(session: Session, wanted: Mapping[str, AccountSpec]) -> dict[str, int]:
    """The ids of those that are there. Raises AccountMismatch for one that is not as it was meant."""
    rows = session.execute(
        select(Account.id, Account.code, Account.kind, Account.currency, Account.may_go_negative).where(
            Account.code.in_(wanted)
        )
    ).all()
    for row in rows:
        spec = wanted[row.code]
        if (row.kind, row.currency, row.may_go_negative) != (spec.kind, spec.currency, spec.may_go_negative):
            raise AccountMismatch()
    return {row.code: row.id for row in rows}


def _account(
    kind: str, currency: str, *parts: str | int, may_go_negative: bool = False, client_id: int | None = None
) -> AccountSpec:
    """Put a code together. Raises ValueError for a part that could be mistaken for two."""
    exponent(currency)
    for part in parts:
        if not _NAME.fullmatch(str(part)):
            raise ValueError(f"{part!r} cannot be part of an account code")
    return AccountSpec(":".join([*map(str, parts), currency]), kind, currency, may_go_negative, client_id)
