"""The signature on Stripe's callbacks: header `Stripe-Signature: t=<unix seconds>,v1=<hex>[,v1=<hex>…]`.

HMAC-SHA256 over `t`, a dot and the raw body, keyed with the whole `whsec_…` text. Source: the `stripe` 16.1.0 package and
docs.stripe.com/webhooks/signature. Stripe's own package accepts timestamps from the future; this does not.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from datetime import datetime

from app.payments.connector import BadSignature

TOLERANCE_S = 300

#: More signatures than any rotation needs; the rest of an endless header is not worth the work.
_MAX_HEADER_LENGTH = 4096


def verify(raw_body: bytes, header: str | None, secrets: Iterable[str], now: datetime, tolerance_s: int = TOLERANCE_S) -> None:
    """Raise BadSignature unless one of `secrets` signed exactly these bytes at most `tolerance_s` before or after `now`."""
    timestamp, signatures = _parse(header or "")
    message = timestamp.encode() + b"." + raw_body
    matched = False
    for secret in secrets:
        expected = hmac.new(secret.encode(), message, hashlib.sha256).hexdigest().encode()
        for signature in signatures:
            matched |= hmac.compare_digest(expected, signature)
    if not matched:
        raise BadSignature()
    # The absolute difference: a stolen callback dated ahead must not stay usable until its day comes.
    if abs(now.timestamp() - int(timestamp)) > tolerance_s:
        raise BadSignature()


def _parse(header: str) -> tuple[str, list[bytes]]:
    """The timestamp as it was signed, and all v1 signatures; other schemes are ignored."""
    if len(header) > _MAX_HEADER_LENGTH:
        raise BadSignature()
    pairs = [item.strip().partition("=")[::2] for item in header.split(",")]
    timestamps = [value for key, value in pairs if key == "t"]
    signatures = [value.encode() for key, value in pairs if key == "v1"]
    if len(timestamps) != 1 or not signatures:
        raise BadSignature()
    timestamp = timestamps[0]
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise BadSignature()
    return timestamp, signatures
