"""Sealed bytes open only with their key, for their purpose and in their place."""

from __future__ import annotations

import pytest

from app.core.crypto import BrokenSeal, Vault

KEY = "11" * 32


@pytest.fixture
def vault() -> Vault:
    return Vault(KEY, "documents")


@pytest.mark.parametrize("plain", [b"", b"secret", bytes(range(256)) * 500])
def test_what_was_sealed_opens_again(vault, plain):
    sealed = vault.seal(plain, "row:1")
    assert vault.open(sealed, "row:1") == plain
    assert Vault(KEY, "documents").open(sealed, "row:1") == plain
    assert plain == b"" or plain not in sealed


def test_sealing_twice_gives_two_texts(vault):
    assert vault.seal(b"secret", "row:1") != vault.seal(b"secret", "row:1")


@pytest.mark.parametrize(
    ("other", "context"),
    [
        (Vault(KEY, "documents"), "row:2"),
        (Vault(KEY, "documents"), ""),
        (Vault(KEY, "passwords"), "row:1"),
        (Vault("22" * 32, "documents"), "row:1"),
    ],
    ids=["another row", "no row", "another purpose", "another key"],
)
def test_elsewhere_it_does_not_open(vault, other, context):
    with pytest.raises(BrokenSeal):
        other.open(vault.seal(b"secret", "row:1"), context)


def test_any_changed_byte_breaks_the_seal(vault):
    sealed = vault.seal(b"secret", "row:1")
    for index in range(len(sealed)):
        changed = bytearray(sealed)
        changed[index] ^= 1
        with pytest.raises(BrokenSeal):
            vault.open(bytes(changed), "row:1")


@pytest.mark.parametrize("length", range(30))
def test_what_was_cut_off_does_not_open(vault, length):
    with pytest.raises(BrokenSeal):
        vault.open(vault.seal(b"secret", "row:1")[:length], "row:1")


@pytest.mark.parametrize("key", ["", "11" * 31, "zz" * 32, "11" * 32 + "1"])
def test_a_key_that_is_none_is_refused_at_once(key):
    with pytest.raises(ValueError, match=r"needed|non-hexadecimal"):
        Vault(key, "documents")
