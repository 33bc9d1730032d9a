"""What rules of plans name, kept in the back office: symbol groups, and clients' categories."""

from __future__ import annotations

import re
from html import unescape

from sqlalchemy import select

from app.compliance import categories
from app.models.symbol_groups import SymbolGroup, SymbolGroupVersion
from tests.integration.views.conftest import LIBRARY_WARNINGS, Office

pytestmark = LIBRARY_WARNINGS


def words(page: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


def test_a_group_is_made_and_changed_with_its_history(office: Office) -> None:
    manager, finance = office.browser("Partner manager"), office.browser("Finance officer")
    form = {"code": "metals", "name": "Metals", "symbols": "XAU*, XAG*", "reason": "For the gold plan"}
    assert manager.post("/symbol-groups/", {**form, "symbols": ""}).status_code == 422
    assert "Saved. Rules may name the group" in manager.post("/symbol-groups/", form).text
    again = manager.post("/symbol-groups/", form)
    assert (again.status_code, "There is already a symbol group of this code." in again.text) == (422, True)
    with office.session() as session:
        group_id = session.scalars(select(SymbolGroup.id).where(SymbolGroup.code == "metals")).one()
    address = f"/symbol-groups/{group_id}"

    past = manager.post(address, {"symbols": "XAU*", "valid_from": "2026-01-01T00:00", "reason": "Too late"})
    assert "please give a moment that is still to come" in words(past.text)
    manager.post(address, {"symbols": "XAU* XAG* XPT*", "reason": "Platinum too"})

    assert "XAU*, XAG*, XPT*" in words(finance.get("/symbol-groups/").text)
    assert "Platinum too" in finance.get(address).text
    assert finance.post(address, {"symbols": "XAU*", "reason": "No"}).status_code == 403
    assert finance.get("/symbol-groups/999999").status_code == 404
    with office.session() as session:
        versions = session.scalars(select(SymbolGroupVersion).where(SymbolGroupVersion.group_id == group_id)).all()
        assert len(versions) == 2
    assert office.audited("symbol_group.changed")[-1].reason == "Platinum too"


def test_the_plan_editor_offers_the_groups(office: Office) -> None:
    manager = office.browser("Partner manager")
    manager.post("/symbol-groups/", {"code": "indices", "name": "Indices", "symbols": "US30", "reason": "Offered"})
    manager.post("/commission-plans/", {"name": "With groups", "currency": "USD"})
    page = manager.get("/commission-plans/").text
    number = re.findall(r"/commission-plans/(\d+)/propose", page)[-1]

    assert 'name="rules-0-symbol_groups" value="indices"' in manager.get(f"/commission-plans/{number}/propose").text


def test_compliance_decides_of_which_category_a_client_is(office: Office) -> None:
    compliance, partners = office.browser("Compliance officer"), office.browser("Partner manager")
    address = f"/client-categories/{office.client_id}"
    assert "Retail" in words(compliance.get(f"/clientview/show/{office.client_id}").text)
    assert compliance.post(address, {"category": "professional", "reason": " "}).status_code == 422

    assert "Saved. It holds from now on." in compliance.post(address, {"category": "professional", "reason": "Shown"}).text

    assert "of this category already" in compliance.post(address, {"category": "professional", "reason": "Again"}).text
    assert "Professional" in words(partners.get(f"/clientview/show/{office.client_id}").text)
    assert partners.post(address, {"category": "retail", "reason": "No"}).status_code == 403
    assert compliance.get("/client-categories/999999").status_code == 404
    with office.session() as session:
        assert categories.category_of(session, office.client_id) == "professional"
