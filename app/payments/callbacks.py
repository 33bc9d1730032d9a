"""Provider callbacks: verified and stored in the request, acted on in a job.

The raw body is kept with its verdict before anything acts on it. The same event id again is a repeat when the content is
the same, and an error when it is not.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.uow import UnitOfWork, unit_of_work
from app.models.payments import Callback, Deposit, Withdrawal
from app.payments import deposits, withdrawals
from app.payments.connector import ConflictingEvent, Connector, ProviderEvent
from app.payments.state import IllegalMove

#: Headers worth keeping as evidence; never cookies or credentials.
KEPT_HEADERS = ("stripe-signature", "content-type", "user-agent")


def receive_callback(
    session: Session,
    connector: Connector,
    *,
    raw_body: bytes,
    headers: Mapping[str, str],
    address: str,
) -> int:
    """Verify and store what a provider sent; returns how many events are new. Raises BadSignature, MalformedCallback,
    ConflictingEvent; then nothing is stored.
    """
    events = connector.parse_callback(raw_body, headers)
    kept = {name: value for name, value in headers.items() if name.lower() in KEPT_HEADERS}
    new = 0
    with unit_of_work(session, Actor.system(f"callback:{connector.name}")) as unit:
        for event in events:
            callback_id = session.execute(
                insert(Callback)
                .values(
                    connector=connector.name,
                    event_id=event.event_id,
                    type=event.type,
                    fingerprint=event.fingerprint,
                    body=raw_body,
                    address=address,
                    headers=kept,
                    is_ignored=event.kind == "ignored",
                )
                .on_conflict_do_nothing(index_elements=["connector", "event_id"])
                .returning(Callback.id)
            ).scalar_one_or_none()
            if callback_id is None:
                _refuse_other_content(session, connector.name, event)
            elif event.kind != "ignored":
                new += 1
                unit.emit(
                    "callback.received",
                    subject_id=callback_id,
                    connector=connector.name,
                )
    return new


def _refuse_other_content(session: Session, connector: str, event: ProviderEvent) -> None:
    stored = session.scalars(
        select(Callback.fingerprint).where(Callback.connector == connector, Callback.event_id == event.event_id)
    ).one()
    if stored != event.fingerprint:
        raise ConflictingEvent()


def process_callback(unit: UnitOfWork, connector: Connector, callback_id: int) -> None:
    """Act on a stored callback inside the caller's unit of work. A repeat finds it processed and does nothing.

    The body was verified when it was stored; the age check of signatures does not apply to our own queue.
    """
    session = unit.session
    callback = session.get_one(Callback, callback_id, with_for_update=True)
    if callback.processed_at is not None:
        return
    for event in connector.read_stored(callback.body):
        if event.event_id == callback.event_id:
            _act(unit, event)
    callback.processed_at = now()


def _act(unit: UnitOfWork, event: ProviderEvent) -> None:
    """Apply one event. What fits nothing of ours, or contradicts what we know, is told to staff and changes nothing."""
    if event.kind in ("chargeback", "chargeback_reversed"):
        _tell_chargeback(unit, event)
        return
    if event.kind == "deposit":
        row: Deposit | Withdrawal | None = deposits.find_for_update(unit.session, event.attempt_id or "")
    else:
        row = withdrawals.find_for_update(unit.session, event.attempt_id or "")
    if row is None:
        unit.emit("callback.unmatched", kind=event.kind, provider_reference=event.provider_reference)
        return
    try:
        if isinstance(row, Deposit):
            row.provider_reference = row.provider_reference or event.provider_reference
            deposits.apply_outcome(unit, row, event.outcome)
        else:
            withdrawals.apply_outcome(unit, row, event.outcome, event.provider_reference)
    except IllegalMove:
        unit.emit(
            "callback.contradicts", subject_id=row.id, kind=event.kind, state=row.state, told=type(event.outcome).__name__
        )


def _tell_chargeback(unit: UnitOfWork, event: ProviderEvent) -> None:
    """The payer's bank took money back, or gave it back: a person decides what follows for the client's wallet."""
    deposit = unit.session.scalars(
        select(Deposit).where(Deposit.payment_reference == event.payment_reference, Deposit.payment_reference.is_not(None))
    ).one_or_none()
    unit.emit(
        "callback.needs_person",
        subject_id=deposit.id if deposit else None,
        kind=event.kind,
        provider_reference=event.provider_reference,
    )
