"""MetaTrader's own structures, complete, every value text: as the Web API, Kafka topics and web requests carry them.

Lotwise reads a part of these fields; a server sends them all, and so does the simulator.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from app.metatrader.fields import write_account, write_deal, write_order, write_position
from app.metatrader.platform import AccountState, Deal, Order, Position
from app.metatrader.simulator.holdings import Account

#: Personal fields of a login and how many characters each holds.
PROFILE = {
    "FirstName": 127,
    "LastName": 127,
    "MiddleName": 127,
    "Company": 63,
    "Country": 31,
    "City": 31,
    "State": 31,
    "ZIPCode": 15,
    "Address": 127,
    "Phone": 31,
    "EMail": 63,
    "ID": 31,
    "Status": 15,
    "Comment": 63,
    "LeadSource": 31,
    "LeadCampaign": 31,
}

_DEAL = {
    "PriceSL": "0.00000",
    "PriceTP": "0.00000",
    "Value": "0.00",
    "ExpertID": "0",
    "ProfitRaw": "0.00",
    "TickValue": "0.00",
    "TickSize": "0.00",
    "Flags": "0",
    "Gateway": "",
    "PriceGateway": "0.00000",
    "MarketLast": "0.00000",
}
_POSITION = {
    "Dealer": "0",
    "PriceSL": "0.00000",
    "PriceTP": "0.00000",
    "ExpertID": "0",
    "ExpertPositionID": "0",
    "ActivationMode": "0",
    "ActivationTime": "0",
    "ActivationPrice": "0.00000",
    "ActivationFlags": "0",
    "ModificationFlags": "0",
}
_ORDER = {
    "Dealer": "0",
    "DigitsCurrency": "2",
    "TypeFill": "0",
    "TypeTime": "0",
    "PriceCurrent": "0.00000",
    "ExpertID": "0",
    "RateMargin": "0.00000000",
    "ActivationMode": "0",
    "ActivationTime": "0",
    "ActivationPrice": "0.00000",
    "ActivationFlags": "0",
    "ModificationFlags": "0",
}
_ACCOUNT = {
    "MarginInitial": "0.00",
    "MarginMaintenance": "0.00",
    "Storage": "0.00",
    "BlockedCommission": "0.00",
    "BlockedProfit": "0.00",
    "Assets": "0.00",
    "Liabilities": "0.00",
    "SOActivation": "0",
    "SOTime": "0",
    "SOLevel": "0.00",
    "SOEquity": "0.00",
    "SOMargin": "0.00",
}
_MONEY = ("Login", "CurrencyDigits", "Balance", "Credit", "Margin", "MarginFree", "MarginLevel", "Floating", "Equity")


def complete(kind: str, fields: Mapping[str, str]) -> dict[str, str]:
    """The structure of `kind` (deal, position, order, account) that an event's payload stands for."""
    match kind:
        case "deal":
            return {**_DEAL, **fields}
        case "position":
            return {**_POSITION, **fields}
        case "order":
            return {**_ORDER, **fields}
    money = {name: fields[name] for name in _MONEY}
    return {**money, "MarginLeverage": fields["Leverage"], "Profit": fields["Floating"], **_ACCOUNT}


def deal_record(deal: Deal) -> dict[str, str]:
    return complete("deal", write_deal(deal))


def position_record(position: Position) -> dict[str, str]:
    return complete("position", write_position(position))


def order_record(order: Order) -> dict[str, str]:
    return complete("order", write_order(order))


def account_record(state: AccountState) -> dict[str, str]:
    """The financial state of a login; its group and rights stand in the user record."""
    return complete("account", write_account(state))


def user_record(account: Account, digits: int) -> dict[str, str]:
    """A login's record: settings, person, balance and credit. Never a password."""

    def money(minor: int) -> str:
        return str(Decimal(minor).scaleb(-digits))

    personal = {name: account.profile.get(name, "") for name in PROFILE}
    return {
        "Login": str(account.login),
        "Group": account.group_name,
        "CertSerialNumber": "0",
        "Rights": str(account.rights),
        "Registration": str(account.registered_ms // 1000),
        "LastAccess": str(account.registered_ms // 1000),
        "LastPassChange": str(account.registered_ms // 1000),
        **personal,
        "Name": " ".join(part for part in (personal["FirstName"], personal["LastName"]) if part),
        "Language": "0",
        "ClientID": "0",
        "Color": "4278190080",
        "Leverage": str(account.leverage),
        "Agent": "0",
        "Balance": money(account.balance),
        "Credit": money(account.credit),
        "InterestRate": money(0),
        "CommissionDaily": money(0),
        "CommissionMonthly": money(0),
        "BalancePrevDay": money(0),
        "BalancePrevMonth": money(0),
        "EquityPrevDay": money(0),
        "EquityPrevMonth": money(0),
    }
