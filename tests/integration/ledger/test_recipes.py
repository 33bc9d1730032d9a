"""The recipes of docs/ledger.md are carried out, table by table, and the page's balances compared with the ledger's."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from app.core.money import Money
from app.ledger import chart, queries
from app.ledger.posting import credit, debit

PAGE = Path(__file__).parents[3] / "docs" / "ledger.md"
SPECS = [
    chart.psp_clearing("stripe", "USD"),
    chart.psp_payouts("stripe", "USD"),
    chart.psp_fees("stripe", "USD"),
    chart.bank_client_money("first", "USD"),
    chart.bank_own_money("first", "USD"),
    chart.migration_opening("USD"),
    chart.client_wallet(7, "USD"),
    chart.client_wallet(7, "EUR"),
    chart.client_wallet(21, "USD"),
    chart.client_receivable(7, "USD"),
    chart.client_bonus(7, "USD"),
    chart.fx_position("USD"),
    chart.fx_position("EUR"),
    chart.fx_position("USC"),
    chart.fx_spread("USD"),
    chart.mt_balance("demo", 100234, "USD", client_id=7),
    chart.mt_balance("demo", 100777, "USC", client_id=7),
    chart.mt_trading_counter("demo", "USD"),
    chart.negative_balance_expense("USD"),
    chart.bonus_expense("USD"),
    chart.suspense("mt-demo", "USD"),
    chart.commission_expense("USD"),
    chart.ib_commission(3, "USD"),
]


def _tables() -> list[list[list[str]]]:
    """The rows of each table with legs, as lists of cells."""
    found = re.findall(
        r"\| account \| debit \| credit \| before \| after \|\n\|[-|]+\|\n((?:\|.*\|\n)+)", PAGE.read_text("utf-8")
    )
    return [[[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()] for table in found]


def _money(text: str, code: str) -> Money:
    return Money.parse(text.replace(",", ""), code.rsplit(":", 1)[1])


def test_the_recipes(book):
    book.open(*SPECS)
    tables = _tables()
    assert len(tables) == 26
    for rows in tables:
        for code, _, _, before, _ in rows:
            assert queries.balance(book.session, code).posted == _money(before, code), code
        book.post(*((debit(code, _money(d, code)) if d else credit(code, _money(c, code))) for code, d, c, _, _ in rows))
        for code, *_, after in rows:
            assert queries.balance(book.session, code).posted == _money(after, code), code
    assert book.broken_proofs() == []


def test_the_page_lists_the_whole_chart():
    functions = {
        name
        for name, function in inspect.getmembers(chart, inspect.isfunction)
        if function.__module__ == chart.__name__ and inspect.signature(function).return_annotation == "AccountSpec"
    } - {"_account"}
    listed = dict(re.findall(r"^\| `(\w+)` \| \S+ \| (\w+) \|", PAGE.read_text("utf-8"), flags=re.MULTILINE))
    assert set(listed) == functions
