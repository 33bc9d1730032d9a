"""The port to a trading server: a small protocol, and the records that cross it.

Every adapter under platforms/ keeps these promises, and one contract test holds them to it. Money is Decimal in the
account's currency, volumes are whole 1/100000000 lots, times are raw server milliseconds: the server's wall clock written
as if it were UTC (servertime.py turns it into UTC). Attribute names follow the columns of app.models.metatrader.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from types import TracebackType
from typing import Any, Literal, Protocol, Self, runtime_checkable

from app.metatrader.codes import DEFAULT_RIGHTS, DealAction, DealEntry, UserRight

PasswordKind = Literal["main", "investor"]

#: Whole units of a lot in `volume`: 1/100000000 lot; MetaTrader's older unit is 1/10000 lot.
UNITS_PER_LOT = 100_000_000
UNITS_PER_OLD_UNIT = 10_000

#: Characters of a deal's comment that MetaTrader keeps.
COMMENT_LIMIT = 31


@dataclass(frozen=True)
class ServerAccess:
    """Where a trading server is and how we sign in. `code` names it in streams and logs; `options` are the adapter's own."""

    code: str
    platform: str
    url: str
    manager_login: int
    password: str
    ca_file: str
    time_zone: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"ServerAccess({self.code!r}, {self.platform!r}, {self.url!r}, manager_login={self.manager_login})"


@dataclass(frozen=True)
class NewAccount:
    """A login to create. `mark` (31 characters) is kept in the server's record, so that the login can be found again
    when the answer was lost.
    """

    group: str
    leverage: int
    first_name: str
    last_name: str
    main_password: str
    investor_password: str
    mark: str
    email: str = ""
    country: str = ""
    rights: int = DEFAULT_RIGHTS
    comment: str = ""

    def __repr__(self) -> str:
        return f"NewAccount(group={self.group!r}, leverage={self.leverage}, mark={self.mark!r})"


@dataclass(frozen=True)
class AccountState:
    """A login as the server holds it. Equity = balance + credit + floating."""

    login: int
    group: str
    leverage: int
    rights: int
    balance: Decimal
    credit: Decimal
    equity: Decimal
    margin: Decimal
    margin_free: Decimal
    margin_level: Decimal
    floating: Decimal
    digits_currency: int
    mark: str = ""

    @property
    def is_enabled(self) -> bool:
        return bool(self.rights & UserRight.ENABLED)

    @property
    def may_trade(self) -> bool:
        return self.is_enabled and not self.rights & UserRight.TRADE_DISABLED


@dataclass(frozen=True)
class Deal:
    """One deal. A balance operation carries its amount in `profit`, with no symbol, volume, order or position."""

    ticket: int
    login: int
    action: int
    entry: int
    reason: int
    order_ticket: int
    position_ticket: int
    symbol: str
    volume: int
    volume_closed: int
    price: Decimal
    price_position: Decimal
    market_bid: Decimal
    market_ask: Decimal
    contract_size: Decimal
    digits: int
    digits_currency: int
    profit: Decimal
    swap: Decimal
    commission: Decimal
    fee: Decimal
    rate_profit: Decimal
    rate_margin: Decimal
    server_time_ms: int
    comment: str
    modification_flags: int = 0
    dealer: int = 0
    external_id: str = ""

    @property
    def is_trade(self) -> bool:
        return self.action in (DealAction.BUY, DealAction.SELL)

    @property
    def closes(self) -> bool:
        """Whether this trade closed a position or a part of one."""
        return self.is_trade and self.entry in (DealEntry.OUT, DealEntry.INOUT, DealEntry.OUT_BY)

    @property
    def result(self) -> Decimal:
        """What the deal did to the balance (to the credit, where the action is CREDIT)."""
        return self.profit + self.swap + self.commission + self.fee

    @property
    def lots(self) -> Decimal:
        return Decimal(self.volume) / UNITS_PER_LOT

    def fingerprint(self) -> bytes:
        """SHA-256 of the business fields: the same for the same deal from any source, another after any edit."""
        text = (
            f"{self.action}\x1f{self.entry}\x1f{self.login}\x1f{self.order_ticket}\x1f{self.position_ticket}\x1f{self.symbol}"
            f"\x1f{self.volume}\x1f{exact_text(self.price)}\x1f{exact_text(self.profit)}\x1f{exact_text(self.swap)}"
            f"\x1f{exact_text(self.commission)}\x1f{exact_text(self.fee)}\x1f{self.server_time_ms}\x1f{self.comment}"
            f"\x1f{self.modification_flags}"
        )
        return hashlib.sha256(text.encode("utf-8")).digest()


@dataclass(frozen=True)
class Position:
    """One open position."""

    ticket: int
    login: int
    symbol: str
    action: int
    reason: int
    volume: int
    price_open: Decimal
    price_current: Decimal
    profit: Decimal
    swap: Decimal
    contract_size: Decimal
    digits: int
    digits_currency: int
    rate_profit: Decimal
    rate_margin: Decimal
    created_ms: int
    update_ms: int
    comment: str = ""
    external_id: str = ""
    price_stop_loss: Decimal = Decimal(0)
    price_take_profit: Decimal = Decimal(0)

    @property
    def lots(self) -> Decimal:
        return Decimal(self.volume) / UNITS_PER_LOT


@dataclass(frozen=True)
class Order:
    """One order: pending, or what became of it. `volume_current` is what is left of it; `done_ms` is 0 while it is open."""

    ticket: int
    login: int
    symbol: str
    type: int
    state: int
    reason: int
    volume_initial: int
    volume_current: int
    price_order: Decimal
    price_trigger: Decimal
    price_stop_loss: Decimal
    price_take_profit: Decimal
    position_ticket: int
    position_by_ticket: int
    set_up_ms: int
    done_ms: int
    expiration_ms: int
    comment: str
    digits: int
    external_id: str
    contract_size: Decimal


@dataclass(frozen=True)
class User:
    """A login's record: whose it is and its settings, without what is open on it."""

    login: int
    group: str
    name: str
    email: str
    country: str
    leverage: int
    rights: int
    comment: str
    mark: str
    balance: Decimal
    credit: Decimal
    registered_ms: int

    @property
    def is_technical(self) -> bool:
        """A login of the broker's own machinery, never a client's."""
        return bool(self.rights & UserRight.TECHNICAL)


@dataclass(frozen=True)
class BalanceCheck:
    """What the server has written down for a login beside what its history of deals adds up to. Both should agree."""

    login: int
    balance: Decimal
    balance_of_deals: Decimal
    credit: Decimal
    credit_of_deals: Decimal

    @property
    def agrees(self) -> bool:
        return self.balance == self.balance_of_deals and self.credit == self.credit_of_deals


@dataclass(frozen=True)
class Group:
    name: str
    currency: str
    currency_digits: int
    margin_mode: int
    margin_stop_out: Decimal


@dataclass(frozen=True)
class Symbol:
    name: str
    digits: int
    currency_base: str
    currency_profit: str
    contract_size: Decimal
    volume_min: int
    volume_max: int
    volume_step: int


@dataclass(frozen=True)
class ServerTime:
    """The server's clock: raw wall-clock milliseconds and its zone setting."""

    wall_ms: int
    time_zone_min: int
    is_daylight: bool

    @property
    def utc_offset_min(self) -> int:
        return self.time_zone_min + (60 if self.is_daylight else 0)


@runtime_checkable
class TradingPlatform(Protocol):
    """What every trading server can do for us. Errors are those of app.metatrader.errors.

    Commands that change something are sent once and never repeated: NotSent says that nothing happened, UnknownOutcome
    that something may have. Reads are repeated once on a fresh connection. Use it as a context manager, or close it.
    """

    def create_account(self, account: NewAccount) -> int:
        """Open a login in a group and return its number. BusinessError 3006 when a password is too weak."""

    def get_account(self, login: int) -> AccountState:
        """The login's settings and money. NotKnown when there is none."""

    def accounts(self, group_mask: str) -> list[AccountState]:
        r"""All logins of the groups, such as `real\*`. With `mark` this finds a login whose creation was not confirmed."""

    def user(self, login: int) -> User:
        """The record of one login: whose it is, as the server has it. NotKnown when there is none."""

    def users(self, group_mask: str) -> list[User]:
        """The records of all logins of the groups, technical ones too. Archived logins are not among them."""

    def update_account(
        self, login: int, *, group: str | None = None, leverage: int | None = None, rights: int | None = None
    ) -> None:
        """Change what is given, leave the rest. BusinessError 3010 when the new group has another currency."""

    def change_password(self, login: int, kind: PasswordKind, password: str) -> None:
        """Set a password. BusinessError 3006 when it breaks the server's rules."""

    def check_password(self, login: int, kind: PasswordKind, password: str) -> bool:
        """Whether this is the login's password. Changes nothing."""

    def archive_account(self, login: int) -> None:
        """Put a login into the archive: it can no longer trade or sign in, and only `archived` still shows it.

        BusinessError 3008 while it has open positions or orders. NotKnown when there is none.
        """

    def restore_account(self, login: int) -> None:
        """Take a login out of the archive, as it was. NotKnown when it is not there."""

    def archived(self, group_mask: str) -> list[AccountState]:
        """The archived logins of the groups, with the money they had."""

    def balance_operation(self, login: int, amount: Decimal, comment: str, *, check_margin: bool = True) -> int:
        """Put money in (positive) or take it out (negative); returns the deal's ticket.

        The comment, 31 ASCII characters at most, begins with the caller's token: the only trace to look for when the
        outcome stays unknown. BusinessError 10019 when the free margin does not cover it, 4005 above the server's limit.
        """

    def check_balance(self, login: int) -> BalanceCheck:
        """What the server's record of a login says beside what its deals add up to. Corrects nothing."""

    def deal(self, ticket: int) -> Deal:
        """One deal as it stands now. NotKnown when there is none, or no longer."""

    def deals(self, login: int, since: datetime, until: datetime) -> list[Deal]:
        """Deals of one login by ticket. The range is UTC, both ends included.

        It may give more: around a clock change, and on MT4 beside a closing deal the one that opened, however old.
        """

    def deals_by_group(self, group_mask: str, since: datetime, until: datetime) -> list[Deal]:
        """Deals of all logins in the groups, by ticket; the range as in `deals`. All of them, however many there are."""

    def positions(self, login: int) -> list[Position]:
        """Open positions of one login, by ticket."""

    def positions_by_group(self, group_mask: str) -> list[Position]:
        """Open positions of all logins in the groups, by ticket."""

    def order(self, ticket: int) -> Order:
        """One order as it stands now, open or done. NotKnown when there is none, or no longer."""

    def orders(self, login: int) -> list[Order]:
        """Open orders of one login, by ticket."""

    def orders_by_group(self, group_mask: str) -> list[Order]:
        """Open orders of all logins in the groups, by ticket."""

    def groups(self, mask: str = "*") -> Sequence[Group]:
        r"""Account groups, such as `real\*,!real\test*`."""

    def symbols(self) -> Sequence[Symbol]:
        """All symbols that our manager account may see."""

    def server_time(self) -> ServerTime:
        """What the server's clock says now."""

    def close(self) -> None:
        """Sign out and close all connections."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


def exact_text(value: Decimal) -> str:
    """One text for one number: no exponent, no trailing zeros, no negative zero."""
    text = str(value)
    if "E" in text:
        text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
