"""Where documents lie: sealed, under random names, whole or not at all."""

from __future__ import annotations

import os
import stat

import pytest

from app.compliance.errors import DocumentUnreadable
from app.compliance.storage import DocumentStorage
from app.core.crypto import Vault

CONTENT = b"this is a passport" * 100


@pytest.fixture
def storage(tmp_path):
    return DocumentStorage(tmp_path / "documents", Vault("22" * 32, "client-document"))


def test_what_was_written_comes_back(storage):
    assert storage.read(storage.write(CONTENT)) == CONTENT


def test_nothing_is_readable_on_the_disk(storage, tmp_path):
    storage.write(CONTENT)
    (file,) = (tmp_path / "documents").iterdir()
    assert b"passport" not in file.read_bytes()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_names_are_random_and_say_nothing(storage):
    assert storage.write(CONTENT) != storage.write(CONTENT)


def test_a_file_in_anothers_place_does_not_open(storage, tmp_path):
    first, second = storage.write(b"mine"), storage.write(b"yours")
    folder = tmp_path / "documents"
    (folder / f"{first}.sealed").replace(folder / f"{second}.sealed")
    with pytest.raises(DocumentUnreadable):
        storage.read(second)


def test_a_changed_or_missing_file_is_a_typed_error(storage, tmp_path):
    key = storage.write(CONTENT)
    path = tmp_path / "documents" / f"{key}.sealed"
    sealed = bytearray(path.read_bytes())
    sealed[40] ^= 1
    path.write_bytes(sealed)
    with pytest.raises(DocumentUnreadable):
        storage.read(key)
    storage.delete(key)
    storage.delete(key)
    with pytest.raises(DocumentUnreadable):
        storage.read(key)


def test_another_key_opens_nothing(storage, tmp_path):
    key = storage.write(CONTENT)
    with pytest.raises(DocumentUnreadable):
        DocumentStorage(tmp_path / "documents", Vault("33" * 32, "client-document")).read(key)


@pytest.mark.parametrize("key", ["", "../secrets", "a" * 63, "A" * 64, "../" + "a" * 61, "a" * 64 + "\n"])
def test_keys_that_are_none_reach_no_file(storage, key):
    with pytest.raises(DocumentUnreadable):
        storage.read(key)


def test_a_full_disk_leaves_nothing_behind(storage, tmp_path, monkeypatch):
    def no_space(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        storage.write(CONTENT)
    assert list((tmp_path / "documents").iterdir()) == []
