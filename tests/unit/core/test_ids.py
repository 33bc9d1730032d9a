"""Secrets and tokens: unguessable, and what people and servers can carry."""

from __future__ import annotations

import re

from app.core import ids
from app.metatrader.platform import COMMENT_LIMIT


def test_tokens_fit_where_they_are_carried():
    tokens = {ids.new_token("T") for _ in range(2_000)}
    assert len(tokens) == 2_000
    assert all(re.fullmatch(r"T-[0-9A-HJKMNP-TV-Z]{13}", token) for token in tokens)
    assert all(len(token) == ids.TOKEN_LENGTH <= COMMENT_LIMIT for token in tokens)


def test_every_letter_of_the_alphabet_occurs():
    assert set("".join(ids.new_token("T")[2:] for _ in range(500))) == set(ids.ALPHABET)
    assert len(ids.ALPHABET) == 32


def test_secrets_are_long_and_kept_as_hashes_only():
    secret = ids.new_secret()
    assert len(secret) == 43
    assert re.fullmatch(r"[A-Za-z0-9_-]+", secret)
    assert ids.new_secret() != secret
    assert ids.secret_hash(secret) == ids.secret_hash(secret)
    assert ids.secret_hash(secret) != ids.secret_hash(secret[:-1])
    assert len(ids.secret_hash("\ud800 any text")) == 32
