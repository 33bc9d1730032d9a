"""P6, clients' money, and P8, the statements of banks and providers."""

from __future__ import annotations

import hashlib
from datetime import UTC, timedelta
from decimal import Decimal
from itertools import count

import pytest
from sqlalchemy import text

from app.core.clock import now
from app.core.money import Money
from app.core.uow import unit_of_work
from app.ledger import chart, external, proofs
from app.ledger.posting import credit, debit
from app.ledger.proofs import outside, segregation
from app.models.controls import ExternalLine, ExternalStatement
from app.models.fx import FXRate
from tests.integration.ledger.house import PAYER, House

_lines = count(1)


@pytest.fixture
def house(session):
    return House(session).build()


def _move(house, debited, credited, minor, currency="USD"):
    chart.open_accounts(house.session, debited, credited)
    money = Money(minor, currency)
    return house.post("test", f"test:{next(_lines)}", debit(debited, money), credit(credited, money))


# ── P6 ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_at_hand_and_what_is_owed(house):
    found = proofs.client_money(house.session)
    dollars, euros = {line.currency: line for line in found.lines}["USD"], found.lines[0]
    assert [line.currency for line in found.lines] == ["EUR", "USD"]
    # Bank: own 1,000,000 + 5,000 brought + 777 nobody's. Clearing: deposit 100,000, fee 1,450, payout 2,000.
    assert (dollars.bank.amount_minor, dollars.clearing.amount_minor) == (1_005_777, 96_550)
    assert dollars.wallets.amount_minor == 5_000 + 100_000 - 2_000 - 7_000 + 500 + 321 + 4_000 - 1_110
    assert dollars.trading.amount_minor == 7_000 - 500 - 300 + 40 + 10
    assert (dollars.commission.amount_minor, dollars.payouts.amount_minor) == (4_137 - 4_000, 0)
    assert dollars.suspense.amount_minor == 777  # the one of the trading server is below zero and covers nothing
    assert dollars.position.amount_minor == 1_100
    assert (euros.resources.amount_minor, euros.requirement.amount_minor) == (0, 1_000)
    assert euros.valued.amount == Decimal("-11.000")
    assert found.reporting_currency == "USD"
    assert found.surplus == found.resources - found.requirement == dollars.surplus.decimal - 11
    assert found.is_covered
    assert segregation.prove_one(house.session).breaks == ()


def test_the_shortage_in_euros_is_covered_by_the_dollars_it_was_bought_with(house):
    euros = proofs.client_money(house.session).lines[0]
    assert euros.surplus == Money(-1_000, "EUR")
    assert euros.position == Money(-1_000, "EUR")
    assert segregation.prove_one(house.session).holds


def test_a_shortage_is_a_break_with_its_amount(house):
    _move(house, chart.bank_own_money("first", "USD"), house.bank, 997_000)
    found = proofs.client_money(house.session)
    short = -found.surplus
    assert short > 0
    (words,) = segregation.prove_one(house.session).breaks
    assert words.startswith("client money in USD: at hand ")
    assert f"short by {short:.4f}" in words
    assert words.endswith(f"by currency -10.00 EUR, {found.lines[1].surplus}")


def test_one_clients_debt_does_not_cover_another_ones_money(house):
    before = proofs.client_money(house.session)
    debtor, result = chart.mt_balance("sim", 6001, "USD"), chart.mt_trading_counter("sim", "USD")
    _move(house, debtor, result, 5_000_000)
    _move(house, chart.client_receivable(house.client, "USD"), chart.fees("USD"), 5_000_000)
    after = proofs.client_money(house.session)
    assert (after.resources, after.requirement) == (before.resources, before.requirement)


def test_a_bonus_is_not_owed_until_it_is_in_the_wallet(house):
    before = proofs.client_money(house.session).requirement
    bonus = chart.client_bonus(house.client, "USD")
    _move(house, chart.bonus_expense("USD"), bonus, 300)
    assert proofs.client_money(house.session).requirement == before
    _move(house, bonus, house.wallet, 300)
    assert proofs.client_money(house.session).requirement == before + 3


def test_a_currency_without_a_rate_is_a_break_that_says_so(house):
    _move(house, chart.psp_clearing("stripe", "KWD"), chart.client_wallet(house.client, "KWD"), 5_000, "KWD")
    found = proofs.client_money(house.session)
    assert (found.without_rate, found.surplus, found.is_covered) == (("KWD",), None, False)
    assert segregation.prove_one(house.session).breaks == ("currency KWD: no rate to USD; at hand 5.000 KWD, owed 5.000 KWD",)


def test_an_empty_account_needs_no_rate(house):
    chart.open_account(house.session, chart.client_wallet(house.client, "KWD"))
    assert proofs.client_money(house.session).is_covered


def test_an_old_rate_counts_and_is_marked(session):
    house = House(session)
    with unit_of_work(session, PAYER):
        house.open_house()
        session.add(FXRate(source="ecb", base="EUR", quote="USD", rate=Decimal(2), observed_at=now() - timedelta(days=90)))
        _move(house, chart.psp_clearing("stripe", "EUR"), chart.client_wallet(house.client, "EUR"), 100, "EUR")
    found = proofs.client_money(session)
    assert found.lines[0].valued.is_stale
    assert found.is_covered


def test_as_of_a_moment(house):
    # What the bank booked on that day is effective at its noon, whatever the time is now.
    before = house.at.replace(hour=0, minute=0, second=0, microsecond=0)
    assert proofs.client_money(house.session, before).requirement == 0
    now_, later = proofs.client_money(house.session), proofs.client_money(house.session, now() + timedelta(days=1))
    assert (later.resources, later.requirement) == (now_.resources, now_.requirement)


def test_no_clients_no_money(session):
    found = proofs.client_money(session)
    assert (found.lines, found.surplus, found.is_covered) == ((), 0, True)


# ── P8 ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _statement(house, account, *lines):
    """Lines of (days ago, minor units)."""
    number = next(_lines)
    statement = ExternalStatement(
        account_code=account, file_name="f", sha256=hashlib.sha256(str(number).encode()).hexdigest(), imported_by="x"
    )
    house.session.add(statement)
    house.session.flush()
    today = now().astimezone(UTC).date()
    made = []
    for position, (days, minor) in enumerate(lines):
        line = ExternalLine(
            statement_id=statement.id, line=position + 1, booked_on=today - timedelta(days=days), reference=str(position),
            amount_minor=minor, currency="USD",
        )  # fmt: skip
        house.session.add(line)
        house.session.flush()
        made.append(line)
    return made


def test_young_differences_are_no_breaks(house):
    _statement(house, "psp:stripe:clearing", (3, 123), (0, 5))
    assert outside.prove_one(house.session).breaks == ()
    assert outside.prove_one(house.session).compared == 3


def test_a_line_that_stays_open(house):
    old, young = _statement(house, "psp:stripe:clearing", (4, 123), (3, 124))
    (words,) = outside.prove_one(house.session).breaks
    assert words == f"line {old.id}: 123 of {old.booked_on} on psp:stripe:clearing:USD has no entry"
    assert young.id != old.id


def test_an_entry_that_no_statement_has(house):
    house.at = now() - timedelta(days=6)
    txn_id = _move(house, house.clearing, house.wallet, 4_321)
    assert outside.prove_one(house.session).breaks == ()  # no statement speaks of that day
    _statement(house, "psp:stripe:clearing", (7, -1), (5, 1))
    found = outside.prove_one(house.session).breaks
    assert f"transaction {txn_id}: 4321 of {house.at.date()} on psp:stripe:clearing:USD is in no statement" in found
    assert len([words for words in found if words.startswith("transaction")]) == 1


def test_money_that_nobody_asked_for_for_a_month(house):
    (line,) = _statement(house, "bank:first:client_money", (31, 500))
    txn_id = external.to_suspense(house.session, line_id=line.id, actor=PAYER)
    (words,) = outside.prove_one(house.session).breaks
    assert words == f"transaction {txn_id}: 500 of {line.booked_on} on suspense:first:USD has no owner yet"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            "UPDATE external_line SET amount_minor = 778 WHERE id = {line}",
            "line {line}: 778 on bank:first:client_money:USD, matched with 777 on bank:first:client_money:USD, version 3",
        ),
        (
            "UPDATE external_line SET account_version = 99 WHERE id = {line}",
            "line {line}: 777 on bank:first:client_money:USD, matched with no entry on bank:first:client_money:USD, version 99",
        ),
        (
            (
                "UPDATE external_line SET account_id = (SELECT id FROM ledger.account WHERE code = 'psp:stripe:clearing:USD'),"
                " account_version = 1 WHERE id = {line}"
            ),
            "line {line}: 777 on bank:first:client_money:USD, matched with 100000 on psp:stripe:clearing:USD, version 1",
        ),
    ],
)
def test_a_line_matched_with_something_else(house, change, words):
    names = {"line": house.ids["line"]}
    house.session.execute(text(change.format_map(names)))
    assert words.format_map(names) in outside.prove_one(house.session).breaks
