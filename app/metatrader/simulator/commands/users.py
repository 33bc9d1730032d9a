"""user/*: logins, passwords and account states."""

from __future__ import annotations

from app.metatrader.simulator.commands.call import Call, Command, whole
from app.metatrader.simulator.exchange import Refused
from app.metatrader.simulator.groups import GROUPS
from app.metatrader.simulator.records import account_record, user_record
from app.metatrader.simulator.store import Account


def add(call: Call) -> object:
    return _record(call.users.add(call.body))


def update(call: Call) -> object:
    login = whole(call.query.get("login") or call.body.get("Login"), None)
    return _record(call.users.update(login, call.body))


def get(call: Call) -> object:
    return _record(call.exchange.account(call.whole("login")))


def get_batch(call: Call) -> object:
    return [_record(account) for account in _selected(call)]


def check_password(call: Call) -> object:
    call.users.check_password(whole(call.body.get("Login"), None), call.of_body("Type"), call.of_body("Password"))
    return None


def change_password(call: Call) -> object:
    call.users.change_password(whole(call.body.get("Login"), None), call.of_body("Type"), call.of_body("Password"))
    return None


def logins(call: Call) -> object:
    return [str(account.login) for account in call.users.by_mask(call.text("group"))]


def total(call: Call) -> object:
    return {"Total": str(len(call.users.by_mask("*")))}


def group(call: Call) -> object:
    return {"Group": call.exchange.account(call.whole("login")).group_name}


def account_get(call: Call) -> object:
    """Answers for accounts with open trades or activity since the server's start; for others there is no state (13)."""
    account = call.exchange.account(call.whole("login"))
    if not _has_state(call, account):
        raise Refused(13)
    return _state(call, account)


def account_get_batch(call: Call) -> object:
    return [_state(call, account) for account in _selected(call) if _has_state(call, account)]


def _selected(call: Call) -> list[Account]:
    """The accounts of a login list or of a group mask: exactly one of the two."""
    if ("login" in call.query) == ("group" in call.query):
        raise Refused(3)
    if "login" in call.query:
        return [call.exchange.account(login) for login in call.numbers("login")]
    return call.users.by_mask(call.text("group"))


def _has_state(call: Call, account: Account) -> bool:
    return account.active_boot == call.exchange.boot or bool(call.exchange.store.positions(account.login))


def _state(call: Call, account: Account) -> dict[str, str]:
    return account_record(call.exchange.state(account.login))


def _record(account: Account) -> dict[str, str]:
    return user_record(account, GROUPS[account.group_name].digits)


USERS: dict[str, Command] = {
    "user/add": add,
    "user/update": update,
    "user/get": get,
    "user/get_batch": get_batch,
    "user/check_password": check_password,
    "user/change_password": change_password,
    "user/logins": logins,
    "user/total": total,
    "user/group": group,
    "user/account/get": account_get,
    "user/account/get_batch": account_get_batch,
}
