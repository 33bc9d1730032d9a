"""From a fact to the mail in a real mailbox: once, in the client's language, whatever fails in between."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

import httpx
import pytest
from babel.support import Translations
from flask import Flask
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app import translations
from app.clients import onboarding
from app.core.actor import Actor
from app.core.tables import Event
from app.core.uow import unit_of_work
from app.messaging import mail, smtp
from app.messaging.mail import HANDLERS, BeingSent, Mailer, MailNotSent, send_mail
from app.messaging.mailbox import Mailbox
from app.models.compliance import Document
from app.models.engagement import Ticket, TicketMessage
from app.models.messaging import Mail
from app.models.partner_joining import IBApplication, PartnerAgreement
from app.models.partners import IntroducingBroker
from app.models.payments import Deposit, Withdrawal
from app.models.payouts import Payout
from app.surfaces.mails import FlaskRenderer

BASE = "https://portal.lotwise.example"
SYSTEM = Actor.system("test")


@dataclass
class Post:
    """A session, a mailer, and the mailbox that its mails go to."""

    session: Session
    mailer: Mailer
    mailbox: Mailbox

    def register(self, email: str = "layla@example.com", language: str = "en", first_name: str = "Layla") -> int:
        return onboarding.register_client(
            self.session, email=email, password="correct horse 9 battery", first_name=first_name, last_name="Haddad",
            country="JO", language=language, terms_version="1", actor_address="127.0.0.1", birth_date=date(1990, 1, 1),
        ).client_id  # fmt: skip

    def event(self, type_: str) -> Event:
        """The newest fact of a type."""
        return self.session.scalars(select(Event).where(Event.type == type_).order_by(Event.id.desc()).limit(1)).one()

    def tell(self, type_: str, **fields: object) -> Event:
        with unit_of_work(self.session, SYSTEM) as unit:
            unit.emit(type_, **fields)
        return self.event(type_)

    def handle(self, event: Event, mailer: Mailer | None = None) -> None:
        HANDLERS[event.type](self.session, event, mailer or self.mailer)
        assert not self.session.in_transaction() or "unit_of_work" not in self.session.info

    def arrived(self, to: str = "layla@example.com") -> list[dict[str, object]]:
        """Mails to an address, newest first."""
        with httpx.Client(base_url=self.mailbox.url, trust_env=False) as http:
            listed = http.get("/messages.json", params={"to": to}).json()
            return [http.get(f"/messages/{message['id']}.json").json() for message in listed]

    def row(self) -> Mail:
        """The newest mail as it stands now."""
        self.session.rollback()
        self.session.expire_all()
        return self.session.scalars(select(Mail).order_by(Mail.id.desc()).limit(1)).one()


@pytest.fixture
def post(app: Flask, database, mailbox: Mailbox):
    translations.compile_all()
    mailer = Mailer("127.0.0.1", mailbox.smtp_port, "Lotwise <no-reply@lotwise.example>", BASE, FlaskRenderer(app))
    with database.session() as session:
        yield Post(session, mailer, mailbox)


def message_ids(mails) -> set[str]:
    return {value for found in mails for name, value in found["headers"] if name == "Message-ID"}


def test_the_link_in_the_mail_verifies_once(post):
    client_id = post.register()
    post.handle(post.event("client.registered"))
    (found,) = post.arrived()
    assert found["subject"] == "Confirm your mail address"
    (link,) = found["links"]
    secret = link.removeprefix(f"{BASE}/portal/verify/")
    assert onboarding.verify_email(post.session, secret).client_id == client_id
    with pytest.raises(onboarding.UsedLink):
        onboarding.verify_email(post.session, secret)
    row = post.row()
    assert (row.status, row.attempts, row.error, row.client_id) == ("sent", 1, "", client_id)
    assert datetime.now(UTC) - row.sent_at < timedelta(minutes=1)
    assert secret not in str(row.values)


def test_in_arabic_from_right_to_left(post):
    post.register(language="ar", first_name="ليلى")
    post.handle(post.event("client.registered"))
    (found,) = post.arrived()
    arabic = Translations.load(translations.FOLDER, ["ar"])
    assert found["subject"] == arabic.gettext("Confirm your mail address") != "Confirm your mail address"
    assert '<html lang="ar" dir="rtl">' in found["html"]
    assert arabic.gettext("Hello %(name)s,") % {"name": "ليلى"} in found["text"]
    assert dict(found["headers"])["To"] == "ليلى Haddad <layla@example.com>"


def test_a_repeated_fact_sends_nothing_again(post):
    post.register()
    event = post.event("client.registered")
    for _ in range(3):
        post.handle(event)
    assert len(post.arrived()) == 1
    assert post.row().attempts == 1


def test_inside_the_unit_of_work_of_a_delivery(post):
    post.register()
    event = post.event("client.registered")
    for _ in range(2):
        with unit_of_work(post.session, SYSTEM):
            HANDLERS[event.type](post.session, event, post.mailer)
    assert len(post.arrived()) == 1
    assert post.row().status == "sent"


def test_no_server_now_and_one_later(post):
    post.register()
    event = post.event("client.registered")
    with pytest.raises(MailNotSent):
        post.handle(event, replace(post.mailer, smtp_port=1))
    assert (post.row().status, post.row().attempts, post.row().error) == ("waiting", 1, "ConnectionRefusedError")
    post.handle(event)
    assert (post.row().status, post.row().attempts, post.row().error) == ("sent", 2, "")
    assert len(post.arrived()) == 1


def test_the_tries_end(post):
    post.register()
    event = post.event("client.registered")
    nowhere = replace(post.mailer, smtp_port=1)
    for _ in range(mail.MAX_ATTEMPTS - 1):
        with pytest.raises(MailNotSent):
            post.handle(event, nowhere)
    post.handle(event, nowhere)
    assert (post.row().status, post.row().attempts) == ("failed", mail.MAX_ATTEMPTS)
    post.handle(event)
    assert post.arrived() == []


def test_a_refusal_is_final(post):
    client_id = post.register()
    with unit_of_work(post.session, SYSTEM):
        post.session.execute(update(mail.Client).values(email="not an address"))
    assert send_mail(post.session, post.mailer, client_id=client_id, template="client_approved", values={}) == "failed"
    assert post.row().error == "malformed address"


def test_a_death_after_sending_repeats_under_the_same_message_id(post, monkeypatch):
    post.register()
    event = post.event("client.registered")

    def send_and_die(*arguments):
        smtp.transmit(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(mail, "transmit", send_and_die)
    with pytest.raises(KeyboardInterrupt):
        post.handle(event)
    monkeypatch.undo()
    assert post.row().status == "waiting"
    with pytest.raises(BeingSent):
        post.handle(event)
    with unit_of_work(post.session, SYSTEM):
        post.session.execute(update(Mail).values(claimed_until=datetime.now(UTC) - timedelta(seconds=1)))
    post.handle(event)
    arrived = post.arrived()
    assert len(arrived) == 2
    assert len(message_ids(arrived)) == 1
    newest = arrived[0]["links"][0].rpartition("/")[2]
    assert onboarding.verify_email(post.session, newest)


def test_no_transaction_is_open_while_the_server_is_spoken_to(post, monkeypatch):
    post.register()
    open_then = []
    monkeypatch.setattr(mail, "transmit", lambda *_: open_then.append(post.session.in_transaction()))
    post.handle(post.event("client.registered"))
    assert open_then == [False]


def test_every_fact_makes_its_mail(post):
    client_id = post.register()
    with unit_of_work(post.session, SYSTEM):
        document = Document(
            client_id=client_id, kind="address", status="rejected", file_name="a.pdf", media_type="application/pdf",
            size_bytes=1, sha256=b"", storage_key="k", reason="Older than 6 months",
            reviewed_at=datetime.now(UTC), reviewed_by="staff:1",
        )  # fmt: skip
        post.session.add(document)
        post.session.flush()
        document_id = document.id
        deposit = Deposit(
            public_id=uuid4(), client_id=client_id, connector="stripe", amount_minor=1, currency="USD", idempotency_key="k"
        )
        post.session.add(deposit)
        post.session.flush()
        withdrawal = Withdrawal(
            public_id=uuid4(), client_id=client_id, connector="stripe", deposit_id=deposit.id, amount_minor=30_000,
            currency="USD", state="rejected", idempotency_key="k", hold_id=uuid4(), requested_by=f"client:{client_id}",
            reason="The card is not yours",
        )  # fmt: skip
        post.session.add(withdrawal)
        post.session.flush()
        withdrawal_id = withdrawal.id
        ib = IntroducingBroker(client_id=client_id, currency="USD")
        post.session.add(ib)
        post.session.flush()
        payout = Payout(
            ib_id=ib.id, client_id=client_id, amount_minor=30_000, currency="USD", destination="wallet", state="rejected",
            figures={}, requested_by=f"client:{client_id}", idempotency_key="k", hold_id=uuid4(),
            decision_reason="Send us your new papers",
        )  # fmt: skip
        post.session.add(payout)
        post.session.flush()
        payout_id = payout.id
        ticket = Ticket(client_id=client_id, subject="Deal 7: 3 < 4", kind="general", state="waiting_for_client")
        post.session.add(ticket)
        post.session.flush()
        message = TicketMessage(ticket_id=ticket.id, author="staff:1", text="By the rule\nof your plan")
        post.session.add(message)
        post.session.flush()
        application = IBApplication(
            client_id=client_id, currency="USD", words="x", status="rejected", decided_by="staff:1",
            decided_at=datetime.now(UTC), decision_reason="No website yet",
        )  # fmt: skip
        post.session.add(application)
        post.session.flush()
        agreement = PartnerAgreement(version="7", texts={"en": "x"}, accept_by=date(2099, 1, 31), published_by="staff:1")
        post.session.add(agreement)
        post.session.flush()
        asked = {"subject_id": agreement.id}
        applied = {"subject_id": application.id}
        answered = {"subject_id": ticket.id, "message_id": message.id}
    amount = {"amount_minor": 30_000, "currency": "USD"}
    told = set()
    for type_, fields, subject, words in (
        ("client.register_repeated", {}, "You already have an account", "/portal/sign-in"),
        ("client.verification_requested", {}, "Confirm your mail address", "/portal/verify/"),
        ("client.password_reset_requested", {}, "Choose a new password", "/portal/reset/"),
        ("client.password_changed", {}, "Your password was changed", "/portal/forgot"),
        ("client.approved", {}, "Your account is approved", "/portal/"),
        ("document.rejected", {"subject_id": document_id}, "We need another document from you", "> Older than 6 months"),
        ("deposit.settled", amount, "Your deposit of 300.00 USD has arrived", "wallet"),
        ("withdrawal.paid", amount, "Your withdrawal of 300.00 USD was paid out", "your bank"),
        (
            "withdrawal.rejected",
            {"subject_id": withdrawal_id, **amount},
            "Your withdrawal of 300.00 USD was not approved",
            "> The card is not yours",
        ),
        ("withdrawal.failed", amount, "Your withdrawal of 300.00 USD could not be paid out", "back in your wallet"),
        ("payout.moved", amount, "Your commission of 300.00 USD was paid", "/portal/partner/payouts"),
        (
            "payout.rejected",
            {"subject_id": payout_id, **amount},
            "Your payout of 300.00 USD was not approved",
            "> Send us your new papers",
        ),
        ("ib.application_approved", applied, "You are a partner now", "/portal/partner/links"),
        (
            "ib.application_rejected",
            applied,
            "Your application as a partner was not accepted",
            "> No website yet",
        ),
        ("partner_agreement.asked", asked, "Please accept the new partner agreement", "accept it by 2099-01-31"),
        ("ticket.answered", answered, "Our answer: Deal 7: 3 < 4", "> By the rule\n> of your plan"),
    ):
        post.handle(post.tell(type_, client_id=client_id, **fields))
        newest = post.arrived()[0]
        assert newest["subject"] == subject
        assert words in newest["text"]
        told.add(type_)
    assert told | {"client.registered"} == set(HANDLERS)
    reset = re.search(r"/portal/reset/(\S+)", "\n".join(str(found["text"]) for found in post.arrived()))
    onboarding.check_link(post.session, reset.group(1), "reset_password")


def test_logs_name_nobody(post, caplog):
    caplog.set_level(logging.DEBUG)
    post.register(email="very.personal@example.com", first_name="Personal")
    event = post.event("client.registered")
    with pytest.raises(MailNotSent):
        post.handle(event, replace(post.mailer, smtp_port=1))
    post.handle(event)
    assert "lotwise.mail" in {record.name for record in caplog.records}
    ours = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("lotwise"))
    assert "personal" not in ours.lower()
    assert "verify/" not in ours
