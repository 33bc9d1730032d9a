"""Taking over logins that exist at a server already: the account, its opening balance, and what was booked before.

The opening balance is the server's balance as of a moment of the server's own clock (`opened_at`). Deals until then are in
it: the mirror posts nothing for them, whenever they are booked. Deals after it are mirrored as ever. So ledger and server
agree from the first moment, although trading goes on meanwhile.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from sqlalchemy import func, select, update

from app.core.clock import now
from app.core.errors import N_, Conflict
from app.core.ids import new_token
from app.core.money import Money
from app.core.uow import UnitOfWork
from app.ledger import chart, posting
from app.metatrader import booking
from app.metatrader.codes import UserRight
from app.metatrader.mirror import LOGINS_PER_RUN, NOTHING_POSTED
from app.metatrader.platform import AccountState, TradingPlatform
from app.metatrader.servertime import ServerZone
from app.models.ledger import PeriodClose
from app.models.metatrader import Deal, Product, Server, TradingAccount
from app.models.trading_desk import ForeignOperation

#: How often a login that trades just now is read again, and how far apart: the server's clock counts whole seconds.
READINGS, PAUSE_S = 4, 1.05
#: How far past the server's moment deals are asked for.
AHEAD = timedelta(minutes=10)


class TradingNow(Conflict):
    code = "takeover.trading_now"
    message = N_("The login is trading at this very moment, so its balance does not hold still. Please try again in a moment.")


@dataclass(frozen=True)
class Takeover:
    """A login to take over, for a client and as a product. Its money is that of the moment `at`."""

    login: int
    client_id: int
    product: Product
    group: str
    leverage: int
    rights: int | None
    balance: Decimal
    credit: Decimal
    at: datetime

    @property
    def opening(self) -> Money:
        """The opening balance in the ledger; none for play money. Raises InvalidMoney for more digits than the currency has."""
        currency = self.product.currency
        return Money.zero(currency) if self.product.is_demo else Money.parse(self.balance, currency)


def read_still(platform: TradingPlatform, zone: ServerZone, login: int) -> tuple[AccountState, datetime]:
    """The login's state, and a server moment of which its balance is that: no deal was done after it.

    Raises NotKnown when there is no such login, TradingNow when one deal follows another.
    """
    for attempt in range(READINGS):
        if attempt:
            time.sleep(PAUSE_S)
        at = server_moment(platform, zone)
        state = platform.get_account(login)
        deals = platform.deals(login, at, at + AHEAD)
        if all(zone.to_utc(deal.server_time_ms, near=at).utc <= at for deal in deals):
            return state, at
    raise TradingNow()


def server_moment(platform: TradingPlatform, zone: ServerZone) -> datetime:
    """What the server's clock says now, in UTC, as its deals are read."""
    return zone.to_utc(platform.server_time().wall_ms, near=now()).utc


def take_over(unit: UnitOfWork, server: Server, logins: Sequence[Takeover], *, origin: str) -> list[TradingAccount]:
    """Make accounts of logins, in the order given; opening balances are posted in runs. The server must be locked.

    Raises InvalidMoney where an amount does not fit its currency.
    """
    session = unit.session
    accounts = [_account(server, one, origin) for one in logins]
    session.add_all(accounts)
    session.flush()
    for account, one in zip(accounts, logins, strict=True):
        booking.adopt_login(unit, server.id, one.login, account.id)
    _settle_earlier(unit, [account.id for account in accounts])
    _post_openings(unit, server, list(zip(accounts, logins, strict=True)))
    session.flush()
    return accounts


def _account(server: Server, one: Takeover, origin: str) -> TradingAccount:
    usable = one.rights is None or one.rights & UserRight.ENABLED
    return TradingAccount(
        client_id=one.client_id,
        product_id=one.product.id,
        server_id=server.id,
        login=one.login,
        currency=one.product.currency,
        leverage=one.leverage,
        status="active" if usable else "disabled",
        token=new_token("B"),
        origin=origin,
        group=one.group,
        rights=one.rights,
        balance=one.balance,
        credit=one.credit,
        equity=one.balance + one.credit,
        state_at=one.at,
        opened_at=one.at,
    )


def _settle_earlier(unit: UnitOfWork, account_ids: list[int]) -> None:
    """What was booked of these accounts before their opening needs no transaction, and nobody's review."""
    session = unit.session
    session.execute(
        update(Deal)
        .where(
            Deal.trading_account_id.in_(account_ids),
            Deal.trading_account_id == TradingAccount.id,
            Deal.done_at <= TradingAccount.opened_at,
            Deal.ledger_txn_id.is_(None),
        )
        .values(ledger_txn_id=NOTHING_POSTED)
        .execution_options(synchronize_session=False)
    )
    session.execute(
        update(ForeignOperation)
        .where(
            TradingAccount.id.in_(account_ids),
            ForeignOperation.server_id == TradingAccount.server_id,
            ForeignOperation.login == TradingAccount.login,
            ForeignOperation.done_at <= TradingAccount.opened_at,
            ForeignOperation.reviewed_at.is_(None),
        )
        .values(classed_as="opening", reviewed_by=str(unit.actor), reviewed_at=now(), trading_account_id=TradingAccount.id)
        .execution_options(synchronize_session=False)
    )


def _post_openings(unit: UnitOfWork, server: Server, taken: list[tuple[TradingAccount, Takeover]]) -> None:
    """Opening balances against the chart's opening account, up to 199 logins of a currency in one transaction.

    Effective at the newest moment among them; now, where that lies in a closed period.
    """
    session = unit.session
    closed_through = session.scalar(select(func.max(PeriodClose.closed_through))) or datetime.min.replace(tzinfo=UTC)
    by_currency: dict[str, list[tuple[TradingAccount, Takeover]]] = defaultdict(list)
    for account, one in taken:
        if one.opening:
            by_currency[one.opening.currency].append((account, one))
    runs: list[tuple[list[TradingAccount], posting.Posting]] = []
    specs: set[chart.AccountSpec] = set()
    for currency, its in sorted(by_currency.items()):
        for start in range(0, len(its), LOGINS_PER_RUN):
            part = its[start : start + LOGINS_PER_RUN]
            at = min(max(one.at for _, one in part), now())
            legs, used = _legs(server.code, currency, part)
            specs |= used
            first, last = part[0][0].id, part[-1][0].id
            run = posting.Posting(
                key=f"migration-logins:{server.code}:{currency}:{first}:{last}",
                kind="migration_opening",
                effective_at=at if at >= closed_through else max(now(), closed_through),
                actor=unit.actor,
                legs=legs,
                metadata={"server": server.code, "logins": len(part)},
            )
            runs.append(([account for account, _ in part], run))
    chart.open_accounts(session, *specs)
    txn_ids: list[UUID] = posting.post_many(session, [run for _, run in runs])
    for (accounts, _), txn_id in zip(runs, txn_ids, strict=True):
        for account in accounts:
            account.opening_txn_id = txn_id


def _legs(
    server: str, currency: str, part: list[tuple[TradingAccount, Takeover]]
) -> tuple[list[posting.Leg], set[chart.AccountSpec]]:
    """What the logins have, and the other side of all of it."""
    legs, specs, total = [], set(), Money.zero(currency)
    for _, one in part:
        spec = chart.mt_balance(server, one.login, currency, client_id=one.client_id)
        legs.append(_leg(spec, one.opening))
        specs.add(spec)
        total += one.opening
    opening = chart.migration_opening(currency)
    if total:
        legs.append(_leg(opening, -total))
        specs.add(opening)
    return legs, specs


def _leg(account: chart.AccountSpec, amount: Money) -> posting.Leg:
    return posting.credit(account, amount) if amount.amount_minor > 0 else posting.debit(account, -amount)
