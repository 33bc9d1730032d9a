"""What our own tables hold of a server, as the records of the port: what a look at the server is compared with."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import Connection, Engine, select
from sqlalchemy.orm import Session

from app.metatrader.platform import AccountState, Deal, Order, Position
from app.metatrader.servertime import ServerZone
from app.models import metatrader as tables

_ZERO = Decimal(0)


@dataclass(frozen=True)
class Held:
    """Reads one server's rows, each call in a transaction of its own. Fields that no column keeps are zero or empty."""

    engine: Engine | Connection
    server_id: int
    zone: ServerZone

    def positions(self, login: int | None = None) -> list[Position]:
        """Open positions of all logins, or of one."""
        wanted = select(tables.Position).where(tables.Position.server_id == self.server_id)
        if login is not None:
            wanted = wanted.where(tables.Position.login == login)
        with Session(self.engine) as session:
            return [self._position(row) for row in session.scalars(wanted.order_by(tables.Position.ticket))]

    def orders(self) -> list[Order]:
        """Open orders."""
        wanted = select(tables.Order).where(
            tables.Order.server_id == self.server_id, tables.Order.done_ms == 0, tables.Order.is_deleted.is_(False)
        )
        with Session(self.engine) as session:
            return [order_of(row) for row in session.scalars(wanted.order_by(tables.Order.ticket))]

    def deal(self, ticket: int) -> Deal | None:
        """A deal as it stands now; None when there is none, or when it is void already."""
        newest = select(tables.Deal).where(
            tables.Deal.server_id == self.server_id,
            tables.Deal.ticket == ticket,
            tables.Deal.is_current,
            tables.Deal.is_void.is_(False),
        )
        with Session(self.engine) as session:
            row = session.scalars(newest).one_or_none()
            return _deal(row) if row else None

    def accounts(self, logins: Collection[int]) -> dict[int, AccountState]:
        """By login: our trading accounts of which the server has told group and rights."""
        wanted = select(tables.TradingAccount).where(
            tables.TradingAccount.server_id == self.server_id,
            tables.TradingAccount.login.in_(set(logins)),
            tables.TradingAccount.rights.is_not(None),
            tables.TradingAccount.group != "",
        )
        with Session(self.engine) as session:
            return {row.login: _account(row) for row in session.scalars(wanted) if row.login is not None}

    def _position(self, row: tables.Position) -> Position:
        created_ms = row.created_ms or self.zone.wall_ms(row.opened_at)
        return Position(
            ticket=row.ticket,
            login=row.login,
            symbol=row.symbol,
            action=row.action,
            reason=0,
            volume=row.volume,
            price_open=row.price_open,
            price_current=row.price_current,
            profit=row.profit,
            swap=row.swap,
            contract_size=_ZERO,
            digits=0,
            digits_currency=2,
            rate_profit=_ZERO,
            rate_margin=_ZERO,
            created_ms=created_ms,
            update_ms=max(row.update_ms, created_ms),
            price_stop_loss=row.price_stop_loss,
            price_take_profit=row.price_take_profit,
        )


def order_of(row: tables.Order) -> Order:
    """The order of a row."""
    return Order(
        ticket=row.ticket,
        login=row.login,
        symbol=row.symbol,
        type=row.type,
        state=row.state,
        reason=row.reason,
        volume_initial=row.volume_initial,
        volume_current=row.volume_current,
        price_order=row.price_order,
        price_trigger=row.price_trigger,
        price_stop_loss=row.price_stop_loss,
        price_take_profit=row.price_take_profit,
        position_ticket=row.position_ticket,
        position_by_ticket=0,
        set_up_ms=row.set_up_ms,
        done_ms=row.done_ms,
        expiration_ms=0,
        comment=row.comment,
        digits=0,
        external_id="",
        contract_size=_ZERO,
    )


def _deal(row: tables.Deal) -> Deal:
    return Deal(
        ticket=row.ticket,
        login=row.login,
        action=row.action,
        entry=row.entry,
        reason=row.reason,
        order_ticket=row.order_ticket,
        position_ticket=row.position_ticket,
        symbol=row.symbol,
        volume=row.volume,
        volume_closed=row.volume_closed,
        price=row.price,
        price_position=_ZERO,
        market_bid=row.market_bid,
        market_ask=row.market_ask,
        contract_size=row.contract_size,
        digits=0,
        digits_currency=row.digits_currency,
        profit=row.profit,
        swap=row.swap,
        commission=row.commission,
        fee=row.fee,
        rate_profit=row.rate_profit,
        rate_margin=_ZERO,
        server_time_ms=row.server_time_ms,
        comment=row.comment,
    )


def _account(row: tables.TradingAccount) -> AccountState:
    return AccountState(
        login=row.login or 0,
        group=row.group,
        leverage=row.leverage,
        rights=row.rights or 0,
        balance=row.balance,
        credit=row.credit,
        equity=row.equity,
        margin=_ZERO,
        margin_free=_ZERO,
        margin_level=_ZERO,
        floating=row.equity - row.balance - row.credit,
        digits_currency=2,
    )
