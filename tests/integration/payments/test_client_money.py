"""What is held for clients and what is owed to them, and that the reasons explain the difference to the last unit."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from itertools import count

from app.core.actor import Actor
from app.core.money import Money
from app.ledger import chart, posting
from app.ledger.tree import GROUPS
from app.payments import client_money

ACTOR = Actor.system("test")
_numbers = count(1)

EVERY = [
    chart.client_wallet(1, "USD"),
    chart.client_bonus(1, "USD"),
    chart.client_receivable(1, "USD"),
    chart.ib_commission(3, "USD"),
    chart.mt_balance("sim", 1, "USD"),
    chart.mt_balance("sim", 2, "USD"),
    chart.mt_trading_counter("sim", "USD"),
    chart.psp_clearing("stripe", "USD"),
    chart.psp_payouts("stripe", "USD"),
    chart.psp_fees("stripe", "USD"),
    chart.bank_client_money("house", "USD"),
    chart.bank_own_money("house", "USD"),
    chart.fx_position("USD"),
    chart.fx_spread("USD"),
    chart.fees("USD"),
    chart.commission_expense("USD"),
    chart.bonus_expense("USD"),
    chart.negative_balance_expense("USD"),
    chart.suspense("first", "USD"),
    chart.suspense("mt-sim", "USD"),
    chart.migration_opening("USD"),
]


def usd(text: str) -> Money:
    return Money.parse(text, "USD")


def post(session, debited, credited, amount: Money, at: datetime = datetime(2026, 3, 2, tzinfo=UTC)) -> None:
    chart.open_accounts(session, debited, credited)
    posting.post(
        session, key=f"money:{next(_numbers)}", kind="test", effective_at=at, actor=ACTOR,
        legs=[posting.debit(debited, amount), posting.credit(credited, amount)],
    )  # fmt: skip


def position(session, at: datetime | None = None) -> client_money.Position:
    (found,) = client_money.report(session, at).positions
    return found


def test_the_reasons_are_the_whole_difference(session):
    chance = random.Random(5)
    may = [spec for spec in EVERY if spec.may_go_negative]
    for spec in EVERY:
        if not spec.may_go_negative:  # something that can be taken away again
            giver = chance.choice(may)
            pair = (spec, giver) if spec.kind == "asset" else (giver, spec)
            post(session, *pair, usd("5000.00"))
    for _ in range(150):
        debited, credited = chance.sample(EVERY, 2)
        post(session, debited, credited, Money(chance.randint(1, 9_000), "USD"))
        found = position(session)
        assert sum(found.reasons.values()) == found.line.surplus.amount_minor
    assert all(found.reasons[name] for name in client_money.REASONS if name != "other")


def test_every_group_of_the_chart_is_held_owed_or_a_reason():
    named = {group for _, groups in client_money.REASONS.values() for group in groups}
    assert named | set(client_money._COUNTED) == {group.key for group in GROUPS}


def test_a_profit_is_not_funded_until_the_house_pays_it_in(session):
    clearing, own = chart.psp_clearing("stripe", "USD"), chart.bank_own_money("house", "USD")
    post(session, own, chart.migration_opening("USD"), usd("500.00"))
    post(session, clearing, chart.client_wallet(1, "USD"), usd("1000.00"))
    assert position(session).line.surplus == usd("0.00")
    post(session, chart.mt_trading_counter("sim", "USD"), chart.mt_balance("sim", 1, "USD"), usd("80.00"))
    found = position(session)
    assert (found.shortage, found.unfunded_profits, found.own) == (usd("80.00"), usd("80.00"), usd("500.00"))
    assert found.reasons["results"] == -8_000
    post(session, chart.bank_client_money("house", "USD"), own, usd("100.00"))
    found = position(session)
    assert (found.line.surplus, found.shortage, found.unfunded_profits) == (usd("20.00"), usd("0.00"), usd("0.00"))
    assert found.reasons["own"] == 10_000


def test_no_clients_debt_pays_another_client(session):
    clearing, results = chart.psp_clearing("stripe", "USD"), chart.mt_trading_counter("sim", "USD")
    post(session, clearing, chart.client_wallet(1, "USD"), usd("100.00"))
    post(session, chart.mt_balance("sim", 2, "USD"), results, usd("30.00"))
    found = position(session)
    assert found.line.surplus == usd("0.00")
    assert (found.reasons["results"], found.reasons["negative"]) == (3_000, -3_000)


def test_as_of_a_moment(session):
    clearing, wallet = chart.psp_clearing("stripe", "USD"), chart.client_wallet(1, "USD")
    post(session, clearing, wallet, usd("100.00"), at=datetime(2026, 3, 1, tzinfo=UTC))
    post(session, wallet, chart.fees("USD"), usd("10.00"), at=datetime(2026, 3, 5, tzinfo=UTC))
    then = position(session, datetime(2026, 3, 4, tzinfo=UTC))
    assert (then.line.surplus, sum(then.reasons.values())) == (usd("0.00"), 0)
    assert position(session).reasons == {**dict.fromkeys(client_money.REASONS, 0), "income": 1_000}
