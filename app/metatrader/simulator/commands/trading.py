"""trade/balance, deal/*, position/*: balance operations, deals and open positions."""

from __future__ import annotations

from app.metatrader.platform import Deal, Position
from app.metatrader.simulator.commands.call import Call, Command
from app.metatrader.simulator.exchange import Refused
from app.metatrader.simulator.records import deal_record, position_record

#: Above so many logins their deals are read in one go and sorted out, instead of login by login.
ONE_BY_ONE_MAX = 50


def balance(call: Call) -> object:
    deal = call.exchange.balance_operation(
        call.whole("login"),
        call.whole("type", high=63),
        call.decimal("balance"),
        call.text("comment", ""),
        check_margin=call.text("check_margin", "1") != "0",
    )
    return {"Ticket": str(deal.ticket)}


def deal_get(call: Call) -> object:
    deal = call.exchange.store.deal(call.whole("ticket"))
    if deal is None:
        raise Refused(13)
    return deal_record(deal)


def deal_get_total(call: Call) -> object:
    call.exchange.account(call.whole("login"))
    return call.total(call.exchange.store.count_deals(call.whole("login"), *call.range_ms()))


def deal_get_page(call: Call) -> object:
    """At most 100 deals of a login from an offset on."""
    call.exchange.account(call.whole("login"))
    offset, limit = call.page()
    page = call.exchange.store.deals(call.whole("login"), *call.range_ms(), limit=limit, offset=offset)
    return [deal_record(deal) for deal in page]


def deal_get_batch(call: Call) -> object:
    """Deals of logins, groups or tickets: exactly one of the three; with `symbol` only of that."""
    symbol = call.query.get("symbol")
    return [deal_record(deal) for deal in _deals(call) if symbol in (None, deal.symbol)]


def _deals(call: Call) -> list[Deal]:
    store = call.exchange.store
    if call.one_of("login", "group", "ticket") == "ticket":
        found = [store.deal(ticket) for ticket in call.numbers("ticket")]
        return [deal for deal in found if deal]
    accounts, range_ms = call.selected(), call.range_ms()
    if len(accounts) <= ONE_BY_ONE_MAX:
        return [deal for account in accounts for deal in store.deals(account.login, *range_ms)]
    logins = {account.login for account in accounts}
    return [deal for deal in store.deals(None, *range_ms) if deal.login in logins]


def position_get(call: Call) -> object:
    """The oldest position of a login in a symbol; a hedged account may have more of them."""
    for position in _positions(call, call.whole("login")):
        if position.symbol == call.text("symbol"):
            return position_record(position)
    raise Refused(13)


def position_get_total(call: Call) -> object:
    return call.total(len(_positions(call, call.whole("login"))), "total")


def position_get_page(call: Call) -> object:
    offset, limit = call.page()
    page = _positions(call, call.whole("login"))[offset : offset + limit]
    return [position_record(position) for position in page]


def position_get_batch(call: Call) -> object:
    """Positions of logins, groups or tickets: exactly one of the three; with `symbol` only of that."""
    if call.one_of("login", "group", "ticket") == "ticket":
        tickets = set(call.numbers("ticket"))
        found = [position for position in call.exchange.positions() if position.ticket in tickets]
    else:
        logins = {account.login for account in call.selected()}
        holders = sorted(logins.intersection(call.exchange.store.holders()))
        found = [position for login in holders for position in call.exchange.positions(login)]
    symbol = call.query.get("symbol")
    return [position_record(position) for position in found if symbol in (None, position.symbol)]


def _positions(call: Call, login: int) -> list[Position]:
    call.exchange.account(login)
    return call.exchange.positions(login)


TRADING: dict[str, Command] = {
    "trade/balance": balance,
    "deal/get": deal_get,
    "deal/get_total": deal_get_total,
    "deal/get_page": deal_get_page,
    "deal/get_batch": deal_get_batch,
    "position/get": position_get,
    "position/get_total": position_get_total,
    "position/get_page": position_get_page,
    "position/get_batch": position_get_batch,
}
