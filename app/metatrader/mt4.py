"""What MetaTrader 4's records are in ours. Pure; docs/metatrader-bridge.md has the same as tables.

MT4 has no deals and no positions: one row is the whole life of an order, from its opening (or from being put in as a pending
order) to its close. So a row gives a position while it is open, and deals by the steps that it has made. What a server, a
bridge or a report database tells of the same row is the same deal, because all of them come through here.

Balance and credit move when a trade closes, never when it opens, so profit, swap, commission and taxes are the closing deal's.
The records themselves stand in mt4_rows.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal

from app.metatrader.codes import DEFAULT_RIGHTS, DealAction, DealEntry, DealReason, OrderState, OrderType, UserRight
from app.metatrader.mt4_rows import (
    COMMENT_LIMIT,
    COUNTRY_LIMIT,
    EMAIL_LIMIT,
    GROUP_LIMIT,
    MARK_LIMIT,
    MONEY_PLACES,
    NAME_LIMIT,
    NOTE_LIMIT,
    PASSWORD_LEAST,
    PASSWORD_LIMIT,
    UNITS_PER_HUNDREDTH,
    Cmd,
    Login,
    State,
    Trade,
    read_group,
    read_login,
    read_symbol,
    read_trade,
    write_login,
    write_trade,
)
from app.metatrader.platform import AccountState, Deal, Order, Position, User

__all__ = [
    "COMMENT_LIMIT",
    "COUNTRY_LIMIT",
    "EMAIL_LIMIT",
    "GROUP_LIMIT",
    "MARK_LIMIT",
    "MONEY_PLACES",
    "NAME_LIMIT",
    "NOTE_LIMIT",
    "PASSWORD_LEAST",
    "PASSWORD_LIMIT",
    "UNITS_PER_HUNDREDTH",
    "Cmd",
    "Login",
    "State",
    "Trade",
    "account_of",
    "closing_ticket",
    "deals_of",
    "is_selected",
    "opening_ticket",
    "order_of",
    "order_of_ticket",
    "pending_of",
    "position_of",
    "read_group",
    "read_login",
    "read_symbol",
    "read_trade",
    "rights_of",
    "switches_of",
    "user_of",
    "write_login",
    "write_trade",
]

_ZERO = Decimal(0)

_ACTIONS = {Cmd.BALANCE: DealAction.BALANCE, Cmd.CREDIT: DealAction.CREDIT}
_ORDER_TYPES = {
    Cmd.BUY: OrderType.BUY,
    Cmd.SELL: OrderType.SELL,
    Cmd.BUY_LIMIT: OrderType.BUY_LIMIT,
    Cmd.SELL_LIMIT: OrderType.SELL_LIMIT,
    Cmd.BUY_STOP: OrderType.BUY_STOP,
    Cmd.SELL_STOP: OrderType.SELL_STOP,
}
#: MT4's reasons by number: client, expert, dealer, signal, gateway, mobile, web, API.
_REASONS = (
    DealReason.CLIENT,
    DealReason.EXPERT,
    DealReason.DEALER,
    DealReason.SIGNAL,
    DealReason.GATEWAY,
    DealReason.MOBILE,
    DealReason.WEB,
    DealReason.EXTERNAL_SERVICE,
)
#: What the server writes into the comment of a trade that it closed by itself.
_CLOSED_BY_SERVER = (
    (re.compile(r"so: [0-9.]+%/"), DealReason.STOP_OUT),
    (re.compile(r".*\[sl\]"), DealReason.STOP_LOSS),
    (re.compile(r".*\[tp\]"), DealReason.TAKE_PROFIT),
)


def opening_ticket(order: int) -> int:
    """The ticket of the deal that opened an order's position, and of a balance or credit operation."""
    return 2 * order


def closing_ticket(order: int) -> int:
    """The ticket of the deal that closed an order's position."""
    return 2 * order + 1


def order_of_ticket(ticket: int) -> int:
    """The order whose deal this is."""
    return ticket // 2


def deals_of(trade: Trade, contract_size: Decimal) -> Iterator[Deal]:
    """The deals that a row has made so far, the opening one first; none of a pending order. Of a deleted row they are void.

    A part of a trade that is closed keeps the order, and the rest goes on under a new one, both from the old opening on: so
    the first order's opening deal shrinks (a revision), and the new one's stands beside it. What closed against another
    order to its last lot may be left as a row of volume 0: no trade is in it, so it gives none.
    """
    if trade.is_pending or (trade.is_trade and not trade.volume):
        return
    yield _deal(trade, contract_size, closing=False)
    if trade.is_trade and trade.close_time:
        yield _deal(trade, contract_size, closing=True)


def _deal(trade: Trade, contract_size: Decimal, *, closing: bool) -> Deal:
    """Comments of trades change over their lives, so the opening deal has none. Money is rounded, and blanks at a comment's
    end go: a deal is the same from a bridge's text and from a database's doubles and padded columns.
    """
    is_money = trade.is_money
    carries = is_money or closing
    return Deal(
        ticket=closing_ticket(trade.order) if closing else opening_ticket(trade.order),
        login=trade.login,
        action=_action(trade, closing=closing),
        entry=DealEntry.OUT if closing else DealEntry.IN,
        reason=_closing_reason(trade) if closing else _reason(trade.reason),
        order_ticket=0 if is_money else trade.order,
        position_ticket=0 if is_money else trade.order,
        symbol="" if is_money else trade.symbol,
        volume=0 if is_money else trade.volume * UNITS_PER_HUNDREDTH,
        volume_closed=trade.volume * UNITS_PER_HUNDREDTH if closing else 0,
        price=_ZERO if is_money else (trade.close_price if closing else trade.open_price),
        price_position=trade.open_price if closing else _ZERO,
        market_bid=_ZERO,
        market_ask=_ZERO,
        contract_size=_ZERO if is_money else contract_size,
        digits=trade.digits,
        digits_currency=MONEY_PLACES,
        profit=_money(trade.profit) if carries else _ZERO,
        swap=_money(trade.storage) if closing else _ZERO,
        commission=_money(trade.commission) if closing else _ZERO,
        fee=_money(trade.taxes) if closing else _ZERO,
        rate_profit=trade.conv_rate_close if closing else trade.conv_rate_open,
        rate_margin=trade.margin_rate,
        server_time_ms=1000 * (trade.close_time if closing else trade.open_time),
        comment=trade.comment.rstrip(" ") if carries else "",
        external_id=str(trade.order) if is_money else "",
    )


def position_of(trade: Trade, contract_size: Decimal) -> Position | None:
    """The open position that a row is; None for anything else."""
    if not trade.is_trade or trade.is_over or trade.is_deleted:
        return None
    return Position(
        ticket=trade.order,
        login=trade.login,
        symbol=trade.symbol,
        action=trade.cmd,
        reason=_reason(trade.reason),
        volume=trade.volume * UNITS_PER_HUNDREDTH,
        price_open=trade.open_price,
        price_current=trade.close_price,
        profit=trade.profit,
        swap=trade.storage,
        contract_size=contract_size,
        digits=trade.digits,
        digits_currency=MONEY_PLACES,
        rate_profit=trade.conv_rate_close or trade.conv_rate_open,
        rate_margin=trade.margin_rate,
        created_ms=1000 * trade.open_time,
        update_ms=1000 * max(trade.timestamp, trade.open_time),
        comment=trade.comment,
        price_stop_loss=trade.sl,
        price_take_profit=trade.tp,
    )


def order_of(trade: Trade, contract_size: Decimal) -> Order | None:
    """What became of an order: pending or canceled, and filled once it is a trade; None for money.

    A filled one no longer says what it waited for: its type is the side that it took, its price and time are the opening's.
    """
    if trade.is_money:
        return None
    volume = trade.volume * UNITS_PER_HUNDREDTH
    if trade.is_trade:
        state, done_ms = OrderState.FILLED, 1000 * trade.open_time
    else:
        state, done_ms = OrderState.CANCELED if trade.close_time else OrderState.PLACED, 1000 * trade.close_time
    return Order(
        ticket=trade.order,
        login=trade.login,
        symbol=trade.symbol,
        type=_ORDER_TYPES[Cmd(trade.cmd)],
        state=state,
        reason=_reason(trade.reason),
        volume_initial=volume,
        volume_current=0 if trade.is_trade else volume,
        price_order=trade.open_price,
        price_trigger=_ZERO,
        price_stop_loss=trade.sl,
        price_take_profit=trade.tp,
        position_ticket=trade.order if trade.is_trade else 0,
        position_by_ticket=0,
        set_up_ms=1000 * trade.open_time,
        done_ms=done_ms,
        expiration_ms=1000 * trade.expiration,
        comment=trade.comment,
        digits=trade.digits,
        external_id="",
        contract_size=contract_size,
    )


def pending_of(trade: Trade, contract_size: Decimal) -> Order | None:
    """The pending order that a row is or was; None once it is a trade, and for money."""
    return order_of(trade, contract_size) if trade.is_pending else None


def account_of(login: Login) -> AccountState:
    """A user record's settings and money."""
    return AccountState(
        login=login.login,
        group=login.group,
        leverage=login.leverage,
        rights=rights_of(login),
        balance=login.balance,
        credit=login.credit,
        equity=login.equity,
        margin=login.margin,
        margin_free=login.margin_free,
        margin_level=login.margin_level,
        floating=login.equity - login.balance - login.credit,
        digits_currency=MONEY_PLACES,
        mark=login.id,
    )


def user_of(login: Login) -> User:
    """Whose record it is."""
    return User(
        login=login.login,
        group=login.group,
        name=login.name,
        email=login.email,
        country=login.country,
        leverage=login.leverage,
        rights=rights_of(login),
        comment=login.comment,
        mark=login.id,
        balance=login.balance,
        credit=login.credit,
        registered_ms=1000 * login.regdate,
    )


def rights_of(login: Login) -> int:
    """MT4's three switches as rights; what it has no switch for reads as a new login has it."""
    rights = DEFAULT_RIGHTS & ~(UserRight.ENABLED | UserRight.PASSWORD)
    rights |= UserRight.ENABLED if login.enable else 0
    rights |= UserRight.PASSWORD if login.enable_change_password else 0
    rights |= UserRight.TRADE_DISABLED if login.enable_read_only else 0
    return rights


def switches_of(rights: int) -> dict[str, str]:
    """Rights as the switches of a user record, as text fields."""
    return {
        "enable": str(int(bool(rights & UserRight.ENABLED))),
        "enable_change_password": str(int(bool(rights & UserRight.PASSWORD))),
        "enable_read_only": str(int(bool(rights & UserRight.TRADE_DISABLED))),
    }


def is_selected(mask: str, group: str) -> bool:
    """Whether a group is selected by a mask such as `std-*,!std-test`: by one pattern, and by no negated one."""
    patterns = [part.strip() for part in mask.split(",") if part.strip()]
    wanted = [part for part in patterns if not part.startswith("!")]
    unwanted = [part[1:] for part in patterns if part.startswith("!")]
    return any(_fits(part, group) for part in wanted) and not any(_fits(part, group) for part in unwanted)


def _fits(pattern: str, group: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), group) is not None


def _action(trade: Trade, *, closing: bool) -> int:
    if trade.is_money:
        return _ACTIONS[Cmd(trade.cmd)]
    return DealAction.BUY if (trade.cmd == Cmd.BUY) is not closing else DealAction.SELL


def _reason(number: int) -> DealReason:
    return _REASONS[number] if number < len(_REASONS) else DealReason.CLIENT


def _money(amount: Decimal) -> Decimal:
    return round(amount, MONEY_PLACES)


def _closing_reason(trade: Trade) -> DealReason:
    return next((reason for sign, reason in _CLOSED_BY_SERVER if sign.match(trade.comment)), _reason(trade.reason))
