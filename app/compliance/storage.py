"""Where documents lie: one sealed file each, under a random name, in a folder that nothing serves."""

from __future__ import annotations

import os
import re
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from app.compliance.errors import DocumentUnreadable
from app.core.crypto import BrokenSeal, Vault

VAULT_PURPOSE = "client-document"

_KEY = re.compile(r"[0-9a-f]{64}")


class StorageSettings(Protocol):
    @property
    def documents_dir(self) -> Path: ...

    @property
    def document_key(self) -> str: ...


class DocumentStorage:
    """Bytes by random key, sealed with AES-256-GCM for that very key: a file put in another's place does not open."""

    def __init__(self, directory: Path, vault: Vault) -> None:
        self._directory = directory
        self._vault = vault

    def write(self, content: bytes) -> str:
        """Keep the bytes; they are on the disk when this returns. Returns their key."""
        key = secrets.token_hex(32)
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path(key)
        unfinished = path.with_suffix(".part")
        try:
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(self._vault.seal(content, key))
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(path)
        except OSError:
            with suppress(FileNotFoundError):
                unfinished.unlink()
            raise
        self._sync_directory()
        return key

    def read(self, key: str) -> bytes:
        """The bytes of a key. Raises DocumentUnreadable when they are missing or were changed."""
        try:
            return self._vault.open(self._path(key).read_bytes(), key)
        except (OSError, BrokenSeal) as error:
            raise DocumentUnreadable() from error

    def delete(self, key: str) -> None:
        """Remove the file of a key; removing it twice is no error."""
        with suppress(FileNotFoundError):
            self._path(key).unlink()

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise DocumentUnreadable()
        return self._directory / f"{key}.sealed"

    def _sync_directory(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def document_storage(settings: StorageSettings) -> DocumentStorage:
    """The storage that the settings name."""
    return DocumentStorage(settings.documents_dir, Vault(settings.document_key, VAULT_PURPOSE))
