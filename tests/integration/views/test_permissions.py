"""Rights: the built-in roles are what the code says, and each page opens exactly for those who have its permission."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import pytest
from flask import Flask
from sqlalchemy import func, select
from werkzeug.routing import Rule

from app.core.tables import AuditEntry
from app.models.security import User
from app.security import permissions
from app.security.roles import ROLES
from tests.integration.views.conftest import LIBRARY_WARNINGS, TWO_RIGHTS, Office

pytestmark = LIBRARY_WARNINGS

#: Pages that need no permission: where one signs in and out, chooses a language, and the start page (which asks by itself).
OPEN = {"HomeView.index", "UtilView.back", "LocaleView.index", "AuthDBView.login", "AuthDBView.logout"}
EVERY_ROLE = ("Admin", *ROLES, TWO_RIGHTS[0])


def rights_of(office: Office, role: str) -> set[tuple[str, str]]:
    with office.app.app_context():
        found = office.app.appbuilder.sm.find_role(role).permissions
        return {(permission.permission.name, permission.view_menu.name) for permission in found}


def office_rules(app: Flask, method: str) -> Iterator[tuple[Rule, tuple[str, str]]]:
    """Each route of the back office with the permission that opens it."""
    views = {view.endpoint: view for view in app.appbuilder.baseviews}
    for rule in app.url_map.iter_rules():
        view = views.get(rule.endpoint.rpartition(".")[0])
        if view is None or rule.endpoint in OPEN or method not in rule.methods or not hasattr(view, "base_permissions"):
            continue
        function = getattr(view, rule.endpoint.rpartition(".")[2])
        name = getattr(function, "_permission_name", None)
        if name is not None:
            yield rule, (f"can_{name}", view.class_permission_name)


def address(rule: Rule) -> str:
    return re.sub(r"<[^>]+>", "1", str(rule))


def test_sync_is_idempotent_and_quiet(office):
    with office.session() as session:
        before = session.scalar(select(func.count()).select_from(AuditEntry))
    first = permissions.sync(office.app)
    assert permissions.sync(office.app) == first == {name: len(set(rights)) for name, rights in ROLES.items()}
    with office.session() as session:
        assert session.scalar(select(func.count()).select_from(AuditEntry)) == before


@pytest.mark.parametrize("role", ROLES)
def test_built_in_role_is_what_the_code_says(office, role):
    assert rights_of(office, role) == set(ROLES[role])


def test_sync_mends_a_changed_role_and_leaves_other_roles_alone(office):
    with office.app.app_context():
        manager = office.app.appbuilder.sm
        manager.add_permission_role(manager.find_role("KYC reviewer"), manager.find_permission_view_menu("can_edit", "Servers"))
        manager.session.remove()
    assert ("can_edit", "Servers") in rights_of(office, "KYC reviewer")
    permissions.sync(office.app)
    assert rights_of(office, "KYC reviewer") == set(ROLES["KYC reviewer"])
    assert rights_of(office, TWO_RIGHTS[0]) == set(TWO_RIGHTS[1])
    entry = office.audited("role.sync")[-1]
    assert "can edit on Servers" in entry.before["permissions"]
    assert "can edit on Servers" not in entry.after["permissions"]


def test_admin_has_every_permission_and_nobody_else_has_those_of_the_public(office):
    with office.app.app_context():
        manager = office.app.appbuilder.sm
        every = {str(one) for one in manager.session.scalars(select(manager.permissionview_model))}
        assert {str(one) for one in manager.find_role("Admin").permissions} == every
        assert manager.find_role("Public").permissions == []


def test_menus_have_no_permissions_of_their_own(office):
    with office.app.app_context():
        assert office.app.appbuilder.sm.find_permission("menu_access") is None


def test_no_two_views_share_a_permission_name(office):
    names = Counter(view.class_permission_name for view in office.app.appbuilder.baseviews)
    assert [name for name, count in names.items() if count > 1] == []


def test_every_office_page_asks_for_a_permission(office):
    views = {view.endpoint for view in office.app.appbuilder.baseviews}
    guarded = {rule.endpoint for method in ("GET", "POST") for rule, _ in office_rules(office.app, method)}
    # The two that carry out actions ask for the action's own permission.
    acting = {f"{view}.{name}" for view in views for name in ("action", "action_post")}
    known = {
        rule.endpoint
        for rule in office.app.url_map.iter_rules()
        if rule.endpoint.rpartition(".")[0] in views and not rule.endpoint.startswith("MenuApi.")
    }
    assert known - guarded - acting == OPEN


@pytest.mark.parametrize("role", EVERY_ROLE)
def test_pages_open_exactly_for_those_who_may(office, role):
    rights, browser = rights_of(office, role), office.browser(role)
    wrong = []
    for rule, right in office_rules(office.app, "GET"):
        if rule.endpoint.endswith(".delete"):
            continue  # nobody may delete by GET: test_hazards
        status = browser.get(address(rule)).status_code
        if status not in ((200, 404) if right in rights else (302, 403)):
            wrong.append((rule.endpoint, right, status))
    assert wrong == []


@pytest.mark.parametrize("role", EVERY_ROLE)
def test_posts_are_refused_to_those_who_may_not(office, role):
    rights, browser = rights_of(office, role), office.browser(role)
    token = browser.token("/")
    wrong = []
    for rule, right in office_rules(office.app, "POST"):
        if right not in rights:
            answer = browser.http.post(address(rule), data={"csrf_token": token})
            # Back to where one signs in; a page that did what was asked leads elsewhere.
            if answer.status_code != 403 and not answer.headers.get("Location", "").startswith("/login/"):
                wrong.append((rule.endpoint, right, answer.status_code))
    assert wrong == []


@pytest.mark.parametrize("role", EVERY_ROLE)
def test_the_rail_shows_exactly_the_pages_that_open(office, role):
    browser = office.browser(role)
    with office.app.test_request_context():
        menus = {item.get_url() for desk in office.app.appbuilder.menu.get_list() for item in desk.childs}
    shown = set(re.findall(r'class="rail-item" href="([^"]+)"', browser.get("/").text))
    opening = {url for url in menus if browser.get(url).status_code == 200}
    assert shown == opening
    assert role != TWO_RIGHTS[0] or len(shown) == 2


def test_nobody_signed_in_opens_nothing(office):
    http = office.app.test_client()
    for rule, _ in office_rules(office.app, "GET"):
        if not rule.endpoint.endswith(".delete"):
            answer = http.get(address(rule))
            assert (answer.status_code == 302 and "/login/" in answer.headers["Location"]) or answer.status_code == 401, rule


def test_who_is_made_inactive_is_out_at_once(office):
    browser = office.browser("Second reviewer")
    assert browser.get("/documents/").status_code == 200
    with office.session() as session:
        user = session.scalars(select(User).where(User.username == "second-reviewer")).one()
        user.active = False
        session.commit()
        assert browser.get("/documents/").status_code == 302
        user.active = True
        session.commit()


@pytest.mark.parametrize("role", EVERY_ROLE[:-1])
def test_everybody_can_see_the_own_profile_and_change_the_own_password(office, role):
    browser = office.browser(role)
    assert browser.get("/users/userinfo/").status_code == 200
    assert browser.get("/resetmypassword/form").status_code == 200
