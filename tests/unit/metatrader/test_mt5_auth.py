"""The sign-in hashes, against the published sample and our own vectors, and the mistakes that others made."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from app.metatrader.platforms import mt5_auth

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "mt5_webapi_auth.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda vector: vector["password"] or "empty")
def test_answers(vector):
    password = vector["password"]
    assert hashlib.md5(password.encode("utf-16-le")).hexdigest() == vector["inner_md5"]
    assert mt5_auth.password_hash(password).hex() == vector["password_hash"]
    assert mt5_auth.answer(password, bytes.fromhex(vector["srv_rand"])) == vector["srv_rand_answer"]
    assert mt5_auth.answer(password, bytes.fromhex(vector["cli_rand"])) == vector["cli_rand_answer"]
    assert mt5_auth.is_answer(password, bytes.fromhex(vector["cli_rand"]), vector["cli_rand_answer"].upper())


@pytest.mark.parametrize("vector", VECTORS["mistakes"], ids=lambda vector: vector["mistake"])
def test_wrong_answers_are_refused(vector):
    challenge = bytes.fromhex(vector["srv_rand"])
    assert mt5_auth.answer(vector["password"], challenge) != vector["wrong_answer"]
    assert not mt5_auth.is_answer(vector["password"], challenge, vector["wrong_answer"])


@pytest.mark.parametrize("given", ["", "ü" * 32, "00" * 16, "77fe51827f7fa69dd80fbec9aa33f1b"])
def test_garbage_is_no_answer(given):
    assert not mt5_auth.is_answer("Password1", bytes.fromhex("73007dc7184747ce0f7c98516ef1c851"), given)


def test_challenges_differ():
    assert len({mt5_auth.new_challenge() for _ in range(50)}) == 50
