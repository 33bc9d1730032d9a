"""Commission plans in the back office: rules are tried on a typed deal, proposed by one person, published by another."""

from __future__ import annotations

import json
import re
from html import unescape

import pytest
from sqlalchemy import select

from app.commissions import drafts
from app.commissions.errors import InvalidPlan
from app.commissions.plans import parse_rules, rules_document
from app.commissions.publishing import create_plan
from app.core.actor import Actor
from app.core.clock import now
from app.models.commissions import Plan, PlanDraft, PlanVersion
from tests.integration.views.conftest import LIBRARY_WARNINGS, Browser, Office

pytestmark = LIBRARY_WARNINGS

RULES = [
    {"key": "lots", "component": "per_lot", "rate": "8", "levels": ["0.7", "0.3"]},
    {"key": "charged", "component": "commission_share", "rate": "40"},
]
EXAMPLE = {
    "symbol": "EURUSD",
    "position": "buy",
    "side": "close",
    "lots": "0.5",
    "held_s": "3600",
    "currency": "USD",
    "product": "standard-usd",
    "country": "CY",
    "category": "retail",
    "opened": "1.0795",
    "price": "1.08",
    "digits": "5",
    "credit_percent": "0",
    "margin_guard": "off",
    "bid": "1.08",
    "ask": "1.0801",
    "contract": "100000",
    "rate_profit": "1",
    "commission": "-3.50",
    "profit": "-25",
    "swap": "0",
    "depth": "2",
}


@pytest.fixture(scope="module")
def manager(office: Office) -> Browser:
    return office.browser("Partner manager")


@pytest.fixture(scope="module")
def finance(office: Office) -> Browser:
    return office.browser("Finance officer")


def make_plan(office: Office, browser: Browser) -> int:
    name = f"Plan {office.number()}"
    assert browser.post("/commission-plans/", {"name": name, "currency": "usd"}).status_code == 200
    with office.session() as session:
        return session.scalars(select(Plan.id).where(Plan.name == name)).one()


def typed(rules: object = RULES, **more: str) -> dict[str, str]:
    return {**EXAMPLE, "rules": rules if isinstance(rules, str) else json.dumps(rules), **more}


def proposed(
    office: Office, browser: Browser, plan_id: int, rules: object = RULES, *, valid_from: str = "2026-12-01T00:00"
) -> int:
    form = typed(rules, action="propose", valid_from=valid_from, reason="New year")
    answer = browser.post(f"/commission-plans/{plan_id}/propose", form)
    assert answer.status_code == 200, words(answer.text)
    with office.session() as session:
        return session.scalars(select(PlanDraft.id).order_by(PlanDraft.id.desc()).limit(1)).one()


def words(page: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


def test_rules_are_tried_on_a_deal_with_every_step(office: Office, manager: Browser) -> None:
    plan_id = make_plan(office, manager)

    page = words(manager.post(f"/commission-plans/{plan_id}/propose", typed(action="try", valid_from="", reason="")).text)

    assert "Lots closed 0.5 × Rate per lot 8 USD = The rule gives 4 USD × Share of this level 0.7 = Commission 2.8 USD" in page
    assert "Share of this level 0.3 = Commission 1.2 USD" in page
    assert "Commission the client paid 3.5 USD × Percentage 40 % = Commission 1.4 USD" in page
    with office.session() as session:
        assert session.scalars(select(PlanDraft).where(PlanDraft.plan_id == plan_id)).all() == []


def test_tiers_are_tried_from_where_they_stand(office: Office, manager: Browser) -> None:
    bands = [{"from": "0", "rate": "5"}, {"from": "100", "rate": "6"}]
    rules = [{"key": "lots", "component": "per_lot", "tiers": {"mode": "marginal", "bands": bands}}]
    form = typed(rules, action="try", stands="99.75")

    page = words(manager.post(f"/commission-plans/{make_plan(office, manager)}/propose", form).text)

    assert "Volume of the month before this deal 99.75 + Lots of this deal in the tier 0.25" in page
    assert "= Commission 2.75 USD" in page


def test_the_editor_opens_with_an_example_that_pays(office: Office, manager: Browser) -> None:
    page = words(manager.get(f"/commission-plans/{make_plan(office, manager)}/propose").text)

    assert "Lots closed 1 × Rate per lot 5 USD = The rule gives 5 USD × Share of this level 0.8 = Commission 4 USD" in page


def test_a_deal_that_would_pay_nothing_says_why(office: Office, manager: Browser) -> None:
    plan_id = make_plan(office, manager)

    page = words(manager.post(f"/commission-plans/{plan_id}/propose", typed(RULES[:1], side="open", action="try")).text)

    assert "This deal would pay nothing. Commission is paid when a position is closed; this deal opened one." in page


@pytest.mark.parametrize(
    ("rules", "sentence"),
    [
        ("[{", "Line 1, column 3 cannot be read as JSON."),
        ([{"key": "a", "component": "per_lot", "rate": "1000000000"}], "rules[0].rate: The rate must be above 0"),
        (
            [{"key": "a", "component": "loss_share", "rate": "10"}],
            "rules[0].filter.countries: Name the countries in which this",
        ),
        ([{"key": "a", "component": "per_lot", "rate": "1", "filter": {"symbols": []}}], "this rule matches nothing"),
        ([{"key": "a", "component": "per_lot", "rate": "1", "levels": ["0.5", "0"]}], "rules[0].levels[1]: A share must be"),
    ],
)
def test_wrong_rules_are_refused_with_the_place_and_kept(
    office: Office, manager: Browser, rules: object, sentence: str
) -> None:
    plan_id = make_plan(office, manager)
    form = typed(rules, action="propose", valid_from="2026-12-01T00:00", reason="New year")

    answer = manager.post(f"/commission-plans/{plan_id}/propose", form)

    assert answer.status_code == 422
    assert sentence in words(answer.text)
    assert form["rules"] in unescape(answer.text)
    assert "New year" in answer.text


def test_somebody_else_publishes_what_one_person_proposed(office: Office, manager: Browser, finance: Browser) -> None:
    plan_id = make_plan(office, manager)
    draft_id = proposed(office, manager, plan_id)
    address = f"/commission-plans/drafts/{draft_id}"

    assert "You proposed this yourself" in manager.post(f"{address}/approve", {}).text
    assert office.row(PlanDraft, draft_id).status == "proposed"

    finance.post(f"{address}/approve", {})

    draft = office.row(PlanDraft, draft_id)
    version = office.row(PlanVersion, draft.version_id)
    assert (draft.status, version.plan_id, version.version) == ("approved", plan_id, 1)
    assert version.rules[0]["levels"] == {"mode": "shares", "values": ["0.7", "0.3"]}
    assert "Version 1, valid from 2026-12-01 00:00 UTC" in manager.get(f"/commission-plans/{plan_id}").text
    assert "version 1, valid from" in manager.get("/commission-plans/").text
    finance.post(f"{address}/reject", {"reason": "Too late"})
    assert office.row(PlanDraft, draft_id).status == "approved"
    assert [entry.target for entry in office.audited("plan_draft.approve")][-1] == f"plan_draft:{draft_id}"


def test_rules_that_would_replace_others_than_those_shown_wait(office: Office, manager: Browser, finance: Browser) -> None:
    plan_id = make_plan(office, manager)
    first = proposed(office, manager, plan_id)
    second = proposed(office, manager, plan_id, valid_from="2026-12-24T00:00")
    address = f"/commission-plans/drafts/{second}"
    seen = re.search(r'name="replaces" value="(\d+)"', finance.get(address).text)
    assert seen
    assert seen[1] == "0"
    finance.post(f"/commission-plans/drafts/{first}/approve", {"replaces": "0"})

    refused = finance.post(f"{address}/approve", {"replaces": seen[1]})
    assert "has changed since you opened the page" in words(refused.text)
    assert office.row(PlanDraft, second).status == "proposed"
    seen = re.search(r'name="replaces" value="(\d+)"', refused.text)
    assert seen
    finance.post(f"{address}/approve", {"replaces": seen[1]})
    assert office.row(PlanDraft, second).status == "approved"


def test_a_proposal_is_rejected_with_a_reason_or_withdrawn(office: Office, manager: Browser, finance: Browser) -> None:
    plan_id = make_plan(office, manager)
    first, second = proposed(office, manager, plan_id), proposed(office, manager, plan_id)

    finance.post(f"/commission-plans/drafts/{first}/reject", {"reason": " "})
    assert office.row(PlanDraft, first).status == "proposed"
    finance.post(f"/commission-plans/drafts/{first}/reject", {"reason": "Costs more than it earns"})
    manager.post(f"/commission-plans/drafts/{second}/withdraw", {})

    assert "Costs more than it earns" in manager.get(f"/commission-plans/drafts/{first}").text
    assert [office.row(PlanDraft, number).status for number in (first, second)] == ["rejected", "withdrawn"]
    with office.session() as session:
        assert session.scalars(select(PlanVersion).where(PlanVersion.plan_id == plan_id)).all() == []


def test_a_proposal_shows_what_changes(office: Office, manager: Browser, finance: Browser) -> None:
    plan_id = make_plan(office, manager)
    finance.post(f"/commission-plans/drafts/{proposed(office, manager, plan_id)}/approve", {})
    dearer = [{**RULES[0], "rate": "9"}, RULES[1]]

    page = manager.get(f"/commission-plans/drafts/{proposed(office, manager, plan_id, dearer)}").text

    changed = re.findall(r"<(ins|del)>(.*?)</", unescape(page))
    assert changed == [("del", '-     "rate": "8",'), ("ins", '+     "rate": "9",')]
    form = on_page(manager.get(f"/commission-plans/{plan_id}/propose").text)
    editor = unescape(manager.post(f"/commission-plans/{plan_id}/propose", {**EXAMPLE, **form, "action": "document"}).text)
    assert '      "symbols": ["*"],\n      "direction": "any",' in editor


def test_the_margin_guard_is_tried_proposed_and_published_with_the_rules(
    office: Office, manager: Browser, finance: Browser
) -> None:
    plan_id = make_plan(office, manager)
    rich = [{"key": "lots", "component": "per_lot", "rate": "50"}]

    tried = words(manager.post(f"/commission-plans/{plan_id}/propose", typed(rich, action="try", margin_guard="cap")).text)
    assert "= Before the cap 25 USD → The deal earned, and all its payouts were cut to that 8.5 USD" in tried
    form = typed(rich, action="propose", margin_guard="cap", valid_from="2026-12-01T00:00", reason="New year")
    assert "Payouts are cut to what the deal earned." in manager.post(f"/commission-plans/{plan_id}/propose", form).text
    with office.session() as session:
        draft_id = session.scalars(select(PlanDraft.id).where(PlanDraft.plan_id == plan_id)).one()
    finance.post(f"/commission-plans/drafts/{draft_id}/approve", {})

    assert office.row(PlanVersion, office.row(PlanDraft, draft_id).version_id).margin_guard == "cap"
    assert "Payouts are cut to what the deal earned." in manager.get(f"/commission-plans/{plan_id}").text


def test_what_happens_to_rates_above_those_of_the_ib_above_is_a_setting(office: Office, finance: Browser) -> None:
    plan_id = make_plan(office, office.browser("Partner manager"))

    finance.post(f"/commission-plans/{plan_id}/cascade", {"guard": "other"})
    assert office.row(Plan, plan_id).cascade_guard == "refuse"
    finance.post(f"/commission-plans/{plan_id}/cascade", {"guard": "flag"})

    assert office.row(Plan, plan_id).cascade_guard == "flag"
    assert office.audited("plan.cascade_guard")[-1].target == f"plan:{plan_id}"


def test_who_may_only_decide_cannot_propose(office: Office, manager: Browser, finance: Browser) -> None:
    plan_id = make_plan(office, manager)

    assert finance.get(f"/commission-plans/{plan_id}/propose").status_code == 403
    assert "New plan" in manager.get("/commission-plans/").text
    seen = finance.get("/commission-plans/")
    assert seen.status_code == 200
    assert "New plan" not in seen.text
    assert office.browser("KYC reviewer").get("/commission-plans/").status_code == 403


#: A rule that says something in every part that the form has.
FULL = [
    {
        "key": "full",
        "component": "markup_points",
        "currency": "EUR",
        "when": "close",
        "levels": {"mode": "shares", "values": ["0.6", "0.3", "0.1"]},
        "cap": "50",
        "caps": {"day": "500", "month": "5000"},
        "beneficiary": "ibs",
        "tiers": {
            "measure": "active_clients",
            "period": "quarter",
            "mode": "whole",
            "basis": "previous",
            "bands": [{"from": "0", "rate": "5.5"}, {"from": "10", "rate": "6"}],
        },
        "filter": {
            "symbols": ["XAU*", "EURUSD"],
            "direction": "sell",
            "excluded_reasons": [6, 21],
            "min_holding_s": 60,
            "products": ["gone-usd"],
            "countries": ["AE", "CY"],
            "categories": ["professional"],
            "min_points": 20,
            "max_credit_percent": 40,
        },
    },
    {
        "key": "won",
        "component": "cpa",
        "rate": "400",
        "levels": ["1"],
        "filter": {"countries": ["CY"]},
        "conditions": {"first_deposit": "200", "lots": "3", "within_days": 30, "approved": False},
    },
    {"key": "month", "component": "retainer", "rate": "1500", "conditions": {"active_clients": 5}},
    {"key": "rates", "component": "per_lot", "levels": {"mode": "override", "values": ["6", "8"]}},
    {"key": "back", "component": "per_lot", "rate": "1", "beneficiary": "trader"},
]


def on_page(page: str) -> dict[str, list[str]]:
    """What the browser would send for the rules of a page as they stand there."""
    form: dict[str, list[str]] = {}
    for tag in re.findall(r"<input[^>]*>", page):
        name, value = re.search(r'name="(rules?[^"]*)"', tag), re.search(r'value="([^"]*)"', tag)
        if name and ('type="checkbox"' not in tag or "checked" in tag):
            form.setdefault(name[1], []).append(unescape(value[1]) if value else "")
    for name, options in re.findall(r'<select[^>]*name="(rules-[^"]*)"[^>]*>(.*?)</select>', page, re.DOTALL):
        chosen = re.findall(r'<option (?:selected )?value="([^"]*)"(?: selected)?>', options)
        marked = re.search(r'<option(?: selected value="([^"]*)"| value="([^"]*)" selected)', options)
        form[name] = [(marked[1] or marked[2] or "") if marked else chosen[0]]
    return form


def edited(manager: Browser, plan_id: int, form: dict[str, list[str]], action: str) -> str:
    return manager.post(f"/commission-plans/{plan_id}/propose", {**EXAMPLE, **form, "action": action}).text


def shown_rules(page: str) -> object:
    found = re.search(r'<textarea[^>]*name="rules"[^>]*>(.*?)</textarea>', page, re.DOTALL)
    assert found, words(page)
    return json.loads(unescape(found[1]))


def test_every_part_of_a_rule_is_in_the_form_and_comes_back(office: Office, manager: Browser) -> None:
    plan_id = make_plan(office, manager)
    wanted = rules_document(parse_rules(FULL, "USD"))

    page = manager.post(f"/commission-plans/{plan_id}/propose", typed(FULL, action="form")).text
    text = shown_rules(edited(manager, plan_id, on_page(page), "document"))

    assert rules_document(parse_rules(text, "USD")) == wanted


def test_rules_are_added_copied_moved_and_removed_without_losing_what_was_typed(office: Office, manager: Browser) -> None:
    plan_id = make_plan(office, manager)
    form = on_page(manager.get(f"/commission-plans/{plan_id}/propose").text)
    form["rules-0-rate"] = ["no number"]

    page = edited(manager, plan_id, form, "add")
    form = on_page(page)
    assert form["rules-0-rate"] == ["no number"]
    form["rules-1-key"] = ["second"]
    form["rules-1-component"] = ["cpa"]
    form = on_page(edited(manager, plan_id, form, "refresh"))
    assert (form["rules-1-within_days"], form["rules-1-approved"]) == (["90"], ["y"])
    page = edited(manager, plan_id, form, "up-1")
    assert [form["rules-1-key"], on_page(page)["rule"]] == [["second"], ["1", "0"]]
    page = edited(manager, plan_id, on_page(page), "duplicate-0")
    assert on_page(page)["rules-2-key"] == ["all-copy"]
    assert on_page(page)["rules-2-rate"] == ["no number"]
    page = edited(manager, plan_id, on_page(page), "remove-0")
    assert on_page(page)["rule"] == ["1", "2"]


def test_a_problem_of_a_rule_stands_beside_its_field(office: Office, manager: Browser) -> None:
    plan_id = make_plan(office, manager)
    form = on_page(manager.get(f"/commission-plans/{plan_id}/propose").text)
    form |= {"rules-0-rate": ["1000000000"], "rules-0-values": ["0.5", "0"], "rules-0-min_points": ["some"]}

    answer = manager.post(f"/commission-plans/{plan_id}/propose", {**EXAMPLE, **form, "action": "try"})

    assert answer.status_code == 422
    beside = {name: words(text) for name, text in re.findall(r'id="rules-0-(\w+)-error">(.*?)</div>', answer.text, re.DOTALL)}
    assert beside == {
        "rate": "The rate must be above 0 and at most 100,000.",
        "values": "No. 2: A share must be above 0 and at most 1.",
        "min_points": "Points are a whole number up to 1,000,000.",
    }
    assert on_page(answer.text)["rules-0-rate"] == ["1000000000"]


def test_rules_from_the_form_are_proposed_and_published(office: Office, manager: Browser) -> None:
    plan_id = make_plan(office, manager)
    form = on_page(manager.get(f"/commission-plans/{plan_id}/propose").text)
    form |= {"rules-0-rate": ["6"], "valid_from": ["2026-12-01T00:00"], "reason": ["New year"], "margin_guard": ["cap"]}

    page = edited(manager, plan_id, form, "propose")

    assert "Proposed. It counts as soon as" in words(page)
    with office.session() as session:
        draft = session.scalars(select(PlanDraft).where(PlanDraft.plan_id == plan_id)).one()
        assert (draft.rules[0]["rate"], draft.margin_guard) == ("6", "cap")


def test_rules_in_a_currency_without_rates_are_refused_with_their_place(office: Office) -> None:
    with office.session() as session:
        staff = Actor.staff(1)
        plan_id = create_plan(session, f"South Africa {office.number()}", "ZAR", staff)
        document = [{"key": "share", "component": "commission_share", "rate": "40"}]
        with pytest.raises(InvalidPlan) as refused:
            drafts.propose_version(session, plan_id, document, now(), "rand", staff)
        assert set(refused.value.problems) == {"rules[0].currency"}
        per_lot = [{"key": "lots", "component": "per_lot", "rate": "40"}]
        assert drafts.propose_version(session, plan_id, per_lot, now(), "rand", staff).status == "proposed"
