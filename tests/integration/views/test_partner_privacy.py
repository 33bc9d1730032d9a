"""The page on which compliance decides what IBs see of their clients."""

from __future__ import annotations

from app.partners import privacy
from app.partners.privacy import Privacy
from tests.integration.views.conftest import LIBRARY_WARNINGS

pytestmark = LIBRARY_WARNINGS


def test_compliance_changes_the_policy_and_partner_managers_read_it(office):
    compliance, partners = office.browser("Compliance officer"), office.browser("Partner manager")
    assert "First name and initial" in partners.get("/partner-privacy/").text
    assert "/partner-privacy/edit" not in partners.get("/partner-privacy/").text
    refused = compliance.post("/partner-privacy/edit", {"names": "number"}, page="/partner-privacy/edit")
    assert refused.status_code == 422
    assert "Please check your input" in refused.text
    saved = compliance.post(
        "/partner-privacy/edit", {"names": "number", "shows_email": "y", "reason": "New rules"}, page="/partner-privacy/edit"
    )
    assert "Saved. It holds from now on." in saved.text
    assert "New rules" in saved.text
    with office.session() as session:
        assert privacy.current_privacy(session) == Privacy(names="number", shows_email=True, shows_lots=False)
    again = compliance.post(
        "/partner-privacy/edit", {"names": "number", "shows_email": "y", "reason": "Again"}, page="/partner-privacy/edit"
    )
    assert again.status_code == 409
    assert "This holds already." in again.text
