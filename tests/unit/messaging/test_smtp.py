"""Composing a mail: what a person typed stays inside its header, whatever it is."""

from __future__ import annotations

import email
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import default

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.messaging.mail import message_id
from app.messaging.smtp import MailRefused, Rendered, compose, domain_of, one_line, tls_of

AT = datetime(2026, 11, 2, 9, 15, tzinfo=UTC)
SENDER = "Lotwise Demo <no-reply@demo.lotwise.example>"
HEADERS = [
    "To", "From", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type", "Content-Language",
]  # fmt: skip


def made(
    *, name: str = "Layla", address: str = "layla@example.com", subject: str = "Hello", text: str = "Text\n"
) -> EmailMessage:
    """A mail as it arrives: composed, written out and read again."""
    message = compose(
        sender=SENDER, name=name, address=address, rendered=Rendered(subject, text, f"<p>{text}</p>"),
        message_id="<mail.1.2@demo.lotwise.example>", language="ar", at=AT,
    )  # fmt: skip
    return email.message_from_bytes(message.as_bytes(), policy=default)


def test_both_parts_arrive_as_they_were_written():
    message = made(name="ليلى حداد", subject="أكّد عنوان بريدك", text="مرحبًا ليلى،\n\n" + "ا" * 2000 + "\n")
    assert message["To"].addresses[0].display_name == "ليلى حداد"
    assert message["Subject"] == "أكّد عنوان بريدك"
    assert message.get_body(("plain",)).get_content().replace("\r\n", "\n") == "مرحبًا ليلى،\n\n" + "ا" * 2000 + "\n"
    assert message.get_body(("html",)).get_content().startswith("<p>مرحبًا")
    assert message["Content-Language"] == "ar"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Date"].datetime == AT
    assert all(len(line) <= 998 for line in message.as_bytes().splitlines())


@pytest.mark.parametrize(
    "evil",
    [
        "Eve\r\nBcc: victim@example.com",
        "Eve\nSubject: other",
        "Eve\rBcc: victim@example.com",
        "Eve\r\n\r\n<script>alert(1)</script>",
        "Eve\u2028Bcc: victim@example.com",
        "Eve\x00\x0bBcc: victim@example.com",
        'Eve" <victim@example.com>, "x',
    ],
)
def test_no_header_can_be_slipped_in(evil):
    message = made(name=evil, subject=evil)
    assert message.keys() == HEADERS
    assert [address.addr_spec for address in message["To"].addresses] == ["layla@example.com"]
    assert message["Subject"] == one_line(evil)


@given(name=st.text(max_size=120), subject=st.text(max_size=120))
def test_no_header_can_be_slipped_in_by_any_text(name, subject):
    message = made(name=name.encode("utf-8", "ignore").decode(), subject=subject.encode("utf-8", "ignore").decode())
    assert message.keys() == HEADERS
    assert [address.addr_spec for address in message["To"].addresses] == ["layla@example.com"]


@pytest.mark.parametrize(
    "address",
    [
        "", "nobody", "@", "a@b\r\nBcc: x@example.com", "a@example.com, b@example.com", "a@example.com\n", "a b@example.com",
        "a@[127.0.0.1", '"a', "a@-.example",
    ],
)  # fmt: skip
def test_a_malformed_address_is_refused(address):
    with pytest.raises(MailRefused) as refused:
        made(address=address)
    assert "example.com" not in str(refused.value)


def test_international_addresses_are_taken():
    assert made(address="l@exämple.com")["To"].addresses[0].domain == "xn--exmple-cua.com"
    assert made(address="ليلى@example.com")["To"].addresses[0].username == "ليلى"


def test_the_port_says_how_to_speak_tls():
    assert [tls_of(port) for port in (25, 465, 587, 8004)] == ["none", "implicit", "starttls", "none"]


def test_the_message_id_follows_the_row():
    assert message_id(7, AT, SENDER) == message_id(7, AT, SENDER) == "<mail.7.1793610900000@demo.lotwise.example>"
    assert message_id(8, AT, SENDER) != message_id(7, AT, SENDER)
    assert domain_of("nobody") == "localhost"
