"""group/*, symbol/*, tick/*, time/*, common/*: what the server is and offers."""

from __future__ import annotations

from datetime import UTC, datetime

from app.metatrader.platform import UNITS_PER_OLD_UNIT
from app.metatrader.simulator.commands.call import Call, Command, Partial
from app.metatrader.simulator.exchange import VOLUME_MAX, VOLUME_STEP, Refused
from app.metatrader.simulator.groups import GROUPS, GroupSettings, matches
from app.metatrader.simulator.instruments import FRIDAY, INSTRUMENTS, Instrument

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def group_get(call: Call) -> object:
    """One group by name, or those that a mask selects; code 14 when there are more of them than the server shows."""
    if "mask" in call.query:
        found = [_group(group) for group in _groups(call) if matches(call.text("mask"), group.name)]
        most = call.habits.groups_max
        return found if len(found) <= most else Partial(found[:most])
    for group in _groups(call):
        if group.name == call.text("group"):
            return _group(group)
    raise Refused(13)


def group_total(call: Call) -> object:
    return call.total(len(_groups(call)))


def group_next(call: Call) -> object:
    groups, index = _groups(call), call.whole("index")
    if index >= len(groups):
        raise Refused(13)
    return _group(groups[index])


def symbol_list(call: Call) -> object:
    return list(INSTRUMENTS)


def symbol_get(call: Call) -> object:
    """One symbol by name, or all that a mask selects."""
    if "mask" in call.query:
        return [_symbol(instrument) for instrument in INSTRUMENTS.values() if matches(call.text("mask"), instrument.name)]
    return _symbol(_instrument(call.text("symbol")))


def symbol_get_group(call: Call) -> object:
    """A symbol as a group has it; all groups of the simulator have it alike."""
    if call.text("group") not in {group.name for group in _groups(call)}:
        raise Refused(13)
    return _symbol(_instrument(call.text("symbol")))


def tick_last(call: Call) -> object:
    """Prices of a comma-separated list of symbols. `trans_id` is the market's step: nothing newer than it, no ticks."""
    market = call.exchange.market
    if call.whole("trans_id", 0) >= market.step > 0:
        return {"trans_id": str(market.step), "answer": []}
    ticks = []
    for name in call.text("symbol").split(","):
        quote = market.quote(_instrument(name).name)
        moment = str(call.exchange.now_ms())
        ticks.append(
            {
                "Symbol": name,
                "Digits": str(quote.symbol.digits),
                "Bid": str(quote.bid_price),
                "Ask": str(quote.ask_price),
                "Last": "0",
                "Volume": "0",
                "Datetime": moment[:-3],
                "DatetimeMsc": moment,
            }
        )
    return {"trans_id": str(market.step), "answer": ticks}


def time_server(call: Call) -> object:
    seconds = call.exchange.now_ms() // 1000
    return f"{seconds} {datetime.fromtimestamp(seconds, UTC):%Y.%m.%d %H:%M:%S}"


def time_get(call: Call) -> object:
    zone, moment = call.exchange.zone, call.exchange.clock()
    january = zone.offset_min(moment.replace(month=1, day=1))
    return {
        "TimeZone": str(january),
        "Daylight": "1",
        "DaylightState": "1" if zone.offset_min(moment) > january else "0",
        "TimeServer": "",
    }


def common_get(call: Call) -> object:
    return {
        "Name": "Lotwise Simulator",
        "Owner": "Lotwise",
        "Product": "MetaTrader 5 Web API simulator",
        "Build": "4000",
        "TotalUsers": str(len(call.exchange.store.logins())),
        "TotalPositions": str(len(call.exchange.positions())),
    }


def _groups(call: Call) -> list[GroupSettings]:
    """The groups of this trade server."""
    return [group for group in GROUPS.values() if group.server == call.exchange.cluster.number]


def _instrument(name: str) -> Instrument:
    if name not in INSTRUMENTS:
        raise Refused(13)
    return INSTRUMENTS[name]


def _group(group: GroupSettings) -> dict[str, str]:
    return {
        "Group": group.name,
        "Server": str(group.server),
        "Currency": group.currency,
        "CurrencyDigits": str(group.digits),
        "Company": "Lotwise Demo",
        "AuthPasswordMin": str(group.password_min),
        "MarginMode": str(int(group.margin_mode)),
        "MarginCall": "100",
        "MarginStopOut": str(group.stop_out),
        "MarginSOMode": "0",
        "DemoLeverage": "100",
        "TradeFlags": "7" if group.has_swaps else "6",
    }


def _symbol(instrument: Instrument) -> dict[str, str]:
    return {
        "Symbol": instrument.name,
        "Path": f"{instrument.path}\\{instrument.name}",
        "Digits": str(instrument.digits),
        "Point": str(instrument.point),
        "Multiply": str(10**instrument.digits),
        "CurrencyBase": instrument.base,
        "CurrencyProfit": instrument.profit_currency,
        "CurrencyMargin": instrument.margin_currency,
        "ContractSize": str(instrument.contract_size),
        "CalcMode": str(instrument.calc_mode),
        "TickSize": str(instrument.point),
        "TickValue": str(instrument.tick_value),
        "Spread": "0",
        "VolumeMin": str(VOLUME_STEP // UNITS_PER_OLD_UNIT),
        "VolumeMinExt": str(VOLUME_STEP),
        "VolumeMax": str(VOLUME_MAX // UNITS_PER_OLD_UNIT),
        "VolumeMaxExt": str(VOLUME_MAX),
        "VolumeStep": str(VOLUME_STEP // UNITS_PER_OLD_UNIT),
        "VolumeStepExt": str(VOLUME_STEP),
        "SwapMode": "1",
        "SwapLong": str(instrument.swap_long),
        "SwapShort": str(instrument.swap_short),
        **{f"SwapRate{day}": str(_nights(index, instrument)) for index, day in enumerate(DAYS)},
        "TradeMode": "4",
        "ExecMode": "2",
    }


def _nights(weekday: int, instrument: Instrument) -> int:
    if weekday > FRIDAY:
        return 0
    return 3 if weekday == instrument.triple_day else 1


CATALOGUE: dict[str, Command] = {
    "group/get": group_get,
    "group/total": group_total,
    "group/next": group_next,
    "symbol/list": symbol_list,
    "symbol/get": symbol_get,
    "symbol/get_group": symbol_get_group,
    "tick/last": tick_last,
    "time/server": time_server,
    "time/get": time_get,
    "common/get": common_get,
}
