"""Addresses that Flask-AppBuilder brings along, and ones that nobody was meant to type: no way in, no error of ours."""

from __future__ import annotations

import logging

import pytest
from flask import Flask
from sqlalchemy import select, text

from app.core.tables import AuditEntry
from app.extensions import db
from app.views.guarded import BackOfficeView, ReadOnlyView

# Flask-AppBuilder's forms
pytestmark = pytest.mark.filterwarnings("ignore:'DateTimeField' renders:DeprecationWarning", "ignore:Yielding raw tuples")

TOO_LARGE = "9" * 30
STRANGE_KEYS = ("abc", TOO_LARGE, "-1", "1.5", "1'", "[1]", "%00")


def test_read_only_screens_have_no_address_that_changes_anything(app: Flask):
    read_only = {view.__class__.__name__ for view in app.appbuilder.baseviews if isinstance(view, ReadOnlyView)}
    assert len(read_only) > 15
    routes = [rule for rule in app.url_map.iter_rules() if rule.endpoint.partition(".")[0] in read_only]
    assert {rule.endpoint.partition(".")[2] for rule in routes} == {"list", "show"}
    assert all("POST" not in rule.methods for rule in routes)


def test_every_screen_is_one_of_ours(app: Flask):
    """The library's own screens would change rows without the audit trail."""
    from flask_appbuilder import ModelView

    screens = [view for view in app.appbuilder.baseviews if isinstance(view, ModelView)]
    assert [view for view in screens if not isinstance(view, ReadOnlyView | BackOfficeView)] == []
    assert [view for view in screens if view.datamodel.__class__.__name__ != "AuditedInterface"] == []


@pytest.mark.parametrize("path", ["/users/action/resetpasswords/1", "/roles/action/nonsense/1", "/clientview/action/delete/1"])
def test_a_stranger_gets_no_action_and_no_error(sign_in, path):
    stranger = sign_in(None)
    assert stranger.post(path).status_code in (302, 404)
    assert stranger.get("/users/download/x").status_code == 404


def test_unknown_actions_and_rows_are_not_found(sign_in):
    admin = sign_in("Admin")
    assert admin.post("/users/action/nonsense/1").status_code == 404
    assert admin.post("/users/action/resetpasswords/999999").status_code == 404
    assert admin.post(f"/users/action/resetpasswords/{TOO_LARGE}").status_code == 404
    assert admin.post("/roles/action_post", {"action": "copyrole", "rowid": "999999"}).status_code == 404
    assert admin.post("/roles/action_post", {"action": "nonsense"}).status_code == 404
    assert admin.post("/roles/action_post").status_code == 404


def test_every_list_opens_and_strange_keys_are_not_found(app: Flask, sign_in):
    from flask_appbuilder import ModelView

    admin = sign_in("Admin")
    for view in (view for view in app.appbuilder.baseviews if isinstance(view, ModelView)):
        assert admin.get(f"{view.route_base}/list/").status_code == 200, view
        if "can_show" in view.base_permissions:
            assert {admin.get(f"{view.route_base}/show/{key}").status_code for key in STRANGE_KEYS} == {404}, view


def test_ledger_accounts_are_listed_with_their_balance(app: Flask, sign_in):
    from app.ledger import chart

    admin = sign_in("Admin")
    with app.app_context():
        chart.open_accounts(db.session(), chart.client_wallet(1, "USD"))
        db.session.commit()
    assert "0.00 USD" in admin.get("/ledgeraccountview/list/").text


@pytest.mark.parametrize(
    "filters", [f"_flt_0_id={TOO_LARGE}", "_flt_2_email=%00", "_flt_0_id=abc", "_flt_99_id=1", "_flt_0_x=1"]
)
def test_strange_filters_are_refused_or_ignored(sign_in, filters):
    assert sign_in("Admin").get(f"/clientview/list/?{filters}").status_code in (200, 400)


def test_no_values_in_the_log_of_an_error(app: Flask, caplog):
    @app.get("/broken")
    def broken() -> str:
        db.session.execute(text("SELECT :secret FROM nowhere"), {"secret": "amira" + "@example.com"})
        return ""

    with caplog.at_level(logging.INFO):
        assert app.test_client().get("/broken").status_code == 500
    assert "nowhere" in caplog.text
    assert "amira@example.com" not in caplog.text


def test_staff_cannot_sign_in_for_a_token(app: Flask, sign_in):
    """That way in knew no limit of tries, and no form token."""
    sign_in("Admin")
    body = {"username": "admin", "password": "demo-Lotwise-1", "provider": "db"}
    assert app.test_client().post("/api/v1/security/login", json=body).status_code == 404
    assert app.test_client().post("/api/v1/security/refresh", json={}).status_code == 404


def test_groups_and_passwords_of_others_stand_in_the_audit_trail(app: Flask, sign_in):
    admin = sign_in("Admin")
    assert admin.post("/groups/add", {"name": "Night shift", "label": "Night"}).status_code == 302
    new = {"password": "another-Lotwise-2", "conf_password": "another-Lotwise-2"}
    assert admin.post("/resetpassword/form?pk=1", new).status_code == 302
    for nobody in ("999999", "abc", "", TOO_LARGE):
        assert admin.post(f"/resetpassword/form?pk={nobody}", new).status_code in (400, 404)
    with app.app_context():
        done = db.session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)).all()
    assert [action for action in done if action.startswith("ab_")] == ["ab_group.add", "ab_user.reset_password"]
