"""The MT5 Web API over HTTPS as a TradingPlatform.

Source: MetaQuotes' Web API help and its official samples, as docs/metatrader.md sums them up. Some commands change state
through GET; therefore nothing here retries by itself except reads, once, on a fresh session. Passwords travel in POST
bodies only.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from app.core.errors import N_, InvalidInput
from app.metatrader.codes import DealAction
from app.metatrader.errors import BadAnswer, BusinessError, NotKnown, NotSent, ServerBusy, UnknownOutcome, Unreachable
from app.metatrader.fields import (
    FieldError,
    Whole,
    read_account,
    read_deal,
    read_group,
    read_position,
    read_symbol,
)
from app.metatrader.platform import (
    COMMENT_LIMIT,
    AccountState,
    Deal,
    Group,
    NewAccount,
    PasswordKind,
    Position,
    ServerAccess,
    ServerTime,
    Symbol,
)
from app.metatrader.platforms import mt5_retcodes
from app.metatrader.platforms.mt5_session import TIMEOUTS, SessionLost, SessionPool, retcode_of
from app.metatrader.servertime import server_zone

log = logging.getLogger("lotwise.mt5_web")

T = TypeVar("T")

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


class MT5WebPlatform:
    """Commands and reads through the Web API. Thread-safe; at most `sessions` connections."""

    def __init__(self, access: ServerAccess, *, sessions: int = 2, timeouts: httpx.Timeout = TIMEOUTS) -> None:
        self._access = access
        self._zone = server_zone(access.time_zone)
        self._pool = SessionPool(access, sessions, timeouts)

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
        answer = self._change("user/add", {}, body, login=0)
        return _from_change("user/add", lambda: Whole("Login", low=1).read(_one(answer)))

    def get_account(self, login: int) -> AccountState:
        user = _one(self._read("user/get", {"login": str(login)}))
        try:
            money: Mapping[str, Any] | None = _one(self._read("user/account/get", {"login": str(login)}))
        except NotKnown:
            money = None
        return _parse(lambda: _account(user, money))

    def accounts(self, group_mask: str) -> list[AccountState]:
        query = {"group": group_mask}
        users = _many(self._read("user/get_batch", query))
        money = {row.get("Login"): row for row in _many(self._read("user/account/get_batch", query))}
        return _parse(lambda: [_account(user, money.get(user.get("Login"))) for user in users])

    def update_account(
        self, login: int, *, group: str | None = None, leverage: int | None = None, rights: int | None = None
    ) -> None:
        user = _one(self._read("user/get", {"login": str(login)}))
        body = {name: str(value) for name, value in user.items() if name in _WRITABLE}
        changes = {"Group": group, "Leverage": leverage, "Rights": rights}
        body.update({name: str(value) for name, value in changes.items() if value is not None})
        self._change("user/update", {"login": str(login)}, body, login=login)

    def change_password(self, login: int, kind: PasswordKind, password: str) -> None:
        self._change("user/change_password", {}, {"Login": str(login), "Type": kind, "Password": password}, login=login)

    def check_password(self, login: int, kind: PasswordKind, password: str) -> bool:
        try:
            self._read("user/check_password", {}, {"Login": str(login), "Type": kind, "Password": password})
        except BusinessError as error:
            if error.retcode == 3006:
                return False
            raise
        return True

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
        answer = self._change("trade/balance", query, None, login=login)
        return _from_change("trade/balance", lambda: Whole("Ticket", low=1).read(_one(answer)))

    def deals(self, login: int, since: datetime, until: datetime) -> list[Deal]:
        return self._deals({"login": str(login)}, since, until)

    def deals_by_group(self, group_mask: str, since: datetime, until: datetime) -> list[Deal]:
        return self._deals({"group": group_mask}, since, until)

    def positions(self, login: int) -> list[Position]:
        rows = _many(self._read("position/get_batch", {"login": str(login)}))
        return _parse(lambda: sorted((read_position(row) for row in rows), key=lambda position: position.ticket))

    def groups(self, mask: str = "*") -> list[Group]:
        rows = _many(self._read("group/get", {"mask": mask}))
        return _parse(lambda: [read_group(row) for row in rows])

    def symbols(self) -> list[Symbol]:
        rows = _many(self._read("symbol/get", {"mask": "*"}))
        return _parse(lambda: [read_symbol(row) for row in rows])

    def server_time(self) -> ServerTime:
        text = self._read("time/server", {}).get("answer")
        time_text = text.get("Time", "") if isinstance(text, dict) else str(text)
        zone = _one(self._read("time/get", {}))
        return _parse(
            lambda: ServerTime(
                wall_ms=1000 * Whole("time").read({"time": time_text.partition(" ")[0]}),
                time_zone_min=Whole("TimeZone", -12 * 60, 14 * 60).read(zone),
                is_daylight=Whole("DaylightState", high=1, missing=0).read(zone) == 1,
            )
        )

    def close(self) -> None:
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _deals(self, whose: Mapping[str, str], since: datetime, until: datetime) -> list[Deal]:
        first_s, last_s = self._zone.wall_range_s(since, until)
        rows = _many(self._read("deal/get_batch", {**whose, "from": str(first_s), "to": str(last_s)}))
        return _parse(lambda: sorted((read_deal(row) for row in rows), key=lambda deal: deal.ticket))

    def _read(self, command: str, query: Mapping[str, str], body: Mapping[str, str] | None = None) -> dict[str, Any]:
        """A command that changes nothing; a broken connection is tried once more on a fresh session."""
        try:
            return self._read_once(command, query, body, fresh=False)
        except (Unreachable, SessionLost) as error:
            log.info("read again server=%s command=%s after=%s", self._access.code, command, type(error).__name__)
        try:
            return self._read_once(command, query, body, fresh=True)
        except SessionLost:
            raise Unreachable(detail=f"{command}: the session is lost again at once") from None

    def _read_once(
        self, command: str, query: Mapping[str, str], body: Mapping[str, str] | None, *, fresh: bool
    ) -> dict[str, Any]:
        try:
            with self._pool.session(fresh=fresh) as session:
                answer = session.request(command, query, body)
                code = retcode_of(answer)
        except httpx.TransportError as error:
            raise Unreachable(detail=f"{command}: {type(error).__name__}") from error
        if code not in mt5_retcodes.SUCCESS:
            raise mt5_retcodes.error_of(code, mutation=False, detail=f"{command}: {mt5_retcodes.name(code)}")
        return answer

    def _change(self, command: str, query: Mapping[str, str], body: Mapping[str, str] | None, *, login: int) -> dict[str, Any]:
        """A command that changes something: sent once, whatever happens.

        NotSent when it certainly had no effect; UnknownOutcome when it went out and no clear answer came back.
        """
        started = time.monotonic()
        sent = False
        outcome = "?"
        try:
            with self._pool.session() as session:
                sent = True
                answer = session.request(command, query, body)
                code = retcode_of(answer)
            outcome = mt5_retcodes.name(code)
            if code not in mt5_retcodes.SUCCESS:
                raise mt5_retcodes.error_of(code, mutation=True, detail=f"{command}: {outcome}")
            return answer
        except (SessionLost, httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            outcome = f"not sent: {type(error).__name__}"
            raise NotSent(detail=f"{command}: {type(error).__name__}") from error
        except (httpx.TransportError, BadAnswer) as error:
            outcome = f"{'unknown' if sent else 'not sent'}: {type(error).__name__}"
            raise (UnknownOutcome if sent else NotSent)(detail=f"{command}: {type(error).__name__}") from error
        except Unreachable as error:
            outcome = "not sent: no session"
            raise NotSent(retcode=error.retcode, detail=error.detail) from error
        except ServerBusy as error:
            outcome = "busy"
            if sent and error.retcode is None:
                raise UnknownOutcome(detail=f"{command}: refused with an HTTP status, not by the server's own word") from error
            raise
        finally:
            log.info(
                "command server=%s command=%s login=%s outcome=%s ms=%d",
                self._access.code,
                command,
                login,
                outcome,
                (time.monotonic() - started) * 1000,
            )


def _account(user: Mapping[str, Any], money: Mapping[str, Any] | None) -> AccountState:
    """A user record with its financial state. The server has none for a login without trades since its start: then
    nothing is open, and equity is what the record says.
    """
    if money is None:
        balance = Decimal(str(user.get("Balance", "0")))
        equity = format(balance + Decimal(str(user.get("Credit", "0"))), "f")
        digits = str(max(0, -int(balance.as_tuple().exponent)))
        money = {
            "Equity": equity,
            "MarginFree": equity,
            "Margin": "0",
            "MarginLevel": "0",
            "Floating": "0",
            "CurrencyDigits": digits,
        }
    wanted = ("Balance", "Credit", "Equity", "Margin", "MarginFree", "MarginLevel", "Floating", "CurrencyDigits")
    return read_account({**user, **{name: money[name] for name in wanted if name in money}})


def _one(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The single record of an answer; some commands wrap it in a list."""
    record = answer.get("answer")
    if isinstance(record, list) and len(record) == 1:
        record = record[0]
    return record if isinstance(record, dict) else {}


def _many(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The records of an answer. Raises BadAnswer for anything but a list of objects."""
    rows = answer.get("answer", [])
    rows = [rows] if isinstance(rows, dict) else rows or []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadAnswer(detail="answer is not a list of records")
    return rows


def _parse(build: Callable[[], T]) -> T:
    try:
        return build()
    except (ValueError, ArithmeticError) as error:
        raise BadAnswer(detail=str(error)[:200]) from error


def _from_change(command: str, build: Callable[[], T]) -> T:
    """What a confirmed change must contain. Without it the effect is there but cannot be named: somebody has to look."""
    try:
        return build()
    except FieldError as error:
        raise UnknownOutcome(detail=f"{command}: {error.reason}") from error
