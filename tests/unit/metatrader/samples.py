"""Sample records and hypothesis strategies for them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import strategies as st

from app.metatrader.events import Origin, Stamp
from app.metatrader.platform import AccountState, Deal, Order, Position

MOMENT = datetime(2025, 11, 26, 9, 30, 0, 123456, tzinfo=UTC)
WALL_MS = 1_764_156_600_123

ORIGIN = Origin(server="sim", src="bridge", boot="b00t")
STAMP = Stamp(seq=7, server_time_ms=WALL_MS, utc_offset_min=120, received_at=MOMENT)

DEAL = Deal(
    ticket=1048577,
    login=954402,
    action=1,
    entry=1,
    reason=16,
    order_ticket=2097153,
    position_ticket=2097001,
    symbol="EURUSD",
    volume=125_000_000,
    volume_closed=125_000_000,
    price=Decimal("1.08550"),
    price_position=Decimal("1.08455"),
    market_bid=Decimal("1.08550"),
    market_ask=Decimal("1.08562"),
    contract_size=Decimal("100000.00"),
    digits=5,
    digits_currency=2,
    profit=Decimal("118.75"),
    swap=Decimal("-3.10"),
    commission=Decimal("-4.38"),
    fee=Decimal("0.00"),
    rate_profit=Decimal("1.00000000"),
    rate_margin=Decimal("1.08455000"),
    server_time_ms=WALL_MS,
    comment="",
)

POSITION = Position(
    ticket=2097001,
    login=954402,
    symbol="EURUSD",
    action=0,
    reason=0,
    volume=125_000_000,
    price_open=Decimal("1.08455"),
    price_current=Decimal("1.08550"),
    profit=Decimal("118.75"),
    swap=Decimal("-3.10"),
    contract_size=Decimal(100000),
    digits=5,
    digits_currency=2,
    rate_profit=Decimal(1),
    rate_margin=Decimal("1.08455"),
    created_ms=WALL_MS - 60_000,
    update_ms=WALL_MS,
)

ORDER = Order(
    ticket=2097002,
    login=954402,
    symbol="EURUSD",
    type=2,
    state=1,
    reason=0,
    volume_initial=125_000_000,
    volume_current=125_000_000,
    price_order=Decimal("1.07550"),
    price_trigger=Decimal(0),
    price_stop_loss=Decimal("1.07000"),
    price_take_profit=Decimal("1.09000"),
    position_ticket=0,
    position_by_ticket=0,
    set_up_ms=WALL_MS - 60_000,
    done_ms=0,
    expiration_ms=0,
    comment="",
    digits=5,
    external_id="",
    contract_size=Decimal(100000),
)

ACCOUNT = AccountState(
    login=954402,
    group="real\\std\\usd",
    leverage=100,
    rights=355,
    balance=Decimal("26000.00"),
    credit=Decimal("0.00"),
    equity=Decimal("26118.75"),
    margin=Decimal("1355.69"),
    margin_free=Decimal("24763.06"),
    margin_level=Decimal("1926.60"),
    floating=Decimal("118.75"),
    digits_currency=2,
    mark="A-8QK2N0V5ZT3RM",
)

money = st.decimals(min_value=Decimal(-99999999), max_value=Decimal(99999999), places=2)
prices = st.decimals(min_value=Decimal("0.00001"), max_value=Decimal(999999), places=5)
tickets = st.integers(1, 2**63 - 1)
volumes = st.integers(1, 10**12)
times = st.integers(WALL_MS - 10**10, WALL_MS)
words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=31)

deals = st.builds(
    lambda volume, part, fields: replace(DEAL, volume=volume, volume_closed=volume // part, **fields),
    volumes,
    st.integers(1, 10),
    st.fixed_dictionaries(
        {
            "ticket": tickets,
            "login": tickets,
            "action": st.integers(0, 20),
            "entry": st.integers(0, 3),
            "symbol": words.filter(bool),
            "price": prices,
            "profit": money,
            "swap": money,
            "commission": money,
            "fee": money,
            "server_time_ms": times,
            "comment": words,
            "modification_flags": st.integers(0, 255),
        }
    ),
)

positions = st.builds(
    lambda fields: replace(POSITION, **fields),
    st.fixed_dictionaries(
        {
            "ticket": tickets,
            "login": tickets,
            "volume": volumes,
            "price_stop_loss": prices,
            "price_take_profit": prices,
            "profit": money,
            "swap": money,
            "update_ms": times,
            "comment": words,
        }
    ),
)

orders = st.builds(
    lambda volume, part, fields: replace(ORDER, volume_initial=volume, volume_current=volume // part, **fields),
    volumes,
    st.integers(1, 10),
    st.fixed_dictionaries(
        {
            "ticket": tickets,
            "login": tickets,
            "type": st.integers(0, 8),
            "state": st.integers(0, 9),
            "price_order": prices,
            "price_stop_loss": prices,
            "set_up_ms": times,
            "done_ms": st.just(0) | times,
            "expiration_ms": st.just(0) | times.map(lambda ms: ms // 1000 * 1000),
            "comment": words,
        }
    ),
)

accounts = st.builds(
    lambda fields: replace(ACCOUNT, **fields),
    st.fixed_dictionaries({"login": tickets, "balance": money, "credit": money, "equity": money, "floating": money}),
)
