"""/sim/*: what tests, the demo and developers do to the simulator beside the Web API. Not part of MetaTrader."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from app.metatrader.codes import DealAction
from app.metatrader.fields import write_deal
from app.metatrader.platform import UNITS_PER_LOT, Deal
from app.metatrader.simulator.exchange import Exchange, Refused
from app.metatrader.simulator.faults import Faults, read_rules
from app.metatrader.simulator.market import INSTRUMENTS
from app.metatrader.simulator.users import Users

HOLD_MAX_S = 60.0


@dataclass(frozen=True)
class Control:
    """What the control interface and the Web API work on. `stop` ends waits when the simulator stops."""

    exchange: Exchange
    users: Users
    faults: Faults
    stop: threading.Event

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
        if side not in ("buy", "sell"):
            raise Refused(3)
        volume = lots * UNITS_PER_LOT
        if not volume.is_finite() or volume != volume.to_integral_value():
            raise Refused(10014)
        action = DealAction.BUY if side == "buy" else DealAction.SELL
        opened = self.exchange.open(login, symbol, action, int(volume))
        if not close:
            return [opened]
        self.stop.wait(min(max(hold_s, 0.0), HOLD_MAX_S))
        if move_points:
            self.exchange.shift(symbol, move_points)
        return [opened, self.exchange.close(opened.position_ticket)]


def post_trade(control: Control, body: Any) -> dict[str, Any]:
    """{login, symbol, side, lots: "0.50", close: true, hold_s: 0, move_points: 0} → {deals: […]}"""
    fields = _object(body)
    try:
        deals = control.trade(
            int(fields["login"]),
            str(fields["symbol"]),
            str(fields["side"]),
            Decimal(str(fields["lots"])),
            close=bool(fields.get("close", True)),
            hold_s=float(fields.get("hold_s", 0)),
            move_points=int(fields.get("move_points", 0)),
        )
    except (KeyError, TypeError, ValueError, InvalidOperation):
        raise Refused(3) from None
    return {"deals": [write_deal(deal) for deal in deals]}


def post_close(control: Control, body: Any) -> dict[str, Any]:
    """{position, lots: "0.10"} → {deals: […]}; without lots the whole position."""
    fields = _object(body)
    try:
        lots = fields.get("lots")
        volume = None if lots is None else int(Decimal(str(lots)) * UNITS_PER_LOT)
        deal = control.exchange.close(int(fields["position"]), volume)
    except (KeyError, TypeError, ValueError, InvalidOperation):
        raise Refused(3) from None
    return {"deals": [write_deal(deal)]}


def post_market(control: Control, body: Any) -> dict[str, Any]:
    """{symbol, move_points} moves a price at once → {quotes: …}"""
    fields = _object(body)
    try:
        control.exchange.shift(str(fields["symbol"]), int(fields["move_points"]))
    except (KeyError, TypeError, ValueError):
        raise Refused(3) from None
    return {"quotes": _quotes(control)}


def post_faults(control: Control, body: Any) -> dict[str, Any]:
    """{rules: [{kind, path, times, code, seconds}, …]} replaces all faults; an empty list switches them off."""
    control.faults.set(read_rules(_object(body).get("rules")))
    return {"faults": control.faults.listed()}


def get_state(control: Control, body: Any) -> dict[str, Any]:
    """What there is, in numbers, with prices and faults."""
    store = control.exchange.store
    with store.transaction():
        return {
            "server_time_ms": control.exchange.now_ms(),
            "accounts": [account.login for account in store.accounts()],
            "positions": len(store.positions()),
            "deals": store.count_deals(None, 0, 2**62),
            "outbox": store.outbox_size(),
            "market_step": control.exchange.market.step,
            "quotes": _quotes(control),
            "faults": control.faults.listed(),
        }


def _quotes(control: Control) -> dict[str, dict[str, str]]:
    quotes = {name: control.exchange.market.quote(name) for name in INSTRUMENTS}
    return {name: {"bid": str(quote.bid_price), "ask": str(quote.ask_price)} for name, quote in quotes.items()}


def _object(body: Any) -> Mapping[str, Any]:
    if not isinstance(body, dict):
        raise Refused(3)
    return body


CONTROLS: dict[tuple[str, str], Callable[[Control, Any], dict[str, Any]]] = {
    ("POST", "trade"): post_trade,
    ("POST", "close"): post_close,
    ("POST", "market"): post_market,
    ("POST", "faults"): post_faults,
    ("GET", "state"): get_state,
}
