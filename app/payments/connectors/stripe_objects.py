"""Stripe's objects in our words: amounts, outcomes and events. Pure functions over parsed JSON.

Sources: the object types in the `stripe` 16.1.0 package; docs.stripe.com/currencies for amounts on the wire.
Whatever is not recognised here is Pending or ignored; whatever cannot be read raises Unreadable.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from app.core.errors import N_
from app.core.money import InvalidMoney, Money, exponent
from app.payments.connector import EXPIRED, Failed, Outcome, Pending, ProviderEvent, Settled, UnsupportedAmount

#: The metadata key that carries our attempt id on sessions, payment intents and refunds.
ATTEMPT = "lotwise_attempt"

#: Currencies that Stripe counts in whole units, and in thousandths with a last digit of 0; all others in hundredths.
_WHOLE_UNITS = frozenset(
    {"BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF"}
)  # fmt: skip
_THOUSANDTHS = frozenset({"BHD", "JOD", "KWD", "OMR", "TND"})

#: Stripe's published rules for these contradict each other between sources: no amount is guessed.
_UNCERTAIN = frozenset({"ISK", "UGX"})

_EVENT_FIELDS = (
    *("id", "object", "status", "payment_status", "payment_intent", "charge", "reason", "failure_reason"),
    *("amount", "amount_total", "amount_received", "amount_refunded", "currency"),
)


class Unreadable(ValueError):
    """Stripe's object lacks a field we need, or the field is of another type. The text names the field, not its value."""


def wire_exponent(currency: str) -> int:
    """Decimals of a currency in Stripe's integer amounts, which are not always ISO 4217's. Raises UnsupportedAmount."""
    if currency in _UNCERTAIN:
        raise UnsupportedAmount(message=N_("This payment method does not take %(currency)s."), currency=currency)
    return 0 if currency in _WHOLE_UNITS else 3 if currency in _THOUSANDTHS else 2


def to_wire(money: Money) -> int:
    """The amount as Stripe counts it. Raises UnsupportedAmount where Stripe's unit cannot express it exactly."""
    shift = wire_exponent(money.currency) - exponent(money.currency)
    amount, rest = _shifted(money.amount_minor, shift)
    if rest or (money.currency in _THOUSANDTHS and amount % 10):
        raise UnsupportedAmount(message=N_("This payment method cannot take exactly %(amount)s."), amount=str(money))
    return amount


def from_wire(amount: int, currency: str) -> Money:
    """Stripe's integer amount and lower-case currency as Money. Raises Unreadable where it has no exact meaning for us."""
    code = currency.upper()
    try:
        shift = exponent(code) - wire_exponent(code)
        minor, rest = _shifted(amount, shift)
        if rest:
            raise Unreadable("amount")
        return Money(minor, code)
    except (InvalidMoney, UnsupportedAmount):
        raise Unreadable("currency") from None


def _shifted(amount: int, digits: int) -> tuple[int, int]:
    """The amount with its decimal point moved by `digits`, and what would be lost by that."""
    factor: int = 10 ** abs(digits)
    return (amount * factor, 0) if digits >= 0 else divmod(amount, factor)


def session_outcome(session: Mapping[str, Any]) -> Outcome:
    """How a Checkout Session stands. With the payment intent expanded, its received amount and fee are used."""
    intent = session.get("payment_intent")
    details = intent if isinstance(intent, Mapping) else {}
    if session.get("payment_status") == "paid":
        if details:
            return _paid(details)
        return Settled(_amount(session, "amount_total"), payment_reference=_reference(intent))
    if session.get("status") == "expired":
        return Failed(EXPIRED)
    # An unpaid open session may still be tried again; an unpaid complete one is decided by its payment intent.
    if session.get("status") == "complete" and details.get("status") in ("requires_payment_method", "canceled"):
        return _refusal(details)
    return Pending(str(session.get("payment_status") or ""))


def intent_outcome(intent: Mapping[str, Any]) -> Outcome:
    """How a Payment Intent stands. A refused card is Pending: the client may try another one on the same page."""
    status = intent.get("status")
    if status == "succeeded":
        return _paid(intent)
    if status == "canceled":
        return Failed(EXPIRED, _text(intent.get("cancellation_reason")))
    return Pending(_text(status))


def refund_outcome(refund: Mapping[str, Any]) -> Outcome:
    """How a refund stands."""
    status = refund.get("status")
    if status == "succeeded":
        return Settled(_amount(refund, "amount"), payment_reference=_reference(refund.get("payment_intent")))
    if status in ("failed", "canceled"):
        return Failed(_text(refund.get("failure_reason")) or str(status))
    return Pending(_text(status))


def attempt_of(thing: Mapping[str, Any]) -> str | None:
    """Our attempt id on a Stripe object, None when the object was not made by us."""
    metadata = thing.get("metadata")
    return _identifier(metadata.get(ATTEMPT)) if isinstance(metadata, Mapping) else None


def event_from(body: Mapping[str, Any]) -> ProviderEvent:
    """A verified event of Stripe's in our words. Raises Unreadable for what is not a (snapshot) event."""
    data = body.get("data")
    thing = data.get("object") if isinstance(data, Mapping) else None
    event_id, event_type = _identifier(body.get("id")), _identifier(body.get("type"))
    if body.get("object") != "event" or not isinstance(thing, Mapping):
        raise Unreadable("object")
    if event_id is None or event_type is None:
        raise Unreadable("id or type")
    try:
        occurred_at = datetime.fromtimestamp(_whole(body.get("created")), UTC)
    except (OverflowError, ValueError, OSError):
        raise Unreadable("created") from None
    return ProviderEvent(
        event_id=event_id,
        type=event_type,
        fingerprint=_fingerprint(body),
        occurred_at=occurred_at,
        payload={key: thing[key] for key in _EVENT_FIELDS if _is_plain(thing.get(key))},
        **_meaning(event_type, thing),
    )


def _meaning(event_type: str, thing: Mapping[str, Any]) -> dict[str, Any]:
    """What an event is about: the fields of ProviderEvent that depend on its type."""
    family, _, verb = event_type.rpartition(".")
    if family == "checkout.session":
        # The session itself does not say that a delayed payment failed; only the event's type does.
        outcome = Failed("async_payment_failed") if verb == "async_payment_failed" else session_outcome(thing)
        payment = _reference(thing.get("payment_intent"))
        return _about("deposit", thing, outcome, reference=_reference(thing), payment=payment)
    if family == "payment_intent":
        return _about("deposit", thing, intent_outcome(thing), reference=None, payment=_reference(thing))
    if family == "refund":
        payment = _reference(thing.get("payment_intent"))
        return _about("refund", thing, refund_outcome(thing), reference=_reference(thing), payment=payment)
    moved = {"funds_withdrawn": "chargeback", "funds_reinstated": "chargeback_reversed"}.get(verb)
    if family == "charge.dispute" and moved:
        payment = _reference(thing.get("payment_intent"))
        outcome = Settled(_amount(thing, "amount"), payment_reference=payment)
        return _about(moved, thing, outcome, reference=_reference(thing), payment=payment)
    return {"kind": "ignored"}


def _about(
    kind: str, thing: Mapping[str, Any], outcome: Outcome, *, reference: str | None, payment: str | None
) -> dict[str, Any]:
    return {
        "kind": kind,
        "attempt_id": attempt_of(thing),
        "provider_reference": reference,
        "payment_reference": payment,
        "outcome": outcome,
    }


def _paid(intent: Mapping[str, Any]) -> Settled:
    charge = intent.get("latest_charge")
    charged = charge if isinstance(charge, Mapping) else {}
    booking = charged.get("balance_transaction")
    # Stripe books the fee a moment after the payment, in the currency of our account there.
    fee = _amount(booking, "fee", least=0) if isinstance(booking, Mapping) else None
    return Settled(_amount(intent, "amount_received"), fee, _reference(intent), _card_fingerprint(charged))


def _card_fingerprint(charge: Mapping[str, Any]) -> str | None:
    method = charge.get("payment_method_details")
    card = method.get("card") if isinstance(method, Mapping) else None
    return _identifier(card.get("fingerprint")) if isinstance(card, Mapping) else None


def _refusal(intent: Mapping[str, Any]) -> Failed:
    error = intent.get("last_payment_error")
    if not isinstance(error, Mapping):
        return Failed("payment_failed")
    code = _text(error.get("decline_code")) or _text(error.get("code")) or "payment_failed"
    return Failed(code, _text(error.get("message")))


def _amount(thing: Mapping[str, Any], field: str, least: int = 1) -> Money:
    currency, amount = thing.get("currency"), _whole(thing.get(field))
    if not isinstance(currency, str):
        raise Unreadable("currency")
    if amount < least:
        raise Unreadable(field)
    return from_wire(amount, currency)


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise Unreadable("number")
    return value


def _text(value: object) -> str:
    return value[:500] if isinstance(value, str) and value.isprintable() else ""


def _identifier(value: object) -> str | None:
    """A text fit for a key: visible ASCII of sane length. JSON can spell characters that no database stores."""
    return value if isinstance(value, str) and 0 < len(value) <= 255 and value.isascii() and value.isprintable() else None


def _reference(value: object) -> str | None:
    """The id in an expandable field: Stripe sends the id, or the whole object."""
    return _identifier(value.get("id") if isinstance(value, Mapping) else value)


def _is_plain(value: object) -> bool:
    return isinstance(value, int) or (isinstance(value, str) and len(value) <= 500 and value.isprintable())


def _fingerprint(body: Mapping[str, Any]) -> bytes:
    """SHA-256 of the event's content. Left out is `pending_webhooks`: it counts deliveries and may change on a repeat."""
    content = {key: value for key, value in body.items() if key != "pending_webhooks"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).digest()
