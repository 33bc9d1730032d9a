"""Handing a mail to a real SMTP server: over TLS or not, taken, refused for now, refused for good."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from app.messaging import smtp
from app.messaging.smtp import MailNotSent, MailRefused, Rendered, compose, transmit

MESSAGE = compose(
    sender="Lotwise <no-reply@lotwise.example>", name="Layla", address="layla@example.com",
    rendered=Rendered("Hello", "Hello\n", "<p>Hello</p>"), message_id="<1@lotwise.example>", language="en",
    at=datetime(2026, 11, 2, tzinfo=UTC),
)  # fmt: skip


class Server:
    """Answers a recipient and a mail as it is told, and keeps what it took."""

    def __init__(self, rcpt: str = "250 OK", data: str = "250 OK") -> None:
        self.rcpt, self.data, self.taken = rcpt, data, []

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if self.rcpt.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.rcpt

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.taken.append((server.transport.get_extra_info("cipher") is not None, envelope.rcpt_tos))
        return self.data


@contextmanager
def running(server: Server, **options: Any) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    controller = Controller(server, hostname="127.0.0.1", port=port, **options)
    controller.start()
    try:
        yield port
    finally:
        controller.stop()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    at = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - timedelta(days=1)).not_valid_after(at + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )  # fmt: skip
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + made.public_bytes(Encoding.PEM))
    return path


def server_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_a_mail_is_taken_once():
    server = Server()
    with running(server) as port:
        transmit("127.0.0.1", port, MESSAGE)
    assert server.taken == [(False, ["layla@example.com"])]


@pytest.mark.parametrize("code", ["550 no such user layla@example.com", "553 bad name"])
@pytest.mark.parametrize("step", ["rcpt", "data"])
def test_refused_for_good(step, code):
    with running(Server(**{step: code})) as port, pytest.raises(MailRefused) as refused:
        transmit("127.0.0.1", port, MESSAGE)
    assert "layla" not in str(refused.value)
    assert code[:3] in str(refused.value)


@pytest.mark.parametrize("step", ["rcpt", "data"])
def test_refused_for_now(step):
    with running(Server(**{step: "451 greylisted, layla@example.com"})) as port, pytest.raises(MailNotSent) as failed:
        transmit("127.0.0.1", port, MESSAGE)
    assert "layla" not in str(failed.value)


def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(MailNotSent, match="ConnectionRefusedError"):
        transmit("127.0.0.1", port, MESSAGE)


def test_somebody_who_says_nothing(monkeypatch):
    monkeypatch.setattr(smtp, "TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(MailNotSent, match="SMTPServerDisconnected"):
        transmit("127.0.0.1", silent.getsockname()[1], MESSAGE)


def test_tls_with_a_certificate_we_trust(certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    for tls, option in (("implicit", "ssl_context"), ("starttls", "tls_context")):
        server = Server()
        with running(server, **{option: server_context(certificate)}) as port:
            transmit("127.0.0.1", port, MESSAGE, tls=tls)
        assert server.taken == [(True, ["layla@example.com"])]


def test_tls_with_a_certificate_nobody_vouches_for(certificate):
    for tls, option in (("implicit", "ssl_context"), ("starttls", "tls_context")):
        server = Server()
        refusal = pytest.raises(MailNotSent, match="SSLCertVerificationError")
        with running(server, **{option: server_context(certificate)}) as port, refusal:
            transmit("127.0.0.1", port, MESSAGE, tls=tls)
        assert server.taken == []


def test_no_mail_goes_in_the_clear_where_tls_is_due():
    server = Server()
    with running(server) as port, pytest.raises(MailNotSent, match="SMTPNotSupportedError"):
        transmit("127.0.0.1", port, MESSAGE, tls="starttls")
    assert server.taken == []
