"""Stripe's callback signature, by vectors."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.payments.connector import BadSignature
from app.payments.connectors.stripe_signature import verify

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "stripe_signature.json").read_text(encoding="utf-8"))
NOW = datetime.fromtimestamp(VECTORS["now"], UTC)
BODY = VECTORS["body"].encode()
SECRETS = tuple(VECTORS["secrets"])


def header_of(case: dict) -> str | None:
    if "header" in case:
        return case["header"]
    timestamp, secret = case["sign"]["t"], SECRETS[case["sign"]["secret"]]
    signature = hmac.new(secret.encode(), f"{timestamp}.".encode() + BODY, hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={signature}"


@pytest.mark.parametrize("case", VECTORS["cases"], ids=[case["name"] for case in VECTORS["cases"]])
def test_vectors(case: dict):
    body = case.get("body", VECTORS["body"]).encode()
    if case["valid"]:
        verify(body, header_of(case), SECRETS, NOW)
    else:
        with pytest.raises(BadSignature):
            verify(body, header_of(case), SECRETS, NOW)


def test_a_retired_secret_is_refused():
    header = header_of({"sign": {"t": str(VECTORS["now"]), "secret": 0}})
    verify(BODY, header, SECRETS, NOW)
    with pytest.raises(BadSignature):
        verify(BODY, header, SECRETS[1:], NOW)


def test_without_secrets_nothing_is_accepted():
    with pytest.raises(BadSignature):
        verify(BODY, VECTORS["cases"][0]["header"], (), NOW)


def test_an_endless_header_is_refused_unread():
    header = VECTORS["cases"][0]["header"] + ",v1=00" * 10_000
    with pytest.raises(BadSignature):
        verify(BODY, header, SECRETS, NOW)


def test_bytes_that_are_not_text_are_signed_as_they_are():
    body = b"\xff\xfe{}"
    signature = hmac.new(SECRETS[0].encode(), b"1760000000." + body, hashlib.sha256).hexdigest()
    verify(body, f"t=1760000000,v1={signature}", SECRETS, NOW)


def test_the_stripe_package_agrees_on_the_present_and_differs_on_the_future():
    import stripe

    header = stripe.WebhookSignature.generate_signature_header(VECTORS["body"], SECRETS[0], VECTORS["now"])
    verify(BODY, header, SECRETS, NOW)
    ahead = int(datetime.now(UTC).timestamp()) + 86_400
    header = stripe.WebhookSignature.generate_signature_header(VECTORS["body"], SECRETS[0], ahead)
    assert stripe.WebhookSignature.verify_header(VECTORS["body"], header, SECRETS[0], tolerance=300)
    with pytest.raises(BadSignature):
        verify(BODY, header, SECRETS, datetime.now(UTC))
