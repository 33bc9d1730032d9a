"""What can be traded at the simulator: 28 currency pairs, gold, two indices."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from app.metatrader.simulator.hours import ALL_WEEK, Hours

#: Units of the base currency in a lot of a currency pair.
CONTRACT_SIZE = Decimal(100_000)

#: MetaTrader's numbers for how profit and margin are counted.
CALC_FOREX, CALC_CFD_LEVERAGE = 0, 4

WEDNESDAY, FRIDAY = 2, 4


@dataclass(frozen=True)
class Instrument:
    """A symbol: `spread` and `volatility` (of one step) in points, swap in points per lot and night.

    Steps are livelier than a real second, so that positions held for a minute end in gain and in loss. `triple_day` is the
    weekday whose night counts three times.
    """

    name: str
    digits: int
    spread: int
    volatility: float
    swap_long: Decimal
    swap_short: Decimal
    base: str
    profit_currency: str
    contract_size: Decimal = CONTRACT_SIZE
    calc_mode: int = CALC_FOREX
    path: str = "Forex"
    hours: Hours = ALL_WEEK
    triple_day: int = WEDNESDAY

    @property
    def margin_currency(self) -> str:
        return self.base if self.calc_mode == CALC_FOREX else self.profit_currency

    @property
    def point(self) -> Decimal:
        return Decimal(1).scaleb(-self.digits)

    @property
    def tick_value(self) -> Decimal:
        """What one point of one lot is worth, in the profit currency."""
        return self.point * self.contract_size

    def price(self, points: Decimal | int) -> Decimal:
        """The price that so many points make."""
        return Decimal(points).scaleb(-self.digits)


#: Currency pairs that move by themselves; all others follow from them, as arbitrage would have it.
MOVING = ("EURUSD", "GBPUSD", "AUDUSD", "NZDUSD", "USDJPY", "USDCHF", "USDCAD")

#: Name, spread, volatility of one step, swap of a bought and of a sold lot.
_PAIRS = (
    ("EURUSD", 8, 8.0, "-7.2", "3.1"),
    ("GBPUSD", 11, 10.0, "-3.4", "-1.2"),
    ("AUDUSD", 10, 6.0, "-2.8", "-0.9"),
    ("NZDUSD", 13, 6.0, "-1.9", "-1.6"),
    ("USDJPY", 10, 10.0, "9.5", "-18.4"),
    ("USDCHF", 12, 7.0, "6.3", "-11.9"),
    ("USDCAD", 13, 8.0, "1.7", "-5.8"),
    ("AUDCAD", 18, 0.0, "-1.1", "-3.5"),
    ("AUDCHF", 18, 0.0, "4.4", "-8.6"),
    ("AUDJPY", 16, 0.0, "6.8", "-13.2"),
    ("AUDNZD", 22, 0.0, "-3.9", "-0.7"),
    ("CADCHF", 18, 0.0, "3.2", "-7.4"),
    ("CADJPY", 17, 0.0, "5.1", "-11.6"),
    ("CHFJPY", 20, 0.0, "-2.4", "-6.3"),
    ("EURAUD", 20, 0.0, "-8.8", "2.2"),
    ("EURCAD", 20, 0.0, "-6.9", "1.3"),
    ("EURCHF", 14, 0.0, "2.9", "-7.7"),
    ("EURGBP", 12, 0.0, "-5.1", "0.6"),
    ("EURJPY", 14, 0.0, "5.7", "-13.8"),
    ("EURNZD", 28, 0.0, "-10.4", "2.8"),
    ("GBPAUD", 24, 0.0, "-4.3", "-2.6"),
    ("GBPCAD", 26, 0.0, "-3.1", "-3.8"),
    ("GBPCHF", 22, 0.0, "6.6", "-14.1"),
    ("GBPJPY", 20, 0.0, "12.3", "-24.5"),
    ("GBPNZD", 36, 0.0, "-6.2", "-2.9"),
    ("NZDCAD", 22, 0.0, "-1.4", "-3.3"),
    ("NZDCHF", 22, 0.0, "3.8", "-8.1"),
    ("NZDJPY", 20, 0.0, "5.9", "-12.7"),
)


def _pair(name: str, spread: int, volatility: float, swap_long: str, swap_short: str) -> Instrument:
    digits = 3 if name.endswith("JPY") else 5
    return Instrument(name, digits, spread, volatility, Decimal(swap_long), Decimal(swap_short), name[:3], name[3:])


GOLD = Instrument(
    "XAUUSD", 2, 22, 35.0, Decimal("-38.5"), Decimal("16.2"), "XAU", "USD",
    contract_size=Decimal(100), calc_mode=CALC_CFD_LEVERAGE, path="Metals", hours=Hours(60, 24 * 60),
)  # fmt: skip
US_INDEX = Instrument(
    "US500", 2, 50, 40.0, Decimal(-110), Decimal(25), "USD", "USD",
    contract_size=Decimal(10), calc_mode=CALC_CFD_LEVERAGE, path="Indices", hours=Hours(16 * 60 + 30, 23 * 60),
    triple_day=FRIDAY,
)  # fmt: skip
GERMAN_INDEX = Instrument(
    "DE40", 1, 12, 14.0, Decimal(-28), Decimal(4), "EUR", "EUR",
    contract_size=Decimal(1), calc_mode=CALC_CFD_LEVERAGE, path="Indices", hours=Hours(10 * 60, 18 * 60 + 30),
    triple_day=FRIDAY,
)  # fmt: skip

INSTRUMENTS: dict[str, Instrument] = {
    instrument.name: instrument for instrument in (*(_pair(*row) for row in _PAIRS), GOLD, US_INDEX, GERMAN_INDEX)
}

#: Where symbols begin that no central bank publishes a rate of, in points.
STARTS = {"XAUUSD": 412_000, "US500": 665_000, "DE40": 236_000}
