"""trade/*, deal/*, position/*: balance operations, deals and open positions."""

from __future__ import annotations

from collections.abc import Sequence

from app.metatrader.fields import write_deal, write_position
from app.metatrader.platform import Deal, Position
from app.metatrader.simulator.commands.call import Call, Command
from app.metatrader.simulator.exchange import Refused

PAGE_MAX = 100


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
    return write_deal(deal)


def deal_get_total(call: Call) -> object:
    call.exchange.account(call.whole("login"))
    return {"Total": str(call.exchange.store.count_deals(call.whole("login"), *_range_ms(call)))}


def deal_get_page(call: Call) -> object:
    """At most 100 deals of a login from an offset on."""
    call.exchange.account(call.whole("login"))
    page = call.exchange.store.deals(
        call.whole("login"), *_range_ms(call), limit=call.whole("total", high=PAGE_MAX), offset=call.whole("offset", 0)
    )
    return [write_deal(deal) for deal in page]


def deal_get_batch(call: Call) -> object:
    """Deals of logins, groups or tickets: exactly one of the three."""
    if sum(name in call.query for name in ("login", "group", "ticket")) != 1:
        raise Refused(3)
    store = call.exchange.store
    if "ticket" in call.query:
        found: Sequence[Deal | None] = [store.deal(ticket) for ticket in call.numbers("ticket")]
        return [write_deal(deal) for deal in found if deal]
    if "login" in call.query:
        logins = [call.exchange.account(login).login for login in call.numbers("login")]
    else:
        logins = [account.login for account in call.users.by_mask(call.text("group"))]
    deals = [deal for login in logins for deal in store.deals(login, *_range_ms(call))]
    symbol = call.query.get("symbol")
    return [write_deal(deal) for deal in deals if symbol in (None, deal.symbol)]


def position_get(call: Call) -> object:
    """The oldest position of a login in a symbol; a hedged account may have more of them."""
    for position in _positions(call, call.whole("login")):
        if position.symbol == call.text("symbol"):
            return write_position(position)
    raise Refused(13)


def position_get_total(call: Call) -> object:
    return {"total": str(len(_positions(call, call.whole("login"))))}


def position_get_page(call: Call) -> object:
    offset = call.whole("offset", 0)
    page = _positions(call, call.whole("login"))[offset : offset + call.whole("total", high=PAGE_MAX)]
    return [write_position(position) for position in page]


def position_get_batch(call: Call) -> object:
    """Positions of logins, groups or tickets: exactly one of the three."""
    if sum(name in call.query for name in ("login", "group", "ticket")) != 1:
        raise Refused(3)
    if "ticket" in call.query:
        tickets = set(call.numbers("ticket"))
        return [write_position(position) for position in call.exchange.positions() if position.ticket in tickets]
    if "login" in call.query:
        logins = call.numbers("login")
    else:
        logins = [account.login for account in call.users.by_mask(call.text("group"))]
    return [write_position(position) for login in logins for position in _positions(call, login)]


def _positions(call: Call, login: int) -> list[Position]:
    call.exchange.account(login)
    return call.exchange.positions(login)


def _range_ms(call: Call) -> tuple[int, int]:
    """`from` and `to` are seconds of the server's clock, both included."""
    high = 2**40
    return call.whole("from", high=high) * 1000, call.whole("to", high=high) * 1000 + 999


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
