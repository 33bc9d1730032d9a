"""What is wrong with a registration, told all at once; nothing here needs a database."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from app.clients.countries import COUNTRIES, country_names
from app.clients.onboarding import clean_link_code, registration_problems
from app.core.clock import now

GOOD = {
    "email": "amira@example.com",
    "password": "four unrelated words",
    "first_name": "Amira",
    "last_name": "Haddad",
    "country": "AE",
    "language": "ar",
    "terms_version": "2026-11",
    "birth_date": date(1990, 2, 28),
}


def problems(**changes):
    return registration_problems(**{**GOOD, **changes})


def birthday(years: int, days: int = 0) -> date:
    today = now().date()
    return today.replace(year=today.year - years, day=min(today.day, 28)) + timedelta(days=days)


def test_a_good_registration_has_no_problem():
    assert problems() == {}


def test_all_problems_are_told_at_once():
    found = problems(
        email="nobody",
        password="short",
        first_name="",
        last_name="<b>",
        country="XX",
        language="!",
        terms_version="",
        birth_date=birthday(3),
    )
    assert set(found) == {"email", "password", "first_name", "last_name", "country", "language", "terms", "birth_date"}


@pytest.mark.parametrize(
    "email",
    [
        "",
        " ",
        "amira",
        "amira@",
        "@example.com",
        "a b@example.com",
        "amira@example",
        "a@b@example.com",
        "amira@example.com\x00",
        "amira@exa\nmple.com",
        "a" * 65 + "@example.com",
        "amira@" + "a" * 250 + ".com",
        "\ud800@example.com",
        "amira@[127.0.0.1]",
        "علي@example.com",
    ],
)
def test_no_mail_address(email):
    assert set(problems(email=email)) == {"email"}


@pytest.mark.parametrize(
    "email", [" Amira@Example.COM ", "amira+broker@example.com", "o'neil@example.co.uk", "ali@مثال.السعودية"]
)
def test_mail_addresses(email):
    assert problems(email=email) == {}


@pytest.mark.parametrize(
    "name", ["Amira", "O'Neil", "Jean-Luc", "da Silva e Souza", "محمد عبد الله", "李", "Łukasz", "J. R.", "नीलम"]
)
def test_names_of_all_scripts(name):
    assert problems(first_name=name, last_name=name) == {}


@pytest.mark.parametrize(
    "name",
    [
        "",
        "   ",
        "-",
        "A" * 101,
        "Visit https://evil.example",
        "<script>",
        "a@b.com",
        "Bob\x00",
        "\u202eBob",
        "Bob{{7*7}}",
        "Bob\ud800",
        "R2D2",
    ],
)
def test_what_is_no_name(name):
    assert set(problems(first_name=name)) == {"first_name"}


@pytest.mark.parametrize(
    "password",
    [
        "",
        "123456789",
        "a" * 201,
        "password123",
        "PASSWORD123",
        "aaaaaaaaaaaa",
        "abababababab",
        "amira@example.com",
        "Amira@Example.com",
    ],
)
def test_passwords_that_will_not_do(password):
    assert set(problems(password=password)) == {"password"}


def test_a_password_may_not_be_the_name_before_the_at_sign():
    assert set(problems(email="amira.haddad@example.com", password="Amira.Haddad")) == {"password"}


def test_the_day_of_the_eighteenth_birthday_is_enough():
    assert problems(birth_date=birthday(18)) == {}
    assert set(problems(birth_date=birthday(18, days=1))) == {"birth_date"}


@pytest.mark.parametrize("birth_date", [birthday(0, days=1), birthday(122), date(1, 1, 1), date(9999, 12, 31)])
def test_impossible_birth_dates(birth_date):
    assert set(problems(birth_date=birth_date)) == {"birth_date"}


@pytest.mark.parametrize("country", ["", "xx", "ae", "ZZ", "EU", "AEE", "A\x00"])
def test_what_is_no_country(country):
    assert set(problems(country=country)) == {"country"}


def test_countries_are_those_of_iso_3166_and_kosovo():
    assert len(COUNTRIES) == 250
    assert {"DE", "AE", "TW", "XK"} <= COUNTRIES


def test_country_names_in_the_reader_s_language():
    assert dict(country_names("ar"))["AE"] == "الإمارات العربية المتحدة"
    assert [name for _, name in country_names("en")] == sorted(name for _, name in country_names("en"))


@pytest.mark.parametrize(
    ("code", "clean"),
    [
        ("ALPHA8", "ALPHA8"),
        (" ab-c1 ", "ab-c1"),
        ("abc", None),
        ("", None),
        (None, None),
        ("a" * 25, None),
        ("DROP TABLE", None),
        ("x\x00yz", None),
    ],
)
def test_link_codes_as_they_come_from_outside(code, clean):
    assert clean_link_code(code) == clean
