"""Encryption of what must not lie in the clear: documents, and passwords until they were shown once.

AES-256-GCM with a key derived per purpose from one master key (HKDF-SHA256). The sealed form is
version byte ‖ 12-byte nonce ‖ ciphertext with tag; the context (for example the storage key) is authenticated with it,
so a sealed value cannot be moved to another row.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_VERSION = b"\x01"


class BrokenSeal(Exception):
    """The sealed bytes were changed, belong to another context, or the key is not theirs."""


class Vault:
    """Seals and opens bytes for one purpose. `master_key` is hex of at least 32 bytes."""

    def __init__(self, master_key: str, purpose: str) -> None:
        key = HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose.encode()).derive(bytes.fromhex(master_key))
        self._cipher = AESGCM(key)

    def seal(self, plain: bytes, context: str) -> bytes:
        """Encrypt; the same context must be given to open it again."""
        nonce = os.urandom(12)
        return _VERSION + nonce + self._cipher.encrypt(nonce, plain, context.encode())

    def open(self, sealed: bytes, context: str) -> bytes:
        """Decrypt. Raises BrokenSeal for anything that was not sealed by this key for this context."""
        if sealed[:1] != _VERSION:
            raise BrokenSeal("unknown version")
        try:
            return self._cipher.decrypt(sealed[1:13], sealed[13:], context.encode())
        except InvalidTag:
            raise BrokenSeal("changed, or not for this context") from None
