"""Rows and user records of MT4 for tests, and a report database to put them into by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

from sqlalchemy import create_engine, text

from app.metatrader.mt4 import Cmd, Login, State, Trade
from app.metatrader.platform import Order, Position, Symbol
from app.metatrader.servertime import server_zone
from app.metatrader.simulator.mt4.report import Report
from app.metatrader.sources import Place
from app.metatrader.sources.mt4_report import MT4Report
from app.metatrader.sources.mt4_report_events import MT4ReportSource
from config import ServerSecrets

EET = server_zone("GMT+2/EU")
MOMENT = datetime(2026, 11, 24, 12, tzinfo=UTC)
GOLD = Symbol("XAUUSD", 2, "XAU", "USD", Decimal(100), 1, 1, 1)
ZERO = Decimal(0)

OPEN = Trade(
    order=1000001, login=5, cmd=Cmd.BUY, symbol="EURUSD", digits=5, volume=150, open_time=0, close_time=0,
    state=State.OPEN_NORMAL, open_price=Decimal("1.08455"), close_price=Decimal("1.08550"), sl=Decimal("1.07"), tp=ZERO,
    expiration=0, reason=5, conv_rate_open=Decimal(1), conv_rate_close=Decimal(1), margin_rate=Decimal("1.08455"),
    commission=Decimal("-4.38"), storage=Decimal("-3.1"), profit=Decimal("142.5"), taxes=Decimal("-0.5"), comment="mine",
    timestamp=0,
)  # fmt: skip
USER = Login(
    login=5, group="std-usd", enable=1, enable_change_password=1, enable_read_only=0, name="Zoë Rossi", email="z@example.com",
    country="Italy", comment="", id="A-0000000000005", leverage=100, balance=Decimal("1000.25"), credit=Decimal(20),
    equity=Decimal("1162.75"), margin=Decimal("1626.83"), margin_free=Decimal("-464.08"), margin_level=Decimal("71.47"),
    regdate=1_764_156_600, timestamp=1_764_156_600,
)  # fmt: skip


def wall(moment: datetime) -> int:
    """A moment as the server's clock shows it, in seconds."""
    return EET.wall_ms(moment) // 1000


def opened(order: int, at: datetime, **changes: Any) -> Trade:
    """An open trade."""
    return replace(OPEN, order=order, open_time=wall(at), timestamp=wall(at), **changes)


def closed(trade: Trade, at: datetime, **changes: Any) -> Trade:
    """The same trade, closed."""
    return replace(trade, close_time=wall(at), state=State.CLOSED_NORMAL, timestamp=wall(at), **changes)


def pending(order: int, at: datetime, **changes: Any) -> Trade:
    """An order that waits for its price."""
    nothing = {"profit": ZERO, "storage": ZERO, "commission": ZERO, "taxes": ZERO}
    return opened(order, at, **{"cmd": Cmd.BUY_LIMIT, **nothing, **changes})


def money(order: int, at: datetime, amount: int, cmd: Cmd = Cmd.BALANCE, **changes: Any) -> Trade:
    """A balance or credit operation."""
    empty = dict.fromkeys(("open_price", "close_price", "sl", "commission", "storage", "taxes", "margin_rate"), ZERO)
    rates = {"conv_rate_open": ZERO, "conv_rate_close": ZERO}
    values = {**empty, **rates, "cmd": cmd, "symbol": "", "digits": 2, "volume": 0, "profit": Decimal(amount), **changes}
    return closed(opened(order, at, **values), at)


class Filled:
    """A report database, filled by hand."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._report = Report(url)
        self._report.create_tables()
        self._engine = create_engine(url)

    def put(self, *trades: Trade, logins: Sequence[Login] = (), gone: Sequence[int] = ()) -> None:
        self._report.write(trades, logins, gone)

    def run(self, statement: str, **values: Any) -> None:
        with self._engine.begin() as connection:
            connection.execute(text(statement), values)

    def open(self, symbols: Sequence[Symbol] = (), **options: Any) -> MT4Report:
        """What sweeps and comparisons read it with."""
        return MT4Report(self.url, EET, {"schema": "mt4", **options}, lambda: symbols)

    def close(self) -> None:
        self._report.close()
        self._engine.dispose()


def source_of(
    url: str,
    cursors: dict[str, str] | None = None,
    held: Sequence[Position] = (),
    held_orders: Sequence[Order] = (),
    connect: Any = None,
    **options: Any,
) -> MT4ReportSource:
    """The source of events, at the cursors. Every look is due at once."""
    quick = {"every_s": 0.1, "look_back_every_s": 0.1, "positions_every_s": 0.1, "accounts_every_s": 0.1}
    place = Place(
        code="mt4",
        zone=EET,
        options={"schema": "mt4", **quick, "first_s": 366 * 86_400, **options},
        secrets=ServerSecrets("", "", database_url=url),
        groups=[],
        cursors=cursors if cursors is not None else {},
        held=SimpleNamespace(positions=lambda: list(held), orders=lambda: list(held_orders)),  # type: ignore[arg-type]  # what a source asks
        connect=connect,
        remember=lambda hints: None,
    )
    return MT4ReportSource(place)
