"""What happens to money in the sandbox: sessions, payments and refunds, and the events that tell of them.

Each function changes the store inside the caller's transaction; `emit` queues the webhook in the same transaction.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.payments.sandbox import cards, objects
from app.payments.sandbox.cards import TEST_CARDS, Verdict
from app.payments.sandbox.objects import Thing, words
from app.payments.sandbox.parameters import Problem, address, required, whole
from app.payments.sandbox.store import Store, new_id

_SESSION_LIFETIME_S = (30 * 60, 24 * 3600)


@dataclass(frozen=True)
class Delays:
    """How long the sandbox's slow parts take, in seconds."""

    refund_s: float = 2.0
    delayed_payment_s: float = 5.0
    first_retry_s: float = 1.0
    longest_retry_s: float = 300.0


def emit(store: Store, kind: str, thing: Thing) -> None:
    """Record an event and queue its delivery, or two deliveries while the fault "duplicate_webhooks" is set."""
    event = objects.event(new_id("evt_"), kind, thing, int(time.time()))
    store.save(event, parent=thing["id"])
    for _ in range(2 if store.take_fault("duplicate_webhooks") else 1):
        store.queue(event["id"], time.time())


def create_session(store: Store, params: dict[str, Any], site: str) -> Thing:
    """POST /v1/checkout/sessions in payment mode, with one or more priced lines of one currency."""
    if required(params, "mode") != "payment":
        raise Problem(400, "The sandbox knows the mode payment only.", param="mode")
    address(required(params, "success_url"), "success_url")
    if "cancel_url" in params:
        address(params["cancel_url"], "cancel_url")
    lines = required(params, "line_items")
    amount = 0
    for index, line in enumerate(lines):
        for name in ("quantity", "price_data.currency", "price_data.unit_amount", "price_data.product_data.name"):
            required(line, name)
        unit = whole(line["price_data"]["unit_amount"], f"line_items[{index}][price_data][unit_amount]", least=0)
        amount += unit * whole(line["quantity"], f"line_items[{index}][quantity]")
    currencies = {line["price_data"]["currency"] for line in lines}
    if len(currencies) > 1:
        raise Problem(400, "All line items must have the same currency.", param="line_items")
    currency = currencies.pop()
    if not (len(currency) == 3 and currency.isascii() and currency.isalpha() and currency == currency.lower()):
        raise Problem(400, f"Invalid currency: {currency[:10]}.", param="line_items[0][price_data][currency]")
    if not 50 <= amount <= 99_999_999:
        message = "The Checkout Session's total amount due is outside what can be charged."
        raise Problem(400, message, code="amount_too_small" if amount < 50 else "amount_too_large")
    created = int(time.time())
    expires_at = created + _SESSION_LIFETIME_S[1]
    if "expires_at" in params:
        expires_at = whole(params["expires_at"], "expires_at")
        if not _SESSION_LIFETIME_S[0] <= expires_at - created <= _SESSION_LIFETIME_S[1]:
            raise Problem(400, "The `expires_at` timestamp must be 30 minutes to 24 hours away.", param="expires_at")
    session_id = new_id("cs_test_")
    session = objects.session(session_id, params, lines[0], amount, f"{site}/c/pay/{session_id}", created, expires_at)
    store.save(session)
    # Not part of Stripe's object: what the checkout page shows and the payment intent will carry.
    data = params.get("payment_intent_data", {})
    name = lines[0]["price_data"]["product_data"]["name"]
    store.save({"id": f"note_{session_id}", "object": "note", "name": name, "intent": data})
    store.plan("expire_session", session_id, float(expires_at))
    return session


def pay(store: Store, session_id: str, number: str, delay_s: float) -> Verdict:
    """A person pays an open session with a test card; a delayed payment arrives after `delay_s`."""
    session, verdict = store.get(session_id), TEST_CARDS[number][0]
    intent = _intent_of(store, session)
    card = {
        "brand": "visa",
        "last4": number[-4:],
        "country": "US",
        "funding": "credit",
        "fingerprint": cards.fingerprint(number),
    }
    intent["payment_method"] = new_id("pm_")
    if verdict.result == "declined":
        failure = {"code": verdict.code, "message": verdict.message}
        charge = objects.charge(new_id("ch_"), intent, card, int(time.time()), failure=failure)
        error = {**failure, "decline_code": verdict.decline_code, "type": "card_error", "charge": charge["id"]}
        intent.update(status="requires_payment_method", latest_charge=charge["id"], last_payment_error=error)
        store.save(charge, parent=intent["id"])
        store.save(intent)
        emit(store, "payment_intent.payment_failed", intent)
        return verdict
    charge = objects.charge(new_id("ch_"), intent, card, int(time.time()))
    intent.update(status="processing", latest_charge=charge["id"], last_payment_error=None)
    session["status"] = "complete"
    session["url"] = None
    for thing in (session, intent):
        store.save(thing)
    store.save(charge, parent=intent["id"])
    if verdict.result == "approved":
        collect(store, session_id, "checkout.session.completed")
    else:
        emit(store, "payment_intent.processing", intent)
        emit(store, "checkout.session.completed", session)
        store.plan("collect", session_id, time.time() + delay_s)
    return verdict


def collect(store: Store, session_id: str, told_as: str = "checkout.session.async_payment_succeeded") -> None:
    """The money of a complete session arrives: book charge and fee, and tell."""
    session = store.get(session_id)
    if session["payment_status"] == "paid":
        return
    intent = store.get(session["payment_intent"])
    charge = store.get(intent["latest_charge"])
    amount, now = intent["amount"], int(time.time())
    booking = objects.balance_transaction(new_id("txn_"), charge, "charge", amount, objects.fee(amount), now)
    charge.update(status="succeeded", paid=True, captured=True, amount_captured=amount, balance_transaction=booking["id"])
    intent.update(status="succeeded", amount_received=amount)
    session["payment_status"] = "paid"
    for thing in (booking, charge, intent, session):
        store.save(thing)
    emit(store, "charge.succeeded", charge)
    emit(store, "payment_intent.succeeded", intent)
    emit(store, told_as, session)


def expire_session(store: Store, session_id: str) -> None:
    """An open session that nobody paid ends."""
    session = store.get(session_id)
    if session["status"] == "open":
        session.update(status="expired", url=None)
        store.save(session)
        emit(store, "checkout.session.expired", session)


def create_refund(store: Store, params: dict[str, Any], delay_s: float) -> Thing:
    """POST /v1/refunds: part or all of what is left of a successful payment. Pending first, decided after `delay_s`.

    While the fault "fail_refund" is set, a refund made now will fail then.
    """
    charge = _charge_to_refund(store, params)
    left = charge["amount_captured"] - charge["amount_refunded"]
    if left == 0:
        message = f"Charge {charge['id']} has already been refunded."
        raise Problem(400, message, code="charge_already_refunded", saved=True)
    amount = whole(params["amount"], "amount") if "amount" in params else left
    if amount > left:
        asked, rest = words(amount, charge["currency"]), words(left, charge["currency"])
        message = f"Refund amount ({asked}) is greater than unrefunded amount on charge ({rest})"
        raise Problem(400, message, param="amount", saved=True)
    reason = params.get("reason")
    if reason not in (None, "duplicate", "fraudulent", "requested_by_customer"):
        raise Problem(400, "Invalid reason: must be duplicate, fraudulent or requested_by_customer", param="reason")
    now = int(time.time())
    refund = objects.refund(new_id("re_"), charge, amount, reason, params.get("metadata", {}), now)
    booking = objects.balance_transaction(new_id("txn_"), refund, "refund", -amount, 0, now)
    refund["balance_transaction"] = booking["id"]
    _refunded(charge, amount)
    for thing in (booking, charge):
        store.save(thing)
    store.save(refund, parent=charge["payment_intent"])
    emit(store, "refund.created", refund)
    emit(store, "charge.refunded", charge)
    store.plan("fail_refund" if store.take_fault("fail_refund") else "finish_refund", refund["id"], time.time() + delay_s)
    return refund


def finish_refund(store: Store, refund_id: str) -> None:
    """The card network carries out a pending refund."""
    refund = store.get(refund_id)
    if refund["status"] == "pending":
        refund.update(status="succeeded", pending_reason=None)
        store.save(refund)
        emit(store, "refund.updated", refund)


def fail_refund(store: Store, refund_id: str) -> None:
    """The card network turns a pending refund down: the money is ours again and can be refunded again."""
    refund = store.get(refund_id)
    if refund["status"] != "pending":
        return
    charge = store.get(refund["charge"])
    _refunded(charge, -refund["amount"])
    booking = objects.balance_transaction(new_id("txn_"), refund, "refund_failure", refund["amount"], 0, int(time.time()))
    refund.update(status="failed", pending_reason=None, failure_reason="expired_or_canceled_card")
    refund["failure_balance_transaction"] = booking["id"]
    for thing in (booking, charge, refund):
        store.save(thing)
    emit(store, "refund.failed", refund)
    emit(store, "refund.updated", refund)


#: Tasks that are planned by name; each takes the store and the id of what it is about, and may be repeated.
TASKS: dict[str, Callable[[Store, str], None]] = {
    "collect": collect,
    "finish_refund": finish_refund,
    "fail_refund": fail_refund,
    "expire_session": expire_session,
}


def _intent_of(store: Store, session: Thing) -> Thing:
    """The session's payment intent; as at Stripe, it is made when somebody first tries to pay."""
    if session["payment_intent"]:
        return store.get(session["payment_intent"])
    data = store.get(f"note_{session['id']}")["intent"]
    created = int(time.time())
    intent = objects.payment_intent(new_id("pi_"), session, data.get("metadata", {}), data.get("description"), created)
    session["payment_intent"] = intent["id"]
    store.save(session)
    store.save(intent, parent=session["id"])
    return intent


def _charge_to_refund(store: Store, params: dict[str, Any]) -> Thing:
    if ("payment_intent" in params) == ("charge" in params):
        message = "One of the following params should be provided for this request: payment_intent or charge."
        raise Problem(400, message, code="parameter_missing")
    name = "payment_intent" if "payment_intent" in params else "charge"
    found = store.find(params[name])
    if found is None or found["object"] != name:
        raise missing(name, params[name])
    charge = store.find(found["latest_charge"] or "") if name == "payment_intent" else found
    if charge is None or charge["status"] != "succeeded":
        message = f"This PaymentIntent ({params[name][:80]}) does not have a successful charge to refund."
        raise Problem(400, message, code="charge_not_refundable", param=name)
    return charge


def missing(kind: str, object_id: str) -> Problem:
    """Stripe's answer for an object that does not exist."""
    return Problem(404, f"No such {kind}: '{object_id[:80]}'", code="resource_missing", param=kind)


def _refunded(charge: Thing, amount: int) -> None:
    charge["amount_refunded"] += amount
    charge["refunded"] = charge["amount_refunded"] == charge["amount_captured"]
