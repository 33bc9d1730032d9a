"""Exchange rates in the back office: what counts now, spreads and sources, manual rates with four eyes, positions, quotes."""

from __future__ import annotations

import csv
import io
import re
from datetime import timedelta
from decimal import Decimal
from html import unescape
from types import SimpleNamespace

import pytest
from sqlalchemy import func, select, update

from app.core.clock import now
from app.core.uow import unit_of_work
from app.ledger import proposals, rates, revaluation
from app.models.fx import FXPair, FXQuote, FXRate, FXRateProposal, FXSource
from tests.integration.ledger.market import ACTOR, a_client, a_quote, a_rate, a_spread, convert
from tests.integration.views.conftest import LIBRARY_WARNINGS, Browser, Office, an_office

pytestmark = LIBRARY_WARNINGS

RATES = "/exchange-rates/"
PROPOSE = "/exchange-rates/propose"
READERS = ("Finance officer", "Compliance officer", "Admin")
PAGES = (
    RATES,
    "/exchange-rates/all",
    "/exchange-rates/proposals",
    "/exchange-rates/spreads/list/",
    "/exchange-rates/sources/list/",
    "/fx-positions/",
    "/conversions/",
)


@pytest.fixture(scope="module")
def office(template, tmp_path_factory):
    """An office of its own: rates are everybody's, and other tests count by theirs."""
    with an_office(template, tmp_path_factory.mktemp("market"), 100) as made:
        yield made


@pytest.fixture(scope="module", autouse=True)
def market(office: Office):
    """Three conversions at 1.25, an offer that is open and one that has expired; then the euro falls to 1.20."""
    with office.session() as session:
        a_rate(session, "EUR/USD", "1.25")
        a_rate(session, "EUR/JPY", "160")
        a_rate(session, "EUR/SEK", "11.5", at=now() - timedelta(days=8))
        a_spread(session, "EUR/USD", 0)
        a_spread(session, "JPY/USD", 30)
        a_spread(session, "USD/XAF", 30)
        client = a_client(session, "1000.00 USD")
        done = convert(session, client, "100.00 USD", "EUR")
        expired, waiting = a_quote(session, client, "7.00 USD", "EUR"), a_quote(session, client, "100.00 USD", "JPY")
        session.execute(update(FXQuote).where(FXQuote.id == expired.id).values(expires_at=now() - timedelta(days=1)))
        session.execute(update(FXQuote).where(FXQuote.id == waiting.id).values(expires_at=now() + timedelta(days=1)))
        session.commit()
        a_rate(session, "EUR/USD", "1.20", at=now())
        return SimpleNamespace(client=client, done=done, expired=expired.id, waiting=waiting.id)


@pytest.fixture(scope="module")
def finance(office) -> Browser:
    return office.browser("Finance officer")


@pytest.fixture(scope="module")
def admin(office) -> Browser:
    return office.browser("Admin")


def text_of(page: str) -> str:
    """What a reader sees, in one line."""
    return " ".join(
        unescape(re.sub(r"<[^>]+>", " ", re.sub(r"<(script|datalist).*?</\1>", " ", page, flags=re.DOTALL))).split()
    )


def row_of(page: str, first: str) -> str:
    """The table row that begins with this, as a reader sees it."""
    rows = [text_of(row) for row in re.findall(r"<tr\b.*?</tr>", page, flags=re.DOTALL)]
    found = [row for row in rows if row.startswith(first)]
    assert found, f"no row {first} among {rows}"
    return found[0]


def file_of(answer) -> list[dict[str, str]]:
    assert answer.status_code == 200
    assert answer.mimetype == "text/csv"
    return list(csv.DictReader(io.StringIO(answer.text.removeprefix("\ufeff"))))


def error_of(page: str, field: str) -> str:
    found = re.search(rf'id="{field}-error".*?<span>(.*?)</span>', page, re.DOTALL)
    return " ".join(unescape(found.group(1)).split()) if found else ""


def a_proposal(office: Office, browser: Browser, rate: str = "5.5", pair: str = "BRL/MXN") -> int:
    base, quote = pair.split("/")
    before = newest(office)
    answer = browser.post(PROPOSE, {"base": base, "quote": quote, "rate": rate, "reason": "Bank letter"})
    assert "Proposed. It counts as soon as somebody else has approved it." in answer.text
    assert newest(office) != before
    return newest(office)


def newest(office: Office) -> int:
    with office.session() as session:
        return session.scalar(select(func.max(FXRateProposal.id))) or 0


def count(office: Office, model) -> int:
    with office.session() as session:
        return session.scalar(select(func.count()).select_from(model))


# ── who may ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("page", PAGES)
def test_pages_open_for_readers_and_for_nobody_else(office, page):
    for role in READERS:
        assert office.browser(role).get(page).status_code == 200, role
    for role in ("KYC reviewer", "Payments officer", "Operator", "Partner manager"):
        assert office.browser(role).get(page).status_code in {302, 403}, role


def test_compliance_sees_no_buttons_and_decides_nothing(office, finance):
    compliance, pk = office.browser("Compliance officer"), a_proposal(office, finance)
    for page in ("/exchange-rates/proposals", f"/exchange-rates/proposals/{pk}", RATES):
        assert not re.search(r"Propose a rate|Approve …|Decide<|Withdraw …", compliance.get(page).text)
    for action in ("approve", "reject", "withdraw"):
        compliance.post(f"/exchange-rates/proposals/{pk}/{action}", {"reason": "no"})
    compliance.post(PROPOSE, {"base": "EUR", "quote": "USD", "rate": "1.2", "reason": "x"})
    assert newest(office) == pk
    assert office.row(FXRateProposal, pk).status == "proposed"


def test_finance_reads_spreads_and_sources_and_edits_neither(office, finance):
    for page in ("spreads/add", "spreads/edit/1", "sources/edit/ecb"):
        assert finance.get(f"/exchange-rates/{page}").status_code in {302, 403}
    finance.post("/exchange-rates/spreads/add", {"base": "EUR", "quote": "NOK", "spread_bp": "1"})
    with office.session() as session:
        assert session.scalar(select(FXPair).where(FXPair.quote == "NOK")) is None


def test_forms_refuse_requests_without_their_token(office, finance, admin):
    before = newest(office)
    assert finance.bare_post(PROPOSE, {"base": "EUR", "quote": "USD", "rate": "1.2", "reason": "x"}).status_code == 400
    pk = a_proposal(office, finance)
    assert admin.bare_post(f"/exchange-rates/proposals/{pk}/approve").status_code == 400
    assert office.row(FXRateProposal, pk).status == "proposed"
    assert newest(office) == pk > before


# ── rates ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_counts_now(finance):
    page = finance.get(RATES).text
    assert re.match(
        r"EUR/USD 1 EUR = 1.2 USD European Central Bank .* Usable until .* UTC 0 % \(0 bp\)", row_of(page, "EUR/USD")
    )
    assert "Too old to convert by usable until " in row_of(page, "EUR/SEK")
    crossed = row_of(page, "JPY/USD")
    assert "1 JPY = 0.0075 USD" in crossed
    assert "through EUR/JPY, EUR/USD" in crossed
    assert "0.3 % (30 bp)" in crossed
    assert "No rate known" in row_of(page, "USD/XAF")


def test_rates_by_currency_and_use_and_as_a_file(finance):
    page = finance.get(f"{RATES}?currency=sek").text
    assert "EUR/SEK" in page
    assert "EUR/JPY" not in page
    assert "EUR/JPY" not in text_of(finance.get(f"{RATES}?usable=no").text)
    rows = {f"{row['Base']}/{row['Quote']}": row for row in file_of(finance.get(f"{RATES}?export=csv"))}
    assert (rows["EUR/USD"]["Rate"], rows["EUR/USD"]["Source"], rows["EUR/USD"]["Usable"]) == ("1.2", "ecb", "Yes")
    assert (rows["EUR/SEK"]["Usable"], rows["USD/XAF"]["Rate"]) == ("No", "")
    for bad in ("currency=NIX", "usable=maybe"):
        assert finance.get(f"{RATES}?{bad}").status_code == 422


def test_all_rates_with_filters_pages_and_a_file(office, finance):
    page = finance.get("/exchange-rates/all?currency=USD&other=eur&source=ecb").text
    assert text_of(page).count("EUR/USD") == 2
    assert "EUR/JPY" not in text_of(page)
    rows = file_of(finance.get("/exchange-rates/all?currency=USD&other=EUR&export=csv"))
    assert [row["Rate"] for row in rows if row["Source"] == "ecb"] == ["1.2", "1.25"]
    past = (now() - timedelta(days=8)).date()
    assert "EUR/SEK" in text_of(finance.get(f"/exchange-rates/all?from={past}&to={past}").text)
    assert "EUR/USD" not in text_of(finance.get(f"/exchange-rates/all?from={past}&to={past}").text)
    for bad in ("source=moon", "from=yesterday", "currency=NIX", "after=x", "from=2026-02-02&to=2026-02-01"):
        assert finance.get(f"/exchange-rates/all?{bad}").status_code == 422, bad
    with office.session() as session, unit_of_work(session, ACTOR):
        start = now() - timedelta(minutes=90)
        rates.record(
            session,
            [rates.Observation("ecb", "EUR", "PLN", Decimal("4.3"), start + timedelta(seconds=one)) for one in range(60)],
        )
    page = finance.get("/exchange-rates/all?currency=PLN").text
    assert text_of(page).count("EUR/PLN") == 50
    following = unescape(re.search(r'href="([^"]+after=[^"]+)"', page).group(1))
    assert text_of(finance.get(following).text).count("EUR/PLN") == 10


# ── spreads and sources ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_pair_is_sorted_for_the_person_and_audited(office, admin):
    add = "/exchange-rates/spreads/add"
    admin.post(add, {"base": "usd", "quote": " chf ", "spread_bp": "25"}, page=add)
    with office.session() as session:
        made = session.scalars(select(FXPair).where(FXPair.base == "CHF", FXPair.quote == "USD")).one()
    assert made.spread_bp == 25
    entry = office.audited("fx_pair.add")[-1]
    assert (entry.target, entry.after["base"], entry.after["spread_bp"]) == (f"fx_pair:{made.id}", "CHF", 25)
    assert "CHF USD 0.25 % (25 bp)" in text_of(admin.get("/exchange-rates/spreads/list/").text)
    admin.post(f"/exchange-rates/spreads/edit/{made.id}", {"spread_bp": "40"}, page=f"/exchange-rates/spreads/edit/{made.id}")
    entry = office.audited("fx_pair.edit")[-1]
    assert (entry.before["spread_bp"], entry.after["spread_bp"]) == (25, 40)
    admin.post(f"/exchange-rates/spreads/delete/{made.id}")
    assert office.row(FXPair, made.id) is None


@pytest.mark.parametrize(
    ("base", "quote", "spread_bp", "said"),
    [
        ("EUR", "NIX", "5", "This currency is not known."),
        ("EUR", "eur", "5", "Please choose two different currencies."),
        ("USD", "EUR", "5", "This pair has a spread already. Change that one."),
        ("EUR", "CZK", "2001", "Please give a whole number from 0 to 2000."),
        ("EUR", "CZK", "-1", "Please give a whole number from 0 to 2000."),
        ("EUR", "CZK", "1.5", "Not a valid integer value"),
    ],
)
def test_a_refused_pair_keeps_what_was_typed(office, admin, base, quote, spread_bp, said):
    add, before = "/exchange-rates/spreads/add", count(office, FXPair)
    answer = admin.post(add, {"base": base, "quote": quote, "spread_bp": spread_bp}, page=add)
    assert said in answer.text
    for typed in (base, quote, spread_bp):
        assert f'value="{typed}"' in answer.text
    assert count(office, FXPair) == before


def test_a_source_s_age_is_typed_in_hours_and_audited(office, admin):
    edit = "/exchange-rates/sources/edit/mt"
    assert 'value="1"' in admin.get(edit).text
    admin.post(edit, {"rank": "2", "max_age_s": "0.5"}, page=edit)
    assert office.row(FXSource, "mt").max_age_s == 1800
    entry = office.audited("fx_source.edit")[-1]
    assert (entry.target, entry.before["max_age_s"], entry.after["max_age_s"]) == ("fx_source:mt", 3600, 1800)
    page = text_of(admin.get("/exchange-rates/sources/list/").text)
    assert "Trading servers 2 30 minutes" in page
    assert "European Central Bank 3 6 days" in page
    admin.post(edit, {"rank": "2", "max_age_s": "1"}, page=edit)
    assert office.row(FXSource, "mt").max_age_s == 3600


@pytest.mark.parametrize(
    ("rank", "hours", "said"),
    [
        ("2", "soon", "Please give hours, such as 144 or 0.5."),
        ("2", "NaN", "Please give hours, such as 144 or 0.5."),
        ("2", "-1", "Please give a minute at least and 31 days"),
        ("2", "745", "Please give a minute at least and 31 days"),
        ("0", "1", "Please give a whole number from 1 to 1000."),
        ("3", "1", "Already exists."),
    ],
)
def test_a_refused_source_keeps_what_was_typed(office, admin, rank, hours, said):
    edit = "/exchange-rates/sources/edit/mt"
    answer = admin.post(edit, {"rank": rank, "max_age_s": hours}, page=edit)
    assert said in answer.text
    assert f'value="{hours}"' in answer.text
    assert (office.row(FXSource, "mt").rank, office.row(FXSource, "mt").max_age_s) == (2, 3600)


def test_sources_are_neither_added_nor_deleted(office, admin):
    for path in ("add", "delete/mt"):
        assert admin.post(f"/exchange-rates/sources/{path}", {"code": "x", "rank": "9", "max_age_s": "1"}).status_code == 404
    assert count(office, FXSource) == 3


# ── manual rates ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_proposes_and_another_approves(office, finance, admin):
    pk = a_proposal(office, finance, "5.5", "BRL/MXN")
    own = finance.get(f"/exchange-rates/proposals/{pk}").text
    assert "You proposed this rate, so somebody else must decide it." in own
    assert "Approve …" not in own
    refused = finance.post(f"/exchange-rates/proposals/{pk}/approve")
    assert refused.status_code == 200
    assert office.row(FXRateProposal, pk).status == "proposed"
    assert "somebody else" in text_of(refused.text)
    page = admin.get("/exchange-rates/proposals").text
    assert "nothing to compare with Bank letter Finance officer" in row_of(page, str(pk))
    assert "Approve 1 BRL = 5.5 MXN" in text_of(admin.get(f"/exchange-rates/proposals/{pk}").text)
    answer = admin.post(f"/exchange-rates/proposals/{pk}/approve")
    assert "Approved. Conversions use this rate from now on." in answer.text
    assert row_of(finance.get(RATES).text, "BRL/MXN").startswith("BRL/MXN 1 BRL = 5.5 MXN Manual")
    history = finance.get("/exchange-rates/all?currency=BRL").text
    assert f'href="/exchange-rates/proposals/{pk}"' in history
    assert office.audited("fx_rate.approve")[-1].target == f"fx_rate_proposal:{pk}"


def test_who_is_second_is_told_so(office, finance, admin):
    pk = a_proposal(office, finance)
    admin.post(f"/exchange-rates/proposals/{pk}/reject", {"reason": "Another source says 5.1"})
    before = count(office, FXRate)
    for browser, action in ((admin, "approve"), (admin, "reject"), (finance, "withdraw")):
        answer = browser.post(f"/exchange-rates/proposals/{pk}/{action}", {"reason": "late"})
        assert "Admin Staff rejected this request before you" in text_of(answer.text)
    assert count(office, FXRate) == before
    page = text_of(finance.get(f"/exchange-rates/proposals/{pk}").text)
    assert "Reason of the decision Another source says 5.1" in page


def test_a_rejection_needs_a_reason(office, finance, admin):
    pk = a_proposal(office, finance)
    answer = admin.post(f"/exchange-rates/proposals/{pk}/reject", {"reason": "   "})
    assert "Please give a reason." in answer.text
    assert office.row(FXRateProposal, pk).status == "proposed"


def test_only_who_proposed_withdraws(office, finance, admin):
    pk = a_proposal(office, finance)
    assert "Nothing was changed" in text_of(admin.post(f"/exchange-rates/proposals/{pk}/withdraw").text)
    assert office.row(FXRateProposal, pk).status == "proposed"
    assert "Withdrawn. Rates are as they were." in finance.post(f"/exchange-rates/proposals/{pk}/withdraw").text
    assert office.row(FXRateProposal, pk).status == "withdrawn"


def test_a_rate_far_off_is_asked_about_in_words(office, finance):
    before, given = newest(office), {"base": "eur", "quote": "usd", "rate": "1.30", "reason": "The bank's letter"}
    answer = finance.post(PROPOSE, given)
    assert answer.status_code == 422
    page = text_of(answer.text)
    assert "Is this rate meant? It is 8.3 % above the one that counts now." in page
    assert "Propose 1 EUR = 1.30 USD all the same" in page
    assert "The bank&#39;s letter" in answer.text
    assert newest(office) == before
    meant = unescape(re.search(r'name="meant"[^>]*value="([^"]*)"', answer.text).group(1))
    other = finance.post(PROPOSE, {**given, "rate": "1.03", "meant": meant})
    assert "It is 14.2 % below the one that counts now." in text_of(other.text)
    assert newest(office) == before
    assert "Proposed." in finance.post(PROPOSE, {**given, "meant": meant}).text
    made = office.row(FXRateProposal, newest(office))
    assert (made.base, made.quote, made.rate, made.status) == ("EUR", "USD", Decimal("1.3"), "proposed")
    page = text_of(office.browser("Admin").get(f"/exchange-rates/proposals/{made.id}").text)
    assert "This rate is 8.3 % off the one that counts now." in page


def test_within_five_percent_nobody_is_asked(office, finance):
    a_proposal(office, finance, "1.26", "EUR/USD")
    a_proposal(office, finance, "0.8333", "USD/EUR")


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"rate": "1,08"}, "rate", "Please enter a rate above zero with ten decimals at most."),
        ({"rate": "-1"}, "rate", "Please enter a rate above zero with ten decimals at most."),
        ({"rate": "1e3"}, "rate", "Please enter a rate above zero with ten decimals at most."),
        ({"rate": ""}, "rate", "Please enter a rate above zero with ten decimals at most."),
        ({"rate": "0.000001", "quote": "JPY"}, "rate", "Please enter it the other way round."),
        ({"base": "NIX"}, "base", "Please choose a currency."),
        ({"quote": "EUR"}, "quote", "Please choose two different currencies."),
        ({"quote": "USC"}, "quote", "The rate of a cent currency follows"),
        ({"reason": "  "}, "reason", "Please give a reason."),
    ],
)
def test_a_refused_rate_keeps_what_was_typed(office, finance, changes, field, said):
    before, given = newest(office), {"base": "EUR", "quote": "HUF", "rate": "390.5", "reason": "Letter of today", **changes}
    answer = finance.post(PROPOSE, given)
    assert answer.status_code == 422
    assert said in error_of(answer.text, field)
    for name in ("base", "quote", "rate"):
        assert f'name="{name}"' in answer.text
        assert f'value="{given[name]}"' in answer.text
    assert given["reason"].strip() in answer.text
    assert newest(office) == before


def test_the_form_shows_the_present_rate_and_the_difference(finance):
    page = text_of(finance.get(f"{PROPOSE}?base=EUR&quote=USD").text)
    assert "Now: 1 EUR = 1.2 USD , European Central Bank" in page
    part = "/exchange-rates/comparison?"
    assert "Difference: +0.83 %" in text_of(finance.get(f"{part}base=eur&quote=USD&rate=1.21").text)
    assert "8.3 % above" in text_of(finance.get(f"{part}base=EUR&quote=USD&rate=1.30").text)
    assert "Too old to convert by" in text_of(finance.get(f"{part}base=EUR&quote=SEK&rate=11").text)
    assert "No rate is known for this pair yet" in text_of(finance.get(f"{part}base=EUR&quote=XAF&rate=1").text)
    assert finance.get(f"{part}base=%3Cb%3E&quote=&rate=nan").status_code == 200


def test_home_counts_what_waits(office, finance):
    a_proposal(office, finance)
    page = text_of(finance.get("/").text)
    assert re.search(r"Exchange rates to decide [1-9]", page)


# ── positions ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_positions_and_what_a_close_books(office, finance):
    page = finance.get("/fx-positions/").text
    assert re.match(
        r"EUR fx:position:EUR −80.00 EUR 1.2 European Central Bank, .* −96.00 USD −100.00 USD \+4.00 USD", row_of(page, "EUR")
    )
    assert row_of(page, "USD").endswith("100.00 USD 1 100.00 USD 100.00 USD 0.00 USD")
    assert "Unrealised result +4.00 USD" in text_of(page)
    assert "Not booked yet +4.00 USD" in text_of(page)
    assert "Nothing booked yet" in page
    assert 'href="/ledgeraccountview/show/fx:position:EUR"' in page
    with office.session() as session:
        (txn_id,) = revaluation.post_result(session, through=now(), actor=ACTOR)
    page = finance.get("/fx-positions/").text
    assert "Booked by closes +4.00 USD" in text_of(page)
    assert "Not booked yet 0.00 USD" in text_of(page)
    assert f"/ledgertransactionview/show/{txn_id}" in page
    assert "FX result of a period +4.00 USD" in text_of(page)


def test_positions_of_a_day_and_as_a_file(finance):
    yesterday = (now() - timedelta(days=1)).date()
    page = finance.get(f"/fx-positions/?at={yesterday}").text
    assert "0.00 EUR" in row_of(page, "EUR")
    assert "Unrealised result 0.00 USD" in text_of(page)
    rows = {row["Currency"]: row for row in file_of(finance.get("/fx-positions/?export=csv"))}
    assert [rows["EUR"][name] for name in ("Position", "Rate", "Source", "Value", "Cost", "Result")] == [
        "-80.00",
        "1.2",
        "ecb",
        "-96",
        "-100",
        "4",
    ]
    assert rows["Unrealised result"]["Result"] == "4"
    for bad in ("tomorrow", (now() + timedelta(days=2)).date(), "2026-02-30"):
        answer = finance.get(f"/fx-positions/?at={bad}")
        assert answer.status_code == 422
        assert "This day cannot be shown." in answer.text


# ── quotes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_quotes_with_filters_and_a_file(market, finance):
    page = finance.get("/conversions/").text
    done = row_of(page, str(market.done.quote_id))
    assert "Fay Xu 100.00 USD 0.00 USD 0.00 % 1 USD = 0.8 EUR 80.00 EUR" in done
    assert "Converted" in done
    assert f"/ledgertransactionview/show/{market.done.txn_id}" in page
    assert "100.00 USD 0.30 USD 0.30 %" in row_of(page, str(market.waiting))
    assert "Expired" in row_of(page, str(market.expired))
    for state, key in (("open", market.waiting), ("converted", market.done.quote_id), ("expired", market.expired)):
        rows = file_of(finance.get(f"/conversions/?state={state}&client={market.client}&export=csv"))
        assert [row["No."] for row in rows] == [str(key)], state
    assert finance.get(f"/conversions/?client={market.client}&currency=JPY&from={now().date()}").text.count("Fay Xu") == 1
    assert "Nothing found" in finance.get("/conversions/?client=999999").text
    for bad in ("state=odd", "client=x", "currency=NIX", "from=x", "after=x"):
        assert finance.get(f"/conversions/?{bad}").status_code == 422, bad


def test_a_quote_s_page_and_the_way_from_its_transaction(market, finance):
    page = text_of(finance.get(f"/conversions/{market.waiting}").text)
    assert "1 USD = 128" in page
    assert "What the rate was made of" in page
    assert "EUR/JPY 160 European Central Bank" in page
    assert finance.get("/conversions/999999").status_code == 404
    txn = finance.get(f"/ledgertransactionview/show/{market.done.txn_id}").text
    assert f'href="/conversions/{market.done.quote_id}"' in txn


def test_pages_have_no_script_inside(finance):
    for page in (*PAGES[:3], PROPOSE, *PAGES[5:]):
        assert not re.search(r"<script(?![^>]*\bsrc=)(?![^>]*nonce)[^>]*>|\son[a-z]+=", finance.get(page).text), page


def test_far_off_is_more_than_five_percent(office):
    with office.session() as session:
        for rate, far in (("1.26", False), ("1.2601", True), ("1.14", False), ("1.1399", True)):
            assert proposals.compare(session, base="EUR", quote="USD", rate=rate).is_far_off is far, rate
        assert proposals.compare(session, base="EUR", quote="EUR", rate="1").percent is None
        assert proposals.compare(session, base="XAF", quote="USD", rate="1").current is None
