"""Holds: set money aside until it is known what becomes of it.

A held amount is still the client's and stays in the balance, but it cannot be spent. A hold ends once: captured into a
transaction, released, or expired. Use it while a request is being reviewed; once money has left for a provider or a
trading server, that is a transaction of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.money import Money
from app.ledger.chart import AccountSpec
from app.ledger.errors import InvalidPosting, typed_errors
from app.ledger.posting import LEGS, Leg, check_moment, check_name, leg_arrays
from app.models.ledger import Hold, HoldResolution

_PLACE = text("SELECT ledger.place_hold(:account, :currency, :amount, :key, :reason, :actor, :expires_at)")
_CAPTURE = text(f"SELECT ledger.capture_hold(:hold, :key, :kind, :effective_at, :actor, {LEGS}, CAST(:metadata AS jsonb))")
_RESOLVE = text("SELECT ledger.resolve_hold(:hold, :outcome, :actor)")


def place_hold(
    session: Session,
    *,
    account: AccountSpec | str,
    money: Money,
    key: str,
    reason: str,
    actor: Actor,
    expires_at: datetime | None = None,
) -> UUID:
    """Set a positive amount aside and return the hold's id; the id of the first time when the same was asked before.

    Raises InsufficientFunds, UnknownAccount, AccountClosed, CurrencyMismatch, IdempotencyConflict, InvalidPosting.
    """
    if money.amount_minor <= 0:
        raise InvalidPosting()
    parameters = {
        "account": str(account),
        "currency": money.currency,
        "amount": money.amount_minor,
        "key": check_name(key, longest=200),
        "reason": reason,
        "actor": str(actor),
        "expires_at": None if expires_at is None else check_moment(expires_at),
    }
    with typed_errors():
        return session.execute(_PLACE, parameters).scalar_one()  # type: ignore[no-any-return]  # a text() result


def capture_hold(
    session: Session,
    hold_id: UUID,
    *,
    key: str,
    kind: str,
    effective_at: datetime,
    actor: Actor,
    legs: Sequence[Leg],
    metadata: Mapping[str, Any] | None = None,
) -> UUID:
    """Turn the hold into a transaction and return its id; to whoever repeats the request, the same id.

    The legs take between one minor unit and the held amount from the held account; what they leave is free again. A hold
    past its expiry can be captured until it is expired. Raises HoldAlreadyResolved, CaptureMismatch, and as `post`.
    """
    parameters = {
        "hold": hold_id,
        "key": check_name(key, longest=200),
        "kind": check_name(kind, longest=60),
        "effective_at": check_moment(effective_at),
        "actor": str(actor),
        **leg_arrays(legs),
        "metadata": json.dumps(dict(metadata or {})),
    }
    with typed_errors():
        return session.execute(_CAPTURE, parameters).scalar_one()  # type: ignore[no-any-return]  # a text() result


def release_hold(session: Session, hold_id: UUID, *, actor: Actor) -> bool:
    """Give the held amount back. False when it was released before; raises HoldAlreadyResolved when it ended otherwise."""
    return _resolve(session, hold_id, "released", actor)


def expire_hold(session: Session, hold_id: UUID, *, actor: Actor) -> bool:
    """End a hold whose time has come. False when it was expired before; raises HoldNotDue, HoldAlreadyResolved."""
    return _resolve(session, hold_id, "expired", actor)


def due_holds(session: Session, *, limit: int = 100) -> list[UUID]:
    """Unresolved holds whose time has come. Expire each in a unit of work of its own: another may be ending it just now."""
    return list(
        session.scalars(
            select(Hold.id)
            .outerjoin(HoldResolution, HoldResolution.hold_id == Hold.id)
            .where(Hold.expires_at <= func.now(), HoldResolution.hold_id.is_(None))
            .order_by(Hold.expires_at, Hold.id)
            .limit(limit)
        )
    )


def _resolve(session: Session, hold_id: UUID, outcome: str, actor: Actor) -> bool:
    with typed_errors():
        return bool(session.execute(_RESOLVE, {"hold": hold_id, "outcome": outcome, "actor": str(actor)}).scalar_one())
