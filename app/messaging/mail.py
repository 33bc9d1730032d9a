"""Mails to clients: which fact makes which mail, and how a mail goes out once.

A mail is a row first. Whoever sends it claims the row, composes it in the client's language, hands it to the SMTP server
while no transaction is open, and writes down what became of it. Should the process die in between, the same row is sent
again under the same Message-ID, so that the repeat can be recognised. One-time links are made for each try and never kept.

How the words are found is the surfaces' business: they give a `Renderer`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.clients.onboarding import RESET_TTL, VERIFY_TTL, issue_token
from app.core.actor import Actor
from app.core.clock import now
from app.core.tables import Event
from app.core.uow import unit_of_work
from app.messaging.smtp import MailNotSent, MailRefused, Rendered, compose, domain_of, transmit
from app.models.clients import Client
from app.models.compliance import Document
from app.models.engagement import TicketMessage
from app.models.messaging import Mail
from app.models.partner_joining import IBApplication, PartnerAcceptance, PartnerAgreement
from app.models.payments import Withdrawal
from app.models.payouts import Payout

log = logging.getLogger("lotwise.mail")

ACTOR = Actor.system("mail")
#: With the relay's growing pauses about four hours of tries.
MAX_ATTEMPTS = 10
#: Longer than one try can take.
CLAIM = timedelta(seconds=60)


class BeingSent(Exception):
    """Another worker is sending this mail at this moment; ask again later how it went."""


class Renderer(Protocol):
    """Finds the words of a mail."""

    def render(self, template: str, language: str, values: Mapping[str, Any]) -> Rendered:
        """Subject, text and HTML of one template in one language."""


@dataclass(frozen=True)
class OneTimeLink:
    """A link that a template carries: what its token is for, the path before the secret, and how long it lives."""

    purpose: str
    path: str
    lifetime: timedelta


LINKS = {
    "verify_email": OneTimeLink("verify_email", "/portal/verify/", VERIFY_TTL),
    "password_reset": OneTimeLink("reset_password", "/portal/reset/", RESET_TTL),
}


@dataclass(frozen=True)
class Mailer:
    """Where mails go out, who they are from, and the public address their links begin with."""

    smtp_host: str
    smtp_port: int
    sender: str
    base_url: str
    renderer: Renderer

    def send(self, claim: Claim) -> None:
        """Compose and transmit one claimed mail. Raises MailRefused or MailNotSent."""
        rendered = self.renderer.render(claim.template, claim.language, claim.values)
        message = compose(
            sender=self.sender,
            name=claim.name,
            address=claim.address,
            rendered=rendered,
            message_id=message_id(claim.mail_id, claim.created_at, self.sender),
            language=claim.language,
            at=now(),
        )
        transmit(self.smtp_host, self.smtp_port, message)


@dataclass(frozen=True)
class Claim:
    """All that is needed to send one mail without a database."""

    mail_id: int
    created_at: datetime
    template: str
    language: str
    values: Mapping[str, Any]
    name: str
    address: str


def send_mail(
    session: Session,
    mailer: Mailer,
    *,
    client_id: int,
    template: str,
    values: Mapping[str, Any],
    language: str | None = None,
    event_id: int | None = None,
) -> str:
    """Send one mail to a client, in the client's language unless another is given. Returns "sent" or "failed".

    `values` are kept with the row: plain JSON, no secrets. With an `event_id` a repeat finds the mail of the first time and
    sends it only if it never went out. Raises MailNotSent when it should be tried again later, BeingSent when somebody
    else is at it.
    """
    with unit_of_work(session, ACTOR):
        mail = _row(session, client_id, template, values, language, event_id)
        if mail.status != "waiting":
            return mail.status
        claim = _claim(session, mailer, mail)
    try:
        mailer.send(claim)
    except MailRefused as error:
        return _finish(session, claim, "failed", str(error))
    except MailNotSent as error:
        if _finish(session, claim, "waiting", str(error)) == "failed":
            return "failed"
        raise
    return _finish(session, claim, "sent")


def message_id(mail_id: int, created_at: datetime, sender: str) -> str:
    """The same for each try at one mail; the moment keeps the mails of a database set up anew from looking like old ones."""
    return f"<mail.{mail_id}.{int(created_at.timestamp() * 1000)}@{domain_of(sender)}>"


def _row(
    session: Session, client_id: int, template: str, values: Mapping[str, Any], language: str | None, event_id: int | None
) -> Mail:
    """The locked row of this mail, made unless its event has one."""
    language = language or session.get_one(Client, client_id).language
    made = session.execute(
        insert(Mail)
        .values(client_id=client_id, template=template, values=dict(values), language=language, event_id=event_id)
        .on_conflict_do_nothing(index_elements=["event_id"])
        .returning(Mail.id)
    ).scalar_one_or_none()
    wanted = Mail.event_id == event_id if made is None else Mail.id == made
    return session.scalars(select(Mail).where(wanted).with_for_update().execution_options(populate_existing=True)).one()


def _claim(session: Session, mailer: Mailer, mail: Mail) -> Claim:
    at = now()
    if mail.claimed_until is not None and mail.claimed_until > at:
        raise BeingSent
    mail.attempts += 1
    mail.claimed_until = at + CLAIM
    client = session.get_one(Client, mail.client_id)
    values = {**mail.values, "name": client.first_name or client.full_name, "base_url": mailer.base_url}
    if link := LINKS.get(mail.template):
        secret = issue_token(session, client.id, link.purpose, link.lifetime)
        values["link"] = f"{mailer.base_url}{link.path}{secret}"
        values["link_hours"] = int(link.lifetime.total_seconds() // 3600)
    return Claim(mail.id, mail.created_at, mail.template, mail.language, values, client.full_name, client.email)


def _finish(session: Session, claim: Claim, status: str, error: str = "") -> str:
    """Write down how the try went; the last one of many that found no server counts as failed. Returns the status."""
    with unit_of_work(session, ACTOR):
        mail = session.get_one(Mail, claim.mail_id, with_for_update=True)
        mail.status = "failed" if status == "waiting" and mail.attempts >= MAX_ATTEMPTS else status
        mail.error = error
        mail.claimed_until = None
        mail.sent_at = now() if status == "sent" else None
        status = mail.status
    log.info("mail %s mail=%s template=%s error=%s", status, claim.mail_id, claim.template, error or "-")
    return status


def on_client_registered(session: Session, event: Event, mailer: Mailer) -> None:
    """The link that proves the address; also when a client asks for another one."""
    _tell(session, event, mailer, "verify_email")


def on_register_repeated(session: Session, event: Event, mailer: Mailer) -> None:
    """Somebody registered with an address that has an account: only its owner learns so, by this mail."""
    _tell(session, event, mailer, "account_exists")


def on_password_reset_requested(session: Session, event: Event, mailer: Mailer) -> None:
    _tell(session, event, mailer, "password_reset")


def on_password_changed(session: Session, event: Event, mailer: Mailer) -> None:
    """So that the owner learns of a change somebody else made."""
    _tell(session, event, mailer, "password_changed")


def on_client_approved(session: Session, event: Event, mailer: Mailer) -> None:
    _tell(session, event, mailer, "client_approved")


def on_document_rejected(session: Session, event: Event, mailer: Mailer) -> None:
    """Which document, why, and what to do now."""
    document = session.get_one(Document, event.subject_id)
    _tell(session, event, mailer, "document_rejected", kind=document.kind, reason=document.reason)


def on_deposit_settled(session: Session, event: Event, mailer: Mailer) -> None:
    _tell(session, event, mailer, "deposit_settled", **_amount(event))


def on_withdrawal_paid(session: Session, event: Event, mailer: Mailer) -> None:
    _tell(session, event, mailer, "withdrawal_paid", **_amount(event))


def on_withdrawal_rejected(session: Session, event: Event, mailer: Mailer) -> None:
    """Why staff refused it; the money was never away."""
    withdrawal = session.get_one(Withdrawal, event.subject_id)
    _tell(session, event, mailer, "withdrawal_rejected", reason=withdrawal.reason, **_amount(event))


def on_withdrawal_failed(session: Session, event: Event, mailer: Mailer) -> None:
    """The provider could not pay it out; the money is back in the wallet."""
    _tell(session, event, mailer, "withdrawal_failed", **_amount(event))


def on_payout_moved(session: Session, event: Event, mailer: Mailer) -> None:
    """An IB's commission is in the wallet."""
    _tell(session, event, mailer, "payout_paid", **_amount(event))


def on_payout_rejected(session: Session, event: Event, mailer: Mailer) -> None:
    """Why what the IB asked for is not paid; of what only a run had found, the IB knows nothing."""
    payout = session.get_one(Payout, event.subject_id)
    if payout.is_asked_for:
        _tell(session, event, mailer, "payout_rejected", reason=payout.decision_reason, **_amount(event))


def on_ticket_answered(session: Session, event: Event, mailer: Mailer) -> None:
    """The answer itself; the client writes back in the portal."""
    message = session.get_one(TicketMessage, event.payload["message_id"])
    _tell(
        session,
        event,
        mailer,
        "ticket_answered",
        ticket_id=message.ticket_id,
        subject=message.ticket.subject,
        text=message.text,
    )


def on_application_approved(session: Session, event: Event, mailer: Mailer) -> None:
    """That staff made the client an introducing broker; whoever joined at once saw it on the page."""
    application = session.get_one(IBApplication, event.subject_id)
    if (application.decided_by or "").startswith("staff:"):
        _tell(session, event, mailer, "partner_approved")


def on_application_rejected(session: Session, event: Event, mailer: Mailer) -> None:
    """Why, in the words of staff."""
    application = session.get_one(IBApplication, event.subject_id)
    _tell(session, event, mailer, "partner_rejected", reason=application.decision_reason)


def on_agreement_asked(session: Session, event: Event, mailer: Mailer) -> None:
    """That an IB should accept a version of the partner agreement; nothing where it has done so meanwhile."""
    asked = session.get_one(PartnerAgreement, event.subject_id)
    accepted = PartnerAcceptance.client_id == event.client_id, PartnerAcceptance.agreement_id >= asked.id
    if session.scalar(select(PartnerAcceptance.id).where(*accepted).limit(1)) is None:
        values = {"version": asked.version, "accept_by": str(asked.accept_by), "holds_payouts": asked.holds_payouts}
        _tell(session, event, mailer, "partner_agreement", **values)


def _amount(event: Event) -> dict[str, Any]:
    return {"amount_minor": event.payload["amount_minor"], "currency": event.payload["currency"]}


def _tell(session: Session, event: Event, mailer: Mailer, template: str, **values: Any) -> None:
    assert event.client_id is not None
    send_mail(session, mailer, client_id=event.client_id, template=template, values=values, event_id=event.id)


#: The facts that make a mail. A handler may run again for the same event: it sends what has not gone out, and nothing twice.
HANDLERS: dict[str, Callable[[Session, Event, Mailer], None]] = {
    "client.registered": on_client_registered,
    "client.verification_requested": on_client_registered,
    "client.register_repeated": on_register_repeated,
    "client.password_reset_requested": on_password_reset_requested,
    "client.password_changed": on_password_changed,
    "client.approved": on_client_approved,
    "document.rejected": on_document_rejected,
    "deposit.settled": on_deposit_settled,
    "withdrawal.paid": on_withdrawal_paid,
    "withdrawal.rejected": on_withdrawal_rejected,
    "withdrawal.failed": on_withdrawal_failed,
    "payout.moved": on_payout_moved,
    "payout.rejected": on_payout_rejected,
    "ticket.answered": on_ticket_answered,
    "ib.application_approved": on_application_approved,
    "ib.application_rejected": on_application_rejected,
    "partner_agreement.asked": on_agreement_asked,
}
