"""Deposits: the money arrives once, whatever is repeated, late or contradictory."""

from __future__ import annotations

import hashlib
import hmac
import json
import time

import pytest
from sqlalchemy import func, select

from app.core.actor import Actor
from app.core.money import Money
from app.core.tables import Event
from app.core.uow import unit_of_work
from app.ledger import chart, proofs, queries
from app.models.clients import Client
from app.models.ledger import Transaction
from app.models.payments import Callback, Deposit
from app.payments import callbacks, deposits, janitor
from app.payments.connector import (
    BadSignature,
    ConflictingEvent,
    Failed,
    MalformedCallback,
    Pending,
    Settled,
    UnsupportedAmount,
)
from app.payments.connectors.stripe_objects import ATTEMPT
from app.payments.errors import ClientNotApproved
from tests.integration.payments.conftest import WEBHOOK_SECRET


def signed(body: bytes, secret: str = WEBHOOK_SECRET) -> dict[str, str]:
    moment = str(int(time.time()))
    digest = hmac.new(secret.encode(), moment.encode() + b"." + body, hashlib.sha256).hexdigest()
    return {"Stripe-Signature": f"t={moment},v1={digest}"}


def completed(deposit: Deposit, event_id: str = "evt_1") -> bytes:
    """The provider's word that a session was paid."""
    session = {
        "id": deposit.provider_reference, "object": "checkout.session", "status": "complete", "payment_status": "paid",
        "amount_total": deposit.amount_minor, "currency": "usd", "payment_intent": "pi_1",
        "client_reference_id": str(deposit.public_id), "metadata": {ATTEMPT: str(deposit.public_id)},
    }  # fmt: skip
    event = {
        "id": event_id,
        "object": "event",
        "type": "checkout.session.completed",
        "created": int(time.time()),
        "data": {"object": session},
    }
    return json.dumps(event).encode()


def test_money_arrives_with_the_providers_word_and_its_fee_apart(desk):
    deposit = desk.settled(100_000)
    assert deposit.state == "settled"
    assert desk.wallet().posted == Money(100_000, "USD")
    fee = queries.balance(desk.session, chart.psp_fees("stripe", "USD")).posted
    clearing = queries.balance(desk.session, chart.psp_clearing("stripe", "USD")).posted
    assert fee == Money(2_930, "USD")  # 2.9 % and 0.30
    assert clearing + fee == Money(100_000, "USD")
    assert all(not proof.breaks for proof in proofs.prove(desk.session))


def test_pressing_twice_is_one_attempt(desk):
    first, second = desk.start(key="k1"), desk.start(key="k1")
    assert first.id == second.id
    assert desk.session.scalar(select(func.count()).select_from(Deposit)) == 1


def test_callback_twice_and_settlement_by_asking_credit_once(desk):
    deposit = desk.start()
    desk.pay(deposit)
    body = completed(deposit)
    for _ in range(3):
        callbacks.receive_callback(desk.session, desk.connector, raw_body=body, headers=signed(body), address="127.0.0.1")
    rows = desk.session.scalars(select(Callback)).all()
    assert len(rows) == 1
    for _ in range(2):
        with unit_of_work(desk.session, Actor.system("test")) as unit:
            callbacks.process_callback(unit, desk.connector, rows[0].id)
    assert desk.wallet().posted == Money(100_000, "USD")
    desk.settle(deposit)
    assert desk.wallet().posted == Money(100_000, "USD")
    assert desk.session.scalar(select(func.count()).select_from(Transaction).where(Transaction.kind == "deposit")) == 1


def test_same_event_id_with_other_content_is_an_error(desk):
    deposit = desk.start()
    body, other = completed(deposit), completed(deposit).replace(b'"pi_1"', b'"pi_2"')
    callbacks.receive_callback(desk.session, desk.connector, raw_body=body, headers=signed(body), address="")
    with pytest.raises(ConflictingEvent):
        callbacks.receive_callback(desk.session, desk.connector, raw_body=other, headers=signed(other), address="")
    assert desk.session.scalar(select(func.count()).select_from(Callback)) == 1


@pytest.mark.parametrize("headers", [{}, {"Stripe-Signature": "t=1,v1=00"}, {"Stripe-Signature": "nonsense"}])
def test_unsigned_callback_stores_nothing(desk, headers):
    body = completed(desk.start())
    with pytest.raises(BadSignature):
        callbacks.receive_callback(desk.session, desk.connector, raw_body=body, headers=headers, address="")
    desk.session.rollback()
    assert desk.session.scalar(select(func.count()).select_from(Callback)) == 0


@pytest.mark.parametrize(
    "body", [b"", b"\xff\xfe", b"[]", b'{"id": 1}', b'{"id": "evt_1", "type": "checkout.session.completed"']
)
def test_signed_nonsense_is_malformed_and_stores_nothing(desk, body):
    with pytest.raises(MalformedCallback):
        callbacks.receive_callback(desk.session, desk.connector, raw_body=body, headers=signed(body), address="")
    desk.session.rollback()
    assert desk.session.scalar(select(func.count()).select_from(Callback)) == 0


def test_the_processed_amount_is_credited_not_the_requested_one(desk):
    deposit = desk.start(100_000)
    with unit_of_work(desk.session, Actor.system("test")) as unit:
        deposits.apply_outcome(
            unit, desk.session.get_one(Deposit, deposit.id), Settled(Money(90_000, "USD"), payment_reference="pi_1")
        )
    assert desk.wallet().posted == Money(90_000, "USD")


def test_late_pending_never_takes_a_settled_deposit_back(desk):
    deposit = desk.settled()
    with unit_of_work(desk.session, Actor.system("test")) as unit:
        deposits.apply_outcome(unit, desk.session.get_one(Deposit, deposit.id), Pending("late"))
    assert desk.session.get_one(Deposit, deposit.id).state == "settled"


def test_money_that_comes_after_a_failure_still_counts(desk):
    deposit = desk.start()
    for outcome in (Failed("card_declined"), Settled(Money(100_000, "USD"), payment_reference="pi_1")):
        with unit_of_work(desk.session, Actor.system("test")) as unit:
            deposits.apply_outcome(unit, desk.session.get_one(Deposit, deposit.id), outcome)
    assert desk.wallet().posted == Money(100_000, "USD")


def test_janitor_finds_a_payment_whose_callback_never_came(desk):
    deposit = desk.start()
    desk.pay(deposit)
    deposit.next_ask_at = deposit.created_at
    desk.session.commit()
    assert janitor.ask_providers(desk.session, lambda _name: desk.connector) == 1
    assert desk.wallet().posted == Money(100_000, "USD")
    assert janitor.ask_providers(desk.session, lambda _name: desk.connector) == 0


def test_refused_before_anything_is_written(desk):
    with pytest.raises(UnsupportedAmount):
        desk.start(10)
    desk.session.get_one(Client, desk.client_id).status = "verified"
    desk.session.commit()
    with pytest.raises(ClientNotApproved):
        desk.start()
    desk.session.rollback()
    assert desk.session.scalar(select(func.count()).select_from(Deposit)) == 0


def test_fee_that_the_callback_does_not_carry_is_booked_after(desk):
    deposit = desk.start()
    desk.pay(deposit)
    with unit_of_work(desk.session, Actor.system("test")) as unit:
        told = Settled(Money(100_000, "USD"), payment_reference="pi_1")
        deposits.apply_outcome(unit, desk.session.get_one(Deposit, deposit.id), told)
    for _ in range(2):
        assert deposits.book_fee(desk.session, desk.connector, deposit.id)
    desk.session.rollback()
    assert queries.balance(desk.session, chart.psp_fees("stripe", "USD")).posted == Money(2_930, "USD")
    with_same_card = desk.settled()
    assert desk.session.get_one(Deposit, deposit.id).card_fingerprint == with_same_card.card_fingerprint
    assert len(with_same_card.card_fingerprint) == 16


def test_contradicting_callback_is_told_to_staff_and_done_with(desk):
    deposit = desk.settled()
    with unit_of_work(desk.session, Actor.system("test")):
        desk.session.get_one(Deposit, deposit.id).state = "refunded"
    body = (
        completed(deposit)
        .replace(b'"checkout.session.completed"', b'"checkout.session.expired"')
        .replace(b'"complete"', b'"expired"')
        .replace(b'"paid"', b'"unpaid"')
    )
    callbacks.receive_callback(desk.session, desk.connector, raw_body=body, headers=signed(body), address="")
    row = desk.session.scalars(select(Callback)).one()
    with unit_of_work(desk.session, Actor.system("test")) as unit:
        callbacks.process_callback(unit, desk.connector, row.id)
    assert desk.session.get_one(Callback, row.id).processed_at is not None
    assert "callback.contradicts" in desk.session.scalars(select(Event.type)).all()
    assert desk.wallet().posted == Money(100_000, "USD")
