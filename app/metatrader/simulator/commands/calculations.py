"""trade/calc_*, trade/check_margin: what a trade would need and bring. Volumes are 1/100000000 lot, as MetaTrader's samples."""

from __future__ import annotations

from decimal import Decimal

from app.metatrader.codes import DealAction, DealReason
from app.metatrader.platform import UNITS_PER_LOT
from app.metatrader.simulator import pricing
from app.metatrader.simulator.commands.call import Call, Command
from app.metatrader.simulator.exchange import Refused
from app.metatrader.simulator.groups import GROUPS, GroupSettings
from app.metatrader.simulator.holdings import OpenPosition
from app.metatrader.simulator.instruments import INSTRUMENTS, Instrument
from app.metatrader.simulator.records import account_record
from app.metatrader.simulator.valuation import major

VOLUME_MAX = 10_000 * UNITS_PER_LOT
RATE_DIGITS = Decimal("0.000001")
CURRENCIES = {currency for one in INSTRUMENTS.values() for currency in (one.base, one.profit_currency)} - {"XAU"}


def calc_rate_buy(call: Call) -> object:
    return _rate(call, sell=False)


def calc_rate_sell(call: Call) -> object:
    return _rate(call, sell=True)


def check_margin(call: Call) -> object:
    """The account as it is, and as it would be with one more position."""
    exchange, symbol = call.exchange, call.text("symbol")
    instrument, action, volume = _instrument(symbol), _side(call), _volume(call)
    with exchange.store.transaction():
        account = exchange.account(call.whole("login"))
        group, positions = GROUPS[account.group_name], exchange.store.positions(account.login)
        quote = exchange.market.quote(symbol)
        price = call.decimal("price") if "price" in call.query else Decimal(0)
        market = quote.ask if action == DealAction.BUY else quote.bid
        moment = exchange.now_ms()
        wished = OpenPosition(
            ticket=2**62,
            login=account.login,
            symbol=symbol,
            action=action,
            volume=volume,
            opened=price.scaleb(instrument.digits) if price else Decimal(market),
            swap=0,
            rate_margin=exchange.market.rate(instrument.margin_currency, group.currency, sell=False),
            reason=DealReason.CLIENT,
            created_ms=moment,
            update_ms=moment,
            comment="",
        )
        current = exchange.valuation.state(account, positions)
        new = exchange.valuation.state(account, [*positions, wished])
    return {"new": account_record(new), "current": account_record(current)}


def calc_profit(call: Call) -> object:
    instrument, group = _instrument(call.text("symbol")), _group(call.text("group"))
    prices = [call.decimal(name).scaleb(instrument.digits) for name in ("price_open", "price_close")]
    profit = pricing.profit(
        call.exchange.market, instrument, _side(call), prices[0], prices[1], _volume(call), group.currency, group.digits
    )
    return {"Profit": str(major(profit.minor, group.digits)), "Profit_rate": str(profit.rate)}


def _rate(call: Call, *, sell: bool) -> object:
    """How much of `currency` one unit of `base` costs, or brings. Refused(13) for currencies without quotes."""
    base, currency = call.text("base"), call.text("currency")
    if base not in CURRENCIES or currency not in CURRENCIES:
        raise Refused(13)
    if "group" in call.query:
        _group(call.text("group"))
    return {"Rate": str(call.exchange.market.rate(base, currency, sell=sell).quantize(RATE_DIGITS))}


def _instrument(symbol: str) -> Instrument:
    if symbol not in INSTRUMENTS:
        raise Refused(13)
    return INSTRUMENTS[symbol]


def _group(name: str) -> GroupSettings:
    if name not in GROUPS:
        raise Refused(13)
    return GROUPS[name]


def _side(call: Call) -> int:
    return call.whole("type", high=1)


def _volume(call: Call) -> int:
    volume = call.whole("volume", high=VOLUME_MAX)
    if not volume:
        raise Refused(10014)
    return volume


CALCULATIONS: dict[str, Command] = {
    "trade/calc_rate_buy": calc_rate_buy,
    "trade/calc_rate_sell": calc_rate_sell,
    "trade/check_margin": check_margin,
    "trade/calc_profit": calc_profit,
}
