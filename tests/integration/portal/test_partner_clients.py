"""The IB's clients: filters, order, pages, files, and that the policy of privacy holds in all of them."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from app.core.actor import Actor
from app.core.clock import now
from app.core.tables import Event
from app.models.clients import Client
from app.models.metatrader import TradingAccount
from app.partners import attribution, links, privacy
from app.partners.privacy import Privacy
from app.portal import partner_clients
from tests.integration.portal.partner_house import partner_house

STAFF = Actor.staff(1)
ALL = Privacy(names="full", shows_email=True, shows_balance=True, shows_lots=True, shows_sub_clients=True)


@pytest.fixture
def house(database, client_id):
    with database.session() as session:
        yield partner_house(session, client_id)


def listed(visitor, query: str = "") -> list[dict[str, str]]:
    text = visitor.get(f"/portal/partner/clients?export=csv&{query}").text
    return list(csv.DictReader(io.StringIO(text.lstrip("\ufeff"))))


def names(visitor, query: str = "") -> list[str]:
    return [row["Client"] for row in listed(visitor, query)]


def set_policy(house, policy: Privacy) -> None:
    privacy.set_privacy(house.session, policy, "test", STAFF)


def add(house, first: str, last: str, country: str = "AE", **span) -> int:
    client = house.brokerage.client(first, last)
    house.session.get(Client, client).country = country
    account = house.brokerage.brought(house.ib_id, client_id=client, **span)
    house.brokerage.save()
    return account


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_files_are_kept_by_nobody_on_the_way(signed_in, house, kind):
    answer = signed_in.get(f"/portal/partner/clients?export={kind}")
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    assert answer.headers["Content-Disposition"].startswith("attachment")


def test_own_clients_with_what_they_trade(signed_in, house):
    house.trade(house.own_account, "1.5", done_at=now())
    house.trade(house.own_account, "9", done_at=now() - timedelta(days=40))
    (row,) = listed(signed_in)
    assert (row["Client"], row["Lots in 30 days"], row["Stands at"], row["Mail address"]) == ("Carla O.", "1.5", "Trades", "")
    page = signed_in.get("/portal/partner/clients").text
    assert "1.50" in page
    for other in ("Dario", "Egon", "Own", "@example.com", "Balance"):
        assert other not in page.partition("<main")[2]


def test_the_policy_holds_on_the_page_and_in_the_file(signed_in, house):
    house.session.get(TradingAccount, house.own_account).balance = 250
    house.brokerage.save()
    set_policy(house, ALL)
    rows = {row["Client"]: row for row in listed(signed_in)}
    assert set(rows) == {"Carla Own", "Dario Under"}
    assert rows["Dario Under"]["Of sub-IB"] == "Sami B."
    assert rows["Carla Own"]["Balances"].startswith("250.00")
    assert rows["Carla Own"]["Mail address"].endswith("@example.com")
    assert names(signed_in, f"ib={house.sub_id}") == ["Dario Under"]
    assert names(signed_in, f"ib={house.other_id}") == []
    set_policy(house, Privacy(names="number", shows_lots=False))
    (row,) = listed(signed_in)
    assert (row["Client"], row["Lots in 30 days"], row["Balances"]) == ("", "", "")
    page = signed_in.get("/portal/partner/clients").text
    assert f"Client {row['Client number']}" in page
    assert "Carla" not in page


def test_search_tells_no_more_than_the_page(signed_in, house):
    assert names(signed_in, "q=carla") == ["Carla O."]
    assert names(signed_in, "q=Own") == []
    assert names(signed_in, "q=example.com") == []
    set_policy(house, Privacy(names="number"))
    assert listed(signed_in, "q=carla") == []
    set_policy(house, ALL)
    assert names(signed_in, "q=Own") == ["Carla Own"]
    assert len(names(signed_in, "q=example.com")) == 2


def test_of_a_former_client_nothing_new_is_told(signed_in, house):
    set_policy(house, ALL)
    account = add(house, "Fanny", "Former", since=now() - timedelta(days=20), until=now() - timedelta(days=10))
    house.session.get(TradingAccount, account).balance = 777
    for days, lots in ((15, "1"), (5, "7")):
        house.trade(account, lots, done_at=now() - timedelta(days=days))
    (row,) = listed(signed_in, "stage=former")
    assert (row["Client"], row["Lots in 30 days"], row["Balances"], row["Mail address"]) == ("Fanny Former", "1", "", "")
    assert row["Until (UTC)"]


def test_stages_countries_days_order_and_pages(signed_in, house, monkeypatch):
    when = datetime(2026, 3, 1, tzinfo=UTC)
    for number, (first, country) in enumerate((("Zoe", "DE"), ("Abel", "CY"), ("Mia", "DE"))):
        add(house, first, "X", country, since=when + timedelta(days=number))
    house.session.get(Client, client_named(house, "Mia")).email_verified_at = now()
    house.brokerage.save()
    assert names(signed_in, "country=DE") == ["Mia X.", "Zoe X."]
    assert names(signed_in, "stage=verified") == ["Mia X."]
    assert names(signed_in, "from=2026-03-02&to=2026-03-02") == ["Abel X."]
    assert names(signed_in, "sort=name&dir=up") == ["Abel X.", "Carla O.", "Mia X.", "Zoe X."]
    house.trade(house.own_account, "1", done_at=now())
    assert names(signed_in, "sort=lots&dir=down")[0] == "Carla O."
    monkeypatch.setattr(partner_clients, "PAGE", 3)
    first, second = signed_in.get("/portal/partner/clients").text, signed_in.get("/portal/partner/clients?page=1").text
    assert "1–3 of 4" in first
    assert "4–4 of 4" in second
    assert 'rel="next"' not in second
    wrong = signed_in.get("/portal/partner/clients?stage=rich&page=x&sort=shoe").text
    assert wrong.count("Please choose one of the list.") >= 2


def client_named(house, first: str) -> int:
    return house.session.scalars(select(Client.id).where(Client.first_name == first)).one()


def test_an_ib_without_clients_is_led_to_its_link(signed_in, client_id, database):
    with database.session() as session:
        links.make_ib(session, client_id, "USD", STAFF)
    page = signed_in.get("/portal/partner/clients").text
    assert "Share your link" in page
    assert re.search(r"No clients yet", page)


def test_the_ibs_page_hears_of_a_new_client(house, client_id):
    link = links.create_link(house.session, house.ib_id, "", STAFF)
    joined = house.brokerage.client("Nina", "New")
    house.brokerage.save()
    attribution.attribute_client(house.session, client_id=joined, link_code=link.code, at=now(), source="link")
    (event,) = house.session.scalars(select(Event).where(Event.type == "ib.client_joined"))
    assert event.client_id == client_id


@pytest.mark.parametrize("path", ["clients", "clients/live", "clients?export=csv"])
def test_a_client_who_is_no_ib_has_no_clients(signed_in, path):
    assert signed_in.get(f"/portal/partner/{path}").status_code == 404
