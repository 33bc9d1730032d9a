"""The queue of suspicions in the back office: evidence, a decision with a reason, what is looked for."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from app.commissions import flags
from app.core.uow import unit_of_work
from app.models.commission_flags import CommissionFlag, FlagSetting
from tests.integration.views.conftest import LIBRARY_WARNINGS, Browser, Office
from tests.integration.views.test_ib_terms_page import STAFF, make_ib
from tests.integration.views.test_plans import words

pytestmark = LIBRARY_WARNINGS


@pytest.fixture
def manager(office: Office) -> Browser:
    return office.browser("Partner manager")


@pytest.fixture
def compliance(office: Office) -> Browser:
    return office.browser("Compliance officer")


def raised(office: Office, kind: str, **details: Any) -> int:
    """A flag about a new IB."""
    ib_id, _ = make_ib(office)
    key = f"{ib_id}:test"
    with office.session() as session:
        with unit_of_work(session, STAFF):
            flags.raise_flags(session, [flags.Suspicion(kind, key, ib_id, details)])
        return session.query(CommissionFlag).filter_by(kind=kind, key=key).one().id


def test_a_suspicion_shows_its_evidence_and_is_dismissed_with_a_reason(office: Office, manager: Browser) -> None:
    flag_id = raised(office, "same_device", clients=[office.client_id], address="192.0.2.9", user_agent="<b>Firefox</b>")
    address = f"/commission-flags/{flag_id}"

    page = manager.get(address)
    assert "Elena Rossi" in words(page.text)
    assert "192.0.2.9" in page.text
    assert "<b>Firefox" not in page.text
    manager.post(f"{address}/dismissed", {"reason": " "})
    assert office.row(CommissionFlag, flag_id).status == "open"
    manager.post(f"{address}/dismissed", {"reason": "A family in one house"})

    assert office.row(CommissionFlag, flag_id).status == "dismissed"
    assert "A family in one house" in manager.get(address).text
    assert "decided about this already" in manager.post(f"{address}/confirmed", {"reason": "No"}).text
    assert f"/commission-flags/{flag_id}" not in manager.get("/commission-flags/").text
    assert f"/commission-flags/{flag_id}" in manager.get("/commission-flags/?state=dismissed&kind=same_device").text
    assert office.audited("commission_flag.dismissed")[-1].reason == "A family in one house"


@pytest.mark.parametrize(
    ("kind", "details", "shown"),
    [
        ("margin", {"deals": [], "earned": "2.0000000000", "paid": "7", "currency": "USD"}, "It earned 2 USD It pays 7 USD"),
        ("cascade", {"ibs": [1, 2], "plan_id": 1, "rule": "fx", "rate": "9", "rate_above": "8"}, "Its rate 9"),
        ("self_referral", {"clients": [], "same": ["phone", "person"]}, "phone, name and day of birth"),
        ("same_address", {"clients": [], "what": "postal", "address": "1 main st"}, "Postal address 1 main st"),
        ("same_card", {"clients": [], "connector": "stripe", "deposits": [7, 8]}, "Stripe: #7, #8"),
        ("hedged", {"accounts": [], "clients": [], "pairs": []}, "trade against each other"),
    ],
)
def test_every_kind_has_a_page(office: Office, manager: Browser, kind: str, details: dict[str, Any], shown: str) -> None:
    assert shown in words(manager.get(f"/commission-flags/{raised(office, kind, **details)}").text)


def test_the_list_is_filtered_and_exported(office: Office, manager: Browser) -> None:
    flag_id = raised(office, "same_device", clients=[1])

    assert f"/commission-flags/{flag_id}" in manager.get("/commission-flags/?kind=same_device").text
    assert f"/commission-flags/{flag_id}" not in manager.get("/commission-flags/?kind=margin").text
    assert "choose one of the list" in manager.get("/commission-flags/?kind=other").text
    assert "same_device" in manager.get("/commission-flags/?export=csv").text
    assert manager.get("/commission-flags/999999").status_code == 404


def test_compliance_says_what_is_looked_for(office: Office, manager: Browser, compliance: Browser) -> None:
    assert manager.get("/commission-flags/settings").status_code == 403
    assert "Accounts that trade against each other" in compliance.get("/commission-flags/settings").text

    refused = compliance.post("/commission-flags/settings/hedged", {"is_on": "y", "window_s": "-1", "tolerance_percent": "5"})
    assert refused.status_code == 422
    compliance.post("/commission-flags/settings/hedged", {"is_on": "y", "window_s": "30", "tolerance_percent": "2.5"})
    compliance.post("/commission-flags/settings/same_address", {})

    hedged = office.row(FlagSetting, "hedged")
    assert (hedged.is_on, hedged.window_s, hedged.tolerance_percent) == (True, 30, Decimal("2.50"))
    assert not office.row(FlagSetting, "same_address").is_on
    compliance.post("/commission-flags/settings/same_address", {"is_on": "y"})
    assert office.row(FlagSetting, "same_address").is_on
    assert compliance.post("/commission-flags/settings/other", {}).status_code == 404
