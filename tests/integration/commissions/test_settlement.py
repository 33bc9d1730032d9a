"""Accruals become ledger transactions: rounded down, the remainder carried, once per period."""

from __future__ import annotations

import random
import threading
from decimal import Decimal

import pytest
from sqlalchemy import func, select

from app.commissions.accrual import accrue_deals
from app.commissions.errors import SettlementIncomplete
from app.commissions.explain import accrual_lines, explain_accrual, explain_deal, totals
from app.commissions.settlement import KIND, Settled, settle, settle_all
from app.core.actor import Actor
from app.core.errors import NotFound
from app.core.money import Money
from app.models.commissions import Accrual, Settlement
from app.models.ledger import Transaction
from app.models.partners import IntroducingBroker
from tests.integration.commissions.brokerage import NOON, Brokerage, build

SYSTEM = Actor.system("test")
ODD = [{"key": "odd", "component": "per_lot", "rate": "3.3333333333"}]


def pay(house: Brokerage, ib_id: int, period: str, currency: str = "USD") -> Settled | None:
    return settle(house.session, ib_id=ib_id, currency=currency, period=period, at=NOON, actor=SYSTEM)


def transactions(house: Brokerage) -> list[Transaction]:
    return list(house.session.scalars(select(Transaction).where(Transaction.kind == KIND).order_by(Transaction.seq)))


def test_a_settlement_posts_what_was_accrued(house: Brokerage) -> None:
    ib_id = house.ib()
    accrue_deals(house.session, [house.deal(house.brought(ib_id), lots) for lots in ("1", "0.5")])

    settled = pay(house, ib_id, "p1")

    assert settled is not None
    assert (settled.accrued, settled.carried_in, settled.carried_out) == (Decimal("10.5"), 0, 0)
    assert settled.amount == Money(1050, "USD")
    (txn,) = transactions(house)
    assert (txn.id, txn.idempotency_key) == (settled.ledger_txn_id, f"commission-settlement:{ib_id}:USD:p1")
    assert txn.effective_at == NOON
    assert {(entry.account.kind, entry.debit, entry.credit) for entry in txn.entries} == {
        ("expense", 1050, 0),
        ("liability", 0, 1050),
    }
    (total,) = totals(house.session, ib_id)
    assert (total.unsettled, total.carried, total.settled, total.ledger_balance) == (
        0,
        0,
        Money(1050, "USD"),
        Money(1050, "USD"),
    )
    (event,) = house.events("commission.settled")
    assert event.subject_id == settled.id
    assert event.client_id == house.session.scalar(select(IntroducingBroker.client_id).where(IntroducingBroker.id == ib_id))
    assert event.payload["amount_minor"] == 1050


def test_the_remainder_is_carried_over_many_runs_without_loss(house: Brokerage) -> None:
    ib_id = house.ib(ODD)
    account = house.brought(ib_id)
    chance = random.Random(5)
    settlements: list[Settled] = []

    for run in range(40):
        lots = [Decimal(chance.randint(1, 300)) / 100 for _ in range(3)]
        accrue_deals(house.session, [house.deal(account, str(volume)) for volume in lots])
        settled = pay(house, ib_id, f"p{run}")
        assert settled is not None
        assert settled.accrued + settled.carried_in == settled.amount.decimal + settled.carried_out
        assert 0 <= settled.carried_out < Decimal("0.01")
        assert settled.carried_in == (settlements[-1].carried_out if settlements else 0)
        settlements.append(settled)

    accrued = house.session.scalar(select(func.sum(Accrual.amount)).where(Accrual.ib_id == ib_id))
    assert sum(settled.amount.decimal for settled in settlements) + settlements[-1].carried_out == accrued
    assert any(settled.carried_out for settled in settlements)
    (total,) = totals(house.session, ib_id)
    assert total.ledger_balance == total.settled == Money(sum(settled.amount.amount_minor for settled in settlements), "USD")


def test_less_than_a_minor_unit_waits(house: Brokerage) -> None:
    ib_id = house.ib([{"key": "tiny", "component": "per_lot", "rate": "0.006"}])
    account = house.brought(ib_id)
    accrue_deals(house.session, [house.deal(account)])
    assert pay(house, ib_id, "p1") is None
    assert house.session.scalar(select(func.count()).select_from(Settlement)) == 0

    accrue_deals(house.session, [house.deal(account)])
    settled = pay(house, ib_id, "p1")

    assert settled is not None
    assert (settled.accrued, settled.amount, settled.carried_out) == (Decimal("0.012"), Money(1, "USD"), Decimal("0.002"))


def test_a_negative_sum_waits_until_it_is_earned_back(house: Brokerage) -> None:
    ib_id = house.ib()
    account = house.brought(ib_id)
    deal = house.deal(account, "2")
    accrue_deals(house.session, [deal])
    assert pay(house, ib_id, "p1") is not None
    accrue_deals(house.session, [house.revise(deal, "1")])

    assert pay(house, ib_id, "p2") is None
    (total,) = totals(house.session, ib_id)
    assert total.unsettled == -7

    accrue_deals(house.session, [house.deal(account, "3")])
    settled = pay(house, ib_id, "p3")
    assert settled is not None
    assert (settled.amount, settled.accrued) == (Money(1400, "USD"), Decimal(14))
    assert totals(house.session, ib_id)[0].ledger_balance == Money(2800, "USD")


def test_a_period_is_settled_once(house: Brokerage) -> None:
    ib_id = house.ib()
    account = house.brought(ib_id)
    accrue_deals(house.session, [house.deal(account)])
    assert pay(house, ib_id, "p1") is not None

    accrue_deals(house.session, [house.deal(account)])
    assert pay(house, ib_id, "p1") is None

    assert len(transactions(house)) == 1
    assert totals(house.session, ib_id)[0].unsettled == 7


def test_currencies_are_settled_apart(house: Brokerage) -> None:
    rules = [
        {"key": "usd", "component": "per_lot", "rate": "7"},
        {"key": "yen", "component": "per_lot", "rate": "100.5", "currency": "JPY"},
    ]
    ib_id = house.ib(rules)
    accrue_deals(house.session, [house.deal(house.brought(ib_id))])

    settled = settle_all(house.session, NOON, "p1")

    assert [(made.amount, made.carried_out) for made in settled] == [
        (Money(100, "JPY"), Decimal("0.5")),
        (Money(700, "USD"), Decimal(0)),
    ]


def test_nothing_due_and_unknown_ibs(house: Brokerage) -> None:
    assert pay(house, house.ib(), "p1") is None
    assert settle_all(house.session, NOON, "p1") == []
    with pytest.raises(NotFound):
        pay(house, 10**9, "p1")


def test_one_that_fails_does_not_stop_the_others(database) -> None:
    with database.session() as session:
        house = build(session)
        failing, sound = house.ib(), house.ib()
        accrue_deals(session, [house.deal(house.brought(ib_id)) for ib_id in (failing, sound)])
        # The bad one's sum is larger than any amount the ledger can hold.
        house.add(
            Accrual(
                deal_id=house.deal(house.brought(failing)),
                plan_version_id=session.scalar(select(Accrual.plan_version_id).where(Accrual.ib_id == failing)),
                rule="fx",
                level=1,
                ib_id=failing,
                kind="accrue",
                amount=Decimal(99999999999999),
                currency="BTC",
                lots=1,
                rate=1,
            )
        )
        house.save()

        with pytest.raises(SettlementIncomplete) as incomplete:
            settle_all(session, NOON, "p1")

        assert incomplete.value.data["failed"] == [(failing, "BTC", "money.invalid")]
        assert [(row.ib_id, row.amount_minor) for row in session.scalars(select(Settlement).order_by(Settlement.ib_id))] == [
            (failing, 700),
            (sound, 700),
        ]


def test_two_settlements_at_once_post_once(database) -> None:
    with database.session() as session:
        house = build(session)
        ib_id = house.ib()
        accrue_deals(session, [house.deal(house.brought(ib_id)) for _ in range(20)])
        house.save()
    results: list[Settled | None] = []
    start = threading.Barrier(6)

    def run(period: str) -> None:
        with database.session() as own:
            start.wait(20)
            results.append(settle(own, ib_id=ib_id, currency="USD", period=period, at=NOON, actor=SYSTEM))

    workers = [threading.Thread(target=run, args=(f"p{number % 2}",)) for number in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)

    (settled,) = [made for made in results if made]
    assert len(results) == 6
    assert settled.amount == Money(14000, "USD")
    with database.session() as session:
        assert len(transactions(Brokerage(session))) == 1
        assert totals(session, ib_id)[0].ledger_balance == Money(14000, "USD")


def test_a_line_is_explained_down_to_its_settlement(house: Brokerage) -> None:
    ib_id = house.ib([{"key": "fx", "component": "per_lot", "rate": "8", "levels": ["0.7", "0.3"]}])
    deal = house.deal(house.brought(ib_id), "0.5")
    accrue_deals(house.session, [deal])
    (line,) = accrual_lines(house.session, ib_id)

    waiting = explain_accrual(house.session, line.id, ib_id)
    settled = pay(house, ib_id, "p1")
    explained = explain_accrual(house.session, line.id, ib_id)

    assert settled is not None
    assert waiting.settled is None
    assert (line.client_name, line.symbol, line.amount, line.settlement_id) == ("Amira H.", "EURUSD", Decimal("2.8"), None)
    assert (explained.deal_id, explained.revision, explained.version, explained.rule.key) == (deal, 1, 1, "fx")
    assert explained.rule.terms[0].share == Decimal("0.7")
    assert [step.value for step in explained.steps] == [Decimal("0.5"), Decimal(8), Decimal(4), Decimal("0.7"), Decimal("2.8")]
    assert explained.settled is not None
    assert (explained.settled.settlement_id, explained.settled.ledger_txn_id) == (settled.id, settled.ledger_txn_id)
    with pytest.raises(NotFound):
        explain_accrual(house.session, line.id, house.ib())
    with pytest.raises(NotFound):
        explain_deal(house.session, 10**9)


def test_every_line_s_arithmetic_ends_in_its_amount(house: Brokerage) -> None:
    ib_id = house.ib(ODD)
    deal = house.deal(house.brought(ib_id), "0.37")
    accrue_deals(house.session, [deal])
    accrue_deals(house.session, [house.revise(deal, "0.36")])

    lines = accrual_lines(house.session, ib_id)

    assert len(lines) == 3
    for line in lines:
        assert explain_accrual(house.session, line.id, ib_id).steps[-1].value == line.amount


def test_lines_are_paged_by_key(house: Brokerage) -> None:
    ib_id = house.ib()
    account = house.brought(ib_id)
    accrue_deals(house.session, [house.deal(account) for _ in range(7)])

    first = accrual_lines(house.session, ib_id, limit=3)
    second = accrual_lines(house.session, ib_id, before_id=first[-1].id, limit=3)
    last = accrual_lines(house.session, ib_id, before_id=second[-1].id, limit=3)

    ids = [line.id for line in (*first, *second, *last)]
    assert (len(first), len(second), len(last)) == (3, 3, 1)
    assert ids == sorted(set(ids), reverse=True)
