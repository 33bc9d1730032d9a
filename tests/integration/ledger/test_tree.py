"""The chart of accounts as a tree: every account has a place, sums are those of the accounts, now and as of any day."""

from __future__ import annotations

import inspect
from collections import Counter
from datetime import timedelta
from typing import Any, get_type_hints

import pytest
from sqlalchemy import func, insert, select

from app.core.money import Money
from app.ledger import chart, posting, queries, tree
from app.ledger.errors import UnknownAccount
from app.models.clients import Client
from app.models.ledger import DEBIT_KINDS, Account
from tests.integration.ledger.conftest import NOON, Book

ARGUMENTS = {"client_id": 7, "ib_id": 3, "login": 100234, "currency": "EUR"}
FUNCTIONS = {
    name: function
    for name, function in vars(chart).items()
    if inspect.isfunction(function)
    and not name.startswith("_")
    and function.__module__ == chart.__name__
    and get_type_hints(function).get("return") is chart.AccountSpec
}


def account_of(function: Any) -> chart.AccountSpec:
    """An account that this function of the chart makes; what is not a number or currency is a name."""
    needed = [name for name, one in inspect.signature(function).parameters.items() if one.default is one.empty]
    return function(*(ARGUMENTS.get(name, "some-name.1") for name in needed))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_account_of_the_chart_has_a_named_group(name):
    spec = account_of(FUNCTIONS[name])
    place = tree.place(spec.kind, tree.family_of(spec.code))
    assert not place.group.startswith("other_"), f"give {spec.code} a group in app/ledger/tree.py"
    assert place.name == ("some-name.1" if "some-name.1" in spec.code else "")


def test_the_chart_has_functions_and_every_group_is_used():
    assert len(FUNCTIONS) > 15
    used = {tree.place(spec.kind, tree.family_of(spec.code)).group for spec in map(account_of, FUNCTIONS.values())}
    assert used == {group.key for group in tree.GROUPS}


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("asset", "client:7:wallet:USD"),
        ("liability", "client:7:gift:USD"),
        ("income", "income:trading:USD"),
        ("expense", "x"),
        ("equity", ""),
        ("asset", "psp:a:b:clearing:USD"),
    ],
)
def test_what_no_group_expects_stands_under_other_of_its_kind(kind, code):
    place = tree.place(kind, tree.family_of(code))
    assert (place.kind, place.group, place.name) == (kind, f"other_{kind}", tree.family_of(code))


def test_signs_sums_and_totals():
    made = tree.build(
        [
            tree.FamilySum("asset", "psp:stripe:clearing", "USD", 1, 900, 100),
            tree.FamilySum("asset", "psp:crypto:clearing", "BTC", 1, 50, 0),
            tree.FamilySum("liability", "client:*:wallet", "USD", 3, 100, 950),
            tree.FamilySum("liability", "client:*:wallet", "BTC", 1, 0, 50),
            tree.FamilySum("expense", "expense:psp_fees:stripe", "USD", 1, 50, 0),
        ]
    )
    assert [node.key for node in made.nodes] == list(tree.KINDS)
    clearing = made.find("psp_clearing")
    assert clearing.sums == (Money(50, "BTC"), Money(800, "USD"))
    assert [(child.label, child.sums) for child in clearing.children] == [
        ("crypto", (Money(50, "BTC"),)),
        ("stripe", (Money(800, "USD"),)),
    ]
    assert (made.find("client_wallets").accounts, made.find("liability").sums) == (4, (Money(50, "BTC"), Money(850, "USD")))
    assert made.find("equity").accounts == 0
    assert {total.currency: (total.debit_side, total.credit_side, total.difference) for total in made.totals} == {
        "BTC": (50, 50, 0),
        "USD": (850, 850, 0),
    }


def test_no_accounts_make_five_empty_kinds():
    made = tree.build([])
    assert [(node.accounts, node.sums, node.children) for node in made.nodes] == [(0, (), ())] * 5
    assert made.totals == ()


def test_a_difference_is_told():
    [total] = tree.build([tree.FamilySum("asset", "bank:a:own_money", "JPY", 1, 7, 0)]).totals
    assert (total.debit_side, total.credit_side, total.difference) == (7, 0, 7)


@pytest.fixture
def busy(book):
    """Movements on several days, posted in another order than they are effective, in currencies of 0, 2 and 8 decimals."""
    for number, (currency, amount) in enumerate([("USD", "100.00"), ("JPY", "5000"), ("BTC", "0.12345678")], 1):
        wallet = book.wallet(number, amount, currency)
        account, counter = book.open(
            chart.mt_balance("demo", 100 + number, currency, client_id=number), chart.mt_trading_counter("demo", currency)
        )
        part = book.money(amount, currency).allocate([1, 1])[0]
        for days, legs in (
            (3, (posting.debit(wallet, part), posting.credit(account, part))),
            (1, (posting.debit(counter, part), posting.credit(account, part))),
            (2, (posting.debit(account, part), posting.credit(counter, part))),
        ):
            book.post(*legs, at=NOON + timedelta(days=days))
    return book


def open_unknown(book: Book, *codes: str) -> None:
    """Accounts that the chart does not know."""
    book.session.execute(insert(Account), [{"code": code, "kind": "asset", "currency": "USD"} for code in codes])


def sums_by_place(book: Book, moment: Any) -> dict[str, dict[str, int]]:
    """The same sums, account by account."""
    sums: dict[str, Counter[str]] = {}
    for account in book.session.scalars(select(Account)):
        place = tree.place(account.kind, tree.family_of(account.code))
        money = queries.balance_as_of(book.session, account.code, moment) if moment else account.posted
        sums.setdefault(place.key, Counter())[account.currency] += money.amount_minor
    return {key: dict(found) for key, found in sums.items()}


@pytest.mark.parametrize("days", [None, -1, 0, 1, 2, 2.5, 3, 4, 400])
def test_sums_are_those_of_the_accounts_at_every_moment(busy, days):
    moment = None if days is None else NOON + timedelta(days=days)
    made = tree.chart(busy.session, moment)
    for key, sums in sums_by_place(busy, moment).items():
        assert {money.currency: money.amount_minor for money in made.find(key).sums} == sums, key
    assert [total.difference for total in made.totals] == [0] * len(made.totals)
    assert {total.currency for total in made.totals} >= {"USD", "JPY", "BTC"}
    for node in made.nodes:
        below = Counter[str]()
        for child in node.children:
            below.update({money.currency: money.amount_minor for money in child.sums})
        assert {money.currency: money.amount_minor for money in node.sums} == dict(below)
        assert node.accounts == sum(child.accounts for child in node.children)


def test_a_moment_between_two_postings_of_the_same_day(busy):
    early, late = (tree.chart(busy.session, NOON + timedelta(days=1, microseconds=one)) for one in (0, 1))
    assert early.find("trading_balances:demo").sums == tuple(Money(0, one) for one in ("BTC", "JPY", "USD"))
    assert Money(5000, "USD") in late.find("trading_balances:demo").sums


def test_the_family_is_the_same_in_sql(busy):
    strange = ("client:1:wallet:USD:x", "mt:a:1:2:3", "plain", "ib:9:commission:", ":::", "mt:x:7:USD")
    open_unknown(busy, *strange)
    rows = busy.session.execute(select(Account.code, tree._family_column)).all()
    assert len(rows) > 12
    assert [family for _, family in rows] == [tree.family_of(code) for code, _ in rows]


def test_pages_of_accounts_lack_none_and_repeat_none(book):
    wallets = [chart.client_wallet(number, "USD") for number in range(1, 121)]
    book.open(*wallets, *(chart.client_bonus(number, "USD") for number in range(1, 20)))
    seen, after = [], ""
    while page := tree.accounts_of(book.session, "client_wallets", after=after, limit=50):
        seen += [line.code for line in page]
        after = page[-1].code
    assert sorted(seen) == sorted(spec.code for spec in wallets)
    assert len(seen) == len(set(seen))
    assert [line.code for line in tree.accounts_of(book.session, "client_wallets", search="client:77:")] == [
        "client:77:wallet:USD"
    ]
    assert tree.accounts_of(book.session, "client_wallets", search="100%") == []
    assert len(tree.accounts_of(book.session, "client_bonuses")) == 19


def test_each_account_is_found_below_exactly_its_own_nodes(busy):
    open_unknown(busy, "nobody:knows:USD")
    made = tree.chart(busy.session)
    expected: dict[str, set[str]] = {}
    for account in busy.session.scalars(select(Account)):
        place = tree.place(account.kind, tree.family_of(account.code))
        for key in {place.kind, place.group, place.key}:
            expected.setdefault(key, set()).add(account.code)
    assert "other_asset:nobody:knows" in expected
    for key, codes in expected.items():
        lines = tree.accounts_of(busy.session, key, limit=1000)
        assert {line.code for line in lines} == codes, key
        assert made.find(key).accounts == len(codes)


def test_clients_are_found_by_name(book):
    client = Client(
        email="noor@example.com",
        password_hash="x",
        first_name="Noor",
        last_name="O'Hara_50%",
        country="AE",
        terms_version="1",
        terms_accepted_at=func.now(),
    )
    book.session.add(client)
    book.session.flush()
    book.open(chart.client_wallet(client.id, "USD"), chart.client_wallet(client.id + 1, "USD"))
    for text in ("noor o'h", "_50%", str(client.id)):
        lines = tree.accounts_of(book.session, "client_wallets", search=text)
        assert f"client:{client.id}:wallet:USD" in [line.code for line in lines]
    [line] = tree.accounts_of(book.session, "client_wallets", search="hara_")
    assert (line.client_name, line.client_id, line.balance) == ("Noor O'Hara_50%", client.id, Money(0, "USD"))


def test_accounts_of_a_day_have_the_balance_of_that_day(busy):
    moment = NOON + timedelta(days=2)
    for key in ("client_wallets", "trading_balances:demo", "trading_result", "asset"):
        for line in tree.accounts_of(busy.session, key, moment=moment, limit=1000):
            assert line.balance == queries.balance_as_of(busy.session, line.code, moment)


@pytest.mark.parametrize("key", ["", "nothing", "asset:x", "other_", "other_x", "client_wallets:x", ":"])
def test_keys_that_no_node_has(key):
    with pytest.raises(UnknownAccount):
        tree.account_rows(key)


def test_kinds_are_those_of_the_table():
    assert {group.kind for group in tree.GROUPS} <= set(tree.KINDS)
    assert set(DEBIT_KINDS) < set(tree.KINDS)
