"""Password hashes: what verifies, what does not, and that keyboards may differ."""

from __future__ import annotations

import pytest

from app.clients.passwords import dummy_hash, hash_password, needs_rehash, verify_password


def test_a_hash_verifies_its_password_only():
    made = hash_password("four unrelated words")
    assert made.startswith("$argon2id$")
    assert verify_password(made, "four unrelated words")
    assert not verify_password(made, "Four unrelated words")
    assert not needs_rehash(made)


def test_composed_and_decomposed_letters_are_one_password():
    assert verify_password(hash_password("pässwörter gelten"), "pässwörter gelten")


@pytest.mark.parametrize("stored", ["", "x", "$argon2id$v=19$broken"])
def test_a_broken_hash_lets_nobody_in(stored):
    assert not verify_password(stored, "four unrelated words")


@pytest.mark.parametrize("password", ["", "\x00" * 12, "\ud800" * 12, "a" * 100_000])
def test_strange_passwords_are_wrong_not_an_error(password):
    assert not verify_password(dummy_hash(), password)


def test_a_hash_of_weaker_times_is_made_anew():
    assert needs_rehash("$argon2id$v=19$m=8192,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyYmE")
