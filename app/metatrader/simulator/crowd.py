"""Many logins at once, for load and for histories: opened without work for each password, funded from the seed."""

from __future__ import annotations

import random
from dataclasses import replace
from decimal import Decimal

from app.metatrader.simulator.exchange import Exchange
from app.metatrader.simulator.groups import GROUPS
from app.metatrader.simulator.records import user_record
from app.metatrader.simulator.store import Account
from app.metatrader.simulator.users import Users

#: One password for all of them: they are nobody's.
MAIN_PASSWORD, INVESTOR_PASSWORD = "Crowd-12345", "Watch-12345"
#: Groups by trade server, each as often as it stands here.
CROWD_GROUPS = {
    1: (
        *["real\\std\\usd"] * 9,
        *["real\\ecn\\usd"] * 3,
        *["real\\std\\eur"] * 3,
        *["real\\raw\\usd"] * 2,
        *["real\\netting\\usd"] * 2,
        "real\\swapfree\\usd",
    ),
    2: (*["real2\\std\\usd"] * 4, "real2\\netting\\usd"),
}
LEVERAGES = (30, 100, 200)
DEPOSIT_MIN, DEPOSIT_MAX = 5_000, 50_000
BATCH = 500


def gather(users: Users, exchange: Exchange, count: int, *, seed: int, is_funded: bool = True) -> list[int]:
    """Open logins until there are `count` that are not archived; returns all of them. New ones get money when wished."""
    missing = count - len(exchange.store.logins())
    chance = random.Random(f"{seed}:crowd")  # noqa: S311  # people, not secrets
    pattern: Account | None = None
    for done in range(0, max(missing, 0), BATCH):
        with exchange.store.transaction():
            for _ in range(min(BATCH, missing - done)):
                account = _open(users, exchange, chance, pattern)
                pattern = pattern or account
                if is_funded:
                    amount = Decimal(chance.randint(DEPOSIT_MIN, DEPOSIT_MAX))
                    exchange.balance_operation(account.login, 2, amount, "deposit")
    return list(exchange.store.logins())


def _open(users: Users, exchange: Exchange, chance: random.Random, pattern: Account | None) -> Account:
    """A login like the pattern; the first one is opened as any other, which takes its time for the passwords."""
    group = chance.choice(CROWD_GROUPS[exchange.cluster.number])
    leverage = chance.choice(LEVERAGES)
    if pattern is None:
        fields = {"Group": group, "Leverage": str(leverage), "PassMain": MAIN_PASSWORD, "PassInvestor": INVESTOR_PASSWORD}
        return users.add({**fields, **_person(0)})
    login = exchange.logins.next_login()
    account = replace(
        pattern, login=login, group_name=group, leverage=leverage, profile=_person(login), registered_ms=exchange.now_ms()
    )
    exchange.store.save_account(account)
    exchange.journal.user("add", user_record(account, GROUPS[group].digits))
    exchange.books.tell_account(login)
    return account


def _person(login: int) -> dict[str, str]:
    return {"FirstName": "Trader", "LastName": str(login), "EMail": f"trader{login}@crowd.lotwise.example", "Country": "CY"}
