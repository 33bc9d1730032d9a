"""How far a client has come, as SQL: registered, verified, approved, deposited, traded; and what they traded."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, ScalarSelect, and_, case, exists, func, or_, select

from app.models.clients import Client
from app.models.metatrader import Deal, Product, TradingAccount
from app.models.partners import Attribution
from app.models.payments import Deposit, Transfer

#: In order; each holds whether or not those before it do.
STAGES = ("registered", "verified", "approved", "deposited", "traded")

_BUY, _SELL = 0, 1
_IN, _INOUT = 0, 2

#: What a deal closed, in 1/100000000 lot; where the server does not say it of an exit, its whole volume.
_closed = case((or_(Deal.entry == _INOUT, Deal.volume_closed > 0), Deal.volume_closed), else_=Deal.volume)


def _trades() -> list[ColumnElement[bool]]:
    """Deals of live accounts of the client that stand as they are."""
    return [
        TradingAccount.client_id == Client.id,
        Deal.trading_account_id == TradingAccount.id,
        Product.id == TradingAccount.product_id,
        Product.is_demo.is_(False),
        Deal.action.in_((_BUY, _SELL)),
        Deal.is_current.is_(True),
        Deal.is_void.is_(False),
    ]


is_verified = Client.email_verified_at.is_not(None)
is_approved = Client.approved_at.is_not(None)
has_deposited = or_(
    exists().where(Deposit.client_id == Client.id, Deposit.settled_minor.is_not(None)),
    exists().where(Transfer.client_id == Client.id, Transfer.direction == "to_account", Transfer.state == "done"),
)
has_traded = exists().where(*_trades())

#: The farthest of STAGES that holds.
stage = case(
    (has_traded, "traded"),
    (has_deposited, "deposited"),
    (is_approved, "approved"),
    (is_verified, "verified"),
    else_="registered",
)


def lots_since(since: datetime) -> ScalarSelect[int]:
    """What the client closed since a moment while being this attribution's, in 1/100000000 lot; none: nothing."""
    return (
        select(func.sum(_closed))
        .where(
            *_trades(),
            Deal.entry != _IN,
            Deal.done_at >= func.greatest(Attribution.valid_from, since),
            or_(Attribution.valid_to.is_(None), Deal.done_at < Attribution.valid_to),
        )
        .correlate(Client, Attribution)
        .scalar_subquery()
    )


def traded_since(since: datetime) -> ColumnElement[bool]:
    """Whether the client has traded since a moment."""
    return exists().where(and_(*_trades(), Deal.done_at >= since))
