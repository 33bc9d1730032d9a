"""Whose an existing login is: the mail address decides, everything else is a hint for a person."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from app.metatrader.matching import Clients, KnownClient, Match, country_code, differences
from app.metatrader.platform import User

COUNTRIES = {"italy": "IT", "germany": "DE"}
CLIENTS = Clients.of(
    [
        KnownClient(1, "elena@example.com", "Elena Rossi", "IT"),
        KnownClient(2, "Marek@Example.com", "Marek Nowak", "PL"),
        KnownClient(3, "one@example.com", "Anna Weber", "DE"),
        KnownClient(4, "two@example.com", "Anna  Weber", "DE"),
        KnownClient(5, "three@example.com", "Anna Weber", "AT"),
    ]
)
USER = User(
    login=1,
    group=r"real\std",
    name="Somebody Else",
    email="",
    country="",
    leverage=100,
    rights=0x163,
    comment="",
    mark="",
    balance=Decimal(0),
    credit=Decimal(0),
    registered_ms=0,
)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"email": " ELENA@example.com "}, Match("matched", 1, "email")),
        ({"email": "marek@example.com", "name": "Elena Rossi", "country": "IT"}, Match("matched", 2, "email")),
        ({"name": "elena  ROSSI", "country": "Italy"}, Match("ambiguous", 1, "name")),
        ({"name": "Elena Rossi", "country": "it"}, Match("ambiguous", 1, "name")),
        ({"name": "Elena Rossi", "country": "FR"}, Match("unmatched", None, "nobody")),
        ({"name": "Elena Rossi"}, Match("unmatched", None, "nobody")),
        ({"name": "Anna Weber", "country": "Germany"}, Match("ambiguous", None, "names")),
        ({"comment": "client #2, vip"}, Match("ambiguous", 2, "number")),
        ({"mark": "CRM:4"}, Match("ambiguous", 4, "number")),
        ({"comment": "client 99"}, Match("unmatched", None, "nobody")),
        ({"comment": "called 2 times"}, Match("unmatched", None, "nobody")),
        ({"name": "", "country": "IT"}, Match("unmatched", None, "nobody")),
    ],
)
def test_whose_a_login_is(changes, expected):
    assert CLIENTS.match(replace(USER, **changes), COUNTRIES) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"name": "Elena Rossi", "email": "elena@example.com", "country": "Italy"}, ()),
        ({"name": "ROSSI  Elena", "email": " Elena@Example.com"}, ()),
        ({"name": ""}, ()),
        ({"name": "Marek Nowak"}, ("name",)),
        ({"name": "Elena Rossini", "email": "other@example.com", "country": "DE"}, ("name", "email", "country")),
        ({"name": "Elena Rossi", "country": "Padania"}, ()),
    ],
)
def test_what_differs_between_a_login_and_a_client(changes, expected):
    assert (
        differences(replace(USER, **changes), KnownClient(1, "elena@example.com", "Elena Rossi", "IT"), COUNTRIES) == expected
    )


def test_countries_by_code_and_by_name():
    assert [country_code(text, COUNTRIES) for text in (" de ", "Germany", "Deutschland", "D1", "")] == [
        "DE", "DE", "", "", "",
    ]  # fmt: skip
