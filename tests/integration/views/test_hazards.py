"""What Flask-AppBuilder does wrong by itself, and must not do here: saved refusals, leaked SQL, changes by GET, no audit."""

from __future__ import annotations

import pytest
from sqlalchemy import select
from werkzeug.security import check_password_hash

from app.extensions import db
from app.models.metatrader import Product, Server
from app.models.security import User
from tests.integration.views.conftest import LIBRARY_WARNINGS, TWO_RIGHTS

pytestmark = LIBRARY_WARNINGS

EDIT = {"name": "Standard", "description": "", "group": r"real\std\usd", "leverages": "100", "is_open": "y"}
ADD = EDIT | {"server": "1", "currency": "USD"}


@pytest.fixture
def committing(office):
    """A later part of the same request commits, as an after_request might; it must find nothing to save."""
    functions = office.app.after_request_funcs.setdefault(None, [])

    def commit(response):
        db.session.commit()
        return response

    functions.append(commit)
    yield
    functions.remove(commit)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("leverages", "100, 9000", "Each leverage must lie between 1 and 5000."),
        ("leverages", "many", "Please give whole numbers with commas between"),
        ("name", "", "required"),
    ],
)
def test_a_refused_edit_leaves_no_trace_and_loses_no_input(office, committing, field, value, words):
    path = f"/productview/edit/{office.product_id}"
    typed = EDIT | {"description": "Typed at length", field: value}
    page = office.browser("Operator").post(path, typed, page=path).text
    assert words in page
    assert "Typed at length" in page
    assert not value or f'value="{value}"' in page
    assert office.row(Product, office.product_id).description == ""
    assert office.row(Product, office.product_id).leverages == [100]


def test_a_refused_add_leaves_no_trace(office, committing):
    page = office.browser("Operator").post(
        "/productview/add", ADD | {"code": "unknown-money", "currency": "QQQ"}, page="/productview/add"
    )
    assert "This currency is not known." in page.text
    assert 'value="unknown-money"' in page.text
    with office.session() as session:
        assert session.scalars(select(Product).where(Product.code == "unknown-money")).all() == []


@pytest.mark.parametrize("code", ["std", "x" * 41])
def test_database_errors_show_no_statement(office, code):
    page = office.browser("Operator").post("/productview/add", ADD | {"code": code, "name": "Twin"}, page="/productview/add")
    assert page.status_code == 200
    for leak in ("INSERT", "psycopg", "parameters", "DETAIL", "product_code", "Traceback"):
        assert leak not in page.text
    assert 'value="Twin"' in page.text
    with office.session() as session:
        assert len(session.scalars(select(Product)).all()) == len(session.scalars(select(Product.code).distinct()).all())
        assert session.scalars(select(Product).where(Product.name == "Twin")).all() == []


@pytest.mark.parametrize("view", ["depositview", "ledgertransactionview", "auditview", "dealview", "eventview"])
@pytest.mark.parametrize("action", ["add", "edit/1", "delete/1", "action/muldelete/1", "action_post"])
def test_read_only_views_refuse_every_change_also_for_admin(office, view, action):
    answer = office.browser("Admin").http.post(
        f"/{view}/{action}", data={"csrf_token": office.browser("Admin").token("/"), "action": "muldelete", "rowid": "1"}
    )
    assert answer.status_code in (302, 403, 404, 405)
    assert answer.status_code != 302 or answer.headers["Location"] in ("/", "/login/")


@pytest.mark.parametrize(
    "path",
    [
        "/productview/delete/{product}",
        "/documents/{document}/approve",
        "/documents/{document}/reject",
        "/withdrawals/{withdrawal}/approve",
        "/withdrawals/{withdrawal}/reject",
        "/roles/delete/1",
        "/roles/action/copyrole/1",
        "/users/action/resetpasswords/1",
    ],
)
def test_changes_need_a_post_with_a_token(office, waiting, path):
    path, admin = path.format(**waiting), office.browser("Admin")
    assert admin.get(path).status_code in (302, 404, 405)
    assert admin.bare_post(path, {"reason": "because"}).status_code == 400
    assert admin.bare_post(path, {"reason": "because", "csrf_token": "made-up"}).status_code == 400
    assert office.row(Product, waiting["product"]) is not None
    with office.session() as session:
        assert session.scalars(select(User.id)).all()
    assert all(not entry.target.endswith(f":{waiting['document']}") for entry in office.audited("document.approved"))
    assert all(not entry.target.endswith(f":{waiting['withdrawal']}") for entry in office.audited("withdrawal.approve"))


@pytest.fixture(scope="module")
def waiting(office):
    return {"product": office.product_id, "document": office.document(), "withdrawal": office.withdrawal()}


def test_add_edit_and_delete_stand_in_the_audit_trail(office):
    operator, code = office.browser("Operator"), f"p{office.number()}"
    assert operator.post("/productview/add", ADD | {"code": code}, page="/productview/add").status_code == 200
    with office.session() as session:
        key = session.scalars(select(Product.id).where(Product.code == code)).one()
    added = office.audited("product.add")[-1]
    assert (added.target, added.before, added.after["code"]) == (f"product:{key}", None, code)
    path = f"/productview/edit/{key}"
    operator.post(path, EDIT | {"name": "Renamed", "leverages": "30, 100"}, page=path)
    edited = office.audited("product.edit")[-1]
    assert (edited.before["name"], edited.after["name"]) == ("Standard", "Renamed")
    assert (edited.before["leverages"], edited.after["leverages"]) == ([100], [30, 100])
    operator.post(path, {name: value for name, value in EDIT.items() if name != "is_open"}, page=path)
    assert office.row(Product, key).is_open is False
    operator.post(path, EDIT | {"name": "Renamed", "description": "Now with words"}, page=path)
    assert office.row(Product, key).is_open is True
    office.browser("Admin").post(f"/productview/delete/{key}")
    deleted = office.audited("product.delete")[-1]
    assert (deleted.target, deleted.before["name"], deleted.after) == (f"product:{key}", "Renamed", None)
    assert office.row(Product, key) is None
    assert deleted.address.startswith("192.0.2.")


def test_a_row_in_use_is_not_deleted(office):
    page = office.browser("Admin").post("/serverview/delete/1")
    assert "This row is used elsewhere" in page.text
    assert office.row(Server, 1) is not None


def test_users_are_audited_without_their_passwords(office):
    admin, name = office.browser("Admin"), f"new{office.number()}"
    with office.app.app_context():
        role = office.app.appbuilder.sm.find_role("KYC reviewer").id
    person = {"first_name": "Nora", "last_name": "New", "username": name, "active": "y", "email": f"{name}@example.com"}
    secret = "Quiet-harbour-17"
    page = admin.post(
        "/users/add", person | {"roles": str(role), "password": secret, "conf_password": secret}, page="/users/add"
    )
    assert name in page.text
    with office.session() as session:
        user = session.scalars(select(User).where(User.username == name)).one()
        assert check_password_hash(user.password, secret)
        key = user.id
    added = office.audited("ab_user.add")[-1]
    assert added.after["roles"] == ["KYC reviewer"]
    admin.post(f"/users/edit/{key}", person | {"roles": str(role), "last_name": "Newer"}, page=f"/users/edit/{key}")
    edited = office.audited("ab_user.edit")[-1]
    assert (edited.before["last_name"], edited.after["last_name"]) == ("New", "Newer")
    path = f"/resetpassword/form?pk={key}"
    admin.post(path, {"password": secret + "8", "conf_password": secret + "8"}, page=path)
    assert office.audited("ab_user.reset_password")[-1].target == f"ab_user:{key}"
    admin.post(f"/users/delete/{key}")
    assert office.audited("ab_user.delete")[-1].target == f"ab_user:{key}"
    for action in ("add", "edit", "delete", "reset_password"):
        for entry in office.audited(f"ab_user.{action}"):
            said = f"{entry.before} {entry.after}"
            assert "password" not in said
            assert "scrypt" not in said
            assert secret not in said


def test_roles_are_audited_with_their_permissions(office):
    admin, name = office.browser("Admin"), f"Role {office.number()}"
    with office.app.app_context():
        manager = office.app.appbuilder.sm
        first, second = (manager.find_permission_view_menu("can_list", view).id for view in ("Deals", "Mails"))
    admin.post("/roles/add", {"name": name, "permissions": [str(first)]}, page="/roles/add")
    added = office.audited("ab_role.add")[-1]
    assert added.after["permissions"] == ["can list on Deals"]
    key = added.after["id"]
    admin.post(f"/roles/edit/{key}", {"name": name, "permissions": [str(second)]}, page=f"/roles/edit/{key}")
    edited = office.audited("ab_role.edit")[-1]
    assert (edited.before["permissions"], edited.after["permissions"]) == (["can list on Deals"], ["can list on Mails"])
    admin.post(f"/roles/delete/{key}")
    assert office.audited("ab_role.delete")[-1].before["name"] == name


def test_roles_in_use_and_oneself_are_not_deleted(office):
    admin = office.browser("Admin")
    with office.app.app_context():
        manager = office.app.appbuilder.sm
        built_in, used = manager.find_role("Operator").id, manager.find_role(TWO_RIGHTS[0]).id
        myself = manager.find_user("admin").id
    assert "is built in" in admin.post(f"/roles/delete/{built_in}").text
    assert "still has members" in admin.post(f"/roles/delete/{used}").text
    assert "yourself" in admin.post(f"/users/delete/{myself}").text
    with office.app.app_context():
        assert office.app.appbuilder.sm.find_role(TWO_RIGHTS[0]).permissions
        assert office.app.appbuilder.sm.find_user("admin")


def test_filters_and_sorting_stay_in_the_address(office):
    page = office.browser("Operator").get("/productview/list/?_flt_3_code=std&_oc_ProductView=name&_od_ProductView=asc")
    assert page.status_code == 200
    assert "Standard" in page.text
    assert office.browser("Operator").get("/productview/list/?_flt_3_code=nowhere").status_code == 200
