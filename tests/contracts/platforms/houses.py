"""A trading server of each kind behind the same few verbs, so that one contract can be tried on all of them."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

from app.metatrader import mt4
from app.metatrader.platform import UNITS_PER_LOT, Deal, ServerAccess
from app.metatrader.simulator import Simulator
from app.metatrader.simulator.mt4 import MT4Simulator

PASSWORD = "Mt5#Manager1"


class House(Protocol):
    """One server with its simulator. Groups have one name for each thing that the contract needs; masks are its own too."""

    usd: str
    eur: str
    ecn: str
    all_real: str
    all_std: str
    all_ecn: str
    nobody: str
    #: A password with signs and letters that only this server's rules and its way of sending could break.
    odd_password: str
    #: Amounts that are refused, and by which number.
    refused: dict[str, int]
    has_archive: bool
    has_technical_logins: bool
    misstated_credit: int
    simulator: Any

    def now_ms(self) -> int:
        """The server's wall clock."""

    def offset_min(self, moment: Any) -> int:
        """Minutes that it is ahead of UTC."""

    def buy(self, login: int, symbol: str, lots: str) -> int:
        """Open a long position; its ticket."""

    def sell(self, login: int, symbol: str, lots: str) -> int: ...

    def close(self, ticket: int) -> None: ...

    def protect(self, ticket: int, stop_loss: Decimal, take_profit: Decimal) -> None: ...

    def round_trip(self, login: int, symbol: str, lots: str, points: int) -> tuple[Deal, Deal]:
        """Buy, let the price rise, close: both deals."""

    def buy_limit(self, login: int, symbol: str, lots: str, price: Decimal, comment: str = "") -> int:
        """Put in an order that waits; its ticket."""

    def cancel(self, ticket: int) -> None: ...

    def reword(self, ticket: int, comment: str) -> None:
        """A dealer changes a balance operation's comment."""

    def delete(self, ticket: int) -> None:
        """A dealer takes a deal away."""

    def misstate(self, login: int, balance: Decimal) -> None:
        """Write into a login's record what its deals do not add up to: this balance, and `misstated_credit`."""


class MT5House:
    usd, eur, ecn = r"real\std\usd", r"real\std\eur", r"real\ecn\usd"
    all_real, all_std, all_ecn, nobody = r"real\*", r"real\std\*", r"real\ecn\*", r"demo\*"
    odd_password = "Ünbekannt%&=1a"
    refused = {"-0.01": 10019, "1000000000.01": 4005, "0.001": 3}
    has_archive = has_technical_logins = True
    misstated_credit = 5

    def __init__(self, folder: Path) -> None:
        self.simulator = Simulator(state_dir=folder, password=PASSWORD, tick_s=0)
        self._exchange = self.simulator.exchange

    def now_ms(self) -> int:
        return self._exchange.now_ms()

    def offset_min(self, moment: Any) -> int:
        return self._exchange.zone.offset_min(moment)

    def buy(self, login: int, symbol: str, lots: str) -> int:
        return self._exchange.open(login, symbol, 0, _units(lots)).position_ticket

    def sell(self, login: int, symbol: str, lots: str) -> int:
        return self._exchange.open(login, symbol, 1, _units(lots)).position_ticket

    def close(self, ticket: int) -> None:
        self._exchange.close(ticket)

    def protect(self, ticket: int, stop_loss: Decimal, take_profit: Decimal) -> None:
        self._exchange.protect(ticket, stop_loss, take_profit)

    def round_trip(self, login: int, symbol: str, lots: str, points: int) -> tuple[Deal, Deal]:
        opened, closed = self.simulator.control.trade(login, symbol, "buy", Decimal(lots), move_points=points)
        return opened, closed

    def buy_limit(self, login: int, symbol: str, lots: str, price: Decimal, comment: str = "") -> int:
        return self._exchange.place_order(login, symbol, 2, _units(lots), price, comment=comment).ticket

    def cancel(self, ticket: int) -> None:
        self._exchange.cancel_order(ticket)

    def reword(self, ticket: int, comment: str) -> None:
        self._exchange.edit_deal(ticket, comment=comment)

    def delete(self, ticket: int) -> None:
        self._exchange.delete_deal(ticket)

    def misstate(self, login: int, balance: Decimal) -> None:
        self.simulator.control.users.set_balance(login, balance, Decimal(self.misstated_credit))


class MT4House:
    usd, eur, ecn = "std-usd", "std-eur", "ecn-usd"
    all_real, all_std, all_ecn, nobody = "std-*,ecn-*", "std-*", "ecn-*", "demo-*"
    odd_password = "Unbekannt%&=1a"
    refused = {"-0.01": 10019, "1000000000.01": 3, "0.001": 3}
    has_archive = has_technical_logins = False
    misstated_credit = 0

    def __init__(self, folder: Path) -> None:
        self.simulator = MT4Simulator(state_dir=folder, password=PASSWORD, tick_s=0)
        self._engine = self.simulator.engine

    def now_ms(self) -> int:
        return 1000 * self._engine.now_s()

    def offset_min(self, moment: Any) -> int:
        return self._engine.zone.offset_min(moment)

    def buy(self, login: int, symbol: str, lots: str) -> int:
        return self._engine.open(login, symbol, mt4.Cmd.BUY, Decimal(lots)).order

    def sell(self, login: int, symbol: str, lots: str) -> int:
        return self._engine.open(login, symbol, mt4.Cmd.SELL, Decimal(lots)).order

    def close(self, ticket: int) -> None:
        self._engine.close(ticket)

    def protect(self, ticket: int, stop_loss: Decimal, take_profit: Decimal) -> None:
        self._engine.edit(ticket, sl=stop_loss, tp=take_profit)

    def round_trip(self, login: int, symbol: str, lots: str, points: int) -> tuple[Deal, Deal]:
        order = self.buy(login, symbol, lots)
        self._engine.shift(symbol, points)
        opened, closed = mt4.deals_of(self._engine.close(order), Decimal(100_000))
        return opened, closed

    def buy_limit(self, login: int, symbol: str, lots: str, price: Decimal, comment: str = "") -> int:
        return self._engine.place(login, symbol, mt4.Cmd.BUY_LIMIT, Decimal(lots), price, comment=comment).order

    def cancel(self, ticket: int) -> None:
        self._engine.cancel(ticket)

    def reword(self, ticket: int, comment: str) -> None:
        self._engine.edit(mt4.order_of_ticket(ticket), comment=comment)

    def delete(self, ticket: int) -> None:
        self._engine.delete(mt4.order_of_ticket(ticket))

    def misstate(self, login: int, balance: Decimal) -> None:
        self._engine.users.drift(login, balance - self._engine.login(login).balance)


HOUSES: dict[str, type[MT5House | MT4House]] = {"mt5_web": MT5House, "mt4_bridge": MT4House}


def access(simulator: Any, platform: str = "mt5_web", **changes: Any) -> ServerAccess:
    """How an adapter reaches a simulator."""
    known = {
        "code": "sim",
        "platform": platform,
        "url": simulator.url,
        "manager_login": simulator.manager_login,
        "password": PASSWORD,
        "ca_file": str(simulator.ca_file),
        "time_zone": "GMT+2/EU",
    }
    return ServerAccess(**{**known, **changes})


def _units(lots: str) -> int:
    return int(Decimal(lots) * UNITS_PER_LOT)
