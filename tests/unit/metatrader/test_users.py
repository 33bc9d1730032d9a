"""The simulator's logins: rules for passwords, groups, leverage; masks."""

from __future__ import annotations

from decimal import Decimal

import pytest

from app.metatrader.simulator.exchange import Refused
from app.metatrader.simulator.groups import matches

GOOD = {
    "Group": "real\\std\\usd",
    "Leverage": "100",
    "PassMain": "Main1234!",
    "PassInvestor": "Invest1234!",
    "FirstName": "Ann",
    "ID": "A-8QK2N0V5ZT3RM",
}


@pytest.fixture
def users(simulator):
    return simulator.control.users


def refusal(call, *arguments):
    with pytest.raises(Refused) as caught:
        call(*arguments)
    return caught.value.retcode


def test_logins_are_counted_up(users):
    assert [users.add(GOOD).login for _ in range(3)] == [100_001, 100_002, 100_003]


def test_a_wished_login(users):
    assert users.add({**GOOD, "Login": "100002"}).login == 100_002
    assert refusal(users.add, {**GOOD, "Login": "100002"}) == 3004
    assert [users.add(GOOD).login for _ in range(2)] == [100_001, 100_003]


@pytest.mark.parametrize(
    ("change", "retcode"),
    [
        ({"Group": "real\\gold"}, 13),
        ({"Group": ""}, 13),
        ({"Leverage": "0"}, 3),
        ({"Leverage": "501"}, 3),
        ({"Leverage": "1:100"}, 3),
        ({"Leverage": "-5"}, 3),
        ({"Rights": "99999999"}, 3),
        ({"FirstName": "x" * 128}, 3),
        ({"FirstName": "zero\x00"}, 3),
        ({"ID": "half \ud83d"}, 3),
        ({"PassMain": ""}, 3006),
        ({"PassMain": "Short1!"}, 3006),
        ({"PassMain": "nouppercase1!"}, 3006),
        ({"PassMain": "NOLOWERCASE1!"}, 3006),
        ({"PassMain": "NoDigitsHere!"}, 3006),
        ({"PassMain": "NoSigns12345"}, 3006),
        ({"PassMain": "Seventeen-Chars1!"}, 3006),
        ({"PassMain": "Invest1234!"}, 3006),
    ],
)
def test_refused_logins(users, change, retcode):
    assert refusal(users.add, {**GOOD, **change}) == retcode
    assert users.by_mask("*") == []


def test_passwords(users):
    login = users.add(GOOD).login
    users.check_password(login, "main", "Main1234!")
    assert refusal(users.check_password, login, "main", "Invest1234!") == 3006
    users.change_password(login, "main", "Other1234!")
    users.check_password(login, "main", "Other1234!")
    users.check_password(login, "investor", "Invest1234!")
    assert refusal(users.change_password, login, "main", "weak") == 3006
    assert refusal(users.change_password, login, "main", "Invest1234!") == 3006
    assert refusal(users.change_password, login, "phone", "Other1234!") == 3
    assert refusal(users.check_password, 5, "main", "Other1234!") == 13


def test_updates_touch_only_what_is_given(users):
    login = users.add(GOOD).login
    account = users.update(login, {"Leverage": "200"})
    assert (account.leverage, account.group_name, account.profile["FirstName"]) == (200, "real\\std\\usd", "Ann")


def test_a_group_of_another_currency_needs_an_empty_account(simulator, users):
    login = users.add(GOOD).login
    assert users.update(login, {"Group": "real\\std\\eur"}).group_name == "real\\std\\eur"
    simulator.exchange.balance_operation(login, 2, Decimal(10), "")
    assert refusal(users.update, login, {"Group": "real\\std\\usd"}) == 3010
    assert refusal(users.update, login, {"Leverage": "501"}) == 3


@pytest.mark.parametrize(
    ("mask", "group", "expected"),
    [
        ("*", "real\\std\\usd", True),
        ("real\\*", "real\\std\\usd", True),
        ("real\\*", "demo\\forex\\usd", False),
        ("real\\*,!real\\std\\*", "real\\std\\usd", False),
        ("real\\*,!real\\std\\*", "real\\ecn\\usd", True),
        ("*\\usd", "real\\ecn\\usd", True),
        ("real\\std\\usd", "real\\std\\usd", True),
        ("real\\std", "real\\std\\usd", False),
        ("!real\\*", "demo\\forex\\usd", False),
        ("", "demo\\forex\\usd", False),
        ("real.std.usd", "real\\std\\usd", False),
    ],
)
def test_masks(mask, group, expected):
    assert matches(mask, group) is expected
