"""MetaTrader 4's own records: what a row of trades and a user record hold, and how they stand in text fields.

The names are those of the Manager API. Units: volumes 1/100 lot, times whole seconds of the server's clock written as if it
were UTC, money in the group's currency.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum
from typing import Any

from app.metatrader.fields import TIME_MS_MIN, Kind, Number, Whole, Words
from app.metatrader.platform import UNITS_PER_LOT, Group, Symbol

#: MT4's volume is counted in these; ours in 1/100000000 lot.
UNITS_PER_HUNDREDTH = UNITS_PER_LOT // 100

#: Characters that MT4's fixed fields keep, without the closing zero. A comment is a trade's, a note an account's.
GROUP_LIMIT, PASSWORD_LIMIT, MARK_LIMIT, COMMENT_LIMIT = 15, 15, 31, 31
NAME_LIMIT, EMAIL_LIMIT, COUNTRY_LIMIT, NOTE_LIMIT = 127, 47, 31, 63
#: A shorter password no MT4 takes.
PASSWORD_LEAST = 5
#: Decimals of money, in every currency.
MONEY_PLACES = 2

_INT32 = 2**31 - 1
_ZERO = Decimal(0)


class Cmd(IntEnum):
    """What a row is. A pending order that comes true becomes BUY or SELL in the same row."""

    BUY = 0
    SELL = 1
    BUY_LIMIT = 2
    SELL_LIMIT = 3
    BUY_STOP = 4
    SELL_STOP = 5
    BALANCE = 6
    CREDIT = 7


class State(IntEnum):
    """Where a row stands. The report database has no such column: there a close time says that it is over."""

    OPEN_NORMAL = 0
    OPEN_REMAND = 1
    OPEN_RESTORED = 2
    CLOSED_NORMAL = 3
    CLOSED_PART = 4
    CLOSED_BY = 5
    DELETED = 6


_MONEY = frozenset({Cmd.BALANCE, Cmd.CREDIT})
_PENDING = frozenset({Cmd.BUY_LIMIT, Cmd.SELL_LIMIT, Cmd.BUY_STOP, Cmd.SELL_STOP})


@dataclass(frozen=True)
class Trade:
    """One row, with MT4's names. `close_time` is 0 while it is open; `conv_rate_open` and `conv_rate_close` lead from the
    profit's currency to the account's; `timestamp` (seconds) moves with every change of the row.
    """

    order: int
    login: int
    cmd: int
    symbol: str
    digits: int
    volume: int
    open_time: int
    close_time: int
    state: int
    open_price: Decimal
    close_price: Decimal
    sl: Decimal
    tp: Decimal
    expiration: int
    reason: int
    conv_rate_open: Decimal
    conv_rate_close: Decimal
    margin_rate: Decimal
    commission: Decimal
    storage: Decimal
    profit: Decimal
    taxes: Decimal
    comment: str
    timestamp: int

    @property
    def is_trade(self) -> bool:
        return self.cmd in (Cmd.BUY, Cmd.SELL)

    @property
    def is_money(self) -> bool:
        """Whether this is a balance or credit operation, with its amount in `profit`."""
        return self.cmd in _MONEY

    @property
    def is_pending(self) -> bool:
        return self.cmd in _PENDING

    @property
    def is_over(self) -> bool:
        return bool(self.close_time) or self.is_money

    @property
    def is_deleted(self) -> bool:
        """Whether a dealer took the row away: nothing of it counts any more."""
        return self.state == State.DELETED and not self.is_pending


@dataclass(frozen=True)
class Login:
    """One user record, with what the server reckons of its open trades."""

    login: int
    group: str
    enable: int
    enable_change_password: int
    enable_read_only: int
    name: str
    email: str
    country: str
    comment: str
    id: str
    leverage: int
    balance: Decimal
    credit: Decimal
    equity: Decimal
    margin: Decimal
    margin_free: Decimal
    margin_level: Decimal
    regdate: int
    timestamp: int


TRADE: dict[str, Kind] = {
    "order": Whole("order", low=1, high=_INT32),
    "login": Whole("login", low=1, high=_INT32),
    "cmd": Whole("cmd", high=max(Cmd)),
    "symbol": Words("symbol", 16),
    "digits": Whole("digits", high=8),
    "volume": Whole("volume", high=_INT32),
    "open_time": Whole("open_time", low=TIME_MS_MIN // 1000, high=_INT32),
    "close_time": Whole("close_time", high=_INT32),
    "state": Whole("state", high=max(State)),
    "open_price": Number("open_price"),
    "close_price": Number("close_price"),
    "sl": Number("sl", missing=_ZERO),
    "tp": Number("tp", missing=_ZERO),
    "expiration": Whole("expiration", high=_INT32, missing=0),
    "reason": Whole("reason", high=255, missing=0),
    "conv_rate_open": Number("conv_rate_open", missing=_ZERO),
    "conv_rate_close": Number("conv_rate_close", missing=_ZERO),
    "margin_rate": Number("margin_rate", missing=_ZERO),
    "commission": Number("commission"),
    "storage": Number("storage"),
    "profit": Number("profit"),
    "taxes": Number("taxes", missing=_ZERO),
    "comment": Words("comment", COMMENT_LIMIT),
    "timestamp": Whole("timestamp", high=_INT32, missing=0),
}
LOGIN: dict[str, Kind] = {
    "login": Whole("login", low=1, high=_INT32),
    "group": Words("group", 16, missing=None),
    "enable": Whole("enable", high=1),
    "enable_change_password": Whole("enable_change_password", high=1, missing=1),
    "enable_read_only": Whole("enable_read_only", high=1, missing=0),
    "name": Words("name", 128),
    "email": Words("email", 48),
    "country": Words("country", 32),
    "comment": Words("comment", 64),
    "id": Words("id", 32),
    "leverage": Whole("leverage", high=5000),
    "balance": Number("balance"),
    "credit": Number("credit", missing=_ZERO),
    "equity": Number("equity"),
    "margin": Number("margin"),
    "margin_free": Number("margin_free"),
    "margin_level": Number("margin_level"),
    "regdate": Whole("regdate", high=_INT32, missing=0),
    "timestamp": Whole("timestamp", high=_INT32, missing=0),
}
GROUP: dict[str, Kind] = {
    "name": Words("group", 16, missing=None),
    "currency": Words("currency", 12, missing=None),
    "stop_out": Number("margin_stopout"),
}
SYMBOL: dict[str, Kind] = {
    "name": Words("symbol", 12, missing=None),
    "digits": Whole("digits", high=8),
    "currency_base": Words("currency", 12),
    "currency_profit": Words("currency_profit", 12),
    "contract_size": Number("contract_size"),
    "lot_min": Whole("lot_min", high=_INT32),
    "lot_max": Whole("lot_max", high=_INT32),
    "lot_step": Whole("lot_step", high=_INT32),
}


def read_trade(raw: Mapping[str, Any]) -> Trade:
    """A row out of text fields. Raises FieldError when it cannot be meant."""
    return Trade(**_read(TRADE, raw))


def write_trade(trade: Trade) -> dict[str, str]:
    """The row as text fields."""
    return _write(TRADE, vars(trade))


def read_login(raw: Mapping[str, Any]) -> Login:
    """A user record out of text fields. Raises FieldError."""
    return Login(**_read(LOGIN, raw))


def write_login(login: Login) -> dict[str, str]:
    """The user record as text fields."""
    return _write(LOGIN, vars(login))


def read_group(raw: Mapping[str, Any]) -> Group:
    """A group; MT4 holds one position per order in all of them. Raises FieldError."""
    values = _read(GROUP, raw)
    return Group(values["name"], values["currency"], MONEY_PLACES, 2, values["stop_out"])


def read_symbol(raw: Mapping[str, Any]) -> Symbol:
    """A symbol; its lots are counted in hundredths. Raises FieldError."""
    values = _read(SYMBOL, raw)
    lots = {f"volume_{end}": values.pop(f"lot_{end}") * UNITS_PER_HUNDREDTH for end in ("min", "max", "step")}
    return Symbol(**values, **lots)


def _read(kinds: Mapping[str, Kind], raw: Mapping[str, Any]) -> dict[str, Any]:
    return {attribute: kind.read(raw) for attribute, kind in kinds.items()}


def _write(kinds: Mapping[str, Kind], values: Mapping[str, Any]) -> dict[str, str]:
    return {name: text for attribute, kind in kinds.items() for name, text in kind.write(values[attribute]).items()}
