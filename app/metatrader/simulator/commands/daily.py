"""daily_get_light: end-of-day reports of a login, worked out from its deals when they are asked for.

What was open at a past midnight is not kept, so equity is balance and credit there, without floating profit.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from app.metatrader.codes import DealAction
from app.metatrader.platform import Deal
from app.metatrader.simulator.commands.call import Call, Command
from app.metatrader.simulator.groups import GROUPS
from app.metatrader.simulator.holdings import Account
from app.metatrader.simulator.valuation import major

DAYS_MAX = 400
DAY_MS = 86_400_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: Where a money movement is summed up, by its action; trades go by their parts.
_SUMS = {
    DealAction.BALANCE: "DailyBalance",
    DealAction.CREDIT: "DailyCredit",
    DealAction.CHARGE: "DailyCharge",
    DealAction.CORRECTION: "DailyCorrection",
    DealAction.BONUS: "DailyBonus",
}
_SHOWN = (*_SUMS.values(), "DailyProfit", "DailyStorage", "DailyCommInstant", "DailyCommFee")


def daily_get_light(call: Call) -> object:
    """One report for each of the server's days that ended in the range and had begun with the login."""
    account = call.exchange.account(call.whole("login"))
    from_ms, to_ms = call.range_ms()
    to_ms = min(to_ms, call.exchange.now_ms())
    deals = call.exchange.store.deals(account.login, 0, to_ms)
    first_day = max(from_ms, account.registered_ms) // DAY_MS
    last_day = min(to_ms // DAY_MS, first_day + DAYS_MAX)
    return [_report(account, deals, day) for day in range(first_day, last_day)]


def _report(account: Account, deals: Sequence[Deal], day: int) -> dict[str, str]:
    group = GROUPS[account.group_name]
    end_ms = (day + 1) * DAY_MS
    zero = major(0, group.digits)
    sums = dict.fromkeys(_SHOWN, zero)
    for deal in deals:
        if day * DAY_MS <= deal.server_time_ms < end_ms:
            _add(sums, deal)
    balance, credit = _money(deals, end_ms, zero)
    before, credit_before = _money(deals, day * DAY_MS, zero)
    moment = EPOCH + timedelta(milliseconds=end_ms) - timedelta(seconds=1)
    return {
        "Datetime": str(int(moment.timestamp())),
        "DatetimePrev": str(int(moment.timestamp()) - 86_400),
        "Login": str(account.login),
        "Name": " ".join(filter(None, (account.profile.get("FirstName"), account.profile.get("LastName")))),
        "Group": account.group_name,
        "Currency": group.currency,
        "CurrencyDigits": str(group.digits),
        "Company": "Lotwise Demo",
        "EMail": account.profile.get("EMail", ""),
        "Balance": str(balance),
        "Credit": str(credit),
        "BalancePrevDay": str(before),
        "EquityPrevDay": str(before + credit_before),
        "ProfitEquity": str(balance + credit),
        **{name: str(value) for name, value in sums.items()},
    }


def _add(sums: dict[str, Decimal], deal: Deal) -> None:
    if deal.is_trade:
        sums["DailyProfit"] += deal.profit
        sums["DailyStorage"] += deal.swap
        sums["DailyCommInstant"] += deal.commission
        sums["DailyCommFee"] += deal.fee
    elif name := _SUMS.get(DealAction(deal.action)):
        sums[name] += deal.profit


def _money(deals: Sequence[Deal], before_ms: int, zero: Decimal) -> tuple[Decimal, Decimal]:
    """Balance and credit that the deals before a moment add up to."""
    done = [deal for deal in deals if deal.server_time_ms < before_ms]
    credit = sum((deal.profit for deal in done if deal.action == DealAction.CREDIT), zero)
    return sum((deal.result for deal in done if deal.action != DealAction.CREDIT), zero), credit


DAILY: dict[str, Command] = {"daily_get_light": daily_get_light}
