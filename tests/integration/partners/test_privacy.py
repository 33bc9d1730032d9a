"""What IBs may see of their clients: a policy that is never overwritten, and names by it."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from app.core.actor import Actor
from app.core.errors import InvalidInput
from app.core.tables import AuditEntry
from app.models.clients import Client
from app.partners import privacy
from app.partners.errors import NothingToChange
from app.partners.privacy import Privacy

STAFF = Actor.staff(1)
AMIRA = Client(id=7, first_name="Amira", last_name="Haddad")


@pytest.mark.parametrize(
    ("policy", "own", "sub"),
    [
        (Privacy(), "Amira H.", ""),
        (Privacy(names="full"), "Amira Haddad", ""),
        (Privacy(names="full", shows_sub_clients=True), "Amira Haddad", "Amira Haddad"),
        (Privacy(shows_sub_clients=True), "Amira H.", "Amira H."),
        (Privacy(names="number", shows_sub_clients=True), "", ""),
    ],
)
def test_names(policy, own, sub):
    assert (policy.name(AMIRA), policy.name(AMIRA, is_own=False)) == (own, sub)


def test_a_policy_holds_from_its_change_on_and_leaves_a_trail(session):
    assert privacy.current_privacy(session) == Privacy()
    wanted = Privacy(names="number", shows_email=True, shows_lots=False)
    privacy.set_privacy(session, wanted, " The regulator  asks for it ", STAFF)
    assert privacy.current_privacy(session) == wanted
    privacy.set_privacy(session, Privacy(), "Back again", STAFF)
    assert privacy.current_privacy(session) == Privacy()
    assert [row.reason for row in privacy.privacy_history(session)] == ["Back again", "The regulator asks for it"]
    entry = session.scalars(select(AuditEntry).where(AuditEntry.action == "partner_privacy.changed")).first()
    assert (entry.before["names"], entry.after["names"], entry.reason) == ("short", "number", "The regulator asks for it")


@pytest.mark.parametrize(("wanted", "reason"), [(Privacy(names="all"), "Why not"), (Privacy(names="full"), "  ")])
def test_a_wrong_choice_or_no_reason_is_refused(session, wanted, reason):
    with pytest.raises(InvalidInput):
        privacy.set_privacy(session, wanted, reason, STAFF)
    assert privacy.current_privacy(session) == Privacy()


def test_what_holds_already_is_no_change(session):
    with pytest.raises(NothingToChange):
        privacy.set_privacy(session, Privacy(), "To be sure", STAFF)
