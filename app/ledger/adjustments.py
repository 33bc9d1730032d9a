"""Legs as a person writes them: judged row by row before they become a request, and shown with what they would do.

Nothing here posts, opens or locks anything.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core.clock import now
from app.core.errors import N_, AppError, InvalidInput
from app.core.money import MAX_AMOUNT_MINOR, InvalidMoney, Money, exponent
from app.ledger import chart
from app.ledger.errors import (
    AccountClosed,
    AmountTooLarge,
    CurrencyMismatch,
    InsufficientFunds,
    InvalidPosting,
    PeriodClosed,
    TooManyLegs,
    UnbalancedTransaction,
    UnknownAccount,
)
from app.ledger.posting import MAX_LEGS, Leg
from app.models.clients import Client
from app.models.ledger import DEBIT_KINDS, Account, Entry, PeriodClose
from app.models.metatrader import Server, TradingAccount
from app.models.partners import IntroducingBroker

#: What is wrong, by field: "legs" for the whole, "legs-0-account", "legs-0-side", "legs-0-amount" for the first row, and so on.
Faults = dict[str, list[AppError]]

#: Adjustments of an earlier century are slips of the keyboard.
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)

_CODE = re.compile(r"[A-Za-z0-9_.:-]{1,120}")
#: Digits that any bigint column holds.
_LONGEST_NUMBER = 18
_WITH_CURRENCY = re.compile(r"(.*\S)\s*([A-Z]{3,8})")


@dataclass(frozen=True)
class DraftLeg:
    """One row as it was written: nothing in it is known to be right. A text may end in a currency's code."""

    account: str
    side: str
    amount: str | Decimal | Money


@dataclass(frozen=True)
class Judged:
    """The legs that can be posted if there are no faults, and the accounts among them that are not open yet."""

    legs: tuple[Leg, ...]
    unopened: tuple[chart.AccountSpec, ...]
    faults: Faults


@dataclass(frozen=True)
class LegEffect:
    """One leg with its account's balance before and after it, `held` of which is set aside."""

    account: str
    kind: str
    side: Literal["debit", "credit"]
    money: Money
    before: Money
    after: Money
    held: Money
    is_new: bool = False
    is_short: bool = False


def judge(session: Session, drafts: Sequence[DraftLeg]) -> Judged:
    """Everything that is wrong with the rows, told at once. Balance is judged when each row by itself is in order."""
    faults: Faults = defaultdict(list)
    accounts = _accounts(session, drafts)
    legs: list[Leg] = []
    rows: dict[str, int] = {}
    for index, draft in enumerate(drafts):
        code, field = draft.account.strip(), f"legs-{index}"
        spec, account = accounts.get(code, (None, None))
        currency = spec.currency if spec is not None else _currency_in(code)
        if draft.side not in ("debit", "credit"):
            faults[f"{field}-side"].append(InvalidInput(message=N_("Please say whether this row debits or credits.")))
        if spec is None:
            faults[f"{field}-account"].append(_no_account(code))
        if account is not None and account.closed_at is not None:
            faults[f"{field}-account"].append(AccountClosed())
        if code in rows and spec is not None:
            again = N_("This account stands in row %(row)s already. Please put both into one row.")
            faults[f"{field}-account"].append(InvalidPosting(again, row=rows[code] + 1))
        rows.setdefault(code, index)
        if currency is None:
            continue
        try:
            money = _amount(draft.amount, currency)
        except AppError as error:
            faults[f"{field}-amount"].append(error)
        else:
            legs.append(Leg(code, money, "credit" if draft.side == "credit" else "debit"))
    if len(drafts) > MAX_LEGS:
        faults["legs"].append(TooManyLegs())
    if len(drafts) < 2:
        faults["legs"].append(UnbalancedTransaction(N_("Please fill in two rows at least: one debits, another one credits.")))
    elif not faults:
        faults["legs"] += _imbalances(legs)
    unopened = {code: spec for code, (spec, account) in accounts.items() if spec is not None and account is None}
    return Judged(tuple(legs), tuple(unopened[code] for code in sorted(unopened)), {k: v for k, v in faults.items() if v})


def judge_moment(session: Session, at: datetime | None, *, not_before: datetime | None = None) -> list[AppError]:
    """Why nothing can be posted with this effective moment: closed, to come, or before what it corrects."""
    if at is None or at.tzinfo is None:
        return [InvalidInput(message=N_("Please give the moment from which it counts, in UTC."))]
    if at > now():
        return [InvalidInput(message=N_("This moment is still to come. Please choose one that has passed."))]
    if at < EARLIEST:
        return [InvalidInput(message=N_("This moment lies before the year 2000."))]
    closed = session.scalar(select(func.max(PeriodClose.closed_through)))
    if closed is not None and at < closed:
        return [
            PeriodClosed(N_("The books are closed up to %(moment)s UTC. Please choose a later moment."), moment=_when(closed))
        ]
    if not_before is not None and at < not_before:
        early = N_("The transaction itself counts from %(moment)s UTC on. Please choose a moment that is not before it.")
        return [InvalidInput(message=early, moment=_when(not_before))]
    return []


def totals(legs: Sequence[Leg]) -> dict[str, tuple[int, int]]:
    """Debits and credits by currency, in minor units."""
    debits, credits_ = Counter[str](), Counter[str]()
    for leg in legs:
        (debits if leg.side == "debit" else credits_)[leg.money.currency] += leg.money.amount_minor
    return {currency: (debits[currency], credits_[currency]) for currency in sorted({*debits, *credits_})}


def effects(session: Session, legs: Sequence[Leg]) -> list[LegEffect]:
    """What the legs would do to their accounts as these stand now, in the order given.

    Raises AmountTooLarge where an account could not hold the result.
    """
    accounts = {
        row.code: row for row in session.scalars(select(Account).where(Account.code.in_([leg.account for leg in legs])))
    }
    found = []
    for leg in legs:
        account, spec = accounts.get(leg.account), chart.spec_of(leg.account)
        if account is not None:
            kind, before, held, signs = account.kind, account.balance, account.held, account.may_go_negative
            moved = account.debits if leg.side == "debit" else account.credits
        elif spec is not None:
            kind, before, held, signs, moved = spec.kind, 0, 0, spec.may_go_negative, 0
        else:
            raise UnknownAccount()
        change = leg.money.amount_minor if (kind in DEBIT_KINDS) == (leg.side == "debit") else -leg.money.amount_minor
        after = before + change
        if max(abs(after), moved + leg.money.amount_minor) > MAX_AMOUNT_MINOR:
            raise AmountTooLarge(N_("%(account)s cannot hold this amount."), account=leg.account)
        currency = leg.money.currency
        found.append(
            LegEffect(
                account=leg.account,
                kind=kind,
                side=leg.side,
                money=leg.money,
                before=Money(before, currency),
                after=Money(after, currency),
                held=Money(held, currency),
                is_new=account is None,
                is_short=not signs and change < 0 and after < held,
            )
        )
    return found


def shortages(found: Sequence[LegEffect]) -> list[AppError]:
    """One sentence for each account that has not enough for its leg."""
    lacking = N_("%(account)s has %(available)s available, and %(amount)s would be taken.")
    return [
        InsufficientFunds(lacking, account=leg.account, available=str(leg.before - leg.held), amount=str(leg.money))
        for leg in found
        if leg.is_short
    ]


def mirrored(session: Session, txn_id: UUID) -> list[Leg]:
    """The legs that would take a posted transaction back, by account."""
    rows = _entries(session, txn_id)
    return [Leg(account.code, entry.debited or entry.credited, "credit" if entry.debit else "debit") for entry, account in rows]  # type: ignore[arg-type]  # an entry has one of the two


def posted(session: Session, txn_id: UUID) -> list[LegEffect]:
    """The legs of a posted transaction, with the balances that they met and left."""
    found = []
    for entry, account in _entries(session, txn_id):
        sign = 1 if account.kind in DEBIT_KINDS else -1
        after = sign * (entry.debits_after - entry.credits_after)
        before = after - sign * (entry.debit - entry.credit)
        found.append(
            LegEffect(
                account=account.code,
                kind=account.kind,
                side="debit" if entry.debit else "credit",
                money=Money(entry.debit or entry.credit, entry.currency),
                before=Money(before, entry.currency),
                after=Money(after, entry.currency),
                held=Money.zero(entry.currency),
            )
        )
    return found


def _entries(session: Session, txn_id: UUID) -> list[tuple[Entry, Account]]:
    rows = session.execute(
        select(Entry, Account)
        .join(Account, Account.id == Entry.account_id)
        .where(Entry.txn_id == txn_id)
        .order_by(Account.code)
    )
    return [(row.Entry, row.Account) for row in rows]


def _accounts(session: Session, drafts: Sequence[DraftLeg]) -> dict[str, tuple[chart.AccountSpec | None, Account | None]]:
    """By code: what the account is, and its row where it is open. A code that means nothing is missing."""
    codes = {code for draft in drafts if _CODE.fullmatch(code := draft.account.strip())}
    known = {account.code: account for account in session.scalars(select(Account).where(Account.code.in_(codes)))}
    return {
        code: (chart.AccountSpec(code, account.kind, account.currency), account)
        if (account := known.get(code)) is not None
        else (to_be_opened(session, code), None)
        for code in codes
    }


def to_be_opened(session: Session, code: str) -> chart.AccountSpec | None:
    """The account of a code that is not open yet, if the chart has such accounts and its owner is there."""
    spec = chart.spec_of(code) if _CODE.fullmatch(code) else None
    if spec is None or any(part.isdigit() and len(part) > _LONGEST_NUMBER for part in code.split(":")):
        return None
    match code.split(":"):
        case ["client", number, *_]:
            return spec if session.get(Client, int(number)) else None
        case ["ib", number, *_]:
            ib = session.get(IntroducingBroker, int(number))
            return replace(spec, client_id=ib.client_id) if ib else None
        case ["mt", server, login, *_]:
            of_login = select(TradingAccount).join(Server, Server.id == TradingAccount.server_id)
            account = session.scalar(of_login.where(Server.code == server, TradingAccount.login == int(login)))
            is_its_currency = account is not None and account.currency == spec.currency
            return replace(spec, client_id=account.client_id) if account is not None and is_its_currency else None
        case ["income", "trading", server, _]:
            return spec if session.scalar(select(Server.id).where(Server.code == server)) else None
        case ["expense", "psp_fees", name, _]:
            return spec if _has_accounts(session, f"psp:{name}:") else None
        case ["psp" | "bank" | "suspense" as owner, name, *_]:
            return spec if _has_accounts(session, f"{owner}:{name}:") else None
    return spec


def _has_accounts(session: Session, beginning: str) -> bool:
    """Whether a provider, bank or source has accounts already: a new name is more likely a slip."""
    return session.scalar(select(Account.id).where(Account.code.startswith(beginning, autoescape=True)).limit(1)) is not None


def _currency_in(code: str) -> str | None:
    """The currency that a code names, so that the amount beside an account that does not exist is judged, too."""
    try:
        exponent(code.rpartition(":")[2])
    except InvalidMoney:
        return None
    return code.rpartition(":")[2]


def _no_account(code: str) -> AppError:
    if not code:
        return UnknownAccount(N_("Please name an account."))
    return UnknownAccount(N_("There is no account %(account)s in the ledger."), account=code[:120])


def _amount(given: str | Decimal | Money, currency: str) -> Money:
    """A positive amount in the account's currency. Raises InvalidMoney or CurrencyMismatch."""
    other = None
    if isinstance(given, Money):
        money, other = given, given.currency
    else:
        text = given
        if isinstance(text, str) and (parts := _WITH_CURRENCY.fullmatch(text.strip())):
            text, other = parts.groups()
        money = Money.parse(text, currency)
    if other is not None and other != currency:
        raise CurrencyMismatch(N_("This account is kept in %(own)s, not in %(other)s."), own=currency, other=other)
    if money.amount_minor <= 0:
        raise InvalidMoney(message=N_("The amount must be greater than zero; the side says which way it goes."))
    return money


def _imbalances(legs: Sequence[Leg]) -> list[AppError]:
    differ = N_("%(currency)s does not balance: debits %(debits)s, credits %(credits)s, difference %(difference)s.")
    return [
        UnbalancedTransaction(
            differ,
            currency=currency,
            debits=_plain(debits, currency),
            credits=_plain(credits_, currency),
            difference=_plain(abs(debits - credits_), currency),
        )
        for currency, (debits, credits_) in totals(legs).items()
        if debits != credits_
    ]


def _plain(amount_minor: int, currency: str) -> str:
    """An amount that may be larger than any account can hold."""
    return f"{Decimal(amount_minor).scaleb(-exponent(currency)):f}"


def _when(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"
