"""Accruals become ledger transactions: rounded down, the remainder carried, once per period."""

from __future__ import annotations

import random
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import func, select, update

from app.commissions.accrual import accrue_deals
from app.commissions.engine import Accrued
from app.commissions.errors import SettlementIncomplete
from app.commissions.explain import explain_accrual, explain_deal
from app.commissions.figures import totals
from app.commissions.lines import accrual_lines
from app.commissions.settlement import IB_KIND, REBATE_KIND, Settled, boundary, settle_all
from app.commissions.units import Line, lock_shard, write_unit
from app.core.clock import now
from app.core.errors import NotFound
from app.core.money import Money
from app.core.uow import unit_of_work
from app.models.commissions import Accrual, Plan, Settlement
from app.models.ledger import Transaction
from app.models.metatrader import TradingAccount
from app.models.partners import IntroducingBroker
from tests.integration.commissions.brokerage import STAFF, Brokerage, build
from tests.integration.waiting import until_somebody_waits

ODD = [{"key": "odd", "component": "per_lot", "rate": "3.3333333333"}]

#: After all that a test accrues. Its settlements are minutes apart: a period, named by its moment, is settled once.
SOON = now().replace(second=0, microsecond=0) + timedelta(hours=1)


def pay(house: Brokerage, ib_id: int, minute: int, currency: str = "USD") -> Settled | None:
    """Settle everything at a minute; what this IB got, if anything."""
    settled = settle_all(house.session, SOON + timedelta(minutes=minute))
    return next((made for made in settled if made.ib_id == ib_id and made.amount.currency == currency), None)


def transactions(house: Brokerage) -> list[Transaction]:
    return list(house.session.scalars(select(Transaction).where(Transaction.kind == IB_KIND).order_by(Transaction.seq)))


def test_a_settlement_posts_what_was_accrued(house: Brokerage) -> None:
    ib_id = house.ib()
    accrue_deals(house.session, [house.deal(house.brought(ib_id), lots) for lots in ("1", "0.5")])

    settled = pay(house, ib_id, 1)

    assert settled is not None
    assert (settled.accrued, settled.carried_in, settled.carried_out) == (Decimal("10.5"), 0, 0)
    assert settled.amount == Money(1050, "USD")
    (txn,) = transactions(house)
    assert (txn.id, txn.idempotency_key) == (settled.ledger_txn_id, f"commission-settlement:{ib_id}:USD:{settled.period}")
    assert (txn.effective_at, settled.period) == (SOON + timedelta(minutes=1), f"minutes:{txn.effective_at:%Y-%m-%dT%H:%M:%S}")
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
        settled = pay(house, ib_id, run)
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
    assert pay(house, ib_id, 1) is None
    assert house.session.scalar(select(func.count()).select_from(Settlement)) == 0

    accrue_deals(house.session, [house.deal(account)])
    settled = pay(house, ib_id, 1)

    assert settled is not None
    assert (settled.accrued, settled.amount, settled.carried_out) == (Decimal("0.012"), Money(1, "USD"), Decimal("0.002"))


def test_a_negative_sum_waits_until_it_is_earned_back(house: Brokerage) -> None:
    ib_id = house.ib()
    account = house.brought(ib_id)
    deal = house.deal(account, "2")
    accrue_deals(house.session, [deal])
    assert pay(house, ib_id, 1) is not None
    accrue_deals(house.session, [house.revise(deal, "1")])

    assert pay(house, ib_id, 2) is None
    (total,) = totals(house.session, ib_id)
    assert total.unsettled == -7

    accrue_deals(house.session, [house.deal(account, "3")])
    settled = pay(house, ib_id, 3)
    assert settled is not None
    assert (settled.amount, settled.accrued) == (Money(1400, "USD"), Decimal(14))
    assert totals(house.session, ib_id)[0].ledger_balance == Money(2800, "USD")


def test_a_period_is_settled_once(house: Brokerage) -> None:
    ib_id = house.ib()
    account = house.brought(ib_id)
    accrue_deals(house.session, [house.deal(account)])
    assert pay(house, ib_id, 1) is not None

    accrue_deals(house.session, [house.deal(account)])
    assert pay(house, ib_id, 1) is None

    assert len(transactions(house)) == 1
    assert totals(house.session, ib_id)[0].unsettled == 7


def test_an_ib_is_paid_in_its_own_currency_by_one_recorded_rate(house: Brokerage) -> None:
    rules = [
        {"key": "usd", "component": "per_lot", "rate": "7"},
        {"key": "yen", "component": "per_lot", "rate": "100.55", "currency": "JPY"},
    ]
    ib_id = house.ib(rules)
    house.rate("JPY", "USD", "0.0065")
    accrue_deals(house.session, [house.deal(house.brought(ib_id))])

    yen, usd = settle_all(house.session, SOON)

    assert (yen.accrued, yen.converted, yen.amount) == (Decimal("100.55"), Decimal("0.653575"), Money(65, "USD"))
    assert (usd.converted, usd.carried_in, usd.amount) == (Decimal(7), Decimal("0.003575"), Money(700, "USD"))
    assert usd.carried_out == Decimal("0.003575"), "the next in the same currency carries on what the one before left"
    row = house.session.get_one(Settlement, yen.id)
    assert (row.fx_rate, row.fx_source) == (Decimal("0.0065"), "manual")
    assert house.session.get_one(Settlement, usd.id).fx_rate is None
    assert [total.ledger_balance for total in totals(house.session, ib_id)] == [Money(765, "USD")]


def test_without_a_rate_an_ib_waits_and_the_others_are_paid(house: Brokerage) -> None:
    waiting, paid = house.ib([{"key": "yen", "component": "per_lot", "rate": "100", "currency": "JPY"}]), house.ib()
    accrue_deals(house.session, [house.deal(house.brought(ib_id)) for ib_id in (waiting, paid)])

    with pytest.raises(SettlementIncomplete) as incomplete:
        settle_all(house.session, SOON)

    assert incomplete.value.data["failed"] == [(waiting, "JPY", "fx.no_rate")]
    assert list(house.session.scalars(select(Settlement.ib_id))) == [paid]
    house.rate("JPY", "USD", "0.0065")
    assert pay(house, waiting, 1) is not None


def test_a_plan_gathers_for_as_long_as_it_says(house: Brokerage) -> None:
    ib_id = house.ib()
    house.session.get_one(Plan, house.ids["plan"]).settle_every = "day"
    accrue_deals(house.session, [house.deal(house.brought(ib_id))])

    assert settle_all(house.session, SOON) == [], "the day is not over"
    tomorrow = boundary("day", SOON) + timedelta(days=1)
    (settled,) = settle_all(house.session, tomorrow + timedelta(minutes=5))

    assert (settled.amount, settled.period) == (Money(700, "USD"), f"day:{tomorrow:%Y-%m-%dT%H:%M:%S}")


@pytest.mark.parametrize(
    ("every", "began"),
    [
        ("minutes", datetime(2026, 11, 26, 15, 42, 7, tzinfo=UTC)),
        ("hour", datetime(2026, 11, 26, 15, tzinfo=UTC)),
        ("day", datetime(2026, 11, 26, tzinfo=UTC)),
        ("week", datetime(2026, 11, 23, tzinfo=UTC)),
        ("month", datetime(2026, 11, 1, tzinfo=UTC)),
    ],
)
def test_what_is_settled_lies_before_the_last_whole_span(every: str, began: datetime) -> None:
    assert boundary(every, datetime(2026, 11, 26, 15, 42, 7, tzinfo=UTC)) == began


def test_a_rebate_goes_to_the_client_s_wallet(house: Brokerage) -> None:
    ib_id = house.ib()
    account = house.brought(ib_id)
    client_id = house.session.scalar(select(TradingAccount.client_id).where(TradingAccount.id == account))
    deal = house.deal(account)
    accrue_deals(house.session, [deal])
    made = Accrued(
        plan_version_id=house.session.scalar(select(Accrual.plan_version_id).where(Accrual.ib_id == ib_id)) or 0,
        rule="fx",
        level=0,
        ib_id=None,
        client_id=client_id,
        lots=Decimal(1),
        rate=Decimal("1.239"),
        share=Decimal(1),
        amount=Decimal("1.239"),
        currency="USD",
    )
    with unit_of_work(house.session, STAFF):
        lock_shard(house.session, house.server_id, 0)
        write_unit(house.session, house.server_id, 0, [Line(deal, "accrue", made)])

    rebate = next(made for made in settle_all(house.session, SOON) if made.client_id)

    assert (rebate.client_id, rebate.ib_id, rebate.amount) == (client_id, None, Money(123, "USD"))
    txn = house.session.scalars(select(Transaction).where(Transaction.kind == REBATE_KIND)).one()
    assert {(entry.account.code, entry.debit, entry.credit) for entry in txn.entries} == {
        ("expense:commission:USD", 123, 0),
        (f"client:{client_id}:wallet:USD", 0, 123),
    }
    (event,) = house.events("rebate.settled")
    assert (event.client_id, event.payload["amount_minor"]) == (client_id, 123)


def test_nothing_due(house: Brokerage) -> None:
    assert pay(house, house.ib(), 1) is None
    assert settle_all(house.session, SOON) == []


def test_one_that_fails_does_not_stop_the_others(database) -> None:
    with database.session() as session:
        house = build(session)
        failing, sound = house.ib(), house.ib()
        accrue_deals(session, [house.deal(house.brought(ib_id)) for ib_id in (failing, sound)])
        # The bad one's sum is larger than any amount the ledger can hold.
        house.session.execute(update(IntroducingBroker).where(IntroducingBroker.id == failing).values(currency="BTC"))
        version_id = session.scalar(select(Accrual.plan_version_id).where(Accrual.ib_id == failing)) or 0
        large = Accrued(version_id, "fx", 1, failing, Decimal(1), Decimal(1), Decimal(1), Decimal(99999999999999), "BTC")
        deal = house.deal(house.brought(failing))
        with unit_of_work(session, STAFF):
            write_unit(session, house.server_id, 0, [Line(deal, "accrue", large)])

        with pytest.raises(SettlementIncomplete) as incomplete:
            settle_all(session, SOON)

        assert incomplete.value.data["failed"] == [(failing, "USD", "fx.no_rate"), (failing, "BTC", "money.invalid")]
        assert [(row.ib_id, row.amount_minor) for row in session.scalars(select(Settlement).order_by(Settlement.ib_id))] == [
            (sound, 700),
        ]


def test_two_settlements_at_once_post_once(database) -> None:
    with database.session() as session:
        house = build(session)
        ib_id = house.ib()
        accrue_deals(session, [house.deal(house.brought(ib_id)) for _ in range(20)])
        house.save()
    results: list[list[Settled]] = []
    start = threading.Barrier(6)

    def run(minute: int) -> None:
        with database.session() as own:
            start.wait(20)
            results.append(settle_all(own, SOON + timedelta(minutes=minute)))

    workers = [threading.Thread(target=run, args=(number % 2,)) for number in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)

    (settled,) = [made for some in results for made in some]
    assert len(results) == 6
    assert settled.amount == Money(14000, "USD")
    with database.session() as session:
        assert len(transactions(Brokerage(session))) == 1
        assert totals(session, ib_id)[0].ledger_balance == Money(14000, "USD")


def test_an_ib_whose_currency_of_pay_changes_meanwhile_is_paid_in_the_new_one(database) -> None:
    with database.session() as session:
        house = build(session)
        ib_id = house.ib()
        house.rate("USD", "EUR", "0.9")
        accrue_deals(session, [house.deal(house.brought(ib_id))])
        house.save()
    results: list[Settled] = []

    def run() -> None:
        with database.session() as own:
            results.extend(settle_all(own, SOON))

    with database.session() as changing:
        changing.execute(update(IntroducingBroker).where(IntroducingBroker.id == ib_id).values(currency="EUR"))
        worker = threading.Thread(target=run)
        worker.start()
        until_somebody_waits(database)
        changing.commit()
    worker.join(60)

    (settled,) = results
    assert (settled.amount, settled.converted) == (Money(630, "EUR"), Decimal("6.3"))
    with database.session() as session:
        assert session.get_one(Settlement, settled.id).fx_rate == Decimal("0.9")


def test_an_ib_whose_currency_of_pay_changes_to_one_without_a_rate_waits(database) -> None:
    with database.session() as session:
        house = build(session)
        ib_id = house.ib()
        accrue_deals(session, [house.deal(house.brought(ib_id))])
        house.save()
    failed: list[object] = []

    def run() -> None:
        with database.session() as own:
            try:
                settle_all(own, SOON)
            except SettlementIncomplete as incomplete:
                failed.extend(incomplete.data["failed"])

    with database.session() as changing:
        changing.execute(update(IntroducingBroker).where(IntroducingBroker.id == ib_id).values(currency="EUR"))
        worker = threading.Thread(target=run)
        worker.start()
        until_somebody_waits(database)
        changing.commit()
    worker.join(60)

    assert failed == [(ib_id, "USD", "fx.no_rate")]
    with database.session() as session:
        assert session.scalar(select(func.count()).select_from(Settlement)) == 0


def test_a_line_is_explained_down_to_its_settlement(house: Brokerage) -> None:
    ib_id = house.ib([{"key": "fx", "component": "per_lot", "rate": "8", "levels": ["0.7", "0.3"]}])
    deal = house.deal(house.brought(ib_id), "0.5")
    accrue_deals(house.session, [deal])
    (line,) = accrual_lines(house.session, ib_id)

    waiting = explain_accrual(house.session, line.id, ib_id)
    settled = pay(house, ib_id, 1)
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
