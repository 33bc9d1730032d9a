"""Converting in the portal: quote, button, expiry, and that nothing is converted twice or for somebody else."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from types import SimpleNamespace
from uuid import uuid4

import pytest
from sqlalchemy import func, select, text, update

from app.clients.passwords import hash_password
from app.core.actor import Actor
from app.core.clock import now
from app.core.money import Money
from app.core.uow import unit_of_work
from app.ledger import chart, posting, queries
from app.models.clients import Client
from app.models.fx import FXQuote
from app.models.ledger import Transaction
from app.models.metatrader import Product, Server
from tests.integration.ledger.market import a_client, a_rate, a_spread
from tests.integration.portal.conftest import PASSWORD, Visitor

PAGE = "/portal/money/convert/"
ASKED = {"sell_currency": "USD", "amount": "100.50", "buy_currency": "EUR"}


@pytest.fixture
def house(database):
    """Fay has 1,000.00 USD, Max has none; a euro is 1.25 USD and converting costs half a percent."""
    with database.session() as session:
        for pair, rate in (("EUR/USD", "1.25"), ("EUR/JPY", "160")):
            a_rate(session, pair, rate)
        a_spread(session, "EUR/USD", 50)
        fay, peer = a_client(session, "1000.00 USD"), a_client(session)
        with unit_of_work(session, Actor.system("test")):
            for key, name in ((fay, "fay"), (peer, "max")):
                client = session.get_one(Client, key)
                client.email, client.password_hash = f"{name}@example.com", hash_password(PASSWORD)
    return SimpleNamespace(fay=fay, peer=peer)


@pytest.fixture
def fay(visitor: Visitor, house) -> Visitor:
    assert visitor.sign_in("fay@example.com").status_code == 302
    return visitor


def asked(browser: Visitor, **changes: str) -> str:
    """The address of the offer that the form leads to."""
    answer = browser.post(PAGE, {**ASKED, **changes})
    assert answer.status_code == 303
    return answer.headers["Location"]


def seen(answer) -> str:
    """What a reader sees, in one line."""
    page = re.sub(r"<(script|style|select)\b.*?</\1>", " ", answer.text, flags=re.DOTALL)
    return " ".join(re.sub(r"[\u2066\u2069]", "", unescape(re.sub(r"<[^>]+>", " ", page))).split())


def error_of(answer, field: str) -> str:
    """The error beside a field."""
    found = re.search(rf'id="{field}-error".*?<span>(.*?)</span>', answer.text, re.DOTALL)
    return unescape(found.group(1)) if found else ""


def wallet(database, client_id: int, currency: str) -> str:
    with database.session() as session:
        found = queries.find_balance(session, chart.client_wallet(client_id, currency))
        return str(found.posted) if found else ""


def conversions(database) -> int:
    with database.session() as session:
        return session.scalar(select(func.count()).select_from(Transaction).where(Transaction.kind == "conversion"))


def move_back(database, seconds: int) -> None:
    """Make all quotes so many seconds older."""
    with database.session() as session:
        older = timedelta(seconds=seconds)
        session.execute(update(FXQuote).values(quoted_at=FXQuote.quoted_at - older, expires_at=FXQuote.expires_at - older))
        session.commit()


def test_from_the_money_page_to_two_balances(fay, house, database, facts):
    assert f'href="{PAGE}"' in fay.get("/portal/money/").text
    page = fay.get(PAGE)
    assert "1,000.00 USD free" in page.text
    assert re.findall(r'<option[^>]*value="([A-Z]+)"', page.text.partition('name="buy_currency"')[2]) == ["EUR"]
    offer = asked(fay)
    assert conversions(database) == 0
    page = seen(fay.get(offer))
    for said in (
        "You give 100.50 USD",
        "Our fee, contained in it 0.51 USD (0.51 %)",
        "1 USD = 0.8 EUR European Central Bank, ",
        "You get 79.99 EUR",
        "This rate holds until ",
        "Convert 100.50 USD",
    ):
        assert said in page
    answer = fay.post(offer)
    assert (answer.status_code, answer.headers["Location"]) == (303, offer)
    page = seen(fay.get(offer))
    assert "Converted: 100.50 USD into 79.99 EUR." in page
    assert "Wallet USD 899.50 USD" in page
    assert "Wallet EUR 79.99 EUR" in page
    assert "This rate" not in page
    assert (wallet(database, house.fay, "USD"), wallet(database, house.fay, "EUR")) == ("899.50 USD", "79.99 EUR")
    assert [(fact.client_id, fact.payload["bought_minor"]) for fact in facts("conversion.done")] == [(house.fay, 7_999)]


def test_history_has_the_conversion(fay, database):
    offer = asked(fay)
    fay.post(offer)
    page = fay.get("/portal/money/")
    assert "Conversion −100.50 USD +79.99 EUR Done Details" in seen(page)
    assert f'href="{offer}"' in page.text
    assert "100.50 USD converted into 79.99 EUR" in seen(fay.get("/portal/"))


def test_pressing_twice_converts_once(fay, house, database):
    offer = asked(fay)
    token = fay.token(offer)
    for _ in range(2):
        answer = fay.bare_post(offer, {"csrf_token": token})
        assert (answer.status_code, answer.headers["Location"]) == (303, offer)
    move_back(database, 3600)
    assert fay.bare_post(offer, {"csrf_token": token}).status_code == 303
    assert "Converted: 100.50 USD" in seen(fay.get(offer))
    assert conversions(database) == 1
    assert wallet(database, house.fay, "USD") == "899.50 USD"


def test_an_expired_offer_has_a_new_one_for_one_press(fay, house, database):
    offer = asked(fay)
    token = fay.token(offer)
    page = fay.get(offer).text
    assert re.search(r'data-seconds-left="(30|2\d)"', page)
    assert re.search(r"<div[^>]*data-offer-expired[^>]*hidden", page)
    move_back(database, 31)
    assert fay.bare_post(offer, {"csrf_token": token}).status_code == 303
    assert conversions(database) == 0
    page = fay.get(offer).text
    assert "This rate has expired." in page
    assert not re.search(r"data-offer-open|data-offer-expired[^>]*hidden|data-seconds-left", page)
    again = dict(re.findall(r'name="(sell_currency|amount|buy_currency)" value="([^"]+)"', page))
    assert again == ASKED
    newer = fay.bare_post(PAGE, {**again, "csrf_token": token}).headers["Location"]
    assert newer != offer
    fay.post(newer)
    assert wallet(database, house.fay, "EUR") == "79.99 EUR"


def test_the_server_judges_the_last_second(fay, database):
    offer = asked(fay)
    move_back(database, 25)
    assert "data-offer-open" in fay.get(offer).text
    fay.post(offer)
    assert conversions(database) == 1


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"amount": ""}, "amount", "Please enter an amount."),
        ({"amount": "abc"}, "amount", "Please write the amount as in 1000.50"),
        ({"amount": "-5"}, "amount", "Please write the amount as in 1000.50"),
        ({"amount": "1,5"}, "amount", "Please write the amount as in 1000.50"),
        ({"amount": "NaN"}, "amount", "Please write the amount as in 1000.50"),
        ({"amount": "9" * 30}, "amount", "This amount is too large."),
        ({"amount": "9" * 31}, "amount", "This is too long."),
        ({"amount": "1.001"}, "amount", "USD has 2 decimals at most."),
        ({"amount": "0"}, "amount", "Please enter an amount above zero."),
        ({"amount": "0.01"}, "amount", "This amount is too small to convert."),
        ({"amount": "1000.01"}, "amount", "There are 1,000.00 USD free in this wallet."),
        ({"buy_currency": "USD"}, "buy_currency", "Please choose one of the currencies."),
        ({"buy_currency": "XAU"}, "buy_currency", "Please choose one of the currencies."),
        ({"buy_currency": "JPY"}, "buy_currency", "Please choose one of the currencies."),
        ({"buy_currency": "<b>"}, "buy_currency", "Please choose one of the currencies."),
        ({"sell_currency": "EUR", "buy_currency": "USD"}, "sell_currency", "Please choose one of your wallets"),
    ],
)
def test_bad_input_is_kept_and_explained_beside_its_field(fay, database, changes, field, said):
    answer = fay.post(PAGE, {**ASKED, **changes})
    assert answer.status_code == 422
    assert said in error_of(answer, field)
    assert f'value="{changes.get("amount", "100.50")}"' in answer.text
    assert "Traceback" not in answer.text
    with database.session() as session:
        assert session.scalar(select(func.count()).select_from(FXQuote)) == 0


def test_from_a_wallet_into_itself(fay):
    fay.post(asked(fay))
    answer = fay.post(PAGE, {**ASKED, "buy_currency": "USD"})
    assert answer.status_code == 422
    assert error_of(answer, "buy_currency") == "Please choose two different currencies."


def test_a_rate_too_old_is_no_rate(fay, database):
    with database.session() as session:
        session.execute(text("UPDATE fx_source SET max_age_s = 1 WHERE code = 'ecb'"))
        session.commit()
    answer = fay.post(PAGE, ASKED)
    assert answer.status_code == 422
    assert "too old to convert by" in error_of(answer, "buy_currency")
    assert 'value="100.50"' in answer.text


def test_without_any_rate_there_is_nothing_to_choose(visitor, database):
    with database.session() as session:
        key = a_client(session, "10.00 USD")
        session.execute(
            update(Client).where(Client.id == key).values(email="ann@example.com", password_hash=hash_password(PASSWORD))
        )
        session.commit()
    visitor.sign_in("ann@example.com")
    assert "No exchange rates at present" in visitor.get(PAGE).text


def test_an_empty_wallet_leads_to_a_deposit(another, house):
    another.sign_in("max@example.com")
    page = another.get(PAGE).text
    assert "Nothing to convert yet" in page
    assert 'href="/portal/money/deposit"' in page


def test_what_is_offered_follows_products_wallets_and_spreads(fay, database):
    def offered() -> list[str]:
        return re.findall(r'<option[^>]*value="([A-Z]+)"', fay.get(PAGE).text.partition('name="buy_currency"')[2])

    with database.session() as session:
        a_rate(session, "EUR/GBP", "0.85")
        assert offered() == ["EUR", "GBP"]
        a_spread(session, "JPY/USD", 30)
        assert offered() == ["EUR", "GBP", "JPY"]
        with unit_of_work(session, Actor.system("test")):
            server = Server(
                code="cents", name="Cents", platform="mt5_web", url="https://127.0.0.1:1", manager_login=1, time_zone="EET"
            )
            session.add(server)
            session.flush()
            of_cents = {"currency": "USC", "is_cent": True, "leverages": [100], "is_open": True}
            session.add(Product(code="cent", name="Cent", server_id=server.id, group="cent", **of_cents))
    assert offered() == ["EUR", "GBP", "JPY"], "a cent account is funded from dollars: nobody needs a wallet in cents"
    assert "You get 15,951 JPY" in seen(fay.get(asked(fay, amount="125", buy_currency="JPY")))


def test_money_spent_meanwhile(fay, house, database):
    offer = asked(fay, amount="1000.00")
    with database.session() as session:
        spent, wallet_code = chart.fees("USD"), chart.client_wallet(house.fay, "USD")
        with unit_of_work(session, Actor.system("test")):
            chart.open_accounts(session, spent)
            posting.post(
                session,
                key="spent",
                kind="house_fee",
                effective_at=now(),
                actor=Actor.system("test"),
                legs=[posting.debit(wallet_code, Money(1, "USD")), posting.credit(spent, Money(1, "USD"))],
            )
    answer = fay.post(offer)
    assert answer.status_code == 409
    assert "Your balance is not enough for this." in error_of(answer, "amount")
    assert 'value="1000.00"' in answer.text
    assert f'action="{PAGE}"' in answer.text
    assert conversions(database) == 0


def test_only_approved_clients_convert(fay, house, database):
    offer = asked(fay)
    with database.session() as session:
        session.execute(update(Client).where(Client.id == house.fay).values(status="verified"))
        session.commit()
    assert "You can convert once your documents are approved." in fay.get(PAGE).text
    for address, data in ((PAGE, ASKED), (offer, {})):
        answer = fay.post(address, data)
        assert answer.status_code in {409, 422}
        assert "Please have your documents approved first." in answer.text
        assert 'value="100.50"' in answer.text
    assert conversions(database) == 0


def test_another_clients_offer_does_not_exist(fay, another, house, database):
    offer = asked(fay)
    another.sign_in("max@example.com")
    token = another.token("/portal/money/withdraw")
    for address in (offer, f"{PAGE}{uuid4()}", f"{PAGE}1", f"{PAGE}{'9' * 40}"):
        assert another.get(address).status_code == 404
        assert another.bare_post(address, {"csrf_token": token}).status_code == 404
    assert conversions(database) == 0
    fay.post(offer)
    assert another.get(offer).status_code == 404


def test_visitors_are_sent_to_sign_in(fay, another):
    offer = asked(fay)
    for address in (PAGE, offer):
        answer = another.get(address)
        assert answer.status_code == 302
        assert "/portal/sign-in" in answer.headers["Location"]


def test_forms_refuse_requests_without_their_token(fay, database):
    offer = asked(fay)
    assert fay.bare_post(PAGE, ASKED).status_code == 400
    assert fay.bare_post(offer).status_code == 400
    assert conversions(database) == 0


def test_the_address_fills_the_form_in(fay):
    page = fay.get(f"{PAGE}?sell_currency=USD&amount=12.50&buy_currency=EUR").text
    assert 'value="12.50"' in page
    assert re.search(r'<option selected value="EUR"', page)
    assert fay.get(f"{PAGE}?sell_currency=%3Cb%3E&buy_currency=XYZ&amount=%22%3E").status_code == 200


def test_no_script_or_style_inside_the_pages(fay):
    page = fay.get(asked(fay))
    assert "js/countdown.js" in page.text
    assert not re.search(r"<script(?![^>]*\bsrc=)|\sstyle=|\son[a-z]+=", page.text)


def test_in_arabic_the_page_is_mirrored_and_figures_are_not(fay):
    page = fay.get(f"{asked(fay)}?lang=ar").text
    assert 'dir="rtl"' in page
    assert '<span class="num">100.50 USD</span>' in page
