"""The chart of accounts: codes, kinds and signs."""

from __future__ import annotations

import pytest

from app.core.money import InvalidMoney
from app.ledger import chart

CHART = {
    "client:7:wallet:USD": (chart.client_wallet(7, "USD"), "liability", False, 7),
    "client:7:bonus:USD": (chart.client_bonus(7, "USD"), "liability", False, 7),
    "client:7:receivable:USD": (chart.client_receivable(7, "USD"), "asset", False, 7),
    "ib:3:commission:EUR": (chart.ib_commission(3, "EUR", client_id=7), "liability", False, 7),
    "mt:demo-1:100234:balance:USC": (chart.mt_balance("demo-1", 100234, "USC", client_id=7), "liability", True, 7),
    "income:trading:demo-1:USD": (chart.mt_trading_counter("demo-1", "USD"), "income", True, None),
    "psp:stripe:clearing:USD": (chart.psp_clearing("stripe", "USD"), "asset", True, None),
    "psp:stripe:payouts:USD": (chart.psp_payouts("stripe", "USD"), "liability", False, None),
    "expense:psp_fees:stripe:USD": (chart.psp_fees("stripe", "USD"), "expense", True, None),
    "bank:first:client_money:EUR": (chart.bank_client_money("first", "EUR"), "asset", True, None),
    "bank:first:own_money:EUR": (chart.bank_own_money("first", "EUR"), "asset", True, None),
    "fx:position:JPY": (chart.fx_position("JPY"), "equity", True, None),
    "income:fx_spread:USD": (chart.fx_spread("USD"), "income", True, None),
    "fx:revaluation:USD": (chart.fx_revaluation("USD"), "equity", True, None),
    "income:fx_result:USD": (chart.fx_result("USD"), "income", True, None),
    "income:fees:USD": (chart.fees("USD"), "income", True, None),
    "expense:commission:USD": (chart.commission_expense("USD"), "expense", True, None),
    "expense:bonus:USD": (chart.bonus_expense("USD"), "expense", True, None),
    "expense:negative_balance:USD": (chart.negative_balance_expense("USD"), "expense", True, None),
    "suspense:first:USD": (chart.suspense("first", "USD"), "liability", True, None),
    "migration:opening:BTC": (chart.migration_opening("BTC"), "equity", True, None),
}


@pytest.mark.parametrize("code", CHART)
def test_accounts(code):
    spec, kind, may_go_negative, client_id = CHART[code]
    assert str(spec) == spec.code == code
    assert (spec.kind, spec.may_go_negative, spec.client_id) == (kind, may_go_negative, client_id)
    assert code.endswith(":" + spec.currency)


@pytest.mark.parametrize("name", ["", "a:b", "a b", "-a", "ünïcode", "a" * 41, "a\n", "wallet:USD"])
def test_names_that_would_break_a_code(name):
    with pytest.raises(ValueError, match="account code"):
        chart.psp_clearing(name, "USD")


@pytest.mark.parametrize("currency", ["usd", "XYZ", "", "US:D"])
def test_currencies_nobody_knows(currency):
    with pytest.raises(InvalidMoney):
        chart.client_wallet(1, currency)
