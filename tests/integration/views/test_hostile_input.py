"""What nobody types but somebody sends: it is refused with its reason, and breaks nothing."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from app.models.commissions import Plan
from tests.integration.views.conftest import LIBRARY_WARNINGS, Browser, Office
from tests.integration.views.test_plans import EXAMPLE, make_plan

pytestmark = LIBRARY_WARNINGS

LONG_NUMBER = '[{"key": "fx", "component": "per_lot", "rate": 1' + "0" * 5000 + "}]"
DEEP = "[" * 100_000


@pytest.fixture(scope="module")
def manager(office: Office) -> Browser:
    return office.browser("Partner manager")


@pytest.fixture(scope="module")
def plan_id(office: Office, manager: Browser) -> int:
    return make_plan(office, manager)


@pytest.mark.parametrize(("rules", "words"), [(LONG_NUMBER, "too many digits"), (DEEP, "nested too deeply")])
def test_rules_that_python_cannot_read(manager: Browser, plan_id: int, rules: str, words: str) -> None:
    for page, data in (
        (f"/commission-plans/{plan_id}/propose", {**EXAMPLE, "rules": rules, "action": "try"}),
        (f"/plan-simulations/plan/{plan_id}", {"rules": rules, "margin_guard": "off", "days": "9"}),
    ):
        answer = manager.post(page, data, page=page)
        assert (answer.status_code, words in answer.text) == (422, True), page


@pytest.mark.parametrize("number", ["²", "9" * 5000, "-1"])
def test_a_place_of_a_rule_that_is_none(manager: Browser, plan_id: int, number: str) -> None:
    page = f"/commission-plans/{plan_id}/propose"
    assert manager.post(page, {**EXAMPLE, "rule": number, "action": "try"}, page=page).status_code == 422


def test_a_rule_too_many_is_refused_and_not_left_out(manager: Browser, plan_id: int) -> None:
    page = f"/commission-plans/{plan_id}/propose"
    numbers = [str(number) for number in range(101)]
    rules = {f"rules-{number}-key": f"r{number}" for number in numbers}
    answer = manager.post(page, {**EXAMPLE, **rules, "rule": numbers, "action": "try"}, page=page)
    assert (answer.status_code, "100 rules at most" in answer.text) == (422, True)


@pytest.mark.parametrize("number", ["NaN", "sNaN", "-Infinity", "1e999999999"])
def test_what_is_no_number(office: Office, manager: Browser, plan_id: int, number: str) -> None:
    page = f"/commission-plans/{plan_id}/propose"
    rules = '[{"key": "fx", "component": "per_lot", "rate": "1"}]'
    for name in ("profit", "lots", "stands"):
        answer = manager.post(page, {**EXAMPLE, "rules": rules, "action": "try", name: number}, page=page)
        assert answer.status_code == 422, name
    compliance = office.browser("Compliance officer")
    hedged = {"is_on": "y", "window_s": "5", "tolerance_percent": number}
    page = "/commission-flags/settings"
    assert compliance.post("/commission-flags/settings/hedged", hedged, page=page).status_code == 422


def test_a_picture_that_is_sent_as_text(manager: Browser) -> None:
    data = {"title": "x", "kind": "image", "language": "en", "words": "", "file": "../../etc/passwd"}
    answer = manager.post("/marketing-material/add", data)
    assert (answer.status_code, "Please choose a picture." in answer.text) == (422, True)


def test_nothing_was_kept(office: Office, plan_id: int) -> None:
    with office.session() as session:
        assert session.scalars(select(Plan).where(Plan.id == plan_id)).one().settle_every == "minutes"
