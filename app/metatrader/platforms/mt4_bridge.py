"""An MT4 bridge over HTTPS as a TradingPlatform.

The commands are those of docs/metatrader-bridge.md; how one goes out, and what is never sent twice, is in mt4_exchange.py,
what MT4's records are in ours in ../mt4.py. What MT4 would cut or change silently is refused before it is sent.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from redis import Redis

from app.core.clock import now
from app.core.errors import N_, InvalidInput
from app.core.ids import TOKEN_LENGTH, is_token
from app.metatrader import mt4
from app.metatrader.errors import BadAnswer, BusinessError, NotKnown, NotOffered, PlatformError
from app.metatrader.fields import Number, Whole
from app.metatrader.platform import (
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
from app.metatrader.platforms.answers import from_change, parsed
from app.metatrader.platforms.mt4_exchange import Exchanges
from app.metatrader.platforms.mt4_retcodes import INVALID_DATA, INVALID_PASSWORD
from app.metatrader.platforms.windows import in_windows
from app.metatrader.servertime import server_zone

T = TypeVar("T")
log = logging.getLogger("lotwise.mt4_bridge")

OTHER_CURRENCY = 3010
#: MT4's clocks end here.
LAST_S = 2**31 - 1


class MT4BridgePlatform:
    """Commands and reads through a bridge. Thread-safe. Connections, rate and breaker: `Limits`, from the server's options."""

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
        self._sizes = _ContractSizes(access.code, self.symbols)

    def create_account(self, account: NewAccount) -> int:
        """A text that says nothing to the machine is cut where MT4 has no room for it; half a mail address is left out."""
        for password in (account.main_password, account.investor_password):
            _check_password(password)
        _check_text("group", account.group, mt4.GROUP_LIMIT)
        _check_text("id", account.mark, mt4.MARK_LIMIT)
        body = {
            "group": account.group,
            "leverage": str(account.leverage),
            "name": f"{account.first_name} {account.last_name}".strip()[: mt4.NAME_LIMIT],
            "email": account.email if len(account.email) <= mt4.EMAIL_LIMIT else "",
            "country": account.country[: mt4.COUNTRY_LIMIT],
            "comment": account.comment[: mt4.NOTE_LIMIT],
            "id": account.mark,
            "password": account.main_password,
            "password_investor": account.investor_password,
            **mt4.switches_of(account.rights),
        }
        answer = self._server.change("open_account", body, login=0)
        return from_change("open_account", lambda: Whole("login", low=1).read(answer))

    def get_account(self, login: int) -> AccountState:
        return mt4.account_of(self._login(login))

    def accounts(self, group_mask: str) -> list[AccountState]:
        return [mt4.account_of(login) for login in self._logins(group_mask)]

    def user(self, login: int) -> User:
        return mt4.user_of(self._login(login))

    def users(self, group_mask: str) -> list[User]:
        return [mt4.user_of(login) for login in self._logins(group_mask)]

    def update_account(
        self, login: int, *, group: str | None = None, leverage: int | None = None, rights: int | None = None
    ) -> None:
        """Of the rights MT4 keeps three: may sign in, may change the password, may not trade."""
        body = {"login": str(login)}
        if group is not None:
            _check_text("group", group, mt4.GROUP_LIMIT)
            self._check_currency(login, group)
            body["group"] = group
        if leverage is not None:
            body["leverage"] = str(leverage)
        if rights is not None:
            body.update(mt4.switches_of(rights))
        self._server.change("change_account", body, login=login)

    def change_password(self, login: int, kind: PasswordKind, password: str) -> None:
        _check_password(password)
        try:
            self._server.change("change_password", {"login": str(login), "kind": kind, "password": password}, login=login)
        except BusinessError as error:
            if error.retcode == INVALID_DATA:  # nothing else in it can be wrong
                raise BusinessError(INVALID_PASSWORD, error.detail) from error
            raise

    def check_password(self, login: int, kind: PasswordKind, password: str) -> bool:
        answer = self._server.read("check_password", {"login": str(login), "kind": kind, "password": password})
        return parsed(lambda: Whole("right", high=1).read(answer)) == 1

    def archive_account(self, login: int) -> None:
        raise NotOffered(f"MT4 has no archive, login {login}")

    def restore_account(self, login: int) -> None:
        raise NotOffered(f"MT4 has no archive, login {login}")

    def archived(self, group_mask: str) -> list[AccountState]:
        """MT4 has no archive, so nothing is in it."""
        return []

    def balance_operation(self, login: int, amount: Decimal, comment: str, *, check_margin: bool = True) -> int:
        if not amount.is_finite() or amount == 0:
            raise InvalidInput({"amount": N_("The amount must not be zero.")})
        if len(comment) > mt4.COMMENT_LIMIT or not comment.isascii():
            raise InvalidInput({"comment": N_("The comment is limited to 31 plain characters.")})
        if -int(amount.normalize().as_tuple().exponent) > mt4.MONEY_PLACES:
            raise BusinessError(INVALID_DATA, "an amount that MT4 would round")
        body = {
            "login": str(login),
            "amount": format(amount, "f"),
            "comment": comment,
            "check_margin": "1" if check_margin else "0",
        }
        token = comment[:TOKEN_LENGTH] if is_token(comment[:TOKEN_LENGTH]) else ""
        answer = self._server.change("balance", body, login=login, token=token)
        return mt4.opening_ticket(from_change("balance", lambda: Whole("order", low=1).read(answer)))

    def check_balance(self, login: int) -> BalanceCheck:
        answer = self._server.read("check_balance", {"login": str(login)})
        return parsed(
            lambda: BalanceCheck(
                login=login,
                balance=Number("balance").read(answer),
                balance_of_deals=Number("balance_of_trades").read(answer),
                credit=Number("credit").read(answer),
                credit_of_deals=Number("credit_of_trades").read(answer),
            )
        )

    def deal(self, ticket: int) -> Deal:
        trade = self._trade(mt4.order_of_ticket(ticket))
        for deal in mt4.deals_of(trade, self._sizes.of(trade)):
            if deal.ticket == ticket:
                return deal
        raise NotKnown(detail=f"deal {ticket}: the order has not made it, or not yet")

    def deals(self, login: int, since: datetime, until: datetime) -> list[Deal]:
        return self._deals({"logins": str(login)}, since, until)

    def deals_by_group(self, group_mask: str, since: datetime, until: datetime) -> list[Deal]:
        return self._deals({"groups": group_mask}, since, until)

    def positions(self, login: int) -> list[Position]:
        return self._open({"logins": str(login)}, mt4.position_of)

    def positions_by_group(self, group_mask: str) -> list[Position]:
        return self._open({"groups": group_mask}, mt4.position_of)

    def order(self, ticket: int) -> Order:
        trade = self._trade(ticket)
        order = mt4.order_of(trade, self._sizes.of(trade))
        if order is None:
            raise NotKnown(detail=f"order {ticket} is a balance or credit operation")
        return order

    def orders(self, login: int) -> list[Order]:
        return self._open({"logins": str(login)}, mt4.pending_of)

    def orders_by_group(self, group_mask: str) -> list[Order]:
        return self._open({"groups": group_mask}, mt4.pending_of)

    def groups(self, mask: str = "*") -> list[Group]:
        rows = _rows(self._server.read("groups", {}), "groups")
        groups = parsed(lambda: [mt4.read_group(row) for row in rows])
        return [group for group in groups if mt4.is_selected(mask, group.name)]

    def symbols(self) -> list[Symbol]:
        rows = _rows(self._server.read("symbols", {}), "symbols")
        return parsed(lambda: [mt4.read_symbol(row) for row in rows])

    def server_time(self) -> ServerTime:
        answer = self._server.read("time", {})
        return parsed(lambda: _server_time(answer))

    def close(self) -> None:
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _login(self, login: int) -> mt4.Login:
        rows = _rows(self._server.read("users", {"logins": str(login)}), "users")
        for found in parsed(lambda: [mt4.read_login(row) for row in rows]):
            if found.login == login:
                return found
        raise NotKnown(detail=f"login {login}")

    def _logins(self, group_mask: str) -> list[mt4.Login]:
        rows = _rows(self._server.read("users", {"groups": group_mask}), "users")
        return parsed(lambda: sorted(map(mt4.read_login, rows), key=lambda login: login.login))

    def _check_currency(self, login: int, group: str) -> None:
        """MT4 moves a login into any group, and its money would be money of another currency there."""
        currencies = {known.name: known.currency for known in self.groups()}
        state = self.get_account(login)
        is_other = currencies.get(group) not in (None, currencies.get(state.group))
        if is_other and (state.balance or state.credit or self._trades({"logins": str(login), "open": "1"})):
            raise BusinessError(OTHER_CURRENCY, f"change_account: {state.group} to {group}")

    def _trade(self, order: int) -> mt4.Trade:
        """One row that counts. Raises NotKnown when there is none, or no longer."""
        for trade in self._trades({"orders": str(order)}):
            if trade.order == order and not trade.is_deleted:
                return trade
        raise NotKnown(detail=f"order {order}")

    def _trades(self, query: Mapping[str, str]) -> list[mt4.Trade]:
        rows = _rows(self._server.read("trades", query), "trades")
        return parsed(lambda: [mt4.read_trade(row) for row in rows])

    def _deals(self, whose: Mapping[str, str], since: datetime, until: datetime) -> list[Deal]:
        """Window by window. A window has the rows that began or ended in it; what they did at other times belongs to others.

        Only a deal that closed brings the one that opened along: when a part is closed, that shrinks, and the rest's appears
        with an old time, which nobody asks for any more.
        """

        def trades(first_s: int, last_s: int) -> list[mt4.Trade]:
            return self._trades({**whose, "from": str(first_s), "to": str(last_s)})

        first_s, last_s = self._zone.wall_range_s(since, until)
        deals: dict[int, Deal] = {}
        for start_s, end_s, rows in in_windows(max(first_s, 0), min(last_s, LAST_S), trades):
            for trade in rows:
                made = self._made_by(trade)
                within = [start_s <= deal.server_time_ms // 1000 <= end_s for deal in made]
                deals.update((deal.ticket, deal) for deal, is_in in zip(made, within, strict=True) if is_in or within[-1])
        return [deals[ticket] for ticket in sorted(deals)]

    def _made_by(self, trade: mt4.Trade) -> list[Deal]:
        """A row's deals in the order of time."""
        return [] if trade.is_deleted else list(mt4.deals_of(trade, self._sizes.of(trade)))

    def _open(self, whose: Mapping[str, str], build: Callable[[mt4.Trade, Decimal], T | None]) -> list[T]:
        """What `build` makes of the open rows, by order."""
        rows = sorted(self._trades({**whose, "open": "1"}), key=lambda trade: trade.order)
        return [made for trade in rows if (made := build(trade, self._sizes.of(trade))) is not None]


class _ContractSizes:
    """Contract sizes, which MT4 keeps with its symbols and not with its trades. Thread-safe.

    0 for a symbol that the server has no longer: its old trades are still to be read, and a trade's money does not depend on
    the size, which is shown to people.
    """

    KEPT_S, ASKED_AGAIN_S = 600.0, 30.0

    def __init__(self, code: str, symbols: Callable[[], Iterable[Symbol]]) -> None:
        self._code = code
        self._symbols = symbols
        self._sizes: dict[str, Decimal] = {}
        self._asked_at = float("-inf")
        self._lock = threading.Lock()

    def of(self, trade: mt4.Trade) -> Decimal:
        """The contract size of a trade's symbol. While the server does not tell its symbols, what it told before."""
        if trade.is_money:
            return Decimal(0)
        with self._lock:
            age_s = time.monotonic() - self._asked_at
            if age_s > self.KEPT_S or (trade.symbol not in self._sizes and age_s > self.ASKED_AGAIN_S):
                self._asked_at = time.monotonic()
                try:
                    self._sizes = {symbol.name: symbol.contract_size for symbol in self._symbols()}
                except PlatformError as error:
                    log.warning("symbols are not told server=%s error=%s", self._code, type(error).__name__)
                if trade.symbol not in self._sizes:
                    log.warning("symbol of a trade is not known server=%s symbol=%s", self._code, trade.symbol)
            return self._sizes.get(trade.symbol, Decimal(0))


def _rows(answer: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """The records of an answer. Raises BadAnswer for anything but a list of objects."""
    rows = answer.get(name)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadAnswer(detail=f"{name} is not a list of records")
    return rows


def _server_time(answer: Mapping[str, Any]) -> ServerTime:
    """MT4 says whether its clock follows summer time, not whether it is summer: that is seen by how far it is ahead of ours."""
    wall_ms = 1000 * Whole("server_time", high=LAST_S).read(answer)
    zone_min = 60 * Whole("time_zone", -12, 14).read(answer)
    follows = Whole("daylight", high=1, missing=0).read(answer) == 1
    ahead_min = wall_ms / 60_000 - now().timestamp() / 60
    return ServerTime(wall_ms, zone_min, is_daylight=follows and ahead_min > zone_min + 30)


def _check_password(password: str) -> None:
    """MT4 would cut it, or put `?` where its code page has no such character: a password that nobody knows."""
    if not mt4.PASSWORD_LEAST <= len(password) <= mt4.PASSWORD_LIMIT or not password.isascii():
        raise BusinessError(INVALID_PASSWORD, f"a password that MT4 does not keep as it is, {len(password)} characters")


def _check_text(field: str, text: str, limit: int) -> None:
    if len(text) > limit or not text.isascii():
        raise BusinessError(INVALID_DATA, f"{field}: longer than {limit} characters, or others than ASCII")
