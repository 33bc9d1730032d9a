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
_KEY_BYTES = 32
_NONCE_BYTES = 12
_TAG_BYTES = 16


class BrokenSeal(Exception):
    """The sealed bytes were changed, belong to another context, or the key is not theirs."""


class Vault:
    """Seals and opens bytes for one purpose. `master_key` is hex of at least 32 bytes; ValueError when it is not."""

    def __init__(self, master_key: str, purpose: str) -> None:
        master = bytes.fromhex(master_key)
        if len(master) < _KEY_BYTES:
            raise ValueError(f"the master key has {len(master)} bytes; {_KEY_BYTES} are needed")
        key = HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=None, info=purpose.encode()).derive(master)
        self._cipher = AESGCM(key)

    def seal(self, plain: bytes, context: str) -> bytes:
        """Encrypt; the same context must be given to open it again."""
        nonce = os.urandom(_NONCE_BYTES)
        return _VERSION + nonce + self._cipher.encrypt(nonce, plain, context.encode())

    def open(self, sealed: bytes, context: str) -> bytes:
        """Decrypt. Raises BrokenSeal for anything that was not sealed by this key for this context."""
        version, nonce, cipher_text = sealed[:1], sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        if version != _VERSION:
            raise BrokenSeal("unknown version")
        if len(cipher_text) < _TAG_BYTES:
            raise BrokenSeal("cut off")
        try:
            return self._cipher.decrypt(nonce, cipher_text, context.encode())
        except InvalidTag:
            raise BrokenSeal("changed, or not for this context") from None
