"""The money desk as finance people use it: the tree, accounts, transactions, entries, their links, files and refusals."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from html import unescape
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest
from flask import url_for
from sqlalchemy import func, select

from app.core.actor import Actor
from app.core.clock import now
from app.core.money import Money
from app.core.uow import unit_of_work
from app.ledger import chart, holds, posting, rates, sources
from app.models.ledger import Account, Transaction
from app.models.payments import Deposit, Withdrawal
from app.views import ledger_links
from tests.integration.views.conftest import LIBRARY_WARNINGS, TWO_RIGHTS, Browser, Office

pytestmark = LIBRARY_WARNINGS

PAGES = {
    "chart": "/chart-of-accounts/",
    "accounts": "/ledgeraccountview/list/",
    "transactions": "/ledgertransactionview/list/",
    "entries": "/ledgerentryview/list/",
}
ACTOR = Actor.system("deposits")
MAY = datetime(2026, 5, 4, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def finance(office) -> Browser:
    return office.browser("Finance officer")


@pytest.fixture(scope="module")
def books(office: Office):
    """A deposit with its row, a fee, a reversal, a conversion, many small movements, an old rate and a currency without one."""
    session = office.session()
    client = office.client_id
    wallet, clearing, krone = (
        chart.client_wallet(client, "USD"),
        chart.psp_clearing("desk", "USD"),
        chart.client_wallet(client, "NOK"),
    )
    ether, exchange = chart.client_wallet(client, "ETH"), chart.psp_clearing("coins", "ETH")
    positions = chart.fx_position("USD"), chart.fx_position("NOK")
    fees, revenue = chart.psp_fees("desk", "USD"), chart.fees("NOK")

    def post(key: str, kind: str, *legs: posting.Leg, at: datetime = MAY, **more: object) -> UUID:
        return posting.post(session, key=key, kind=kind, effective_at=at, actor=ACTOR, legs=legs, **more)

    def usd(amount: str) -> Money:
        return Money.parse(amount, "USD")

    with unit_of_work(session, ACTOR):
        chart.open_accounts(session, wallet, clearing, krone, ether, exchange, *positions, fees, revenue)
        deposited = post(
            "deposit:desk:1", "deposit", posting.debit(clearing, usd("250.00")), posting.credit(wallet, usd("250.00"))
        )
        deposit = Deposit(
            public_id=uuid4(),
            client_id=client,
            connector="desk",
            amount_minor=25_000,
            settled_minor=25_000,
            currency="USD",
            state="settled",
            idempotency_key="desk",
            settled_at=now(),
            ledger_txn_id=deposited,
        )
        session.add(deposit)
        session.flush()
        deposit_id = deposit.id
        converted = post(
            "conversion:desk",
            "conversion",
            posting.debit(wallet, usd("100.00")),
            posting.credit(positions[0], usd("100.00")),
            posting.debit(positions[1], Money(9_260, "NOK")),
            posting.credit(krone, Money(9_260, "NOK")),
        )
        fee = post(
            "fee:desk",
            "house_fee",
            posting.debit(krone, Money(300, "NOK")),
            posting.credit(revenue, Money(300, "NOK")),
            at=MAY + timedelta(days=1),
            metadata={
                "reason": "=HYPERLINK(1)",
                "rates": [
                    {"source": "ecb", "rate": "1.0875", "observed_at": "2026-05-03T14:15:00+00:00"},
                    {"a": ["2026-02-30T25:00", 1, None]},
                ],
            },
        )
        reversal = posting.reverse(
            session, fee, key="fee:desk:back", actor=Actor.staff(1, ""), at=MAY + timedelta(days=2), reason="ours"
        )
        coins = Money(12_345_678, "ETH")
        post("deposit:desk:eth", "deposit", posting.debit(exchange, coins), posting.credit(ether, coins))
        for number in range(60):
            one = usd("0.01")
            post(
                f"small:{number:02}",
                "psp_fee",
                posting.debit(fees, one),
                posting.credit(clearing, one),
                at=MAY + timedelta(hours=number),
            )
        rates.record(session, [rates.Observation("ecb", "NOK", "USD", one, at) for one, at in _krone_rates()])
    session.close()
    return SimpleNamespace(
        wallet=wallet.code,
        clearing=clearing.code,
        deposit_id=deposit_id,
        deposited=deposited,
        fee=fee,
        reversal=reversal,
        converted=converted,
    )


def _krone_rates() -> list[tuple[Decimal, datetime]]:
    """One of the day before the movements, one of now."""
    return [(Decimal("1.25"), datetime(2026, 5, 3, tzinfo=UTC)), (Decimal("1.1"), now() - timedelta(hours=2))]


def text_of(page: str) -> str:
    """What a reader sees, in one line."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


def table(answer) -> list[dict[str, str]]:
    """A downloaded table."""
    assert answer.status_code == 200
    assert answer.mimetype == "text/csv"
    assert answer.headers["Content-Disposition"].startswith("attachment; filename=")
    return list(csv.DictReader(io.StringIO(answer.text.removeprefix("\ufeff"))))


# Who may read


@pytest.mark.parametrize("role", ["Finance officer", "Compliance officer", "Admin"])
def test_finance_and_compliance_read_every_page(office, books, role):
    browser = office.browser(role)
    show = f"/ledgertransactionview/show/{books.deposited}", f"/ledgeraccountview/show/{books.wallet}"
    assert {path: browser.get(path).status_code for path in (*PAGES.values(), *show)} == dict.fromkeys(
        (*PAGES.values(), *show), 200
    )


@pytest.mark.parametrize("role", ["KYC reviewer", "Operator", TWO_RIGHTS[0]])
def test_others_see_nothing_of_it_and_no_files(office, books, role):
    browser = office.browser(role)
    for path in (*PAGES.values(), f"/ledgeraccountview/show/{books.wallet}", "/chart-of-accounts/client_wallets"):
        for address in (path, f"{path}?export=csv"):
            assert browser.get(address).status_code in (302, 403)


def test_nothing_in_the_desk_takes_a_post(office, finance):
    token = finance.token("/")
    for path in PAGES.values():
        assert finance.http.post(path, data={"csrf_token": token}).status_code in (404, 405)


def test_those_who_may_not_ask_for_corrections_see_no_button(office, books):
    page = office.browser("Compliance officer").get(f"/ledgertransactionview/show/{books.deposited}").text
    assert "Request reversal" not in page
    assert "Request adjustment" not in page


# The tree


def test_the_tree_sums_up_every_account_and_balances(finance, books):
    page = text_of(finance.get(PAGES["chart"]).text)
    for words in (
        "Assets",
        "PSP clearing",
        "desk",
        "Client wallets",
        "FX position",
        "PSP fees",
        "0.12345678 ETH",
        "92.60 NOK",
    ):
        assert words in page
    assert "differ" not in page
    assert page.count("equal") >= 3


def test_the_tree_values_in_the_reporting_currency_and_never_counts_a_missing_rate_as_zero(finance, books):
    page = finance.get(PAGES["chart"]).text
    assert "and 0.12345678 ETH: no rate" in page
    assert "No rate known: not in the sums" in page
    rows = {(row["Group"], row["Name"], row["Currency"]): row for row in table(finance.get(PAGES["chart"] + "?export=csv"))}
    krone = rows["Client wallets", "", "NOK"]
    shown = [krone[name] for name in ("Balance", "Value", "Rate", "Source", "Reporting currency")]
    assert shown == ["92.60", "101.86", "1.1", "ecb", "USD"]
    coins = rows["Client wallets", "", "ETH"]
    assert (coins["Balance"], coins["Value"], coins["Rate"]) == ("0.12345678", "", "")


def test_the_tree_of_a_day_has_the_balances_and_rates_of_that_day(finance, books):
    def krone(day: str) -> str:
        rows = table(finance.get(f"{PAGES['chart']}?at={day}&export=csv"))
        return next((row["Value"] for row in rows if row["Group"] == "Client wallets" and row["Currency"] == "NOK"), "")

    assert krone("2026-05-03") == "0"
    assert krone("2026-05-04") == "115.75"

    def fees(day: str) -> list[str]:
        rows = table(finance.get(f"{PAGES['chart']}?at={day}&export=csv"))
        return [row["Balance"] for row in rows if (row["Group"], row["Currency"]) == ("Fees from clients", "NOK")]

    fees_by_day = {day: fees(day) for day in ("2026-05-04", "2026-05-05", "2026-05-06")}
    assert fees_by_day == {"2026-05-04": ["0.00"], "2026-05-05": ["3.00"], "2026-05-06": ["0.00"]}
    assert "2026-05-04, UTC" in finance.get(f"{PAGES['chart']}?at=2026-05-04").text


def test_values_are_rounded_for_readers_and_whole_in_files(finance, office, books):
    with unit_of_work(session := office.session(), ACTOR):
        wallet, clearing = chart.client_wallet(office.client_id, "ISK"), chart.psp_clearing("isk", "ISK")
        chart.open_accounts(session, wallet, clearing)
        legs = [posting.debit(clearing, Money(1_000, "ISK")), posting.credit(wallet, Money(1_000, "ISK"))]
        posting.post(session, key="isk", kind="house_fee", effective_at=now(), actor=ACTOR, legs=legs)
        rates.record(session, [rates.Observation("ecb", "USD", "ISK", Decimal(13), now() - timedelta(hours=1))])
    session.close()
    page = text_of(finance.get("/chart-of-accounts/psp_clearing:isk").text)
    assert "76.92 USD" in page
    assert "ISK 0.07692307692 ecb" in page
    [row] = table(finance.get("/chart-of-accounts/psp_clearing:isk?export=csv"))
    assert row["Value"].startswith("76.92307692307692")


def test_an_old_rate_is_marked(finance, books):
    page = finance.get(f"{PAGES['chart']}?at=2026-09-30").text
    assert "old rate" in page
    assert "Old rate" in page


@pytest.mark.parametrize(
    "day", ["2999-01-01", "1800-01-01", "yesterday", "2026-02-30", "9" * 40, "2026-05-04T00:00", "'; --", "%00"]
)
@pytest.mark.parametrize("path", [PAGES["chart"], "/chart-of-accounts/client_wallets"])
@pytest.mark.parametrize("more", ["", "&export=csv"])
def test_days_that_are_none_are_refused_in_words(finance, books, path, day, more):
    answer = finance.get(f"{path}?at={day}{more}")
    assert answer.status_code == 422
    assert any(words in answer.text for words in ("Please give a day", "has not come yet", "characters"))


def test_a_group_opens_in_place_and_as_a_page(finance, books):
    part = finance.http.get("/chart-of-accounts/client_wallets", headers={"HX-Request": "true"})
    assert "<html" not in part.text
    assert books.wallet in part.text
    page = finance.get("/chart-of-accounts/psp_clearing:desk").text
    assert "<html" in page
    assert "Assets / PSP clearing / desk" in text_of(page)
    assert "psp:coins" not in page


def test_a_group_is_searched_by_code_and_name(finance, books):
    assert books.wallet in finance.get("/chart-of-accounts/client_wallets?q=elena+ros").text
    assert "No accounts found" in finance.get("/chart-of-accounts/client_wallets?q=100%25").text
    assert table(finance.get("/chart-of-accounts/client_wallets?q=wallet:NOK&export=csv"))[0]["Client"] == "Elena Rossi"


@pytest.mark.parametrize("key", ["nothing", "other_x", "1", "client_wallets:x", "9" * 400, "%00", "asset:x"])
def test_groups_that_are_none_are_not_found(finance, key):
    assert finance.get(f"/chart-of-accounts/{key}").status_code == 404


# Accounts


def test_accounts_are_filtered(finance, office, books):
    def codes(query: str) -> list[str]:
        return [row["Account"] for row in table(finance.get(f"{PAGES['accounts']}?{query}&export=csv"))]

    assert books.wallet in codes("code=wallet")
    assert "psp:desk:clearing:USD" not in codes("code=wallet")
    assert set(codes("currency=eth")) == {f"client:{office.client_id}:wallet:ETH", "psp:coins:clearing:ETH"}
    assert "expense:psp_fees:desk:USD" in codes("kind=expense")
    assert books.wallet not in codes("kind=expense")
    assert len(codes(f"client={office.client_id}")) >= 3
    both = [codes(f"client={office.client_id}&closed={closed}") for closed in ("yes", "no")]
    assert sorted(both[0] + both[1]) == sorted(codes(f"client={office.client_id}"))
    assert codes("closed=yes&code=psp:desk") == []
    assert codes("code=%25") == []
    assert "No accounts found" in finance.get(f"{PAGES['accounts']}?code=nothing-like-it").text


def test_an_account_shows_figures_entries_and_whose_it_is(finance, office, books):
    withdrawal_id = office.withdrawal(1_234)
    page = finance.get(f"/ledgeraccountview/show/{books.wallet}").text
    words = text_of(page)
    for expected in (
        "Balance",
        "Held",
        "Available",
        "12.34 USD",
        f"Withdrawal {withdrawal_id}",
        "Elena Rossi",
        "Deposit",
        "Conversion",
    ):
        assert expected in words
    assert f"/clientview/show/{office.client_id}" in page
    assert f"/withdrawalview/show/{withdrawal_id}" in page
    with office.session() as session:
        key = session.scalars(select(Account.id).where(Account.code == books.wallet)).one()
        hold_id = session.get(Withdrawal, withdrawal_id).hold_id
        with unit_of_work(session, ACTOR):
            holds.release_hold(session, hold_id, actor=ACTOR)
    assert f"Withdrawal {withdrawal_id}" not in finance.get(f"/ledgeraccountview/show/{key}").text


def test_a_connectors_account_leads_to_its_payments(finance, books):
    page = finance.get(f"/ledgeraccountview/show/{books.clearing}").text
    assert "_flt_3_connector=desk" in page
    listed = finance.get("/depositview/list/?_flt_3_connector=desk").text
    assert "250.00 USD" in listed
    assert "250.00 USD" not in finance.get("/depositview/list/?_flt_3_connector=other").text


def walk(browser: Browser, path: str, pattern: str) -> list[str]:
    """What the pattern finds on all pages of a list, following the link to the next one."""
    found: list[str] = []
    for _ in range(40):
        page = browser.get(path).text
        found += re.findall(pattern, page)
        following = re.search(r'href="([^"]+)" rel="next"', page)
        if following is None:
            return found
        path = unescape(following.group(1))
    raise AssertionError("the list does not end")


@pytest.mark.parametrize("query", ["", "?from=2026-05-01", "?from=2026-05-01&to=2026-12-31"])
def test_entries_of_an_account_by_pages_lack_none_and_repeat_none(finance, office, books, query):
    shown = walk(finance, f"/ledgeraccountview/show/{books.clearing}{query}", r"/ledgertransactionview/show/([0-9a-f-]{36})")
    with office.session() as session:
        account = session.scalars(select(Account).where(Account.code == books.clearing)).one()
        assert len(shown) == len(set(shown)) == account.version == 61


def test_a_range_of_days_has_opening_and_closing_balance_and_balances_that_follow(finance, books):
    rows = table(finance.get(f"/ledgeraccountview/show/{books.clearing}?from=2026-05-05&to=2026-05-06&export=csv"))
    first, *between, last = rows
    assert (first["Kind"], last["Kind"]) == ("Opening balance", "Closing balance")
    assert (first["Balance"], last["Balance"]) == ("249.88", "249.40")
    assert len(between) == 48
    assert [row["Balance"] for row in between] == [f"{249.87 - number / 100:.2f}" for number in range(48)]
    page = text_of(finance.get(f"/ledgeraccountview/show/{books.clearing}?from=2026-05-05&to=2026-05-06").text)
    assert "Before 2026-05-05 249.88 USD" in page
    assert "By the end of 2026-05-06 249.40 USD" in page
    assert "4 May 2026" not in page
    assert table(finance.get(f"/ledgeraccountview/show/{books.clearing}?to=2020-01-01&export=csv"))[1]["Balance"] == "0.00"


@pytest.mark.parametrize("key", ["0", "999999999", "9" * 30, "nobody:USD", "-1", "1.5", "%00", "١", "client:1:wallet:USD%00"])
def test_accounts_that_are_none_are_not_found(finance, key):
    assert finance.get(f"/ledgeraccountview/show/{key}").status_code == 404


# Transactions


def test_a_transaction_says_what_moved_and_why(finance, books):
    page = finance.get(f"/ledgertransactionview/show/{books.deposited}").text
    words = text_of(page)
    for expected in ("Deposit", "250.00 USD", "System: deposits", "balanced", "deposit:desk:1", f"Deposit {books.deposit_id}"):
        assert expected in words
    assert f'href="/depositview/show/{books.deposit_id}"' in page
    assert f'href="/ledgeraccountview/show/{books.wallet}"' in page


def test_every_row_that_can_cause_a_transaction_has_a_page(office):
    views = {view.endpoint: view for view in office.app.appbuilder.baseviews}
    for subject in {rows.subject for rows in sources.all_rows()} | set(ledger_links.PAGES):
        endpoint, permission, _ = ledger_links.PAGES[subject]
        assert views[endpoint].class_permission_name == permission
        with office.app.test_request_context():
            assert url_for(f"{endpoint}.show", pk=1)


def test_the_row_that_caused_it_leads_back(finance, books):
    assert f"/ledgertransactionview/show/{books.deposited}" in finance.get(f"/depositview/show/{books.deposit_id}").text


def test_a_reversal_and_its_original_lead_to_each_other(finance, books):
    original = finance.get(f"/ledgertransactionview/show/{books.fee}").text
    assert f"/ledgertransactionview/show/{books.reversal}" in original
    assert "Reversed" in original
    assert f"/ledgertransactionview/show/{books.fee}" in finance.get(f"/ledgertransactionview/show/{books.reversal}").text


def test_currencies_of_a_transaction_are_totalled_apart(finance, books):
    words = text_of(finance.get(f"/ledgertransactionview/show/{books.converted}").text)
    assert "Total USD 100.00 USD 100.00 USD balanced" in words
    assert "Total NOK 92.60 NOK 92.60 NOK balanced" in words


def test_details_read_as_words_and_are_escaped(finance, books):
    words = text_of(finance.get(f"/ledgertransactionview/show/{books.fee}").text)
    assert "House fee" in words  # a kind that nobody named
    assert "Rates Rate: 1.0875 · Source: ecb · Observed: 3 May 2026, 14:15 UTC A: 2026-02-30T25:00 1 —" in words
    assert "Reverses a House fee" in text_of(finance.get(f"/ledgertransactionview/show/{books.reversal}").text)


@pytest.mark.parametrize("key", ["1", "abc", "9" * 50, "00000000-0000-0000-0000-000000000000", "%00"])
def test_transactions_that_are_none_are_not_found(finance, key):
    assert finance.get(f"/ledgertransactionview/show/{key}").status_code == 404


def test_transactions_are_filtered(finance, books):
    def keys(query: str) -> set[str]:
        return {row["Key"] for row in table(finance.get(f"{PAGES['transactions']}?{query}&export=csv"))}

    today, tomorrow = (date.fromordinal(now().date().toordinal() + days).isoformat() for days in (0, 1))
    assert keys("kind=deposit&key=:desk:") == {"deposit:desk:1", "deposit:desk:eth"}
    assert keys("key=DESK:E") == {"deposit:desk:eth"}
    assert keys("currency=ETH") == {"deposit:desk:eth"}
    assert keys("currency=usd&least=250&most=250.00&key=desk") == {"deposit:desk:1"}
    assert "fee:desk:back" in keys("actor=staff:1")
    assert "small:00" in keys("actor=deposits")
    assert keys("actor=client+77") == set()
    assert "deposit:desk:1" in keys(f"from={today}")
    assert keys(f"from={tomorrow}") == keys("to=2026-01-01") == set()
    assert keys(f"kind=deposit&key=:desk:&from={today}&to={today}") == {"deposit:desk:1", "deposit:desk:eth"}


@pytest.mark.parametrize("name", ["transactions", "entries"])
def test_lists_by_pages_lack_none_and_repeat_none(finance, office, books, name):
    query = "kind=psp_fee" if name == "transactions" else f"kind=psp_fee&code={books.clearing}"
    shown = walk(finance, f"{PAGES[name]}?{query}", r"/ledgertransactionview/show/([0-9a-f-]{36})")
    assert len(shown) == len(set(shown)) == 60
    everything = walk(finance, PAGES[name], r"/ledgertransactionview/show/([0-9a-f-]{36})")
    with office.session() as session:
        assert set(everything) == {str(key) for key in session.scalars(select(Transaction.id))}


def test_accounts_by_pages(finance, office, books):
    with unit_of_work(session := office.session(), ACTOR):
        chart.open_accounts(session, *(chart.client_bonus(number, "JPY") for number in range(1, 121)))
    session.close()
    shown = walk(finance, f"{PAGES['accounts']}?currency=JPY", r'/ledgeraccountview/show/(client:\d+:bonus:JPY)"')
    assert len(shown) == len(set(shown)) == 120
    assert len(walk(finance, "/chart-of-accounts/client_bonuses", r'/ledgeraccountview/show/(client:\d+:bonus:JPY)"')) == 120


# Entries


def test_every_entry_leads_to_its_transaction_and_account(finance, books):
    page = finance.get(f"{PAGES['entries']}?currency=NOK").text
    assert page.count(f"/ledgertransactionview/show/{books.converted}") == 2
    assert 'href="/ledgeraccountview/show/fx:position:NOK"' in page
    rows = table(finance.get(f"{PAGES['entries']}?currency=NOK&kind=conversion&export=csv"))
    assert {(row["Account"].split(":")[-2], row["Debit"], row["Credit"], row["Balance after"]) for row in rows} == {
        ("position", "92.60", "", "-92.60"),
        ("wallet", "", "92.60", "92.60"),
    }


@pytest.mark.parametrize(
    "path", [*PAGES.values(), "/ledgeraccountview/show/psp:desk:clearing:USD", "/chart-of-accounts/client_wallets"]
)
def test_long_files_are_whole(finance, books, monkeypatch, path):
    whole = finance.get(f"{path}?export=csv").text
    monkeypatch.setattr("app.views.ledger_files.CHUNK", 2)
    monkeypatch.setattr("app.surfaces.csv_files._ROWS_AT_ONCE", 3)
    assert finance.get(f"{path}?export=csv").text == whole


def test_files_are_safe_to_open_in_a_spreadsheet(finance, office):
    with unit_of_work(session := office.session(), ACTOR):
        bank, equity = chart.bank_own_money("test", "USD"), chart.migration_opening("USD")
        chart.open_accounts(session, bank, equity)
        legs = [posting.debit(bank, Money(1, "USD")), posting.credit(equity, Money(1, "USD"))]
        posting.post(session, key="=1+1", kind="migration_opening", effective_at=now(), actor=ACTOR, legs=legs)
    session.close()
    keys = [row["Key"] for row in table(finance.get(f"{PAGES['transactions']}?key=%3D1&export=csv"))]
    assert keys == ["'=1+1"]


# What is typed into addresses

STRANGE = (
    "9" * 30,
    "-1",
    "1e9",
    "NaN",
    "[]",
    "%00",
    "x" * 500,
    "' OR 1=1 --",
    "\u202e",
    "<script>alert(1)</script>",
    "2026-13-45",
    "١٢",
)
NAMES = {
    "chart": ("at",),
    "accounts": ("code", "kind", "currency", "client", "closed", "after"),
    "transactions": ("kind", "key", "actor", "from", "to", "currency", "least", "most", "before"),
    "entries": ("code", "kind", "currency", "from", "to", "before", "account"),
}


@pytest.mark.parametrize(("page", "name"), [(page, name) for page, names in NAMES.items() for name in names])
def test_strange_filters_never_break_a_page(finance, books, page, name):
    for value in STRANGE:
        for more in ("", "&currency=USD", "&export=csv"):
            answer = finance.http.get(f"{PAGES[page]}?{name}={value}{more}")
            assert answer.status_code in (200, 422), (name, value)
            assert "<script>alert" not in answer.text
            assert answer.status_code == 200 or 'role="alert"' in answer.text


@pytest.mark.parametrize("name", ["from", "to", "before"])
def test_strange_filters_never_break_the_page_of_an_account(finance, books, name):
    for value in STRANGE:
        assert finance.get(f"/ledgeraccountview/show/{books.wallet}?{name}={value}").status_code in (200, 422)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("from=2026-05-05&to=2026-05-04", "The last day lies before the first."),
        ("least=5", "An amount needs a currency."),
        ("least=5.001&currency=USD", "USD has 2 decimals at most."),
        ("currency=QQQ", "Unknown currency QQQ."),
        ("actor=Nobody:+x", ""),
        ("before=abc", "This link is damaged."),
    ],
)
def test_a_refused_filter_keeps_what_was_typed_and_says_why(finance, query, words):
    answer = finance.get(f"{PAGES['transactions']}?{query}")
    assert answer.status_code == (422 if words else 200)
    assert words in answer.text
    name, value = query.split("&")[0].split("=")
    assert name == "before" or f'value="{value.replace("+", " ")}"' in answer.text


def test_a_search_that_takes_too_long_asks_to_narrow_it(finance, monkeypatch):
    monkeypatch.setattr("app.ledger.search.LONGEST_SEARCH_S", 1)
    monkeypatch.setattr("app.views.ledger.search.transactions", slow_query)
    answer = finance.get(PAGES["transactions"])
    assert answer.status_code == 422
    assert "takes too long" in answer.text


def slow_query(*_args, **_more):
    return select(Transaction).where(func.pg_sleep(20).is_not(None))
