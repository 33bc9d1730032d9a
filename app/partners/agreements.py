"""The partner agreement: its versions, who agreed to which, and whom a new version asks.

Whoever joins agrees to the version that holds. A new version may ask those who are IBs already to accept it by a day;
after that day it is marked who has not, and, where the version says so, their payouts are held. Accepting a later version
answers for all before it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.core.actor import Actor
from app.core.arrays import any_of
from app.core.clock import now
from app.core.errors import N_, InvalidInput, NotFound
from app.core.tables import AuditEntry
from app.core.uow import UnitOfWork, unit_of_work
from app.models.clients import Client
from app.models.partner_joining import PartnerAcceptance, PartnerAgreement
from app.models.partners import IntroducingBroker
from app.partners.errors import AgreementChanged, RemindedLately

LONGEST_TEXT = 50_000

#: How far ahead the day may lie by which a version is to be accepted.
FURTHEST = timedelta(days=366)

#: Nobody is asked twice within this time.
BETWEEN_REMINDERS = timedelta(hours=24)


@dataclass(frozen=True)
class Stand:
    """How an IB stands to a version; `accepted` is of this version, or of the first later one that was accepted."""

    ib_id: int
    client_id: int
    name: str
    accepted: str
    accepted_at: datetime | None
    address: str


def current_agreement(session: Session) -> PartnerAgreement | None:
    """The agreement that holds; None before the first was published."""
    return session.scalar(select(PartnerAgreement).order_by(PartnerAgreement.id.desc()).limit(1))


def last_acceptance(session: Session, client_id: int) -> PartnerAcceptance | None:
    """What a client agreed to last, joining or since."""
    query = select(PartnerAcceptance).where(PartnerAcceptance.client_id == client_id)
    return session.scalar(query.order_by(PartnerAcceptance.agreement_id.desc()).limit(1))


def publish_agreement(
    session: Session,
    version: str,
    texts: dict[str, str],
    actor: Actor,
    *,
    accept_by: date | None = None,
    holds_payouts: bool = False,
) -> PartnerAgreement:
    """Have a text hold for whoever joins from now on; with `accept_by`, have those who are IBs asked to accept it until the
    end of that UTC day. Raises InvalidInput or AgreementKnown. Emits partner_agreement.asked for each IB that is asked.
    """
    version = version.strip()
    kept = {language: text.strip() for language, text in texts.items() if text.strip()}
    problems = _problems(version, kept, accept_by, holds_payouts=holds_payouts)
    if problems:
        raise InvalidInput(problems)
    with unit_of_work(session, actor) as unit:
        row = PartnerAgreement(
            version=version, texts=kept, accept_by=accept_by, holds_payouts=holds_payouts, published_by=str(actor)
        )
        session.add(row)
        session.flush()
        told = {"version": version, "accept_by": accept_by.isoformat() if accept_by else None, "holds_payouts": holds_payouts}
        unit.audit("partner_agreement.published", _named(row.id), after=told)
        unit.emit("partner_agreement.published", subject_id=row.id, version=version)
        if accept_by is not None:
            _ask(unit, row)
    return row


def record_acceptance(session: Session, client_id: int, agreement_id: int, actor: Actor) -> None:
    """Keep that a client agreed to a version now; once, whoever asks again."""
    values = {"client_id": client_id, "agreement_id": agreement_id, "address": actor.address}
    session.execute(insert(PartnerAcceptance).values(values).on_conflict_do_nothing())


def accept_agreement(session: Session, client_id: int, *, agreed_id: int | None, actor: Actor) -> PartnerAgreement:
    """Have an IB accept the version that holds; `agreed_id` is the one that was shown, None when it was not agreed to.

    Raises NotFound for who is no IB or without an agreement, InvalidInput, AgreementChanged. Emits partner_agreement.accepted.
    """
    with unit_of_work(session, actor) as unit:
        ib_id = session.scalar(select(IntroducingBroker.id).where(IntroducingBroker.client_id == client_id))
        agreement = current_agreement(session)
        if ib_id is None or agreement is None:
            raise NotFound
        if agreed_id is None:
            raise InvalidInput({"agreed": N_("Please read the agreement and agree to it.")})
        if agreed_id != agreement.id:
            raise AgreementChanged
        record_acceptance(session, client_id, agreement.id, actor)
        unit.emit("partner_agreement.accepted", subject_id=agreement.id, client_id=client_id, version=agreement.version)
        return agreement


def asked_of_ib(session: Session, client_id: int) -> PartnerAgreement | None:
    """The version that the IB of a client is asked to accept and has not, of several the one with the first day; None where
    nothing is asked, and for who is no IB.
    """
    query = (
        select(PartnerAgreement)
        .join(IntroducingBroker, IntroducingBroker.client_id == client_id)
        .where(
            PartnerAgreement.accept_by.is_not(None), ~_accepted(PartnerAgreement.id, PartnerAcceptance.client_id == client_id)
        )
    )
    return session.scalar(query.order_by(PartnerAgreement.accept_by, PartnerAgreement.id).limit(1))


def holding(session: Session, client_ids: Collection[int], at: datetime) -> dict[int, PartnerAgreement]:
    """By client, the version whose day has passed and which holds its payouts until it is accepted."""
    query = (
        select(Client.id, PartnerAgreement)
        .join(PartnerAgreement, PartnerAgreement.holds_payouts & (PartnerAgreement.accept_by < at.date()))
        .where(Client.id == any_of(client_ids), ~_accepted(PartnerAgreement.id, PartnerAcceptance.client_id == Client.id))
        .order_by(PartnerAgreement.id)
    )
    return {row[0]: row[1] for row in session.execute(query)}


def remind(session: Session, agreement_id: int, actor: Actor) -> int:
    """Ask those again who have not accepted a version; returns how many.

    Raises NotFound for a version that asks nobody, and RemindedLately. Emits partner_agreement.asked for each.
    """
    with unit_of_work(session, actor) as unit:
        agreement = session.get(PartnerAgreement, agreement_id)
        if agreement is None or agreement.accept_by is None:
            raise NotFound
        session.execute(select(func.pg_advisory_xact_lock(_REMINDING, agreement.id)))
        if was_asked_lately(last_asked(session, agreement_id)):
            raise RemindedLately
        asked = _ask(unit, agreement)
        unit.audit("partner_agreement.reminded", _named(agreement_id), after={"asked": asked})
        return asked


def last_asked(session: Session, agreement_id: int) -> datetime | None:
    """When IBs were asked last to accept a version."""
    asked = AuditEntry.action.in_(("partner_agreement.published", "partner_agreement.reminded"))
    return session.scalar(select(func.max(AuditEntry.at)).where(AuditEntry.target == _named(agreement_id), asked))


def was_asked_lately(last: datetime | None) -> bool:
    """Whether it is too early to remind those who were asked then."""
    return last is not None and last > now() - BETWEEN_REMINDERS


def counts(session: Session, agreement_id: int) -> tuple[int, int]:
    """How many of the active IBs have accepted a version or a later one, and how many have not."""
    accepted = _accepted(agreement_id, PartnerAcceptance.client_id == IntroducingBroker.client_id)
    query = select(func.count().filter(accepted), func.count().filter(~accepted)).where(IntroducingBroker.is_active)
    yes, no = session.execute(query).one()
    return int(yes), int(no)


def stands(
    session: Session, agreement_id: int, *, accepted: bool | None = None, after_ib: int = 0, limit: int | None = None
) -> list[Stand]:
    """How the active IBs stand to a version, by number; those who accepted it, those who have not, or all."""
    first = (
        select(func.min(PartnerAcceptance.agreement_id))
        .where(PartnerAcceptance.client_id == IntroducingBroker.client_id, PartnerAcceptance.agreement_id >= agreement_id)
        .correlate(IntroducingBroker)
        .scalar_subquery()
    )
    by = (PartnerAcceptance.client_id == IntroducingBroker.client_id) & (PartnerAcceptance.agreement_id == first)
    query = (
        select(IntroducingBroker.id, Client, PartnerAgreement.version, PartnerAcceptance.created_at, PartnerAcceptance.address)
        .join(Client, Client.id == IntroducingBroker.client_id)
        .outerjoin(PartnerAcceptance, by)
        .outerjoin(PartnerAgreement, PartnerAgreement.id == PartnerAcceptance.agreement_id)
        .where(IntroducingBroker.is_active, IntroducingBroker.id > after_ib)
        .order_by(IntroducingBroker.id)
        .limit(limit)
    )
    if accepted is not None:
        query = query.where(PartnerAcceptance.id.is_not(None) if accepted else PartnerAcceptance.id.is_(None))
    return [
        Stand(ib_id, client.id, client.full_name, version or "", at, address or "")
        for ib_id, client, version, at, address in session.execute(query)
    ]


#: The lock of reminders, with the version's number.
_REMINDING = 7203


def _problems(version: str, texts: dict[str, str], accept_by: date | None, *, holds_payouts: bool) -> dict[str, str]:
    problems: dict[str, str] = {}
    if not version or len(version) > 20 or not version.isprintable():
        problems["version"] = N_("A version has 1 to 20 characters, such as 2026-11.")
    if "en" not in texts:
        problems["en"] = N_("The English text is needed; whoever reads another language gets it where theirs is missing.")
    for language, text in texts.items():
        if len(text) > LONGEST_TEXT:
            problems[language] = N_("This text is too long.")
    today = now().date()
    if accept_by is not None and not today <= accept_by <= today + FURTHEST:
        problems["accept_by"] = N_("Choose a day from today to a year ahead.")
    if holds_payouts and accept_by is None:
        problems["accept_by"] = N_("Payouts are held only after a day. Please choose it.")
    return problems


def _named(agreement_id: int) -> str:
    return f"partner_agreement:{agreement_id}"


def _accepted(agreement_id: InstrumentedAttribute[int] | int, whose: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether a version or a later one was accepted."""
    return select(PartnerAcceptance.id).where(whose, PartnerAcceptance.agreement_id >= agreement_id).exists()


def _ask(unit: UnitOfWork, agreement: PartnerAgreement) -> int:
    lacking = ~_accepted(agreement.id, PartnerAcceptance.client_id == IntroducingBroker.client_id)
    query = select(IntroducingBroker.client_id).where(IntroducingBroker.is_active, lacking).order_by(IntroducingBroker.id)
    people = unit.session.scalars(query).all()
    for client_id in people:
        unit.emit("partner_agreement.asked", subject_id=agreement.id, client_id=client_id)
    return len(people)
