"""Passwords: ours please the strictest servers; a client's own is judged before it is sent."""

from __future__ import annotations

import pytest

from app.metatrader.passwords import make_password, password_problem


def test_ours_are_what_strict_servers_ask_for():
    made = {make_password() for _ in range(200)}
    assert len(made) == 200
    assert {len(password) for password in made} == {12}
    assert [password for password in made if password_problem(password)] == []


@pytest.mark.parametrize(
    ("password", "words"),
    [
        ("Ab1!efg", "8 to 15"),
        ("Ab1!efghijklmnop", "8 to 15"),
        ("Ab1! efgh", "no spaces"),
        ("Ab1!efghé", "English letters"),
        ("Ab1!ef\x00gh", "English letters"),
        ("AB1!EFGH", "small and capital"),
        ("ab1!efgh", "small and capital"),
        ("Abc!efgh", "a digit"),
        ("Ab1cefgh", "a sign"),
        ("Äb1!Efgh", "English letters"),
    ],
)
def test_what_servers_would_refuse_is_said_before(password, words):
    assert words in (password_problem(password) or "")


@pytest.mark.parametrize("password", ["Ab1!efgh", "Ab1!efghijklmno", "~~~~~~~aA0"])
def test_what_servers_take(password):
    assert password_problem(password) is None
