"""Becoming an introducing broker: openly, by an IB's invitation, or by an application that staff decide; with an agreement.

Who is invited stands under the IB that invited it. What was agreed to stands with the application, which is made in every
mode: where nobody has to decide, it is approved at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import N_, InvalidInput, NotFound
from app.core.ids import new_secret, secret_hash
from app.core.money import exponent
from app.core.uow import UnitOfWork, unit_of_work
from app.models.clients import Client
from app.models.partner_joining import IBApplication, IBInvitation, PartnerAgreement
from app.models.partners import IntroducingBroker
from app.partners.agreements import current_agreement, record_acceptance
from app.partners.errors import (
    AgreementChanged,
    AlreadyIB,
    ApplicationDecided,
    InvitationNeeded,
    InvitationOver,
    NotApprovedYet,
    TooManyInvitations,
)
from app.partners.links import ib_by_client, make_ib
from app.partners.policy import APPLICATION, INVITED, policy_at

INVITATION_TTL = timedelta(days=14)
MOST_INVITATIONS = 50
LONGEST_NOTE = 100
LONGEST_WORDS = 2000


@dataclass(frozen=True)
class Joined:
    """What became of asking: an application, and the IB where nobody has to decide about it."""

    application_id: int
    ib_id: int | None


def join(
    session: Session,
    client_id: int,
    *,
    currency: str,
    words: str,
    agreed_id: int | None,
    invitation: str = "",
    actor: Actor,
) -> Joined:
    """Ask to become an introducing broker, as the policy of the moment has it. `agreed_id` is the agreement that was shown
    and agreed to; `invitation` the secret of an invitation's link, empty for none.

    Raises NotApprovedYet, AlreadyIB, ApplicationWaiting, InvitationNeeded, InvitationOver, AgreementChanged, OwnDownline or
    InvalidInput. Emits ib.applied, and ib.created where nobody has to decide.
    """
    mode = policy_at(session).join_mode
    agreement = current_agreement(session)
    _check_words(currency, words, agreement, agreed_id, is_needed=mode == APPLICATION)
    with unit_of_work(session, actor) as unit:
        client = session.get(Client, client_id, with_for_update={"key_share": True})
        if client is None:
            raise NotFound
        if client.status != "approved":
            raise NotApprovedYet
        if ib_by_client(session, client_id) is not None:
            raise AlreadyIB
        invited = _usable(session, invitation) if invitation else None
        if mode == INVITED and invited is None:
            raise InvitationNeeded
        row = IBApplication(
            client_id=client_id,
            currency=currency,
            words=words.strip(),
            agreement_id=agreement.id if agreement else None,
            invitation_id=invited.id if invited else None,
        )
        session.add(row)
        session.flush()
        if agreement is not None:
            record_acceptance(session, client_id, agreement.id, actor)
        unit.emit("ib.applied", subject_id=row.id, client_id=client_id, invitation_id=row.invitation_id)
        if invited is not None:
            invited.used_by = client_id
        ib_id = None if mode == APPLICATION else _approve(unit, row, str(Actor.system("joining")), "")
        session.flush()
    return Joined(row.id, ib_id)


def waiting_application(session: Session, client_id: int) -> IBApplication | None:
    """The application of a client that nobody has decided yet."""
    query = select(IBApplication).where(IBApplication.client_id == client_id, IBApplication.status == "pending")
    return session.scalar(query)


def last_application(session: Session, client_id: int) -> IBApplication | None:
    """What a client asked for last, decided or not."""
    query = select(IBApplication).where(IBApplication.client_id == client_id)
    return session.scalar(query.order_by(IBApplication.id.desc()).limit(1))


def approve_application(session: Session, application_id: int, *, actor: Actor) -> int:
    """Make the applicant an IB; returns its id. Raises NotFound, ApplicationDecided, AlreadyIB, OwnDownline."""
    with unit_of_work(session, actor) as unit:
        row = _open(session, application_id)
        ib_id = _approve(unit, row, str(actor), "")
        unit.audit("ib_application.approved", f"ib_application:{row.id}", after={"ib_id": ib_id})
    return ib_id


def reject_application(session: Session, application_id: int, *, reason: str, actor: Actor) -> None:
    """Turn an application down, with a reason that the client reads. Raises NotFound, ApplicationDecided, InvalidInput."""
    said = " ".join(reason.split())[:1000]
    if not said:
        raise InvalidInput({"reason": N_("Please give a reason.")})
    with unit_of_work(session, actor) as unit:
        row = _open(session, application_id)
        row.status, row.decided_by, row.decided_at, row.decision_reason = "rejected", str(actor), now(), said
        _free_invitation(session, row)
        unit.audit("ib_application.rejected", f"ib_application:{row.id}", reason=said)
        unit.emit("ib.application_rejected", subject_id=row.id, client_id=row.client_id, reason=said)


def withdraw_application(session: Session, client_id: int, *, actor: Actor) -> None:
    """Take back one's own application. Raises NotFound when none waits."""
    with unit_of_work(session, actor) as unit:
        wanted = IBApplication.client_id == client_id, IBApplication.status == "pending"
        row = session.scalar(select(IBApplication).where(*wanted).with_for_update())
        if row is None:
            raise NotFound
        row.status, row.decided_by, row.decided_at = "withdrawn", str(actor), now()
        _free_invitation(session, row)
        unit.emit("ib.application_withdrawn", subject_id=row.id, client_id=client_id)


def invite(session: Session, ib_id: int, note: str, actor: Actor) -> str:
    """Make an invitation to stand under an IB; returns its link's secret, which is kept nowhere.

    Raises NotFound, TooManyInvitations, or InvalidInput for a note that is too long. Emits ib.invited.
    """
    note = " ".join(note.split())
    if len(note) > LONGEST_NOTE or not note.isprintable():
        raise InvalidInput({"note": N_("A note has 100 characters at most.")})
    secret = new_secret()
    with unit_of_work(session, actor) as unit:
        ib = session.get(IntroducingBroker, ib_id, with_for_update=True)
        if ib is None or not ib.is_active:
            raise NotFound
        if len(invitations_of(session, ib_id, at=now())) >= MOST_INVITATIONS:
            raise TooManyInvitations
        row = IBInvitation(ib_id=ib_id, secret_hash=secret_hash(secret), note=note, expires_at=now() + INVITATION_TTL)
        session.add(row)
        session.flush()
        unit.emit("ib.invited", subject_id=row.id, client_id=ib.client_id, ib_id=ib_id)
    return secret


def invitations_of(session: Session, ib_id: int, *, at: datetime | None = None) -> list[IBInvitation]:
    """An IB's invitations, the newest first; with `at` only those that can be used then."""
    query = select(IBInvitation).where(IBInvitation.ib_id == ib_id).order_by(IBInvitation.id.desc()).limit(200)
    if at is not None:
        query = query.where(IBInvitation.used_by.is_(None), IBInvitation.revoked_at.is_(None), IBInvitation.expires_at > at)
    return list(session.scalars(query))


def revoke_invitation(session: Session, ib_id: int, invitation_id: int, *, actor: Actor) -> None:
    """Take back an own invitation. Raises NotFound for another's, InvitationOver for one that was used or is over."""
    with unit_of_work(session, actor):
        row = session.get(IBInvitation, invitation_id, with_for_update=True)
        if row is None or row.ib_id != ib_id:
            raise NotFound
        if row.used_by is not None or row.revoked_at is not None:
            raise InvitationOver
        row.revoked_at = now()


def inviter_of(session: Session, secret: str) -> IntroducingBroker:
    """The IB whose invitation this is. Raises InvitationOver."""
    return session.get_one(IntroducingBroker, _usable(session, secret).ib_id)


def waiting_count(session: Session) -> int:
    """How many applications wait for a decision."""
    return session.scalar(select(func.count()).where(IBApplication.status == "pending")) or 0


def _check_words(
    currency: str, words: str, agreement: PartnerAgreement | None, agreed_id: int | None, *, is_needed: bool
) -> None:
    problems: dict[str, str] = {}
    try:
        exponent(currency)
    except InvalidInput:
        problems["currency"] = N_("Nobody knows this currency.")
    if is_needed and not words.strip():
        problems["words"] = N_("Please tell us how you bring clients.")
    if len(words) > LONGEST_WORDS:
        problems["words"] = N_("Please say it in 2,000 characters.")
    if agreement is not None and agreed_id is None:
        problems["agreed"] = N_("Please read the agreement and agree to it.")
    if problems:
        raise InvalidInput(problems)
    if agreement is not None and agreed_id != agreement.id:
        raise AgreementChanged


def _usable(session: Session, secret: str) -> IBInvitation:
    row = session.scalar(select(IBInvitation).where(IBInvitation.secret_hash == secret_hash(secret)).with_for_update())
    if row is None or row.used_by is not None or row.revoked_at is not None or row.expires_at <= now():
        raise InvitationOver
    if not session.get_one(IntroducingBroker, row.ib_id).is_active:
        raise InvitationOver
    return row


def _free_invitation(session: Session, row: IBApplication) -> None:
    """Let the invitation of an application that came to nothing be used again, while its time lasts."""
    if row.invitation_id is not None:
        session.get_one(IBInvitation, row.invitation_id, with_for_update=True).used_by = None


def _open(session: Session, application_id: int) -> IBApplication:
    row = session.get(IBApplication, application_id, with_for_update=True)
    if row is None:
        raise NotFound
    if row.status != "pending":
        raise ApplicationDecided
    return row


def _approve(unit: UnitOfWork, row: IBApplication, decided_by: str, reason: str) -> int:
    invitation = unit.session.get(IBInvitation, row.invitation_id) if row.invitation_id else None
    made = make_ib(unit.session, row.client_id, row.currency, unit.actor, parent_id=invitation.ib_id if invitation else None)
    row.status, row.decided_by, row.decided_at, row.decision_reason = "approved", decided_by, now(), reason
    unit.session.flush()
    unit.emit("ib.application_approved", subject_id=row.id, client_id=row.client_id, ib_id=made.id)
    return made.id
