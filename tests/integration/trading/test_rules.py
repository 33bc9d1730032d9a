"""Trading rules by country: the strictest that holds on a day; who would be affected by a new one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import InvalidInput, NotFound
from app.core.ids import new_token
from app.core.tables import AuditEntry
from app.core.uow import unit_of_work
from app.metatrader import accounts, rules
from app.metatrader.known_rules import KNOWN_RULES
from app.metatrader.rules import Draft
from app.models.clients import Client
from app.models.metatrader import Product, Server, TradingAccount, TradingRule

STAFF = Actor.staff(7)
TODAY = date(2026, 6, 1)
ESMA = Draft("ESMA retail", ("IT", "DE"), 30, protects_negative_balance=True, valid_from=date(2019, 9, 27))
HOUSE = Draft("House", (), 500, protects_negative_balance=False, valid_from=date(2020, 1, 1))


def save(session: Session, *drafts: Draft) -> list[int]:
    return [rules.save_rule(session, draft, actor=STAFF, reason="test").id for draft in drafts]


def add_client(session: Session, country: str) -> Client:
    with unit_of_work(session, STAFF):
        client = Client(
            email=f"{country}@example.com", password_hash="x", first_name="A", last_name="B", country=country,
            status="approved", terms_version="1", terms_accepted_at=now(),
        )  # fmt: skip
        session.add(client)
        session.flush()
        return client


def add_product(session: Session, **values) -> Product:
    with unit_of_work(session, STAFF):
        server = session.scalars(select(Server)).first() or Server(
            code="s", name="S", platform="mt5_web", url="https://127.0.0.1:1", manager_login=1, time_zone="EET"
        )
        session.add(server)
        session.flush()
        given = {"code": "std", "name": "Std", "group": r"real\std", "currency": "USD", "leverages": [30, 100, 500]}
        product = Product(**{**given, **values, "server_id": server.id})
        session.add(product)
        session.flush()
        return product


def add_account(session: Session, client: Client, product: Product, leverage: int, status: str = "requested") -> TradingAccount:
    with unit_of_work(session, STAFF):
        account = TradingAccount(
            client_id=client.id, product_id=product.id, server_id=product.server_id, currency="USD", leverage=leverage,
            status=status, token=new_token("A"),
        )  # fmt: skip
        session.add(account)
        session.flush()
        return account


def test_the_strictest_rule_holds(session):
    italian, emirati = add_client(session, "IT"), add_client(session, "AE")
    assert rules.max_leverage(session, italian, TODAY) is None
    save(session, HOUSE, ESMA, replace(ESMA, name="Looser", max_leverage=50, protects_negative_balance=False))
    assert (rules.max_leverage(session, italian, TODAY), rules.max_leverage(session, emirati, TODAY)) == (30, 500)
    assert rules.protects_negative_balance(session, italian, TODAY) is True
    assert rules.protects_negative_balance(session, emirati, TODAY) is False


def test_a_rule_holds_from_its_first_day_and_not_on_the_day_it_ends(session):
    client = add_client(session, "AU")
    save(session, Draft("ASIC", ("AU",), 30, True, date(2021, 3, 29), date(2027, 5, 24)))
    days = (date(2021, 3, 28), date(2021, 3, 29), date(2027, 5, 23), date(2027, 5, 24))
    assert [rules.max_leverage(session, client, day) for day in days] == [None, 30, 30, None]
    assert [rules.protects_negative_balance(session, client, day) for day in days] == [False, True, True, False]


def test_a_rule_may_protect_without_a_cap(session):
    client = add_client(session, "SC")
    save(session, Draft("FSA", ("SC",), None, protects_negative_balance=True, valid_from=date(2024, 12, 31)))
    assert (rules.max_leverage(session, client, TODAY), rules.protects_negative_balance(session, client, TODAY)) == (None, True)


def test_what_a_client_is_offered_and_why_the_rest_is_missing(session):
    italian, emirati = add_client(session, "IT"), add_client(session, "AE")
    live, demo = add_product(session), add_product(session, code="demo", is_demo=True)
    save(session, HOUSE, ESMA)
    assert rules.offer_of(session, live, italian, TODAY) == rules.Offer((30,), (100, 500), 30, "ESMA retail")
    assert rules.offered_leverages(session, live, emirati, TODAY) == (30, 100, 500)
    assert rules.offered_leverages(session, demo, italian, TODAY) == (30, 100, 500)
    none_left = add_product(session, code="high", leverages=[200, 100])
    assert rules.offer_of(session, none_left, italian, TODAY).leverages == ()


def test_opening_keeps_to_the_rules(session):
    client, live, demo = add_client(session, "IT"), add_product(session), add_product(session, code="demo", is_demo=True)
    save(session, ESMA)
    wish = {"client_id": client.id, "actor": Actor.client(client.id)}
    with pytest.raises(InvalidInput) as refused:
        accounts.request_account(session, product_id=live.id, leverage=100, **wish)
    assert refused.value.problems["leverage"] % refused.value.data == (
        "In your country the highest leverage is 1:30 (ESMA retail)."
    )
    assert accounts.request_account(session, product_id=live.id, leverage=30, **wish).leverage == 30
    assert accounts.request_account(session, product_id=demo.id, leverage=500, **wish).leverage == 500


def test_who_would_be_affected(session):
    italian, emirati = add_client(session, "IT"), add_client(session, "AE")
    live, demo = add_product(session), add_product(session, code="demo", is_demo=True)
    above = add_account(session, italian, live, 100)
    further = add_account(session, italian, live, 500)
    for client, product, leverage, status in (
        (italian, live, 30, "requested"),
        (italian, demo, 500, "requested"),
        (italian, live, 200, "failed"),
        (emirati, live, 500, "requested"),
    ):
        add_account(session, client, product, leverage, status)
    assert rules.affected(session, ESMA) == (2, [further, above])
    assert rules.affected(session, ESMA, limit=1) == (2, [further])
    assert rules.affected(session, replace(ESMA, countries=()))[0] == 3
    assert rules.affected(session, replace(ESMA, max_leverage=None))[0] == 0
    assert rules.affected(session, replace(ESMA, valid_until=date(2026, 1, 1)))[0] == 0


def test_a_rule_is_changed_with_dates_reason_and_audit(session):
    (rule_id,) = save(session, ESMA)
    changed = replace(ESMA, max_leverage=20, valid_until=date(2030, 1, 1), countries=("it", "FR"))
    rules.save_rule(session, changed, actor=STAFF, reason=" New directive ", rule_id=rule_id, seen=ESMA_SEEN)
    rule = session.get_one(TradingRule, rule_id)
    assert (rule.max_leverage, rule.valid_until, rule.countries) == (20, date(2030, 1, 1), ["FR", "IT"])
    entry = session.scalars(select(AuditEntry).where(AuditEntry.action == "trading_rule.edit")).one()
    assert (entry.target, entry.reason, entry.before["max_leverage"], entry.after["max_leverage"]) == (
        f"trading_rule:{rule_id}", "New directive", 30, 20,
    )  # fmt: skip
    with pytest.raises(rules.RuleChanged):
        rules.save_rule(session, ESMA, actor=STAFF, reason="back", rule_id=rule_id, seen=ESMA_SEEN)
    with pytest.raises(NotFound):
        rules.save_rule(session, ESMA, actor=STAFF, reason="x", rule_id=rule_id + 1)


#: As it is saved, with its countries in order.
ESMA_SEEN = replace(ESMA, countries=("DE", "IT"))


@pytest.mark.parametrize(
    ("changes", "reason", "field"),
    [
        ({"name": " "}, "why", "name"),
        ({"countries": ("ITA",)}, "why", "countries"),
        ({"countries": ("1T",)}, "why", "countries"),
        ({"max_leverage": 0}, "why", "max_leverage"),
        ({"max_leverage": 5001}, "why", "max_leverage"),
        ({"max_leverage": None, "protects_negative_balance": False}, "why", "max_leverage"),
        ({"valid_until": date(2019, 9, 27)}, "why", "valid_until"),
        ({}, "  ", "reason"),
    ],
)
def test_what_is_no_rule(session, changes, reason, field):
    with pytest.raises(InvalidInput) as refused:
        rules.save_rule(session, replace(ESMA, **changes), actor=STAFF, reason=reason)
    assert list(refused.value.problems) == [field]
    assert session.scalars(select(TradingRule)).all() == []


def test_the_rules_we_know_can_be_saved_and_are_careful(session):
    save(session, *KNOWN_RULES)
    caps = {
        country: rules.max_leverage(session, Client(country=country), TODAY)
        for country in ("CY", "GB", "AU", "BS", "SC", "MU", "VU", "ZA")
    }
    assert caps == {"CY": 30, "GB": 30, "AU": 30, "BS": 200, "SC": None, "MU": None, "VU": None, "ZA": None}
    assert rules.max_leverage(session, Client(country="AU"), date(2027, 5, 24)) is None
    in_force = datetime.now(UTC).date() + timedelta(days=1)
    assert all(draft.valid_from < in_force for draft in KNOWN_RULES)
