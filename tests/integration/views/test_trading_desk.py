"""Trading desk: products and their server, accounts and their changes, rules by country, binding and imports of logins."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal

import pytest
from sqlalchemy import delete, select, update

from app.clients.countries import country_names
from app.core.actor import Actor
from app.core.clock import now
from app.core.uow import unit_of_work
from app.metatrader import change_sending, import_reading, importing, rules, takeover
from app.metatrader.accounts import VAULT_PURPOSE
from app.metatrader.platforms.mt5_web import MT5WebPlatform
from app.metatrader.rules import Draft
from app.metatrader.simulator import Simulator
from app.models.clients import Client
from app.models.metatrader import AccountChange, Product, Server, TradingAccount, TradingRule
from app.models.trading_desk import LoginImport, LoginImportRow
from tests.integration.trading.house import PASSWORD, QUICK, USER, access
from tests.integration.views.conftest import LIBRARY_WARNINGS, Office, an_office, open_dialog

pytestmark = LIBRARY_WARNINGS
OPERATOR, COMPLIANCE, NOTHING = "Operator", "Compliance officer", "Partner manager"
STAFF = Actor.staff(1)
EDIT = {
    "name": "Standard", "description": "", "group": r"real\std\usd", "leverages": "100, 200", "margin_mode": "hedging",
    "is_open": "y",
}  # fmt: skip


@dataclass
class Desk:
    """An office whose trading server is a running simulator."""

    office: Office
    simulator: Simulator
    platform: MT5WebPlatform
    server_id: int

    def account(self, **values) -> int:
        """A new account of the office's client with a login at the simulator."""
        login = self.simulator.control.users.add(USER).login
        with self.office.session() as session, unit_of_work(session, STAFF):
            given = {"product_id": self.office.product_id, "currency": "USD", "leverage": 100, "status": "active"}
            account = TradingAccount(
                client_id=self.office.client_id, server_id=self.server_id, login=login, token=f"A-{login:013d}",
                opened_at=now(), **{**given, **values},
            )  # fmt: skip
            session.add(account)
            session.flush()
            return account.id

    def product(self, code: str, **values) -> int:
        with self.office.session() as session, unit_of_work(session, STAFF):
            given = {"name": code, "group": r"real\std\usd", "currency": "USD", "leverages": [100]}
            product = Product(code=code, server_id=self.server_id, **{**given, **values})
            session.add(product)
            session.flush()
            return product.id

    def changes(self, account_id: int) -> list[AccountChange]:
        with self.office.session() as session:
            found = session.scalars(
                select(AccountChange).where(AccountChange.trading_account_id == account_id).order_by(AccountChange.id)
            ).all()
            session.expunge_all()
            return list(found)

    def send(self, change_id: int) -> str:
        from app.core.crypto import Vault

        with self.office.session() as session:
            vault = Vault(self.office.database.settings.document_key, VAULT_PURPOSE)
            return change_sending.send_change(session, self.platform, vault, change_id)


@pytest.fixture(scope="module")
def desk(template, tmp_path_factory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("desk")
    with an_office(template, folder) as office, running(folder) as simulator:
        with office.session() as session:
            server_id = session.scalars(select(Server.id)).one()
            session.execute(
                update(Server).values(
                    url=simulator.url, manager_login=simulator.manager_login, time_zone="GMT+2/EU", name="Lotwise-Demo"
                )
            )
            session.commit()
        office.app.extensions["settings"] = replace(
            office.app.extensions["settings"], mt5_password=PASSWORD, mt5_ca_file=str(simulator.ca_file)
        )
        with MT5WebPlatform(access(simulator), timeouts=QUICK) as platform:
            yield Desk(office, simulator, platform, server_id)


@contextmanager
def running(folder) -> Iterator[Simulator]:
    with Simulator(state_dir=folder / "server", password=PASSWORD, tick_s=0) as simulator:
        yield simulator


@pytest.fixture
def ruleless(desk: Desk) -> Iterator[None]:
    yield
    with desk.office.session() as session:
        session.execute(delete(TradingRule))
        session.commit()


def show(account_id: int) -> str:
    return f"/tradingaccountview/show/{account_id}"


def change(desk: Desk, account_id: int, kind: str, role: str = OPERATOR, **values):
    path = f"/trading-accounts/{account_id}/change/{kind}"
    return desk.office.browser(role).post(path, {"reason": "asked by telephone", **values}, page=show(account_id))


# Products


def test_a_product_has_all_its_columns(desk):
    operator = desk.office.browser(OPERATOR)
    page = operator.post(
        "/productview/add",
        EDIT
        | {
            "code": "practice", "server": str(desk.server_id), "currency": "USD", "group": r"demo\forex\usd", "is_demo": "y",
            "demo_deposit": "10,000", "is_swap_free": "y", "margin_mode": "hedging",
        },
        page="/productview/add",
    )  # fmt: skip
    assert "Added." in page.text
    with desk.office.session() as session:
        made = session.scalars(select(Product).where(Product.code == "practice")).one()
        assert (made.demo_deposit_minor, made.is_swap_free, made.is_cent, made.margin_mode) == (
            1_000_000,
            True,
            False,
            "hedging",
        )
        key = made.id
    assert "10,000.00 USD" in operator.get(f"/productview/show/{key}").text
    edit = f"/productview/edit/{key}"
    assert 'value="10000.00"' in operator.get(edit).text
    operator.post(edit, EDIT | {"group": r"demo\forex\usd", "demo_deposit": "", "margin_mode": "netting"}, page=edit)
    assert (desk.office.row(Product, key).demo_deposit_minor, desk.office.row(Product, key).margin_mode) == (0, "netting")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"demo_deposit": "100"}, "Only a product for practice begins with practice money."),
        ({"demo_deposit": "ten"}, "This is not a valid amount."),
        ({"demo_deposit": "-5"}, "Please give an amount above zero, or none."),
        ({"is_cent": "y"}, "A cent account needs a cent currency"),
        ({"group": r"real\*"}, "Please name one group"),
        ({"margin_mode": "other"}, "Not a valid choice"),
    ],
)
def test_products_that_cannot_be(desk, changes, words):
    path = f"/productview/edit/{desk.office.product_id}"
    page = desk.office.browser(OPERATOR).post(path, EDIT | {"description": "kept"} | changes, page=path)
    assert words in page.text
    assert "kept" in page.text
    assert desk.office.row(Product, desk.office.product_id).description == ""


def test_products_are_compared_with_their_server(desk):
    fits = desk.product("fits")
    wrong = [
        desk.product("nowhere", group=r"real\nowhere"),
        desk.product("euro", group=r"real\std\eur"),
        desk.product("netted", margin_mode="netting"),
        desk.product("for-practice", group=r"demo\forex\usd"),
    ]
    operator = desk.office.browser(OPERATOR)
    page = operator.post("/productview/action_post", {"action": "check", "rowid": [str(key) for key in (fits, *wrong)]})
    for words in (
        r"nowhere: The server has no group real\nowhere.",
        "euro: The group&#39;s currency is EUR, the product says USD.",
        "netted: The group holds positions by hedging, the product says netting.",
        "for-practice: By its name the group is one for practice, the product is not.",
        "1 product fits its server.",
    ):
        assert words in page.text
    page = operator.post(f"/productview/action/check/{fits}")
    assert "1 product fits its server." in page.text
    assert "fits its" not in desk.office.browser(COMPLIANCE).post(f"/productview/action/check/{fits}").text


# Accounts


def test_the_page_of_an_account(desk):
    account_id = desk.account(balance=Decimal("12.50"), rights=0x163, group=r"real\std\usd")
    page = desk.office.browser(OPERATOR).get(show(account_id)).text
    for words in (
        "12.50",
        r"real\std\usd",
        "may sign in, robots allowed",
        "Elena Rossi",
        "no rule caps it",
        "Nothing was changed yet",
    ):
        assert words in page
    for words in ("Leverage …", "Group …", "Disable …", "Archive …"):
        assert words in page
    assert "Restore …" not in page
    looks = desk.office.browser(COMPLIANCE).get(show(account_id)).text
    assert "Disable …" not in looks
    assert desk.office.browser(OPERATOR).get(show(999_999)).status_code == 404


def test_a_change_from_the_wish_to_the_server(desk):
    account_id = desk.account()
    page = change(desk, account_id, "leverage", leverage="1:50")
    assert "The trading server is asked for this now." in page.text
    assert "Leverage: under way since" in page.text
    assert "Disable …" not in page.text  # one thing at a time
    (made,) = desk.changes(account_id)
    assert (made.kind, made.before, made.after, made.reason) == ("leverage", "100", "50", "asked by telephone")
    assert desk.send(made.id) == "done"
    page = desk.office.browser(OPERATOR).get(show(account_id)).text
    assert "100 → 50" in page
    assert "under way" not in page
    entry = desk.office.audited("account_change.leverage")[-1]
    assert (entry.target, entry.reason) == (f"trading_account:{account_id}", "asked by telephone")


def test_a_refusal_keeps_what_was_typed(desk, ruleless):
    account_id = desk.account()
    with desk.office.session() as session:
        rules.save_rule(
            session,
            Draft("ESMA", ("IT",), 30, protects_negative_balance=True, valid_from=date(2019, 9, 27)),
            actor=STAFF,
            reason="x",
        )
    page = change(desk, account_id, "leverage", leverage="77")
    assert page.status_code == 422
    assert "highest leverage is 1:30 (ESMA)" in page.text
    assert 'value="77"' in page.text
    assert "asked by telephone</textarea>" in page.text
    assert "The leverage 1:100 is above what the client" in page.text
    assert "restored to zero by the rules" in page.text
    page = change(desk, account_id, "disable", reason=" ")
    assert "Please say why." in page.text
    assert desk.changes(account_id) == []


@pytest.mark.parametrize("kind", ["main_password", "investor_password", "disable", "archive"])
def test_each_change_can_be_asked_for_once(desk, kind):
    account_id = desk.account()
    assert change(desk, account_id, kind).status_code == 200
    second = change(desk, account_id, "leverage", leverage="10")
    assert "Another change of this account is under way." in second.text
    assert [one.kind for one in desk.changes(account_id)] == [kind]
    assert change(desk, account_id, "nonsense").status_code == 404
    assert change(desk, 999_999, kind).status_code == 404


def test_groups_that_fit_are_offered_and_the_others_explained(desk):
    account_id = desk.account(balance=Decimal(5))
    ecn, euro = desk.product("ecn", group=r"real\ecn\usd"), desk.product("eur-2", group=r"real\std\eur", currency="EUR")
    page = desk.office.browser(OPERATOR).get(show(account_id)).text
    assert f'<option value="{ecn}"' in page
    assert f'<option value="{euro}"' not in page
    assert "The two groups have different currencies" in page
    assert "different currencies" in change(desk, account_id, "group", product=str(euro)).text
    change(desk, account_id, "group", product=str(ecn))
    (made,) = desk.changes(account_id)
    assert desk.send(made.id) == "done"
    assert desk.office.row(TradingAccount, account_id).product_id == ecn


def test_an_account_with_money_is_archived_only_when_staff_insist(desk):
    account_id = desk.account(balance=Decimal(5))
    refused = change(desk, account_id, "archive")
    assert "There is still money" in open_dialog(refused.text)
    assert "asked by telephone</textarea>" in open_dialog(refused.text), "with what was typed"
    assert "although there is money on it" in refused.text
    change(desk, account_id, "archive", forced="1")
    (made,) = desk.changes(account_id)
    assert made.is_forced is True


def test_disabled_and_archived_accounts_offer_the_way_back(desk):
    disabled, archived = desk.account(status="disabled"), desk.account(status="archived")
    page = desk.office.browser(OPERATOR).get(show(disabled)).text
    assert "Enable …" in page
    assert "Leverage …" not in page
    assert "Restore …" in desk.office.browser(OPERATOR).get(show(archived)).text
    assert "not possible in the state" in change(desk, disabled, "leverage", leverage="5").text
    change(desk, archived, "restore")
    change(desk, disabled, "enable")
    assert [one.kind for account in (disabled, archived) for one in desk.changes(account)] == ["enable", "restore"]


def test_what_somebody_disabled_at_the_server_is_said_and_can_be_mended(desk):
    account_id = desk.account(rights=0x163 & ~1)
    page = desk.office.browser(OPERATOR).get(show(account_id)).text
    assert "somebody disabled it there" in page
    assert "Enable …" in page
    change(desk, account_id, "enable")
    assert [one.kind for one in desk.changes(account_id)] == ["enable"]


def test_a_change_that_waits_is_withdrawn(desk):
    account_id = desk.account()
    change(desk, account_id, "disable")
    (made,) = desk.changes(account_id)
    path = f"/trading-accounts/changes/{made.id}/withdraw"
    page = desk.office.browser(OPERATOR).post(path, {"reason": ""}, page=show(account_id))
    assert "Please say why." in open_dialog(page.text)
    page = desk.office.browser(OPERATOR).post(path, {"reason": "by mistake"}, page=show(account_id))
    assert "Withdrawn. Nothing is sent." in page.text
    assert desk.changes(account_id)[0].status == "failed"
    assert "already, or has ended" in desk.office.browser(OPERATOR).post(path, {"reason": "again"}, page=show(account_id)).text


def test_who_may_not_change_does_not(desk):
    account_id = desk.account()
    for role in (COMPLIANCE, NOTHING):
        change(desk, account_id, "disable", role)
    assert desk.changes(account_id) == []


# Binding


def test_a_login_is_looked_up_and_bound(desk):
    login = desk.simulator.control.users.add({**USER, "FirstName": "Zoë", "LastName": "O'Brien & Søn"}).login
    desk.simulator.exchange.balance_operation(login, 2, Decimal(250), "old system")
    takeover.time.sleep(takeover.PAUSE_S)
    operator, path = desk.office.browser(OPERATOR), "/trading-accounts/bind"
    page = operator.get(f"{path}?server={desk.server_id}&login={login}").text
    assert "250.00 USD" in page
    assert "Compare with this client" in page
    assert f"Bind login {login}" not in page
    assert "Zoë O&#39;Brien &amp; Søn" in page, "whose it is at the server"
    given = {
        "server": desk.server_id, "login": login, "client": "nobody@example.com", "product": desk.office.product_id,
        "bind": "yes",
    }  # fmt: skip
    refused = operator.post(path, given | {"reason": "merger"}, page=path)
    assert refused.status_code == 422
    assert "There is no client with this number or mail address." in refused.text
    assert 'value="nobody@example.com"' in refused.text
    beside = operator.post(path, given | {"client": "Elena@example.com", "reason": "merger"}, page=path)
    assert "is bound." not in beside.text, "nobody has seen the client beside the login yet"
    assert "The names differ." in beside.text
    assert "Elena Rossi" in beside.text
    assert desk.office.audited("client.view")[-1].target == f"client:{desk.office.client_id}"
    given |= {"shown": hidden(beside.text, "shown")}
    assert given["shown"] == str(desk.office.client_id)
    refused = operator.post(path, given | {"client": "Elena@example.com", "reason": " "}, page=path)
    assert "Please say why." in refused.text
    assert f"Bind login {login}" in refused.text
    bound = operator.post(path, given | {"client": "Elena@example.com", "reason": "merger"}, page=path)
    assert f"Login {login} is bound." in bound.text
    assert "Bound by staff" in bound.text
    assert "Take it from the client" not in bound.text  # money has moved
    page = operator.get(f"{path}?server={desk.server_id}&login={login}").text
    assert "belongs to a client of ours already" in page
    assert 'name="reason"' not in page


@pytest.mark.parametrize(("login", "words"), [("999999", "has no login 999999"), ("x", "Please give a whole number.")])
def test_what_cannot_be_looked_up(desk, login, words):
    answer = desk.office.browser(OPERATOR).get(f"/trading-accounts/bind?server={desk.server_id}&login={login}")
    assert answer.status_code == 422
    assert words in answer.text
    assert f'value="{login}"' in answer.text


def test_who_has_the_logins_mail_address_is_put_beside_it_at_once(desk):
    login = desk.simulator.control.users.add(
        {**USER, "EMail": "ELENA@example.com", "FirstName": "Elena", "LastName": "Rossi"}
    ).login
    page = desk.office.browser(OPERATOR).get(f"/trading-accounts/bind?server={desk.server_id}&login={login}").text
    assert hidden(page, "shown") == str(desk.office.client_id)
    assert f"Bind login {login}" in page
    assert "What the server has of this login is the client's." in page


def test_a_login_that_was_bound_by_mistake(desk):
    login = desk.simulator.control.users.add(USER).login
    operator, path = desk.office.browser(OPERATOR), "/trading-accounts/bind"
    given = {
        "server": desk.server_id, "login": login, "client": str(desk.office.client_id), "product": desk.office.product_id,
        "reason": "merger", "shown": str(desk.office.client_id), "bind": "yes",
    }  # fmt: skip
    assert "does not say whose this login is" in operator.post(path, {**given, "shown": ""}, page=path).text
    assert "Take it from the client" in operator.post(path, given, page=path).text
    with desk.office.session() as session:
        account_id = session.scalars(select(TradingAccount.id).where(TradingAccount.login == login)).one()
    page = operator.post(f"/trading-accounts/{account_id}/unbind", {"reason": ""}, page=show(account_id))
    assert "Please say why." in page.text
    page = operator.post(f"/trading-accounts/{account_id}/unbind", {"reason": "typing error"}, page=show(account_id))
    assert "belongs to nobody again" in page.text
    assert desk.office.row(TradingAccount, account_id) is None


# Rules


def rule(**changes) -> dict[str, str]:
    given = {
        "name": "ESMA retail", "countries": "it, DE", "max_leverage": "30", "protects_negative_balance": "y",
        "valid_from": "2019-09-27", "valid_until": "", "reason": "Directive", "action": "preview",
    }  # fmt: skip
    return {**given, **changes}


def hidden(page: str, name: str) -> str:
    found = re.search(rf'name="{name}"[^>]*value="([^"]*)"', page)
    assert found
    return found.group(1)


def test_a_rule_is_saved_only_after_its_effect_was_shown(desk, ruleless):
    account_id, officer = desk.account(leverage=400), desk.office.browser(COMPLIANCE)
    unseen = officer.post("/trading-rules/new", rule(action="save"), page="/trading-rules/new").text
    with desk.office.session() as session:
        assert session.scalars(select(TradingRule)).all() == []
    assert "more leverage than this rule allows" in unseen
    assert "1:400" in unseen
    shown = hidden(unseen, "shown")
    other = officer.post(
        "/trading-rules/new", rule(action="save", shown=shown, max_leverage="20"), page="/trading-rules/new"
    ).text
    assert "Save rule" in other  # other values: their effect is shown first
    saved = officer.post("/trading-rules/new", rule(action="save", shown=shown), page="/trading-rules/new")
    assert "Saved: ESMA retail." in saved.text
    with desk.office.session() as session:
        made = session.scalars(select(TradingRule)).one()
        assert (made.countries, made.max_leverage, made.valid_from) == (["DE", "IT"], 30, date(2019, 9, 27))
        key = made.id
    assert desk.office.audited("trading_rule.add")[-1].reason == "Directive"
    assert desk.office.row(TradingAccount, account_id).leverage == 400
    assert f"/trading-rules/{key}" in officer.get("/trading-rules/").text
    assert f"/trading-rules/{key}" not in desk.office.browser(OPERATOR).get("/trading-rules/").text


def test_a_rule_that_somebody_else_changed_meanwhile(desk, ruleless):
    officer = desk.office.browser(COMPLIANCE)
    with desk.office.session() as session:
        draft = Draft("ESMA", ("IT",), 30, protects_negative_balance=True, valid_from=date(2019, 9, 27))
        key = rules.save_rule(session, draft, actor=STAFF, reason="x").id
    path = f"/trading-rules/{key}"
    seen = hidden(officer.get(path).text, "seen")
    given = rule(seen=seen, max_leverage="25")
    shown = hidden(officer.post(path, given, page=path).text, "shown")
    with desk.office.session() as session:
        rules.save_rule(session, replace(draft, max_leverage=10), actor=STAFF, reason="faster", rule_id=key)
    late = officer.post(path, {**given, "action": "save", "shown": shown}, page=path)
    assert late.status_code == 422
    assert "changed by somebody else in the meantime" in late.text
    assert desk.office.row(TradingRule, key).max_leverage == 10


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"countries": "QQ"}, "No country has the code QQ."),
        ({"countries": "Italy"}, "No country has the code ITALY."),
        ({"max_leverage": "9000"}, "must lie between 1 and 5000"),
        ({"max_leverage": "many"}, "Not a valid integer value"),
        ({"valid_from": ""}, "Please give a day such as 2026-11-30."),
        ({"valid_until": "2019-01-01"}, "must end after the day on which it begins"),
        ({"reason": ""}, "Please say why."),
        ({"name": ""}, "Please give the rule a name"),
    ],
)
def test_rules_that_cannot_be(desk, changes, words):
    page = desk.office.browser(COMPLIANCE).post("/trading-rules/new", rule(**changes), page="/trading-rules/new")
    assert page.status_code == 422
    assert words in page.text
    assert "Save rule" not in page.text


def test_no_rules_yet(desk):
    page = desk.office.browser(COMPLIANCE).get("/trading-rules/").text
    assert "No rules yet" in page


# Imports


@pytest.fixture
def imported(desk: Desk) -> Iterator[int]:
    """An import of the simulator's euro group: one login with a client, one that nobody knows, read by the job."""
    desk.product(f"euro-{desk.office.number()}", group=r"real\std\eur", currency="EUR")
    users = desk.simulator.control.users
    group = {"Group": r"real\std\eur"}
    with desk.office.session() as session:
        email = session.get_one(Client, desk.office.client_id).email
    users.add({**USER, **group, "EMail": email.upper(), "FirstName": "E", "LastName": "R"})
    users.add({**USER, **group, "FirstName": "=Nobody", "LastName": "Known", "EMail": "who@example.com"})
    page = desk.office.browser(OPERATOR).post(
        "/login-imports/start", {"server": desk.server_id, "group_mask": r"real\std\eur"}, page="/login-imports/"
    )
    assert "The logins are being read." in page.text
    with desk.office.session() as session:
        key = session.scalars(select(LoginImport.id).order_by(LoginImport.id.desc())).first()
        countries = {name.lower(): code for code, name in country_names("en")}
        assert import_reading.read_users(session, desk.platform, key, countries) == "ready"
    yield key
    with desk.office.session() as session:
        session.execute(update(LoginImport).values(status="done"))
        session.commit()


def test_an_import_is_looked_through_and_carried_out(desk, imported):
    operator, path = desk.office.browser(OPERATOR), f"/login-imports/{imported}"
    page = operator.get(path).text
    assert "Client found" in page
    assert "Same mail address" in page
    assert "To be taken over, EUR" in page
    page = operator.get(path + "?outcome=unmatched").text
    assert "=Nobody Known" in page
    assert "Same mail address" not in page
    assert "Nothing found" in operator.get(path + "?text=zzz").text
    assert operator.get(path + "?outcome=nonsense").status_code == 422
    text = operator.get(path + "?export=csv&outcome=unmatched").text
    assert "'=Nobody Known" in text
    assert "who@example.com" in text
    takeover.time.sleep(takeover.PAUSE_S)
    page = operator.post(path + "/order", page=path).text
    assert "The logins are being taken over." in page
    assert "is being read or carried out" in operator.post(path + "/order", page=path).text
    with desk.office.session() as session:
        assert importing.carry_out(session, desk.platform, imported) == "done"
    page = operator.get(path).text
    assert "Imported" in page
    assert "Taken over, EUR" in page
    assert "There is nothing to carry out." in operator.post(path + "/order", page=path).text


def test_a_person_decides_about_a_login(desk, imported):
    operator, path = desk.office.browser(OPERATOR), f"/login-imports/{imported}"
    with desk.office.session() as session:
        row = session.scalars(
            select(LoginImportRow).where(LoginImportRow.import_id == imported, LoginImportRow.outcome == "unmatched")
        ).first()
        decide = f"/login-imports/rows/{row.id}/decide"
        key = row.id
    refused = operator.post(f"{decide}?outcome=unmatched", {"client": "77777"}, page=path)
    assert refused.status_code == 422
    assert "no client with this number" in open_dialog(refused.text)
    assert 'value="77777"' in open_dialog(refused.text)
    page = operator.post(decide, {"client": "elena@example.com", "decision": "take"}, page=path).text
    assert "Decided by a person" in page
    assert desk.office.row(LoginImportRow, key).client_id == desk.office.client_id
    operator.post(decide, {"decision": "leave_out"}, page=path)
    assert desk.office.row(LoginImportRow, key).outcome == "left_out"
    assert desk.office.audited("login_import.decide")[-1].after["outcome"] == "left_out"
    assert operator.post("/login-imports/rows/999999/decide", page=path).status_code == 404
    assert operator.get("/login-imports/999999").status_code == 404


def test_an_import_that_cannot_start(desk):
    operator = desk.office.browser(OPERATOR)
    refused = operator.post("/login-imports/start", {"server": desk.server_id, "group_mask": " "}, page="/login-imports/")
    assert refused.status_code == 422
    assert "Please name groups of the trading server" in refused.text
    refused = operator.post("/login-imports/start", {"server": "77", "group_mask": "*"}, page="/login-imports/")
    assert "Please choose a trading server." in refused.text


def test_servers_keep_their_settings(desk):
    operator, path = desk.office.browser("Admin"), f"/serverview/edit/{desk.server_id}"
    page = operator.get(path).text
    assert "Events come from" in page
    before = desk.office.row(Server, desk.server_id)
    given = {
        "name": before.name, "url": before.url, "manager_login": str(before.manager_login), "time_zone": "GMT+2/EU",
        "events": "poll", "backfill": "platform", "shards": "4", "resend_limit_minor": "5000", "options": '{"sessions": 2}',
        "is_active": "y",
    }  # fmt: skip
    assert "JSON object" in operator.post(path, given | {"options": "[1]"}, page=path).text
    assert "time zone is not known" in operator.post(path, given | {"time_zone": "Mars"}, page=path).text
    assert "between 1 and 64" in operator.post(path, given | {"shards": "65"}, page=path).text
    for wrong, words in (
        ({"backfill": "bridge"}, "Nobody would answer"),
        ({"backfill": "sql"}, "MT_SECRETS needs database_url"),
        ({"events": "mt4_report"}, "Only MetaTrader 4 has a report database"),
    ):
        refused = operator.post(path, given | wrong, page=path).text
        assert words in refused
        (field,) = wrong
        assert re.search(rf'<option selected value="{wrong[field]}">', refused), "what was chosen stays chosen"
        assert getattr(desk.office.row(Server, desk.server_id), field) == getattr(before, field)
    operator.post(path, given, page=path)
    after = desk.office.row(Server, desk.server_id)
    assert (after.events, after.backfill, after.shards, after.options) == ("poll", "platform", 4, {"sessions": 2})
    operator.post(path, {key: value for key, value in given.items() if key != "is_active"} | {"backfill": "sql"}, page=path)
    assert desk.office.row(Server, desk.server_id).backfill == "sql", "a server that is switched off needs no secrets yet"
    operator.post(path, given | {"events": "stream", "backfill": "platform", "shards": "1", "options": ""}, page=path)
    assert desk.office.row(Server, desk.server_id).options == {}
