"""New objects in Stripe's shapes (types of the `stripe` 16.1.0 package), with the fields that matter here. Pure functions."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

Thing = dict[str, Any]

API_VERSION = "2026-10-28.endive"

#: Decimals of a currency in Stripe's amounts, for showing them.
_WHOLE_UNITS = frozenset(
    {"BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF"}
)  # fmt: skip
_THOUSANDTHS = frozenset({"BHD", "JOD", "KWD", "OMR", "TND"})

_FEE_RATE = Decimal("0.029")
_FEE_FIXED = 30


def words(amount: int, currency: str) -> str:
    """An amount for people: "1,000.00 USD"."""
    code = currency.upper()
    decimals = 0 if code in _WHOLE_UNITS else 3 if code in _THOUSANDTHS else 2
    return f"{Decimal(amount).scaleb(-decimals):,.{decimals}f} {code}"


def fee(amount: int) -> int:
    """Stripe's usual fee, 2.9% and 0.30, in minor units."""
    return int((amount * _FEE_RATE).to_integral_value(ROUND_HALF_UP)) + _FEE_FIXED


def session(session_id: str, params: Thing, line: Thing, amount: int, url: str, created: int, expires_at: int) -> Thing:
    return {
        "id": session_id,
        "object": "checkout.session",
        "adaptive_pricing": {"enabled": params.get("adaptive_pricing", {}).get("enabled") == "true"},
        "allowed_payment_method_types": params.get("allowed_payment_method_types"),
        "amount_subtotal": amount,
        "amount_total": amount,
        "cancel_url": params.get("cancel_url"),
        "client_reference_id": params.get("client_reference_id"),
        "created": created,
        "currency": line["price_data"]["currency"].lower(),
        "customer": None,
        "customer_details": None,
        "customer_email": params.get("customer_email"),
        "expires_at": expires_at,
        "livemode": False,
        "locale": params.get("locale"),
        "metadata": params.get("metadata", {}),
        "mode": "payment",
        "payment_intent": None,
        "payment_method_types": ["card"],
        "payment_status": "unpaid",
        "status": "open",
        "success_url": params["success_url"],
        "ui_mode": "hosted_page",
        "url": url,
    }


def payment_intent(intent_id: str, of_session: Thing, metadata: Thing, description: str | None, created: int) -> Thing:
    return {
        "id": intent_id,
        "object": "payment_intent",
        "amount": of_session["amount_total"],
        "amount_capturable": 0,
        "amount_received": 0,
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": "automatic_async",
        "confirmation_method": "automatic",
        "created": created,
        "currency": of_session["currency"],
        "customer": None,
        "description": description,
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": False,
        "metadata": metadata,
        "next_action": None,
        "payment_method": None,
        "payment_method_types": ["card"],
        "status": "requires_payment_method",
    }


def charge(charge_id: str, intent: Thing, card: Thing, created: int, *, failure: Thing | None = None) -> Thing:
    return {
        "id": charge_id,
        "object": "charge",
        "amount": intent["amount"],
        "amount_captured": 0,
        "amount_refunded": 0,
        "balance_transaction": None,
        "captured": False,
        "created": created,
        "currency": intent["currency"],
        "disputed": False,
        "failure_code": failure["code"] if failure else None,
        "failure_message": failure["message"] if failure else None,
        "livemode": False,
        "metadata": intent["metadata"],
        "paid": False,
        "payment_intent": intent["id"],
        "payment_method": intent["payment_method"],
        "payment_method_details": {"type": "card", "card": card},
        "refunded": False,
        "status": "failed" if failure else "pending",
    }


def balance_transaction(txn_id: str, source: Thing, kind: str, amount: int, fee_amount: int, created: int) -> Thing:
    details = [{"amount": fee_amount, "currency": source["currency"], "description": "Processing fees", "type": "stripe_fee"}]
    return {
        "id": txn_id,
        "object": "balance_transaction",
        "amount": amount,
        "available_on": created,
        "balance_type": "payments",
        "created": created,
        "currency": source["currency"],
        "description": None,
        "exchange_rate": None,
        "fee": fee_amount,
        "fee_details": details if fee_amount else [],
        "net": amount - fee_amount,
        "reporting_category": kind,
        "source": source["id"],
        "status": "pending",
        "type": kind,
    }


def refund(refund_id: str, of_charge: Thing, amount: int, reason: str | None, metadata: Thing, created: int) -> Thing:
    return {
        "id": refund_id,
        "object": "refund",
        "amount": amount,
        "balance_transaction": None,
        "charge": of_charge["id"],
        "created": created,
        "currency": of_charge["currency"],
        "destination_details": {"type": "card", "card": {"type": "refund", "reference_status": "pending"}},
        "failure_balance_transaction": None,
        "failure_reason": None,
        "metadata": metadata,
        "payment_intent": of_charge["payment_intent"],
        "pending_reason": "processing",
        "reason": reason,
        "receipt_number": None,
        "status": "pending",
    }


def event(event_id: str, kind: str, thing: Thing, created: int) -> Thing:
    return {
        "id": event_id,
        "object": "event",
        "account": None,
        "api_version": API_VERSION,
        "context": None,
        "created": created,
        "data": {"object": thing},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": kind,
    }
