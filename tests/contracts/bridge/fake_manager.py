"""A stand-in for MetaQuotes' `MT5Manager`: the same classes, methods, arguments and manners, over a server in memory.

test_stub.py holds its names and arguments against the stub file of the real package. Manners that count here, from the facts
known of the package: calls fail with False or None and say why through one LastError of the process; sinks are looked up
by name when they are subscribed; callbacks run on one thread that is not the caller's, get fresh copies, and swallow
exceptions; there is no pump of deals, they come with orders and positions; nothing may be requested inside a callback.

`SERVER` is what a test works with. In a process of its own the server is fed from a file of JSON lines that
FAKE_MT5_FEED names: {"call": "deal_add", "values": {...}}; FAKE_MT5_CLOCK_AHEAD_S sets its clock.
"""

# ruff: noqa: N802, SIM905 - the package's own names; long lists of them read best as text

from __future__ import annotations

import json
import os
import threading
import time
from collections import deque
from copy import copy
from enum import IntFlag
from pathlib import Path
from queue import SimpleQueue


class EnMTAPIRetcode(IntFlag):
    MT_RET_OK = 0
    MT_RET_OK_NONE = 1
    MT_RET_ERROR = 2
    MT_RET_ERR_PARAMS = 3
    MT_RET_ERR_NETWORK = 7
    MT_RET_ERR_PERMISSIONS = 8
    MT_RET_ERR_CONNECTION = 10
    MT_RET_ERR_NOTFOUND = 13
    MT_RET_ERR_DUPLICATE = 17
    MT_RET_AUTH_ACCOUNT_INVALID = 1001
    MT_RET_AUTH_RESET_PASSWORD = 1026
    MT_RET_ERR_DEADLOCK = 12003


R = EnMTAPIRetcode


class _Record:
    """An object of the API: known attributes only, zero or empty at first."""

    WHOLE: tuple[str, ...] = ()
    FLOAT: tuple[str, ...] = ()
    TEXT: tuple[str, ...] = ()

    def __init__(self, **values):
        for names, empty in ((self.WHOLE, 0), (self.FLOAT, 0.0), (self.TEXT, "")):
            for name in names:
                object.__setattr__(self, name, empty)
        for name, value in values.items():
            setattr(self, name, value)

    def __setattr__(self, name, value):
        if not hasattr(self, name):
            raise AttributeError(f"{type(self).__name__} has no {name}")
        object.__setattr__(self, name, float(value) if name in self.FLOAT else value)


class MTDeal(_Record):
    WHOLE = (
        "Action ActionGateway Deal Dealer Digits DigitsCurrency Entry ExpertID Flags Login ModificationFlags Order PartyID "
        "PositionID Reason Time TimeMsc Volume VolumeClosed VolumeClosedExt VolumeExt VolumeGatewayExt"
    ).split()
    FLOAT = (
        "Commission ContractSize Fee MarketAsk MarketBid MarketLast ObsoleteValue Price PriceGateway PricePosition PriceSL "
        "PriceTP Profit ProfitRaw RateMargin RateProfit Storage TickSize TickValue Value"
    ).split()
    TEXT = "Comment ExternalID Gateway Symbol".split()


class MTPosition(_Record):
    WHOLE = (
        "Action ActionGateway ActivationFlags ActivationMode ActivationTime Dealer Digits DigitsCurrency ExpertID "
        "ExpertPositionID Login ModificationFlags Position Reason TimeCreate TimeCreateMsc TimeUpdate TimeUpdateMsc Volume "
        "VolumeExt VolumeGatewayExt"
    ).split()
    FLOAT = (
        "ActivationPrice ContractSize ObsoleteValue PriceCurrent PriceGateway PriceOpen PriceSL PriceTP Profit RateMargin "
        "RateProfit Storage"
    ).split()
    TEXT = "Comment ExternalID Symbol".split()


class MTOrder(_Record):
    WHOLE = (
        "ActivationFlags ActivationMode ActivationTime Dealer Digits DigitsCurrency ExpertID Login ModificationFlags Order "
        "PartyID PositionByID PositionID Reason State TimeDone TimeDoneMsc TimeExpiration TimeSetup TimeSetupMsc Type TypeFill "
        "TypeTime VolumeCurrent VolumeCurrentExt VolumeInitial VolumeInitialExt"
    ).split()
    FLOAT = "ActivationPrice ContractSize PriceCurrent PriceOrder PriceSL PriceTP PriceTrigger RateMargin".split()
    TEXT = "Comment ExternalID Symbol".split()


class MTUser(_Record):
    WHOLE = (
        "Agent CertSerialNumber ClientID Color Language LastAccess LastPassChange Leverage LimitOrders Login Registration "
        "Rights VisitorID"
    ).split()
    FLOAT = (
        "Balance BalancePrevDay BalancePrevMonth CommissionAgentDaily CommissionAgentMonthly CommissionDaily "
        "CommissionMonthly Credit EquityPrevDay EquityPrevMonth InterestRate LimitPositionsValue"
    ).split()
    TEXT = (
        "Account Address City Comment Company Country EMail FirstName Group ID LastIP LastName LeadCampaign LeadSource MQID "
        "MiddleName Name OTPSecret Phone PhonePassword State Status ZIPCode"
    ).split()


class MTAccount(_Record):
    WHOLE = "CurrencyDigits Login MarginLeverage SOActivation SOTime".split()
    FLOAT = (
        "Assets Balance BlockedCommission BlockedProfit Credit Equity Floating Liabilities Margin MarginFree MarginInitial "
        "MarginLevel MarginMaintenance ObsoleteValue Profit SOEquity SOLevel SOMargin Storage"
    ).split()


class MTConGroup(_Record):
    WHOLE = ("CurrencyDigits", "MarginMode", "Server")
    FLOAT = ("MarginStopOut",)
    TEXT = ("Currency", "Group")


#: One for the whole process, as in the package: the newest is the last.
_errors: deque[tuple[int, EnMTAPIRetcode, str]] = deque([(0, R.MT_RET_OK, "")], maxlen=1)


def LastError():
    return _errors[-1]


def InitializeManagerAPIPath(module_path, work_path):
    return True


def _fails(retcode, text="", answer=False):
    _errors.append((-1, retcode, text))
    return answer


#: What each Subscribe call looks for in a sink.
HANDLERS = {
    "Subscribe": ("OnConnect", "OnDisconnect", "OnTradeAccountSet"),
    "UserSubscribe": (
        "OnUserAdd", "OnUserUpdate", "OnUserDelete", "OnUserClean", "OnUserArchive", "OnUserRestore", "OnUserLogin",
        "OnUserLogout", "OnUserLoginExt", "OnUserLogoutExt", "OnUserAddExt", "OnUserChangePassword", "OnUserSync",
    ),
    "DealSubscribe": ("OnDealAdd", "OnDealUpdate", "OnDealDelete", "OnDealClean", "OnDealSync"),
    "PositionSubscribe": ("OnPositionAdd", "OnPositionUpdate", "OnPositionDelete", "OnPositionClean", "OnPositionSync"),
    "OrderSubscribe": ("OnOrderAdd", "OnOrderUpdate", "OnOrderDelete", "OnOrderClean", "OnOrderSync"),
    "UserAccountSubscribe": (
        "OnAccountMarginCallEnter", "OnAccountMarginCallLeave", "OnAccountStopOutEnter", "OnAccountStopOutLeave",
    ),
}  # fmt: skip


class FakeServer:
    """A trading server: what it has, and what tests let happen to it."""

    def __init__(self):
        self.lock = threading.RLock()
        self.clear()
        self._calls = SimpleQueue()
        self.thread = threading.Thread(target=self._call_back, name="fake-api", daemon=True)
        self.thread.start()

    def clear(self):
        with self.lock:
            self.users, self.states, self.groups = {}, {}, {}
            self.deals, self.positions, self.orders, self.history = {}, {}, {}, {}
            self.sessions = []
            self.password = "Mt5#Manager1"
            self.refuse = []  # retcodes of the next connects
            self.break_next_requests = 0
            self.is_up = True
            self.address = "10.0.0.1:443"
            self.clock_ahead_s = int(os.environ.get("FAKE_MT5_CLOCK_AHEAD_S", "0"))
            self.asked = []  # the requests that came, by name and arguments

    # What happens. Every change tells those who pump.

    def deal_add(self, deal):
        self._change(self.deals, "Deal", deal, "OnDealAdd")

    def deal_update(self, deal):
        self._change(self.deals, "Deal", deal, "OnDealUpdate")

    def deal_delete(self, deal):
        self._remove(self.deals, "Deal", deal, "OnDealDelete")

    def position_add(self, position):
        self._change(self.positions, "Position", position, "OnPositionAdd")

    def position_update(self, position):
        self._change(self.positions, "Position", position, "OnPositionUpdate")

    def position_delete(self, position):
        self._remove(self.positions, "Position", position, "OnPositionDelete")

    def order_add(self, order):
        self._change(self.orders, "Order", order, "OnOrderAdd")

    def order_update(self, order):
        self._change(self.orders, "Order", order, "OnOrderUpdate")

    def order_delete(self, order):
        """An order leaves the open ones: deleted, or done."""
        if order.TimeDoneMsc:
            with self.lock:
                self.history[order.Order] = order
        self._remove(self.orders, "Order", order, "OnOrderDelete")

    def user_add(self, user):
        self._change(self.users, "Login", user, "OnUserAdd")

    def user_update(self, user):
        self._change(self.users, "Login", user, "OnUserUpdate")

    def user_delete(self, user):
        self._remove(self.users, "Login", user, "OnUserDelete")

    def user_archive(self, user):
        self._remove(self.users, "Login", user, "OnUserArchive")

    def user_restore(self, user):
        self._change(self.users, "Login", user, "OnUserRestore")

    def state(self, state):
        """Equity and margin of a login, which change without a callback."""
        with self.lock:
            self.states[state.Login] = state

    def stop_out(self, login):
        self._tell("OnAccountStopOutEnter", self.states[login], self.groups.get(self.users[login].Group))

    def clean(self, handler, login):
        self._tell(handler, login)

    def drop(self):
        """The network to the server breaks; what happens meanwhile, nobody is told."""
        with self.lock:
            self.is_up = False
        self._tell("OnDisconnect", to_all=True)

    def restore(self, address="10.0.0.2:443"):
        """The API finds its way back by itself, perhaps to another access server."""
        with self.lock:
            self.is_up = True
            self.address = address
        self._tell("OnConnect")

    def settle(self, timeout_s=10.0):
        """Wait until all callbacks so far have run."""
        done = threading.Event()
        self._calls.put((done.set, ()))
        assert done.wait(timeout_s)

    def _change(self, store, key, record, handler):
        with self.lock:
            store[getattr(record, key)] = record
        self._tell(handler, record)

    def _remove(self, store, key, record, handler):
        with self.lock:
            store.pop(getattr(record, key), None)
        self._tell(handler, record)

    def _tell(self, handler, *arguments, to_all=False):
        with self.lock:
            if not (self.is_up or to_all):
                return
            for session in self.sessions:
                for function in session.handlers(handler):
                    self._calls.put((function, tuple(copy(argument) for argument in arguments)))

    def _call_back(self):
        while True:
            function, arguments = self._calls.get()
            try:
                function(*arguments)
            except Exception as error:  # noqa: BLE001  the package swallows them all
                _errors.append((-9, R.MT_RET_ERROR, str(error)))


SERVER = FakeServer()


def _matches(name, mask):
    """Whether a group belongs to a mask: parts with * at the end, ! takes out."""
    inside = False
    for part in mask.split(","):
        wanted, is_out = part.removeprefix("!"), part.startswith("!")
        if name == wanted or (wanted.endswith("*") and name.startswith(wanted[:-1])):
            inside = not is_out
    return inside


class ManagerAPI:
    class EnPumpModes(IntFlag):
        PUMP_MODE_USERS = 0x1
        PUMP_MODE_ACTIVITY = 0x2
        PUMP_MODE_MAIL = 0x4
        PUMP_MODE_ORDERS = 0x8
        PUMP_MODE_NEWS = 0x20
        PUMP_MODE_POSITIONS = 0x80
        PUMP_MODE_GROUPS = 0x100
        PUMP_MODE_SYMBOLS = 0x200

    def __init__(self):
        self._sinks = {}
        self._bound = {}
        self._pump = self.EnPumpModes(0)
        self._is_connected = False

    def handlers(self, name):
        needs = self.EnPumpModes.PUMP_MODE_ORDERS | self.EnPumpModes.PUMP_MODE_POSITIONS
        if name.startswith("OnDeal") and self._pump & needs != needs:
            return []
        return self._bound.get(name, [])

    # The connection.

    def Connect(self, server, login, password, pump_mode, timeout):
        assert ":" in server
        assert isinstance(login, int)
        assert timeout >= 1000
        if SERVER.refuse:
            return _fails(SERVER.refuse.pop(0))
        if not SERVER.is_up:
            return _fails(R.MT_RET_ERR_CONNECTION, "no connection")
        if password != SERVER.password:
            return _fails(R.MT_RET_AUTH_ACCOUNT_INVALID)
        self._pump = self.EnPumpModes(pump_mode)
        self._is_connected = True
        with SERVER.lock:
            if self not in SERVER.sessions:
                SERVER.sessions.append(self)
        if self._pump:
            for name in ("OnConnect", "OnUserSync", "OnPositionSync", "OnOrderSync"):
                for function in self.handlers(name):
                    SERVER._calls.put((function, ()))
        return True

    def Disconnect(self):
        self._is_connected = False
        with SERVER.lock:
            if self in SERVER.sessions:
                SERVER.sessions.remove(self)
        return True

    def NetworkAddress(self):
        return SERVER.address if self._is_connected else ""

    def Subscribe(self, sink):
        return self._take("Subscribe", sink)

    def UserSubscribe(self, user_sink):
        return self._take("UserSubscribe", user_sink)

    def DealSubscribe(self, deal_sink):
        return self._take("DealSubscribe", deal_sink)

    def PositionSubscribe(self, sink):
        return self._take("PositionSubscribe", sink)

    def OrderSubscribe(self, sink):
        return self._take("OrderSubscribe", sink)

    def UserAccountSubscribe(self, user_sink):
        return self._take("UserAccountSubscribe", user_sink)

    def _take(self, call, sink):
        known = self._sinks.setdefault(call, [])
        if any(sink is other for other in known):
            return _fails(R.MT_RET_ERR_DUPLICATE)
        found = {name: getattr(sink, name) for name in HANDLERS[call] if callable(getattr(sink, name, None))}
        if not found:
            return _fails(R.MT_RET_ERR_PARAMS, "no valid method")
        known.append(sink)
        for name, function in found.items():
            self._bound.setdefault(name, []).append(function)
        return True

    # The local copy.

    def UserGet(self, login):
        return self._kept(SERVER.users, login)

    def UserAccountGet(self, login):
        return self._kept(SERVER.states, login)

    def GroupGet(self, name):
        return self._kept(SERVER.groups, name)

    def _kept(self, store, key):
        with SERVER.lock:
            if not self._is_connected or not self._pump or key not in store:
                return _fails(R.MT_RET_ERR_NOTFOUND, answer=None)
            return copy(store[key])

    # Requests to the server.

    def TimeServerRequest(self):
        return self._request("TimeServerRequest", lambda: int(time.time()) + SERVER.clock_ahead_s)

    def GroupRequest(self, name):
        return self._request("GroupRequest", lambda: copy(SERVER.groups.get(name)), name)

    def DealRequestByGroup(self, group, from_date, to_date):
        return self._request(
            "DealRequestByGroup", lambda: self._of_group(self._between(from_date, to_date), group), group, from_date, to_date
        )

    def DealRequestByLogins(self, login_list, from_date, to_date):
        return self._request(
            "DealRequestByLogins",
            lambda: self._of_logins(self._between(from_date, to_date), login_list),
            login_list,
            from_date,
            to_date,
        )

    def DealRequestByTickets(self, ticket_list):
        return self._request("DealRequestByTickets", lambda: self._of_tickets(SERVER.deals, ticket_list), ticket_list)

    def PositionRequestByGroup(self, group):
        return self._request("PositionRequestByGroup", lambda: self._of_group(SERVER.positions.values(), group), group)

    def PositionRequestByLogins(self, login_list):
        return self._request(
            "PositionRequestByLogins", lambda: self._of_logins(SERVER.positions.values(), login_list), login_list
        )

    def OrderRequestByGroup(self, group):
        return self._request("OrderRequestByGroup", lambda: self._of_group(SERVER.orders.values(), group), group)

    def OrderRequestByLogins(self, login_list):
        return self._request("OrderRequestByLogins", lambda: self._of_logins(SERVER.orders.values(), login_list), login_list)

    def OrderRequestByTickets(self, ticket_list):
        return self._request("OrderRequestByTickets", lambda: self._of_tickets(SERVER.orders, ticket_list), ticket_list)

    def HistoryRequestByTickets(self, ticket_list):
        return self._request("HistoryRequestByTickets", lambda: self._of_tickets(SERVER.history, ticket_list), ticket_list)

    def UserRequestByGroup(self, group):
        return self._request("UserRequestByGroup", lambda: self._of_group(SERVER.users.values(), group), group)

    def UserRequestByLogins(self, login_list):
        return self._request("UserRequestByLogins", lambda: self._of_logins(SERVER.users.values(), login_list), login_list)

    def UserAccountRequestByLogins(self, logins_list):
        return self._request(
            "UserAccountRequestByLogins", lambda: self._of_logins(SERVER.states.values(), logins_list), logins_list
        )

    def _request(self, call, answer, *arguments):
        if threading.current_thread() is SERVER.thread:
            return _fails(R.MT_RET_ERR_DEADLOCK)
        with SERVER.lock:
            SERVER.asked.append((call, *arguments))
            if SERVER.break_next_requests:
                SERVER.break_next_requests -= 1
                return _fails(R.MT_RET_ERR_NETWORK, answer=None)
            if not self._is_connected or not SERVER.is_up:
                return _fails(R.MT_RET_ERR_CONNECTION, answer=None)
            found = answer()
            if found is None or found == []:
                return _fails(R.MT_RET_ERR_NOTFOUND, answer=None)
            return found

    @staticmethod
    def _between(from_date, to_date):
        assert isinstance(from_date, int)
        assert isinstance(to_date, int)
        return [deal for deal in SERVER.deals.values() if from_date <= deal.TimeMsc // 1000 <= to_date]

    @staticmethod
    def _of_group(records, mask):
        logins = {user.Login for user in SERVER.users.values() if _matches(user.Group, mask)}
        return [copy(record) for record in records if record.Login in logins]

    @staticmethod
    def _of_logins(records, logins):
        assert isinstance(logins, list)
        return [copy(record) for record in records if record.Login in set(logins)]

    @staticmethod
    def _of_tickets(store, tickets):
        assert isinstance(tickets, list)
        found = [copy(store[ticket]) for ticket in tickets if ticket in store]
        return found if len(found) == len(tickets) else None  # nobody promises the others where one is missing


_FED = {"deal": MTDeal, "position": MTPosition, "order": MTOrder, "user": MTUser, "state": MTAccount}


def _feed(path):
    """Let happen what a file of JSON lines says, line by line as it grows."""
    while not path.exists():
        time.sleep(0.05)
    with path.open(encoding="utf-8") as lines:
        rest = ""
        while True:
            rest += lines.readline()
            if not rest.endswith("\n"):
                time.sleep(0.02)
                continue
            command, rest = json.loads(rest), ""
            if command["call"] in ("drop", "restore"):
                getattr(SERVER, command["call"])()
            else:
                getattr(SERVER, command["call"])(_FED[command["call"].partition("_")[0]](**command["values"]))


if os.environ.get("FAKE_MT5_FEED"):
    threading.Thread(target=_feed, args=(Path(os.environ["FAKE_MT5_FEED"]),), name="fake-feed", daemon=True).start()
