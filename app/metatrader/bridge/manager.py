"""One connection of MetaQuotes' Manager API, and the only place that imports their Windows package.

Names and arguments are those of the package's own stub (mt5manager 5.0.6231). The API's LastError is one variable for the
whole process, so a call and the question why it failed are made under one lock; its own callbacks overwrite it all the
same, which is why requests to the server belong into a process that subscribes to nothing.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

MODULE = "MT5Manager"

#: Not found, and "done, but there was nothing": a read that has no rows.
NOTHING = (13, 1)

#: The connection is gone, or the server did not answer: another connection may do better.
BROKEN = (7, 9, 10, 11, 15)

#: What stops a connection, in the words of whoever has to mend it.
EXPLANATIONS = {
    7: "the network failed on the way to the server",
    8: "the manager account lacks a right for this; the rights it needs stand in docs/metatrader-bridge.md",
    9: "the server did not answer in time",
    10: "there is no connection to the server: check server.address, the firewall, and that the access server runs",
    11: "the server does not offer this service at the moment",
    12: "asked too often; the bridge waits",
    1000: "the server does not accept this kind of client",
    1001: "the manager login or its password is wrong",
    1002: "the manager account is disabled",
    1010: "the package is too old for the server: install a newer mt5manager",
    1011: "the login exists but is not set up as a manager",
    1012: "the address of this host is not on the manager account's allow-list",
    1018: "the server is busy; the bridge tries again",
    1021: "the server is too old for this package",
    1022: "the server allows no more manager connections",
    1026: "the manager's password must be changed: do it in MetaTrader 5 Manager, then give it to the bridge",
    1027: "the manager account wants a one-time password, which a program cannot give: switch that off for this account",
    1028: "the manager account wants a one-time password, which a program cannot give: switch that off for this account",
}


class Refused(Exception):
    """A call was not carried out. `retcode` is MetaTrader's number, as well as the API could tell it."""

    def __init__(self, call: str, retcode: int, text: str) -> None:
        super().__init__(f"{call}: {explain(retcode)}" + (f" ({text})" if text else ""))
        self.retcode = retcode

    @property
    def is_broken_connection(self) -> bool:
        return self.retcode in BROKEN


def explain(retcode: int) -> str:
    """A return code in words, with its number."""
    return f"{EXPLANATIONS.get(retcode, 'refused')} [retcode {retcode}]"


def load_module(name: str, folder: Path) -> Any:
    """Import the package with `folder` as its working place: it keeps its caches and logs where the process stands then.

    Raises ModuleNotFoundError where it is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    return importlib.import_module(name)


class Connection:
    """One ManagerAPI object. Methods raise Refused; those that read give an empty answer where the server has nothing."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._api = module.ManagerAPI()
        self._lock = threading.Lock()

    def subscribe(
        self, *, session: object, users: object, deals: object, positions: object, orders: object, states: object
    ) -> None:
        """Take the sinks; once, before the first connect. By position: stub and binary name that argument differently."""
        self._asked(self._api.Subscribe, session)
        self._asked(self._api.UserSubscribe, users)
        self._asked(self._api.DealSubscribe, deals)
        self._asked(self._api.PositionSubscribe, positions)
        self._asked(self._api.OrderSubscribe, orders)
        self._asked(self._api.UserAccountSubscribe, states)

    def connect(self, address: str, login: int, password: str, *, timeout_s: int, pump: bool) -> None:
        """Connect; with `pump` it returns when the local copy of users, orders, positions, groups and symbols is complete."""
        modes = self._api.EnPumpModes
        wanted = (
            modes.PUMP_MODE_USERS
            | modes.PUMP_MODE_ORDERS
            | modes.PUMP_MODE_POSITIONS
            | modes.PUMP_MODE_GROUPS
            | modes.PUMP_MODE_SYMBOLS
        )
        self._asked(self._api.Connect, address, login, password, wanted if pump else 0, timeout_s * 1000)

    def disconnect(self) -> None:
        with self._lock:
            self._api.Disconnect()

    def address(self) -> str:
        """The access server that the connection leads to; the API may change it by itself."""
        return str(self._api.NetworkAddress() or "")

    # The local copy, kept by the pump.

    def kept_user(self, login: int) -> Any | None:
        return self._one(self._api.UserGet, login)

    def kept_state(self, login: int) -> Any | None:
        return self._one(self._api.UserAccountGet, login)

    def kept_group(self, name: str) -> Any | None:
        return self._one(self._api.GroupGet, name)

    # The server itself.

    def server_time_s(self) -> float:
        """What the server's clock says, in seconds of its wall clock."""
        answer = float(self._asked(self._api.TimeServerRequest))
        # The stub does not tell the unit: seconds stay below this until the year 5138, milliseconds are above it since 1973.
        return answer / 1000 if answer > 100_000_000_000 else answer

    def group(self, name: str) -> Any | None:
        return self._one(self._api.GroupRequest, name)

    def deals(self, groups: str, logins: Sequence[int], from_s: int, to_s: int) -> list[Any]:
        """Deals of a range of the server's clock, both ends included."""
        if logins:
            return self._rows(self._api.DealRequestByLogins, list(logins), from_s, to_s)
        return self._rows(self._api.DealRequestByGroup, groups, from_s, to_s)

    def deal(self, ticket: int) -> list[Any]:
        """The deal of a ticket; an empty list where the server has none. One at a time: of several, nobody promises that the
        others come when one is missing.
        """
        return self._rows(self._api.DealRequestByTickets, [ticket])

    def positions(self, groups: str, logins: Sequence[int]) -> list[Any]:
        if logins:
            return self._rows(self._api.PositionRequestByLogins, list(logins))
        return self._rows(self._api.PositionRequestByGroup, groups)

    def orders(self, groups: str, logins: Sequence[int]) -> list[Any]:
        """Open orders."""
        if logins:
            return self._rows(self._api.OrderRequestByLogins, list(logins))
        return self._rows(self._api.OrderRequestByGroup, groups)

    def order(self, ticket: int) -> list[Any]:
        """The order of a ticket, among the open ones or, where it is done, in the history; an empty list as in `deal`."""
        return self._rows(self._api.OrderRequestByTickets, [ticket]) or self._rows(self._api.HistoryRequestByTickets, [ticket])

    def users(self, groups: str, logins: Sequence[int]) -> list[Any]:
        if logins:
            return self._rows(self._api.UserRequestByLogins, list(logins))
        return self._rows(self._api.UserRequestByGroup, groups)

    def states(self, logins: Iterable[int]) -> list[Any]:
        """Equity and margin; a login without trades since the server's start may be missing."""
        return self._rows(self._api.UserAccountRequestByLogins, list(logins))

    def _rows(self, call: Callable[..., Any], *arguments: Any) -> list[Any]:
        try:
            return list(self._asked(call, *arguments))
        except Refused as refused:
            if refused.retcode in NOTHING:
                return []
            raise

    @staticmethod
    def _one(call: Callable[..., Any], *arguments: Any) -> Any | None:
        """One object or nothing, whatever the reason; not behind the lock, which a long Connect may hold."""
        return call(*arguments) or None

    def _asked(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """The answer. False and None mean that the call failed, and only LastError knows why."""
        with self._lock:
            answer = call(*arguments)
            if answer is None or answer is False:
                _, retcode, text = self._module.LastError()
                raise Refused(call.__name__, int(retcode), str(text))
        return answer
