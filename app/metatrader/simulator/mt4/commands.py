"""The bridge's commands by name: from a body of text fields to MT4 and back. docs/metatrader-bridge.md is their contract."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from app.metatrader.mt4 import COMMENT_LIMIT, Cmd, Login, Trade, is_selected, write_login, write_trade
from app.metatrader.simulator.books import Refused
from app.metatrader.simulator.instruments import INSTRUMENTS
from app.metatrader.simulator.mt4.engine import MT4Engine
from app.metatrader.simulator.mt4.groups import GROUPS
from app.metatrader.simulator.mt4.logins import KINDS, SWITCHES, on_code_page
from app.metatrader.simulator.mt4.trading import LOT_MAX, LOT_MIN, LOT_STEP

Answer = dict[str, Any]

MASK_MAX = 1000
_WHOLE = re.compile(r"[0-9]{1,10}")
_WHOLES = re.compile(r"[0-9]{1,10}(,[0-9]{1,10})*")
_AMOUNT = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,8})?")
_INT32 = 2**31 - 1


class Meaningless(Exception):
    """The body cannot be meant: HTTP 400. `reason` names the field."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Body:
    """The fields of a command, all text. Reading raises Meaningless."""

    fields: Mapping[str, str]

    def text(self, name: str, missing: str | None = None) -> str:
        value = self.fields.get(name, missing)
        if value is None:
            raise Meaningless(f"{name} is missing")
        return value

    def whole(self, name: str, high: int = _INT32, missing: str | None = None) -> int:
        text = self.text(name, missing)
        if not _WHOLE.fullmatch(text) or int(text) > high:
            raise Meaningless(f"{name} is no number from 0 to {high}")
        return int(text)

    def wholes(self, name: str) -> list[int]:
        """Numbers with commas."""
        text = self.text(name)
        if not _WHOLES.fullmatch(text):
            raise Meaningless(f"{name} are no numbers with commas")
        return [int(part) for part in text.split(",")]

    def amount(self, name: str) -> Decimal:
        text = self.text(name)
        if not _AMOUNT.fullmatch(text):
            raise Meaningless(f"{name} is no decimal number")
        return Decimal(text)

    def one_of(self, name: str, allowed: tuple[str, ...]) -> str:
        text = self.text(name)
        if text not in allowed:
            raise Meaningless(f"{name} is none of {', '.join(allowed)}")
        return text

    def only_one(self, *names: str) -> str:
        """The one of these names that is given."""
        given = [name for name in names if name in self.fields]
        if len(given) != 1:
            raise Meaningless(f"one of {', '.join(names)} is needed")
        return given[0]


def time(engine: MT4Engine, body: Body) -> Answer:
    year = engine.clock().year
    winter, summer = sorted(engine.zone.offset_min(datetime(year, month, 1, tzinfo=UTC)) for month in (1, 7))
    return {"server_time": str(engine.now_s()), "time_zone": str(winter // 60), "daylight": str(int(winter != summer))}


def groups(engine: MT4Engine, body: Body) -> Answer:
    return {
        "groups": [
            {"group": one.name, "currency": one.currency, "margin_stopout": str(one.stop_out)} for one in GROUPS.values()
        ]
    }


def symbols(engine: MT4Engine, body: Body) -> Answer:
    return {
        "symbols": [
            {
                "symbol": one.name,
                "digits": str(one.digits),
                "currency": one.margin_currency,
                "currency_profit": one.profit_currency,
                "contract_size": str(one.contract_size),
                "lot_min": str(LOT_MIN),
                "lot_max": str(LOT_MAX),
                "lot_step": str(LOT_STEP),
            }
            for one in INSTRUMENTS.values()
        ]
    }


def users(engine: MT4Engine, body: Body) -> Answer:
    return {"users": [write_login(login) for login in _logins(engine, body)]}


def trades(engine: MT4Engine, body: Body) -> Answer:
    """Rows by number, or those of logins: what is open, or what was opened or closed in a range."""
    if body.only_one("orders", "groups", "logins") == "orders":
        return _rows([row for order in sorted(set(body.wholes("orders"))) if (row := _row(engine, order))])
    logins = [login.login for login in _logins(engine, body)]
    if body.only_one("open", "from") == "open":
        body.one_of("open", ("1",))
        return _rows([row for login in logins for row in engine.open_trades(login)])
    since, until = body.whole("from"), body.whole("to")
    return _rows([row for login in logins for row in engine.trades(login, since, until)])


def check_password(engine: MT4Engine, body: Body) -> Answer:
    login, kind = body.whole("login"), body.one_of("kind", KINDS)
    return {"right": str(int(engine.users.is_password(login, kind, body.text("password"))))}


def check_balance(engine: MT4Engine, body: Body) -> Answer:
    with engine.store.reading():
        login = engine.login(body.whole("login"))
        balance, credit = engine.users.sums(login.login)
    return {
        "balance": str(login.balance),
        "balance_of_trades": str(balance),
        "credit": str(login.credit),
        "credit_of_trades": str(credit),
    }


def open_account(engine: MT4Engine, body: Body) -> Answer:
    login = engine.users.add(
        body.text("group"),
        body.whole("leverage"),
        body.text("password"),
        body.text("password_investor"),
        **{name: body.text(name, "") for name in ("name", "email", "country", "comment", "id")},
        **{name: body.whole(name, 1, "0" if name == "enable_read_only" else "1") for name in SWITCHES},
    )
    return {"login": str(login.login)}


def change_account(engine: MT4Engine, body: Body) -> Answer:
    changes: dict[str, Any] = {name: body.whole(name, 1) for name in SWITCHES if name in body.fields}
    if "group" in body.fields:
        changes["group"] = body.text("group")
    if "leverage" in body.fields:
        changes["leverage"] = body.whole("leverage")
    engine.users.change(body.whole("login"), changes)
    return {}


def change_password(engine: MT4Engine, body: Body) -> Answer:
    engine.users.change_password(body.whole("login"), body.one_of("kind", KINDS), body.text("password"))
    return {}


def balance(engine: MT4Engine, body: Body) -> Answer:
    login, amount = body.whole("login"), body.amount("amount")
    is_checked = body.one_of("check_margin", ("0", "1")) == "1"
    comment = on_code_page(body.text("comment"), COMMENT_LIMIT)
    return {"order": str(engine.balance_operation(login, Cmd.BALANCE, amount, comment, check_margin=is_checked).order)}


READS: dict[str, Callable[[MT4Engine, Body], Answer]] = {
    "time": time,
    "groups": groups,
    "symbols": symbols,
    "users": users,
    "trades": trades,
    "check_password": check_password,
    "check_balance": check_balance,
}
#: Those that carry an id and are never carried out twice.
CHANGES: dict[str, Callable[[MT4Engine, Body], Answer]] = {
    "open_account": open_account,
    "change_account": change_account,
    "change_password": change_password,
    "balance": balance,
}


def _logins(engine: MT4Engine, body: Body) -> list[Login]:
    """Those that a mask of groups or a list of numbers names; the only one of a list must be there. Refused(65)."""
    if body.only_one("groups", "logins") == "groups":
        mask = body.text("groups")
        if len(mask) > MASK_MAX:
            raise Meaningless(f"groups is longer than {MASK_MAX} characters")
        return [login for login in engine.logins() if is_selected(mask, login.group)]
    numbers = body.wholes("logins")
    if len(numbers) == 1:
        return [engine.login(numbers[0])]
    return [engine.login(number) for number in numbers if engine.store.login(number)]


def _row(engine: MT4Engine, order: int) -> Trade | None:
    try:
        return engine.trade(order)
    except Refused:
        return None


def _rows(found: list[Trade]) -> Answer:
    return {"trades": [write_trade(trade) for trade in found]}
