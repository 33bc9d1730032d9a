"""The MT5 Web API over HTTPS as a TradingPlatform.

Source: MetaQuotes' Web API help and its official samples, as docs/metatrader.md sums them up. How a command goes out, and
what is never sent twice, is in mt5_exchange.py. Passwords travel in POST bodies only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from functools import partial
from types import TracebackType
from typing import Any, Self

import httpx
from redis import Redis

from app.core.errors import N_, InvalidInput
from app.metatrader.codes import DealAction
from app.metatrader.errors import BusinessError, NotKnown
from app.metatrader.fields import Whole, read_deal, read_group, read_order, read_position, read_symbol
from app.metatrader.platform import (
    COMMENT_LIMIT,
    AccountState,
    BalanceCheck,
    Deal,
    Group,
    NewAccount,
    Order,
    PasswordKind,
    Position,
    ServerAccess,
    ServerTime,
    Symbol,
    User,
)
from app.metatrader.platforms import mt5_retcodes
from app.metatrader.platforms.answers import from_change, parsed
from app.metatrader.platforms.mt5_exchange import Exchanges
from app.metatrader.platforms.mt5_records import (
    account_of,
    balance_check_of,
    logins_of,
    many,
    one,
    user_of,
)
from app.metatrader.platforms.windows import in_windows
from app.metatrader.servertime import server_zone

#: Fields of a user record that user/update accepts; everything else in it belongs to the server.
_WRITABLE = frozenset(
    {
        "Login",
        "Group",
        "Rights",
        "FirstName",
        "LastName",
        "MiddleName",
        "Company",
        "Country",
        "City",
        "State",
        "ZIPCode",
        "Address",
        "Phone",
        "EMail",
        "ID",
        "Status",
        "Comment",
        "Color",
        "PhonePassword",
        "Leverage",
        "Agent",
        "Language",
        "LeadSource",
        "LeadCampaign",
        "ClientID",
    }
)

#: Rows of a page, the most that the server allows.
PAGE_ROWS = 100
LOGINS_PER_CALL = 500


class MT5WebPlatform:
    """Commands and reads through the Web API. Thread-safe. Sessions, rate and breaker: `Limits`, from the server's options."""

    def __init__(
        self,
        access: ServerAccess,
        *,
        redis: Redis | None = None,
        places: int | None = None,
        timeouts: httpx.Timeout | None = None,
    ) -> None:
        """`redis` shares rate, breaker and `places` (see traffic.py) with other processes."""
        self._zone = server_zone(access.time_zone)
        self._server = Exchanges(access, redis=redis, places=places, timeouts=timeouts)

    def create_account(self, account: NewAccount) -> int:
        body = {
            "Login": "0",
            "Group": account.group,
            "Leverage": str(account.leverage),
            "Rights": str(account.rights),
            "FirstName": account.first_name,
            "LastName": account.last_name,
            "EMail": account.email,
            "Country": account.country,
            "Comment": account.comment,
            "ID": account.mark,
            "PassMain": account.main_password,
            "PassInvestor": account.investor_password,
        }
        answer = self._server.change("user/add", {}, body, login=0)
        return from_change("user/add", lambda: Whole("Login", low=1).read(one(answer)))

    def get_account(self, login: int) -> AccountState:
        user = one(self._server.read("user/get", {"login": str(login)}))
        try:
            money: Mapping[str, Any] | None = one(self._server.read("user/account/get", {"login": str(login)}))
        except NotKnown:
            money = None
        return parsed(lambda: account_of(user, money))

    def accounts(self, group_mask: str) -> list[AccountState]:
        users = self._of_group("user/get_batch", group_mask)
        money = {row.get("Login"): row for row in self._of_group("user/account/get_batch", group_mask)}
        return parsed(lambda: [account_of(user, money.get(user.get("Login"))) for user in users])

    def user(self, login: int) -> User:
        row = one(self._server.read("user/get", {"login": str(login)}))
        return parsed(lambda: user_of(row))

    def users(self, group_mask: str) -> list[User]:
        rows = self._of_group("user/get_batch", group_mask)
        return parsed(lambda: [user_of(row) for row in rows])

    def update_account(
        self, login: int, *, group: str | None = None, leverage: int | None = None, rights: int | None = None
    ) -> None:
        user = one(self._server.read("user/get", {"login": str(login)}))
        body = {name: str(value) for name, value in user.items() if name in _WRITABLE}
        changes = {"Group": group, "Leverage": leverage, "Rights": rights}
        body.update({name: str(value) for name, value in changes.items() if value is not None})
        self._server.change("user/update", {"login": str(login)}, body, login=login)

    def change_password(self, login: int, kind: PasswordKind, password: str) -> None:
        self._server.change("user/change_password", {}, {"Login": str(login), "Type": kind, "Password": password}, login=login)

    def check_password(self, login: int, kind: PasswordKind, password: str) -> bool:
        try:
            self._server.read("user/check_password", {}, {"Login": str(login), "Type": kind, "Password": password})
        except BusinessError as error:
            if error.retcode == 3006:
                return False
            raise
        return True

    def archive_account(self, login: int) -> None:
        self._server.change("user/archive/add", {"login": str(login)}, None, login=login)

    def restore_account(self, login: int) -> None:
        """The server wants the whole record back, as the archive has it."""
        record = one(self._server.read("user/archive/get", {"login": str(login)}))
        body = {name: str(value) for name, value in record.items()}
        self._server.change("user/restore", {}, body, login=login)

    def archived(self, group_mask: str) -> list[AccountState]:
        """A restored login stays in the server's archive as well; it is not archived any more."""
        active = set(self._logins(group_mask))
        rows = many(self._server.read("user/archive/get_batch", {"group": group_mask}))
        states = parsed(lambda: [account_of(row, None) for row in rows])
        return [state for state in states if state.login not in active]

    def balance_operation(self, login: int, amount: Decimal, comment: str, *, check_margin: bool = True) -> int:
        if not amount.is_finite() or amount == 0:
            raise InvalidInput({"amount": N_("The amount must not be zero.")})
        if len(comment) > COMMENT_LIMIT or not comment.isascii():
            raise InvalidInput({"comment": N_("The comment is limited to 31 plain characters.")})
        query = {
            "login": str(login),
            "type": str(int(DealAction.BALANCE)),
            "balance": format(amount, "f"),
            "comment": comment,
            "check_margin": "1" if check_margin else "0",
        }
        answer = self._server.change("trade/balance", query, None, login=login)
        return from_change("trade/balance", lambda: Whole("Ticket", low=1).read(one(answer)))

    def check_balance(self, login: int) -> BalanceCheck:
        answer = one(self._server.read("user/check_balance", {"login": str(login), "fixflag": "0"}))
        return parsed(lambda: balance_check_of(login, answer))

    def deal(self, ticket: int) -> Deal:
        row = one(self._server.read("deal/get", {"ticket": str(ticket)}))
        return parsed(lambda: read_deal(row))

    def deals(self, login: int, since: datetime, until: datetime) -> list[Deal]:
        return self._deals({"login": str(login)}, since, until)

    def deals_by_group(self, group_mask: str, since: datetime, until: datetime) -> list[Deal]:
        return self._deals({"group": group_mask}, since, until)

    def positions(self, login: int) -> list[Position]:
        rows = many(self._server.read("position/get_batch", {"login": str(login)}))
        return _positions(rows)

    def positions_by_group(self, group_mask: str) -> list[Position]:
        return _positions(self._of_group("position/get_batch", group_mask))

    def order(self, ticket: int) -> Order:
        """The server keeps orders that are done apart; one that is done meanwhile is found there."""
        query = {"ticket": str(ticket)}
        try:
            row = one(self._server.read("order/get", query))
        except NotKnown:
            row = one(self._server.read("history/get", query))
        return parsed(lambda: read_order(row))

    def orders(self, login: int) -> list[Order]:
        return _orders(many(self._server.read("order/get_batch", {"login": str(login)})))

    def orders_by_group(self, group_mask: str) -> list[Order]:
        return _orders(self._of_group("order/get_batch", group_mask))

    def groups(self, mask: str = "*") -> list[Group]:
        rows = many(self._server.read("group/get", {"mask": mask}))
        return parsed(lambda: [read_group(row) for row in rows])

    def symbols(self) -> list[Symbol]:
        rows = many(self._server.read("symbol/get", {"mask": "*"}))
        return parsed(lambda: [read_symbol(row) for row in rows])

    def server_time(self) -> ServerTime:
        text = self._server.read("time/server", {}).get("answer")
        time_text = text.get("Time", "") if isinstance(text, dict) else str(text)
        zone = one(self._server.read("time/get", {}))
        return parsed(
            lambda: ServerTime(
                wall_ms=1000 * Whole("time").read({"time": time_text.partition(" ")[0]}),
                time_zone_min=Whole("TimeZone", -12 * 60, 14 * 60).read(zone),
                is_daylight=Whole("DaylightState", high=1, missing=0).read(zone) == 1,
            )
        )

    def close(self) -> None:
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _deals(self, whose: Mapping[str, str], since: datetime, until: datetime) -> list[Deal]:
        """Deals window by window, none of them cut short."""
        windows = in_windows(*self._zone.wall_range_s(since, until), partial(self._deal_rows, whose))
        deals = {deal.ticket: deal for _, _, rows in windows for deal in _deals(rows)}
        return [deals[ticket] for ticket in sorted(deals)]

    def _deal_rows(self, whose: Mapping[str, str], start_s: int, end_s: int) -> list[dict[str, Any]]:
        """All rows of a window. Where the server sends only a part, each half is asked for, down to a second of one login."""
        window = {"from": str(start_s), "to": str(end_s)}
        try:
            return many(self._server.read("deal/get_batch", {**whose, **window}))
        except BusinessError as error:
            if error.retcode != mt5_retcodes.PARTIAL:
                raise
        if start_s < end_s:
            middle_s = (start_s + end_s) // 2
            return self._deal_rows(whose, start_s, middle_s) + self._deal_rows(whose, middle_s + 1, end_s)
        logins = self._logins(whose["group"]) if "group" in whose else [int(whose["login"])]
        return [row for login in logins for row in self._deal_pages({"login": str(login), **window})]

    def _deal_pages(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        while True:
            page = many(self._server.read("deal/get_page", {**query, "offset": str(len(rows)), "total": str(PAGE_ROWS)}))
            rows += page
            if len(page) < PAGE_ROWS:
                return rows

    def _of_group(self, command: str, group_mask: str) -> list[dict[str, Any]]:
        """The rows of all logins in the groups; where that is more than the server sends at once, login by login list."""
        try:
            return many(self._server.read(command, {"group": group_mask}))
        except BusinessError as error:
            if error.retcode != mt5_retcodes.PARTIAL:
                raise
        logins = self._logins(group_mask)
        parts = (logins[start : start + LOGINS_PER_CALL] for start in range(0, len(logins), LOGINS_PER_CALL))
        return [row for part in parts for row in self._of_logins(command, part)]

    def _of_logins(self, command: str, logins: list[int]) -> list[dict[str, Any]]:
        """The rows of these logins. One that is gone meanwhile makes the server refuse the whole list: then by halves."""
        try:
            return many(self._server.read(command, {"login": ",".join(map(str, logins))}))
        except NotKnown:
            if len(logins) <= 1:
                return []
            middle = len(logins) // 2
            return self._of_logins(command, logins[:middle]) + self._of_logins(command, logins[middle:])

    def _logins(self, group_mask: str) -> list[int]:
        return logins_of(self._server.read("user/logins", {"group": group_mask}))


def _positions(rows: Iterable[Mapping[str, Any]]) -> list[Position]:
    return parsed(lambda: sorted((read_position(row) for row in rows), key=lambda position: position.ticket))


def _orders(rows: Iterable[Mapping[str, Any]]) -> list[Order]:
    return parsed(lambda: sorted((read_order(row) for row in rows), key=lambda order: order.ticket))


def _deals(rows: Iterable[Mapping[str, Any]]) -> list[Deal]:
    return parsed(lambda: [read_deal(row) for row in rows])
