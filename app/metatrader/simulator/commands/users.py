"""user/*: logins, passwords, account states, the archive."""

from __future__ import annotations

from app.metatrader.simulator.commands.call import Call, Command, masked, whole
from app.metatrader.simulator.exchange import Refused
from app.metatrader.simulator.groups import GROUPS
from app.metatrader.simulator.holdings import Account
from app.metatrader.simulator.records import account_record, user_record


def add(call: Call) -> object:
    """Settings in the body; group, leverage, login and passwords may also stand in the query, as older clients send them."""
    older = {
        "Group": "group",
        "Leverage": "leverage",
        "Login": "login",
        "PassMain": "pass_main",
        "PassInvestor": "pass_investor",
    }
    queried = {name: call.query[old] for name, old in older.items() if old in call.query}
    return _record(call.users.add({**queried, **call.body}))


def update(call: Call) -> object:
    login = whole(call.query.get("login") or call.body.get("Login"), None)
    return _record(call.users.update(login, call.body))


def delete(call: Call) -> object:
    """Logins of a list, all of them or none. Refused: 13, 3008 while something is open."""
    with call.exchange.store.transaction():
        for login in call.numbers("login"):
            call.exchange.delete_account(login)
    return None


def get(call: Call) -> object:
    return _record(call.exchange.account(call.whole("login")))


def get_batch(call: Call) -> object:
    return [_record(account) for account in call.selected()]


def check_password(call: Call) -> object:
    call.users.check_password(whole(call.body.get("Login"), None), call.of_body("Type"), call.of_body("Password"))
    return None


def change_password(call: Call) -> object:
    call.users.change_password(whole(call.body.get("Login"), None), call.of_body("Type"), call.of_body("Password"))
    return None


def logins(call: Call) -> object:
    return [str(account.login) for account in call.users.by_mask(call.text("group"))]


def total(call: Call) -> object:
    return call.total(len(call.users.by_mask("*")))


def group(call: Call) -> object:
    return {"Group": call.exchange.account(call.whole("login")).group_name}


def account_get(call: Call) -> object:
    """Answers for accounts with open trades or activity since the server's start; for others there is no state (13)."""
    account = call.exchange.account(call.whole("login"))
    if not _has_state(call, account):
        raise Refused(13)
    return _state(call, account)


def account_get_batch(call: Call) -> object:
    return [_state(call, account) for account in call.selected() if _has_state(call, account)]


def check_balance(call: Call) -> object:
    """What the record says beside what the deals add up to; `fixflag` 1 sets the record to the deals."""
    login, fixes = call.whole("login"), call.whole("fixflag", high=1) == 1
    check = call.exchange.check_balance(login)
    if fixes and not check.agrees:
        call.users.set_balance(login, check.balance_of_deals, check.credit_of_deals)
    return {
        "Balance": {"User": str(check.balance), "History": str(check.balance_of_deals)},
        "Credit": {"User": str(check.credit), "History": str(check.credit_of_deals)},
    }


def archive_add(call: Call) -> object:
    call.exchange.archive(call.whole("login"))
    return None


def archive_get(call: Call) -> object:
    return _record(_archived(call, call.whole("login")))


def archive_get_batch(call: Call) -> object:
    if call.one_of("login", "group") == "login":
        return [_record(_archived(call, login)) for login in call.numbers("login")]
    return [_record(account) for account in masked(call.text("group"), call.exchange.store.archived_accounts())]


def restore(call: Call) -> object:
    """The login in the query, or its record in the body. Refused: 13, 3004 when it is not archived."""
    login = whole(call.query.get("login") or call.body.get("Login"), None)
    return _record(call.exchange.restore(login))


def _archived(call: Call, login: int) -> Account:
    account = call.exchange.store.archived(login)
    if account is None:
        raise Refused(13)
    return account


def _has_state(call: Call, account: Account) -> bool:
    return account.active_boot == call.exchange.boot or bool(call.exchange.store.positions(account.login))


def _state(call: Call, account: Account) -> dict[str, str]:
    return account_record(call.exchange.state(account.login))


def _record(account: Account) -> dict[str, str]:
    return user_record(account, GROUPS[account.group_name].digits)


USERS: dict[str, Command] = {
    "user/add": add,
    "user/update": update,
    "user/delete": delete,
    "user/get": get,
    "user/get_batch": get_batch,
    "user/check_password": check_password,
    "user/change_password": change_password,
    "user/logins": logins,
    "user/total": total,
    "user/group": group,
    "user/account/get": account_get,
    "user/account/get_batch": account_get_batch,
    "user/check_balance": check_balance,
    "user/archive/add": archive_add,
    "user/archive/get": archive_get,
    "user/archive/get_batch": archive_get_batch,
    "user/restore": restore,
}
