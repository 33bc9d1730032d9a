"""/sim/*: what tests, the demo and developers do to the MT4 double beside its bridge. Not part of MetaTrader.

Names and answers are those of the MT5 simulator, so that one page serves both; deals are those that rows give
(app/metatrader/mt4.py), and `trades` has the rows themselves.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from app.metatrader import mt4
from app.metatrader.fields import write_deal, write_order, write_position
from app.metatrader.mt4 import Cmd, Trade, write_trade
from app.metatrader.platform import Deal
from app.metatrader.simulator.books import Refused
from app.metatrader.simulator.faults import Faults
from app.metatrader.simulator.instruments import INSTRUMENTS
from app.metatrader.simulator.mt4 import codes
from app.metatrader.simulator.mt4.engine import MT4Engine
from app.metatrader.simulator.mt4.faults import parse_faults
from app.metatrader.simulator.mt4.groups import GROUPS
from app.metatrader.simulator.mt4.telling import contract_size
from app.metatrader.simulator.switches import begin_gap, set_faults

HOLD_MAX_S = 60.0
SHOWN_MAX = 500

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Control:
    """What the control interface works on. `stop` ends waits when the double stops."""

    engine: MT4Engine
    faults: Faults
    stop: threading.Event


def post_trade(control: Control, fields: Fields) -> dict[str, Any]:
    """{login, symbol, side, lots: "0.50", close: true, hold_s: 0, move_points: 0} → {deals: […], trades: […]}"""
    engine, symbol = control.engine, str(fields["symbol"])
    row = engine.open(int(fields["login"]), symbol, _side(str(fields["side"])), _decimal(fields["lots"]))
    if fields.get("close", True):
        control.stop.wait(min(max(float(fields.get("hold_s", 0)), 0.0), HOLD_MAX_S))
        if int(fields.get("move_points", 0)):
            engine.shift(symbol, int(fields["move_points"]))
        row = engine.close(row.order)
    return _told([row])


def post_close(control: Control, fields: Fields) -> dict[str, Any]:
    """{position, lots: "0.10"} → {deals: […], trades: […]}; without lots the whole position."""
    lots = fields.get("lots")
    return _told([control.engine.close(int(fields["position"]), None if lots is None else _decimal(lots))])


def post_order(control: Control, fields: Fields) -> dict[str, Any]:
    """{login, symbol, type: 2 to 5, lots, price} puts in a pending order; {cancel: ticket} takes one back → {order: …}"""
    engine = control.engine
    if "cancel" in fields:
        row = engine.cancel(int(fields["cancel"]))
    else:
        row = engine.place(
            int(fields["login"]),
            str(fields["symbol"]),
            int(fields["type"]),
            _decimal(fields["lots"]),
            _decimal(fields["price"]),
            comment=str(fields.get("comment", "")),
        )
    order = mt4.pending_of(row, contract_size(row))
    return {"order": write_order(order) if order else None, "trades": [write_trade(row)]}


def post_market(control: Control, fields: Fields) -> dict[str, Any]:
    """{symbol, move_points} moves a price at once → {quotes: …}"""
    control.engine.shift(str(fields["symbol"]), int(fields["move_points"]))
    return {"quotes": _quotes(control)}


def post_deal(control: Control, fields: Fields) -> dict[str, Any]:
    """{ticket, do: "edit", price, profit, swap, commission, comment} changes the row that made the deal; {ticket, do:
    "delete"} takes the row away → {deal: …}
    """
    ticket, engine = int(fields["ticket"]), control.engine
    order = mt4.order_of_ticket(ticket)
    if fields["do"] == "delete":
        engine.delete(order)
        return {"deal": None}
    if fields["do"] != "edit":
        raise Refused(codes.INVALID_DATA)
    names = {"profit": "profit", "swap": "storage", "commission": "commission"}
    names["price"] = "close_price" if ticket == mt4.closing_ticket(order) else "open_price"
    changes: dict[str, Any] = {ours: _decimal(fields[name]) for name, ours in names.items() if name in fields}
    if "comment" in fields:
        changes["comment"] = str(fields["comment"])
    row = engine.edit(order, **changes)
    return {"deal": next((write_deal(deal) for deal in _deals(row) if deal.ticket == ticket), None)}


def post_late_deal(control: Control, fields: Fields) -> dict[str, Any]:
    """{login, symbol, side, lots, profit, price, seconds_ago} writes down a trade that was closed in the past, by a deal to
    that side → {deal: …}
    """
    engine, symbol = control.engine, str(fields["symbol"])
    row = engine.enter(
        int(fields["login"]),
        symbol,
        Cmd.SELL if _side(str(fields["side"])) == Cmd.BUY else Cmd.BUY,
        _decimal(fields["lots"]),
        price=_decimal(fields["price"]) if "price" in fields else engine.market.quote(symbol).bid_price,
        profit=_decimal(fields["profit"]),
        closed_at=engine.now_s() - int(fields.get("seconds_ago", 0)),
        comment=str(fields.get("comment", "")),
    )
    return {"deal": write_deal(_deals(row)[-1])}


def post_account(control: Control, fields: Fields) -> dict[str, Any]:
    """{login, do: "group", group} or {login, do: "drift", balance} → {login}

    A drift changes the record's balance by so much without a row, as a broken server would.
    """
    login, users = int(fields["login"]), control.engine.users
    match fields["do"]:
        case "group":
            users.change(login, {"group": str(fields["group"])})
        case "drift":
            users.drift(login, _decimal(fields["balance"]))
        case _:
            raise Refused(codes.INVALID_DATA)
    return {"login": login}


def post_faults(control: Control, fields: Fields) -> dict[str, Any]:
    """As switches.set_faults."""
    return set_faults(fields, control.faults, control.engine.journal, parse_faults)


def post_gap(control: Control, fields: Fields) -> dict[str, Any]:
    """As switches.begin_gap."""
    return begin_gap(fields, control.engine.journal)


def get_state(control: Control, fields: Fields) -> dict[str, Any]:
    """What there is, in numbers, with prices and faults."""
    engine = control.engine
    with engine.store.reading():
        waiting = engine.store.open_trades()
        return {
            "server": engine.journal.origin.server,
            "server_time_ms": engine.books.now_ms(),
            "accounts": [login.login for login in engine.store.logins()],
            "positions": sum(trade.is_trade for trade in waiting),
            "orders": sum(trade.is_pending for trade in waiting),
            "trades": engine.store.count(),
            "deals": engine.store.count_deals(),
            "outbox": engine.store.outbox_size(),
            "is_away": engine.journal.faults.is_away(engine.clock()),
            "is_held": engine.journal.faults.is_held(engine.clock()),
            "market_step": engine.market.step,
            "quotes": _quotes(control),
            "faults": control.faults.listed(),
            "event_faults": engine.journal.faults.listed(),
        }


def get_recent(control: Control, fields: Fields) -> dict[str, Any]:
    """The newest rows and their deals, what is open, and the logins: up to 500 of each. MT4 has no archive."""
    engine = control.engine
    with engine.store.reading():
        rows = engine.store.newest(SHOWN_MAX)
        deals = sorted((deal for row in rows for deal in _deals(row)), key=lambda deal: deal.server_time_ms, reverse=True)
        held = (mt4.position_of(row, contract_size(row)) for row in engine.open_trades())
        return {
            "deals": [write_deal(deal) for deal in deals[:SHOWN_MAX]],
            "trades": [write_trade(row) for row in rows],
            "positions": [write_position(position) for position in held if position][:SHOWN_MAX],
            "accounts": [
                {
                    "login": login.login,
                    "group": login.group,
                    "name": login.name,
                    "currency": GROUPS[login.group].currency,
                    "balance": str(login.balance),
                }
                for login in engine.store.logins()[:SHOWN_MAX]
            ],
            "archived": [],
        }


def answer(control: Control, method: str, name: str, body: Any) -> dict[str, Any] | None:
    """Carry out one control; None when there is no such. Raises Refused, 3 for a body that is not as it should be."""
    known = CONTROLS.get((method, name))
    if known is None:
        return None
    if not isinstance(body, dict | None) or (body is None and method == "POST"):
        raise Refused(codes.INVALID_DATA)
    try:
        return known(control, body or {})
    except (KeyError, TypeError, ValueError, InvalidOperation):
        raise Refused(codes.INVALID_DATA) from None


def _told(rows: list[Trade]) -> dict[str, Any]:
    return {"deals": [write_deal(deal) for row in rows for deal in _deals(row)], "trades": [write_trade(row) for row in rows]}


def _deals(row: Trade) -> list[Deal]:
    return list(mt4.deals_of(row, contract_size(row)))


def _quotes(control: Control) -> dict[str, dict[str, str]]:
    quotes = {name: control.engine.market.quote(name) for name in INSTRUMENTS}
    return {name: {"bid": str(quote.bid_price), "ask": str(quote.ask_price)} for name, quote in quotes.items()}


def _side(side: str) -> Cmd:
    if side not in ("buy", "sell"):
        raise Refused(codes.INVALID_DATA)
    return Cmd.BUY if side == "buy" else Cmd.SELL


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
    ("GET", "state"): get_state,
    ("GET", "recent"): get_recent,
}
