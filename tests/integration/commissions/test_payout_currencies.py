"""Payouts of IBs with more than one currency: debts, minimums and remainders, in yen and dinars too."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import select, text, update

from app.commissions import payables, payment_terms, payout_figures, payout_runs, payout_statements, payouts, publishing
from app.commissions.accrual import accrue_deals
from app.commissions.errors import SettlementIncomplete
from app.commissions.figures import totals
from app.commissions.payables import Payable
from app.commissions.settlement import settle_all
from app.core.clock import now
from app.core.errors import InvalidInput
from app.core.money import Money
from app.core.tables import AuditEntry
from app.ledger import chart, queries
from app.models.commissions import Settlement
from app.models.partners import IntroducingBroker
from app.models.payouts import Payout
from tests.integration.commissions.brokerage import NOON, START, Brokerage
from tests.integration.commissions.earnings import FINANCE, OTHER, Earnings, nowhere, settled


@pytest.fixture
def earnings(house: Brokerage) -> Earnings:
    return Earnings(house)


def pay_in(earnings: Earnings, ib_id: int, currency: str) -> None:
    """From now on the IB is paid in this currency."""
    earnings.session.execute(update(IntroducingBroker).where(IntroducingBroker.id == ib_id).values(currency=currency))
    earnings.house.save()


def test_the_currency_of_pay_is_changed_with_a_reason_and_kept_in_the_audit_trail(earnings: Earnings) -> None:
    ib_id = earnings.ib("1")

    def change(currency: str, **changes: Any) -> dict[str, str]:
        wanted: dict[str, Any] = {"ib_id": ib_id, "currency": currency, "reason": "asked for by mail", "actor": FINANCE}
        with pytest.raises(InvalidInput) as refused:
            payment_terms.set_currency(earnings.session, **wanted | changes)
        return refused.value.problems

    assert set(change("XXY", ib_id=999_999, reason=" ")) == {"ib_id", "currency", "reason"}
    assert list(change("USC")) == ["currency"]
    assert change("EUR") == {"currency": "There is no exchange rate into this currency at present."}
    earnings.house.rate("USD", "EUR", "0.9")
    for _ in range(2):
        payment_terms.set_currency(earnings.session, ib_id, currency="EUR", reason="asked for by mail", actor=FINANCE)
    (entry,) = earnings.session.scalars(select(AuditEntry).where(AuditEntry.action == "ib.currency"))
    assert (entry.before, entry.after, entry.reason) == ({"currency": "USD"}, {"currency": "EUR"}, "asked for by mail")
    (told,) = earnings.house.events("ib.currency_changed")
    assert told.payload == {"before": "USD", "currency": "EUR"}
    earnings.earn(ib_id, "1")
    assert {one.currency: one.balance for one in found(earnings, ib_id).values()} == {
        "EUR": Money(630, "EUR"),
        "USD": Money(700, "USD"),
    }


def found(earnings: Earnings, ib_id: int) -> dict[str, Payable]:
    earnings.session.expire_all()
    return {one.currency: one for one in payables.payables(earnings.session, now(), [ib_id])}


def paid(earnings: Earnings, ib_id: int) -> list[Payout]:
    """All that the IB can get, paid into the wallet; in order of currency."""
    run = payout_runs.propose_run(earnings.session, until=now(), reason="r", actor=FINANCE)
    decisions = {one.id: payout_runs.Decision("pay", "looked at") for one in run.payouts if one.warnings}
    payout_runs.approve_run(earnings.session, run.id, decisions=decisions, actor=OTHER)
    for one in run.payouts:
        assert payouts.pay(earnings.session, one.id, nowhere) == "paid"
    return sorted((one for one in run.payouts if one.ib_id == ib_id), key=lambda one: one.currency)


def test_a_debt_is_taken_off_the_money_in_another_currency(earnings: Earnings) -> None:
    """21 USD stand from before; now paid in EUR, the IB loses a deal of 14 USD. What it owes is 12.60 EUR: 14 USD."""
    ib_id = earnings.ib()
    deal_id = earnings.earn(ib_id, "2")
    earnings.earn(ib_id, "1")
    earnings.house.rate("USD", "EUR", "0.9")
    pay_in(earnings, ib_id, "EUR")
    earnings.lose(ib_id, deal_id)
    one = found(earnings, ib_id)["USD"]
    assert (one.balance, one.owes) == (Money(2100, "USD"), Money(1400, "USD"))
    assert one.available == Money(700, "USD")


def test_the_own_currency_makes_up_for_a_debt_first(earnings: Earnings) -> None:
    ib_id = earnings.ib()
    deal_id = earnings.earn(ib_id, "2")
    earnings.earn(ib_id, "1")
    earnings.house.rate("USD", "EUR", "0.5")
    pay_in(earnings, ib_id, "EUR")
    earnings.earn(ib_id, "1")
    earnings.lose(ib_id, deal_id)
    both = found(earnings, ib_id)
    assert (both["EUR"].owes, both["EUR"].available) == (Money(700, "EUR"), Money(0, "EUR"))
    assert both["EUR"].reason == "owes"
    assert (both["USD"].owes, both["USD"].available) == (Money(700, "USD"), Money(1400, "USD"))
    (payout,) = paid(earnings, ib_id)
    assert (payout.amount, payout.figures["owes_minor"]) == (Money(1400, "USD"), 700)


def test_a_debt_that_cannot_be_converted_stops_the_other_currency(earnings: Earnings) -> None:
    ib_id = earnings.ib()
    deal_id = earnings.earn(ib_id, "2")
    earnings.earn(ib_id, "1")
    pay_in(earnings, ib_id, "BHD")
    earnings.lose(ib_id, deal_id)
    assert found(earnings, ib_id)["USD"].reason == "no_rate"


def test_the_minimum_is_not_asked_of_money_in_a_former_currency(earnings: Earnings) -> None:
    """Nothing is added to it any more: it would never be paid."""
    ib_id = earnings.ib("1")
    earnings.terms(min_payout_minor=1000)
    assert found(earnings, ib_id)["USD"].reason == "below_minimum"
    pay_in(earnings, ib_id, "EUR")
    one = found(earnings, ib_id)["USD"]
    assert (one.reason, one.available, one.minimum) == ("", Money(700, "USD"), Money(0, "USD"))


def test_a_request_leaves_money_in_a_former_currency_to_the_run(earnings: Earnings) -> None:
    ib_id = earnings.ib("1")
    earnings.house.rate("USD", "EUR", "0.9")
    pay_in(earnings, ib_id, "EUR")
    earnings.earn(ib_id, "2")
    payouts.request_payout(earnings.session, ib_id=ib_id, amount=Money(100, "EUR"), destination="wallet", key="k", actor=OTHER)
    assert [one.amount for one in paid(earnings, ib_id)] == [Money(100, "EUR"), Money(700, "USD")]


def test_the_remainder_goes_with_the_ib_into_another_currency(earnings: Earnings) -> None:
    """0.007 USD are left of 7.007; at 0.9 they are 0.0063 EUR of the next settlement."""
    ib_id = earnings.ib("1.001")
    earnings.house.rate("USD", "EUR", "0.9")
    pay_in(earnings, ib_id, "EUR")
    earnings.earn(ib_id, "1")
    first, second = earnings.session.scalars(select(Settlement).where(Settlement.ib_id == ib_id).order_by(Settlement.id))
    assert (first.carried_out, second.carried_in, second.converted) == (Decimal("0.007"), Decimal("0.0063"), Decimal("6.3"))
    assert (second.posted, second.carried_out) == (Money(630, "EUR"), Decimal("0.0063"))

    pay_in(earnings, ib_id, "USD")
    earnings.house.rate("EUR", "USD", "2")
    earnings.earn(ib_id, "1")
    third = earnings.session.scalars(select(Settlement).where(Settlement.id > second.id, Settlement.ib_id == ib_id)).one()
    assert {one.currency: one.carried for one in totals(earnings.session, ib_id)} == {
        "EUR": Decimal(0),
        "USD": third.carried_out,
    }
    assert (third.carried_in, third.posted, third.carried_out) == (Decimal("0.0126"), Money(701, "USD"), Decimal("0.0026"))


def test_a_remainder_without_a_rate_waits_for_one(earnings: Earnings) -> None:
    """It is not lost: the settlement is refused, as one is whose accruals have no rate."""
    house, ib_id = earnings.house, earnings.ib("1.001")
    plan_id = publishing.create_plan(earnings.session, "In euro", "EUR", FINANCE)
    publishing.publish_version(
        earnings.session, plan_id, [{"key": "fx", "component": "per_lot", "rate": "7.00"}], START, FINANCE
    )
    publishing.assign_plan(earnings.session, ib_id, plan_id, NOON + timedelta(days=1), FINANCE)
    pay_in(earnings, ib_id, "EUR")
    deal_id = house.deal(earnings.accounts[ib_id], "1", done_at=NOON + timedelta(days=2))
    accrue_deals(earnings.session, [deal_id])
    with pytest.raises(SettlementIncomplete) as refused:
        earnings.settle()
    assert refused.value.data["failed"] == [(ib_id, "EUR", "fx.no_rate")]
    house.rate("USD", "EUR", "0.9")
    earnings.settle()
    assert found(earnings, ib_id)["EUR"].balance == Money(700, "EUR")
    newest = earnings.session.scalars(
        select(Settlement).where(Settlement.ib_id == ib_id).order_by(Settlement.id.desc())
    ).first()
    assert newest is not None
    assert newest.carried_out == Decimal("0.0063")


def test_a_statement_adds_up_although_the_currency_went_away_and_came_back(earnings: Earnings) -> None:
    ib_id = earnings.ib("1.001")
    earnings.house.rate("USD", "EUR", "0.9")
    pay_in(earnings, ib_id, "EUR")
    earnings.earn(ib_id, "1.002")
    pay_in(earnings, ib_id, "USD")
    earnings.earn(ib_id, "1.003")
    for payout in paid(earnings, ib_id):
        told = dict(payout_statements.document(earnings.session, payout.id).content)
        settled: dict[str, Any] = told["settled"]
        converted = sum(Decimal(one["converted"]) for one in settled["sums"])
        posted = Money(settled["posted"]["amount_minor"], told["currency"]).decimal
        assert Decimal(settled["carried_in"]) + converted == posted + Decimal(settled["carried_out"])
        assert told["closing"]["amount_minor"] == 0
    assert earnings.breaks() == []


@pytest.mark.parametrize(
    ("currency", "rate", "paid_minor"), [("JPY", "150.123", 1050), ("BHD", "0.376", 2632), ("KWD", "0.3071", 2149)]
)
def test_currencies_without_and_with_three_decimals(earnings: Earnings, currency: str, rate: str, paid_minor: int) -> None:
    """7 USD are 1,050.861 yen: 1,050 are paid and 0.861 carried; in dinars 2.632."""
    ib_id = earnings.ib()
    earnings.house.rate("USD", currency, rate)
    pay_in(earnings, ib_id, currency)
    earnings.terms(min_payout_minor=100)
    earnings.earn(ib_id, "1")
    one = found(earnings, ib_id)[currency]
    assert (one.available, one.reason) == (Money(paid_minor, currency), "")
    (payout,) = paid(earnings, ib_id)
    assert payout.amount == Money(paid_minor, currency)
    wallet = queries.balance(earnings.session, chart.client_wallet(earnings.client_of(ib_id), currency))
    assert wallet.posted == Money(paid_minor, currency)
    assert earnings.breaks() == []


def test_hold_days_are_whole_days_wherever_the_database_stands(earnings: Earnings) -> None:
    """On the 29th of March the clocks of Nicosia go forward: seven of its days are an hour less than 168."""
    ib_id = earnings.ib("1")
    earnings.terms(hold_days=7)
    settled_at = now().replace(year=2026, month=3, day=25, hour=12, minute=0, second=0, microsecond=0)
    settled(earnings.session, settled_at)
    earnings.house.save()
    earnings.session.execute(text("SET LOCAL TIME ZONE 'Asia/Nicosia'"))
    exactly = settled_at + timedelta(days=7)
    (before,) = payables.payables(earnings.session, exactly, [ib_id])
    (after,) = payables.payables(earnings.session, exactly + timedelta(microseconds=1), [ib_id])
    assert (before.in_hold, after.in_hold) == (Money(700, "USD"), Money(0, "USD"))


def test_what_is_owed_and_paid_adds_up_in_each_currency(earnings: Earnings) -> None:
    """Settled in all = on the account + paid, whatever was converted, held, paid and taken back."""
    ib_id = earnings.ib("1.001")
    earnings.house.rate("USD", "JPY", "150.123")
    pay_in(earnings, ib_id, "JPY")
    earnings.earn(ib_id, "2")
    paid(earnings, ib_id)
    earnings.earn(ib_id, "3")
    settle_all(earnings.session, now() + timedelta(days=1))
    mine = {one.currency: one for one in payout_figures.figures(earnings.session, ib_id)}
    told = {one.currency: one for one in totals(earnings.session, ib_id)}
    for currency in ("USD", "JPY"):
        assert told[currency].settled == mine[currency].settled + mine[currency].paid
        assert told[currency].paid == mine[currency].paid
