"""Composing one mail and handing it to an SMTP server (RFC 5321, RFC 5322).

Nothing in here logs or puts into an error what could name a person: addresses stay out.
"""

from __future__ import annotations

import re
import smtplib
import ssl
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from typing import Literal, NamedTuple

from email_validator import EmailNotValidError, validate_email

TIMEOUT_S = 10

TLS = Literal["none", "starttls", "implicit"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f\x80-\x9f\u2028\u2029]+")


class Rendered(NamedTuple):
    """A mail in words: one line of subject, and the same body as plain text and as HTML."""

    subject: str
    text: str
    html: str


class MailRefused(Exception):
    """The mail can never be delivered: the address is malformed or the server refuses it for good."""


class MailNotSent(Exception):
    """The mail did not go out now and may later: no connection, a time-out, a temporary refusal."""


def compose(
    *, sender: str, name: str, address: str, rendered: Rendered, message_id: str, language: str, at: datetime
) -> EmailMessage:
    """A multipart message of text and HTML to one person. Raises MailRefused for an address that is none.

    Line breaks and other control characters in the name and the subject become spaces; in the address they are refused,
    so that nothing a person types can begin a header of its own.
    """
    message = EmailMessage(policy=SMTP)
    try:
        checked = validate_email(address, check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        raise MailRefused("malformed address") from None
    message["To"] = Address(display_name=one_line(name), username=checked.local_part, domain=checked.ascii_domain)
    message["From"] = sender
    message["Subject"] = one_line(rendered.subject)
    message["Date"] = format_datetime(at)
    message["Message-ID"] = message_id
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no holiday notes in return
    message.set_content(rendered.text, cte="quoted-printable")
    message.add_alternative(rendered.html, subtype="html", cte="quoted-printable")
    message["Content-Language"] = language  # last: setting a content clears the Content-* headers
    return message


def one_line(text: str) -> str:
    """The text with every run of control characters and line breaks as one space."""
    return " ".join(_CONTROL.sub(" ", text).split())


def domain_of(sender: str) -> str:
    """The domain of an address such as "Broker <no-reply@broker.example>"; "localhost" when it has none."""
    return parseaddr(sender)[1].partition("@")[2] or "localhost"


def tls_of(port: int) -> TLS:
    """Port 465 speaks TLS from the first byte (RFC 8314), port 587 must turn to TLS before anything is said (RFC 3207)."""
    if port == 465:
        return "implicit"
    return "starttls" if port == 587 else "none"


def transmit(host: str, port: int, message: EmailMessage, *, tls: TLS | None = None) -> None:
    """Hand one message to the server. Raises MailRefused (for good) or MailNotSent (try again later).

    `tls` follows the port unless it is given; certificates are verified.
    """
    try:
        with _connect(host, port, tls or tls_of(port)) as smtp:
            smtp.send_message(message)
    except smtplib.SMTPRecipientsRefused as error:
        raise _judged(error, code=max((code for code, _ in error.recipients.values()), default=0)) from None
    except smtplib.SMTPDataError as error:
        raise _judged(error, code=error.smtp_code) from None
    except smtplib.SMTPResponseException as error:
        # Who we are, or that we are in a hurry, is refused: a matter between the two servers, not of this mail.
        raise MailNotSent(f"{type(error).__name__} {error.smtp_code}") from None
    except OSError as error:  # sockets, time-outs, TLS, and the rest of smtplib's errors
        raise MailNotSent(type(error).__name__) from None


def _connect(host: str, port: int, tls: TLS) -> smtplib.SMTP:
    if tls == "implicit":
        return smtplib.SMTP_SSL(host, port, timeout=TIMEOUT_S, context=ssl.create_default_context())
    smtp = smtplib.SMTP(host, port, timeout=TIMEOUT_S)
    if tls == "starttls":
        try:
            smtp.starttls(context=ssl.create_default_context())
        except BaseException:
            smtp.close()
            raise
    return smtp


def _judged(error: Exception, *, code: int) -> MailRefused | MailNotSent:
    """5xx is final, 4xx is not (RFC 5321, 4.2.1). The server's words may repeat the address and are left out."""
    judge = MailRefused if 500 <= code < 600 else MailNotSent
    return judge(f"{type(error).__name__} {code}")
