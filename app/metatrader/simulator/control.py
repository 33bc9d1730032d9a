"""/sim/*: what tests, the demo and developers do to the simulator beside the Web API. Not part of MetaTrader."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from app.metatrader.codes import DealAction, DealEntry
from app.metatrader.fields import write_deal, write_order, write_position
from app.metatrader.platform import UNITS_PER_LOT, Deal
from app.metatrader.simulator.exchange import Exchange, Refused
from app.metatrader.simulator.faults import Faults, parse_event_faults
from app.metatrader.simulator.groups import GROUPS
from app.metatrader.simulator.habits import GROUPS_MAX, Habits
from app.metatrader.simulator.holdings import Account
from app.metatrader.simulator.instruments import INSTRUMENTS
from app.metatrader.simulator.switches import begin_gap, set_faults
from app.metatrader.simulator.users import Users
from app.metatrader.simulator.valuation import major

HOLD_MAX_S = 60.0
SHOWN_MAX = 500


@dataclass(frozen=True)
class Control:
    """What the control interface and the Web API work on. `stop` ends waits when the simulator stops."""

    exchange: Exchange
    users: Users
    faults: Faults
    stop: threading.Event
    habits: Habits = field(default_factory=Habits)

    def trade(
        self,
        login: int,
        symbol: str,
        side: str,
        lots: Decimal,
        *,
        close: bool = True,
        hold_s: float = 0.0,
        move_points: int = 0,
    ) -> list[Deal]:
        """Open a position and, unless told otherwise, close it after `hold_s` seconds; returns the deals.

        `move_points` moves the price before closing, up or down, so that the result can be chosen. Raises Refused.
        """
        opened = self.exchange.open(login, symbol, _side(side), _volume(lots))
        if not close:
            return [opened]
        self.stop.wait(min(max(hold_s, 0.0), HOLD_MAX_S))
        if move_points:
            self.exchange.shift(symbol, move_points)
        return [opened, self.exchange.close(opened.position_ticket)]


Fields = Mapping[str, Any]


def post_trade(control: Control, fields: Fields) -> dict[str, Any]:
    """{login, symbol, side, lots: "0.50", close: true, hold_s: 0, move_points: 0} → {deals: […]}"""
    deals = control.trade(
        int(fields["login"]),
        str(fields["symbol"]),
        str(fields["side"]),
        _decimal(fields["lots"]),
        close=bool(fields.get("close", True)),
        hold_s=float(fields.get("hold_s", 0)),
        move_points=int(fields.get("move_points", 0)),
    )
    return {"deals": [write_deal(deal) for deal in deals]}


def post_close(control: Control, fields: Fields) -> dict[str, Any]:
    """{position, lots: "0.10"} → {deals: […]}; without lots the whole position."""
    lots = fields.get("lots")
    deal = control.exchange.close(int(fields["position"]), None if lots is None else _volume(_decimal(lots)))
    return {"deals": [write_deal(deal)]}


def post_order(control: Control, fields: Fields) -> dict[str, Any]:
    """{login, symbol, type: 2 to 5, lots, price} puts in a waiting order; {cancel: ticket} takes one back → {order: …}"""
    if "cancel" in fields:
        return {"order": write_order(control.exchange.cancel_order(int(fields["cancel"])))}
    order = control.exchange.place_order(
        int(fields["login"]),
        str(fields["symbol"]),
        int(fields["type"]),
        _volume(_decimal(fields["lots"])),
        _decimal(fields["price"]),
        comment=str(fields.get("comment", "")),
    )
    return {"order": write_order(order)}


def post_market(control: Control, fields: Fields) -> dict[str, Any]:
    """{symbol, move_points} moves a price at once → {quotes: …}"""
    control.exchange.shift(str(fields["symbol"]), int(fields["move_points"]))
    return {"quotes": _quotes(control)}


def post_deal(control: Control, fields: Fields) -> dict[str, Any]:
    """{ticket, do: "edit", price, profit, swap, commission, comment} or {ticket, do: "delete" | "cancel"} → {deal: …}"""
    ticket, exchange = int(fields["ticket"]), control.exchange
    match fields["do"]:
        case "edit":
            money = {name: _decimal(fields[name]) for name in ("price", "profit", "swap", "commission") if name in fields}
            comment = str(fields["comment"]) if "comment" in fields else None
            return {"deal": write_deal(exchange.edit_deal(ticket, **money, comment=comment))}
        case "delete":
            exchange.delete_deal(ticket)
            return {"deal": None}
        case "cancel":
            return {"deal": write_deal(exchange.cancel_deal(ticket))}
    raise Refused(3)


def post_late_deal(control: Control, fields: Fields) -> dict[str, Any]:
    """{login, symbol, side, lots, profit, price, seconds_ago} writes down a closing trade of the past → {deal: …}"""
    exchange, symbol = control.exchange, str(fields["symbol"])
    price = _decimal(fields["price"]) if "price" in fields else exchange.market.quote(symbol).bid_price
    deal = exchange.enter_deal(
        int(fields["login"]),
        symbol=symbol,
        action=_side(str(fields["side"])),
        entry=DealEntry.OUT,
        volume=_volume(_decimal(fields["lots"])),
        price=price,
        profit=_decimal(fields["profit"]),
        time_ms=exchange.now_ms() - 1000 * int(fields.get("seconds_ago", 0)),
        comment=str(fields.get("comment", "")),
    )
    return {"deal": write_deal(deal)}


def post_account(control: Control, fields: Fields) -> dict[str, Any]:
    """{login, do: "archive" | "restore" | "delete" | "clean"}, {login, do: "group", group} or {login, do: "drift", balance}.

    A drift changes the record's balance by so much without a deal, as a broken server would. → {login}
    """
    login, exchange = int(fields["login"]), control.exchange
    match fields["do"]:
        case "archive":
            exchange.archive(login)
        case "restore":
            exchange.restore(login)
        case "delete":
            exchange.delete_account(login)
        case "clean":
            exchange.clean(login)
        case "group":
            control.users.update(login, {"Group": str(fields["group"])})
        case "drift":
            check = exchange.check_balance(login)
            control.users.set_balance(login, check.balance + _decimal(fields["balance"]), check.credit)
        case _:
            raise Refused(3)
    return {"login": login}


def post_faults(control: Control, fields: Fields) -> dict[str, Any]:
    """As switches.set_faults."""
    return set_faults(fields, control.faults, control.exchange.journal, parse_event_faults)


def post_gap(control: Control, fields: Fields) -> dict[str, Any]:
    """As switches.begin_gap."""
    return begin_gap(fields, control.exchange.journal)


def post_habits(control: Control, fields: Fields) -> dict[str, Any]:
    """{total_name: "Total" | "total" | "", groups_max: 5000}: what differs from server to server."""
    habits = control.habits
    total_name, groups_max = fields.get("total_name", habits.total_name), int(fields.get("groups_max", habits.groups_max))
    if (
        total_name not in ("", "Total", "total")
        or not 0 < groups_max <= GROUPS_MAX
        or set(fields) - {"total_name", "groups_max"}
    ):
        raise Refused(3)
    habits.total_name, habits.groups_max = total_name, groups_max
    return {"total_name": total_name, "groups_max": groups_max}


def get_state(control: Control, fields: Fields) -> dict[str, Any]:
    """What there is, in numbers, with prices and faults."""
    exchange = control.exchange
    store = exchange.store
    with store.transaction():
        return {
            "server": exchange.journal.origin.server,
            "server_time_ms": exchange.now_ms(),
            "accounts": list(store.logins()),
            "positions": len(store.positions()),
            "orders": len(store.orders()),
            "deals": store.count_deals(None, 0, 2**62),
            "outbox": store.outbox_size(),
            "is_away": exchange.journal.faults.is_away(exchange.clock()),
            "is_held": exchange.journal.faults.is_held(exchange.clock()),
            "market_step": exchange.market.step,
            "quotes": _quotes(control),
            "faults": control.faults.listed(),
            "event_faults": exchange.journal.faults.listed(),
        }


def get_recent(control: Control, fields: Fields) -> dict[str, Any]:
    """The newest deals, what is open, and the logins, archived ones apart: up to 500 of each."""
    exchange = control.exchange
    store = exchange.store
    with store.transaction():
        count = store.count_deals(None, 0, 2**62)
        deals = store.deals(None, 0, 2**62, limit=SHOWN_MAX, offset=max(0, count - SHOWN_MAX))
        return {
            "deals": [write_deal(deal) for deal in reversed(deals)],
            "positions": [write_position(position) for position in exchange.positions()[:SHOWN_MAX]],
            "accounts": [_login(account) for account in store.accounts()[:SHOWN_MAX]],
            "archived": [_login(account) for account in store.archived_accounts()[:SHOWN_MAX]],
        }


def _login(account: Account) -> dict[str, Any]:
    group = GROUPS[account.group_name]
    return {
        "login": account.login,
        "group": group.name,
        "name": " ".join(filter(None, (account.profile.get("FirstName"), account.profile.get("LastName")))),
        "currency": group.currency,
        "balance": str(major(account.balance, group.digits)),
    }


def answer(control: Control, method: str, name: str, body: Any) -> dict[str, Any] | None:
    """Carry out one control; None when there is no such. Raises Refused, 3 for a body that is not as it should be."""
    known = CONTROLS.get((method, name))
    if known is None:
        return None
    if not isinstance(body, dict | None) or (body is None and method == "POST"):
        raise Refused(3)
    try:
        return known(control, body or {})
    except (KeyError, TypeError, ValueError, InvalidOperation):
        raise Refused(3) from None


def _quotes(control: Control) -> dict[str, dict[str, str]]:
    quotes = {name: control.exchange.market.quote(name) for name in INSTRUMENTS}
    return {name: {"bid": str(quote.bid_price), "ask": str(quote.ask_price)} for name, quote in quotes.items()}


def _side(side: str) -> DealAction:
    if side not in ("buy", "sell"):
        raise Refused(3)
    return DealAction.BUY if side == "buy" else DealAction.SELL


def _volume(lots: Decimal) -> int:
    volume = lots * UNITS_PER_LOT
    if not volume.is_finite() or volume != volume.to_integral_value():
        raise Refused(10014)
    return int(volume)


def _decimal(value: Any) -> Decimal:
    return Decimal(str(value))


CONTROLS: dict[tuple[str, str], Callable[[Control, Fields], dict[str, Any]]] = {
    ("POST", "trade"): post_trade,
    ("POST", "close"): post_close,
    ("POST", "order"): post_order,
    ("POST", "market"): post_market,
    ("POST", "deal"): post_deal,
    ("POST", "late_deal"): post_late_deal,
    ("POST", "account"): post_account,
    ("POST", "faults"): post_faults,
    ("POST", "gap"): post_gap,
    ("POST", "habits"): post_habits,
    ("GET", "state"): get_state,
    ("GET", "recent"): get_recent,
}
