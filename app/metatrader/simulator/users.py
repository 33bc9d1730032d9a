"""The simulator's logins: opening, editing, passwords. Rules as a server's default settings have them."""

from __future__ import annotations

import string
from collections.abc import Mapping
from decimal import Decimal

from app.metatrader.codes import DEFAULT_RIGHTS
from app.metatrader.events import Change
from app.metatrader.fields import is_storable
from app.metatrader.simulator import pricing
from app.metatrader.simulator.exchange import Exchange, Refused
from app.metatrader.simulator.groups import GROUPS, GroupSettings, matches
from app.metatrader.simulator.holdings import Account
from app.metatrader.simulator.passwords import fits, hashed
from app.metatrader.simulator.records import PROFILE, user_record
from app.metatrader.simulator.valuation import major

PASSWORD_MAX = 16
RIGHTS_MAX = 0x3FFFF


class Users:
    """Commands on logins. Thread-safe through the exchange's store."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._store = exchange.store

    def add(self, fields: Mapping[str, str]) -> Account:
        """Open a login. Refused: 13 group, 3 value, 3006 password, 3002, 3003 or 3004 for its number."""
        group = self._group(fields.get("Group", ""))
        main, investor = fields.get("PassMain", ""), fields.get("PassInvestor", "")
        if not _is_strong(main, group) or not _is_strong(investor, group) or main == investor:
            raise Refused(3006)
        account = Account(
            login=0,
            group_name=group.name,
            leverage=_leverage(fields.get("Leverage", ""), group),
            rights=_whole(fields.get("Rights", str(DEFAULT_RIGHTS)), RIGHTS_MAX),
            balance=0,
            credit=0,
            registered_ms=self._exchange.now_ms(),
            active_boot="",
            profile=_profile(fields),
            main_hash=hashed(main),
            investor_hash=hashed(investor),
        )
        wished = _whole(fields.get("Login", "0"), 2**31 - 1)
        with self._store.transaction():
            account.login = self._exchange.logins.next_login(wished)
            self._store.save_account(account)
            self._tell("add", account)
        return account

    def update(self, login: int, fields: Mapping[str, str]) -> Account:
        """Change the given fields. Refused: 13, 3; for the group 3008, 3009 other server, 3010 other currency."""
        with self._store.transaction():
            account = self._exchange.account(login)
            name = fields.get("Group", account.group_name)
            self._exchange.logins.check_group(account, name)
            group, account.group_name = GROUPS[name], name
            account.leverage = _leverage(fields.get("Leverage", str(account.leverage)), group)
            account.rights = _whole(fields.get("Rights", str(account.rights)), RIGHTS_MAX)
            account.profile = {**account.profile, **_profile(fields)}
            self._store.save_account(account)
            self._tell("update", account)
        return account

    def change_password(self, login: int, kind: str, password: str) -> None:
        """Refused: 13, 3 for an unknown kind, 3006 for a weak password or the same as the other kind's."""
        with self._store.transaction():
            account = self._exchange.account(login)
            if kind not in ("main", "investor"):
                raise Refused(3)
            other = account.investor_hash if kind == "main" else account.main_hash
            if not _is_strong(password, GROUPS[account.group_name]) or fits(password, other):
                raise Refused(3006)
            if kind == "main":
                account.main_hash = hashed(password)
            else:
                account.investor_hash = hashed(password)
            self._store.save_account(account)

    def check_password(self, login: int, kind: str, password: str) -> None:
        """Refused: 13, 3 for an unknown kind, 3006 when it is not the password."""
        account = self._exchange.account(login)
        if kind not in ("main", "investor"):
            raise Refused(3)
        if not fits(password, account.main_hash if kind == "main" else account.investor_hash):
            raise Refused(3006)

    def set_balance(self, login: int, balance: Decimal, credit: Decimal) -> None:
        """Write a balance and a credit into a login's record, without a deal. Refused: 13, 3 for money finer than allowed."""
        with self._store.transaction():
            account = self._exchange.account(login)
            digits = GROUPS[account.group_name].digits
            account.balance, account.credit = (_minor(amount, digits) for amount in (balance, credit))
            self._store.save_account(account)
            self._tell("update", account)

    def by_mask(self, mask: str) -> list[Account]:
        """All logins of the groups that the mask selects."""
        return [account for account in self._store.accounts() if matches(mask, account.group_name)]

    def _tell(self, change: Change, account: Account) -> None:
        journal = self._exchange.journal
        journal.user(change, user_record(account, GROUPS[account.group_name].digits))
        journal.account(self._exchange.state(account.login))

    def _group(self, name: str) -> GroupSettings:
        if name not in GROUPS or GROUPS[name].server != self._exchange.cluster.number:
            raise Refused(13)
        return GROUPS[name]


def _leverage(text: str, group: GroupSettings) -> int:
    leverage = _whole(text, group.leverage_max)
    if leverage < 1:
        raise Refused(3)
    return leverage


def _minor(amount: Decimal, digits: int) -> int:
    minor = pricing.minor(amount, digits) if amount.is_finite() else 0
    if major(minor, digits) != amount:
        raise Refused(3)
    return minor


def _whole(text: str, high: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 19 or int(text) > high:
        raise Refused(3)
    return int(text)


def _profile(fields: Mapping[str, str]) -> dict[str, str]:
    profile = {name: fields[name] for name in PROFILE if name in fields}
    if any(len(value) > PROFILE[name] or not is_storable(value) for name, value in profile.items()):
        raise Refused(3)
    return profile


def _is_strong(password: str, group: GroupSettings) -> bool:
    """Lower and upper case, a digit and a sign, and a length that MetaTrader allows."""
    return (
        group.password_min <= len(password) <= PASSWORD_MAX
        and any(character.islower() for character in password)
        and any(character.isupper() for character in password)
        and any(character in string.digits for character in password)
        and any(not character.isalnum() for character in password)
    )
