"""The house under all faults at once, then what it is worth: nothing lost, nothing doubled, and books that hold.

Events come twice, late, out of order, as garbage, or never; dealers change and delete deals; commands are cut off before and
after they were carried out, while clients move money between wallets and accounts. Afterwards the server is quiet and well;
what is still open comes to its end by the planned jobs, a sweep and the check of the whole day follow, as every few
minutes and every night, and then everything is compared with the simulator's own file.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.ids import TOKEN_LENGTH
from app.core.money import Money, exponent
from app.core.uow import unit_of_work
from app.ledger import chart, posting, proofs
from app.metatrader import findings, mirror, reconcile, sync
from app.metatrader.backfill import PlatformBackfill, our_groups
from app.metatrader.balances import Look
from app.metatrader.codes import DealAction
from app.metatrader.compare import COMPARED
from app.metatrader.platform import Deal
from app.metatrader.servertime import server_zone
from app.metatrader.simulator.machine import TIME_ZONE
from app.metatrader.simulator.store import Store
from app.models.metatrader import BalanceOperation, TradingAccount
from app.payments.errors import NotEnoughOnAccount
from app.payments.transfers import request_transfer
from benchmarks.form import Result, Run
from benchmarks.metatrader.house import ACTOR, SIMULATOR, House
from benchmarks.servers import BenchFailed

#: Every word that a line of faults may hold. Lost answers are more than life has, so that there are dozens.
FAULTS = (
    "duplicates=5%,reorder=5s,late=1%/60s,gap=30s/2m,garbage=1%,edits=1%,deletes=0.5%,drop_after_execute=10%,drop=1%,"
    "garble=1%,unavailable=1%,too_frequent=1%,busy=1%,network=1%,slow=5%/3s"
)
#: In seconds instead of minutes; without the faults after which a command waits a minute or two before it is sent again.
SMALL_FAULTS = "duplicates=5%,reorder=1s,late=5%/2s,gap=2s/5s,garbage=2%,edits=5%,deletes=5%,drop_after_execute=30%"
LONG_S, SMALL_S = 300.0, 15.0
TRANSFER_EVERY_S = 1.0
TRANSFER = Money(1_000, "USD")
WALLET = Money(100_000, "USD")

#: Lost commands are looked for twice, a minute apart, sent again, and what was left at once waits a minute.
SETTLED_WITHIN_S = 420.0
OVERLAP = timedelta(minutes=15)
#: What a cancelled trade leaves is void and yet at the server.
CANCELLED = (DealAction.BUY_CANCELED, DealAction.SELL_CANCELED)
CREDITS = (DealAction.CREDIT, DealAction.SO_COMPENSATION_CREDIT)


T = TypeVar("T")
#: One of our deals: by column.
Row = Mapping[str, Any]


def measure(run: Run, house: House, *, deals_per_s: float) -> None:
    """Trade under faults, bring everything to its end, compare. In a small run anything lost, doubled or broken is an error."""
    seconds, faults = (SMALL_S, SMALL_FAULTS) if run.small else (LONG_S, FAULTS)
    run.tell(f"trading for {seconds:.0f} s with {faults}")
    since = now()
    house.trade(deals_per_s, faults)
    _move_money(house, seconds)
    house.stop(SIMULATOR)
    run.tell("the server is quiet; waiting for what is open")
    house.trade(0)
    house.wait_until(lambda: _is_settled(house), SETTLED_WITHIN_S, "transfers and deliveries are not at their end")
    _catch_up(run, house, since)
    house.stop(SIMULATOR)
    house.wait_until(house.drained.is_set, 60, "ingest is not at the end of the stream")
    already = len(run.results)
    _judge(run, house)
    wrong = [result.name for result in run.results[already:] if result.met is False]
    if run.small and wrong:
        raise BenchFailed(f"not 0: {', '.join(wrong)}")


def _move_money(house: House, seconds: float) -> None:
    """One client after the other moves money, in turn to the account and back to the wallet."""
    number = max(1, int(seconds / TRANSFER_EVERY_S))
    with house.session() as session:
        accounts = session.execute(
            select(TradingAccount.client_id, TradingAccount.id)
            .where(TradingAccount.currency == TRANSFER.currency)
            .ext(distinct_on(TradingAccount.client_id))
            .order_by(TradingAccount.client_id, TradingAccount.id)
            .limit(number)
        ).all()
        _fill_wallets(session, house.settings.client_bank, [row.client_id for row in accounts])
        for at in range(number):
            round_, place = divmod(at, len(accounts))
            client_id, account_id = accounts[place]
            direction = "to_account" if at % 2 else "to_wallet"
            try:
                request_transfer(
                    session, client_id=client_id, trading_account_id=account_id, direction=direction, amount=TRANSFER,
                    key=f"bench-{round_}-{place}", actor=Actor.client(client_id),
                )  # fmt: skip
            except NotEnoughOnAccount:
                session.rollback()  # the crowd lost it
            house.wait(TRANSFER_EVERY_S)


def _fill_wallets(session: Session, bank: str, client_ids: list[int]) -> None:
    """Money that clients have brought, as the demo's clients have."""
    clients_money = chart.bank_client_money(bank, WALLET.currency)
    wallets = {client_id: chart.client_wallet(client_id, WALLET.currency) for client_id in client_ids}
    with unit_of_work(session, ACTOR):
        chart.open_accounts(session, clients_money, *wallets.values())
        posting.post_many(
            session,
            [
                posting.Posting(
                    key=f"migration:{client_id}:{WALLET.currency}",
                    kind="migration_opening",
                    effective_at=now(),
                    actor=ACTOR,
                    legs=[posting.debit(clients_money, WALLET), posting.credit(wallet, WALLET)],
                )
                for client_id, wallet in wallets.items()
            ],
        )


_OPEN = text("""
    SELECT (SELECT count(*) FROM transfer WHERE state NOT IN ('done', 'failed'))
         + (SELECT count(*) FROM delivery WHERE delivered_at IS NULL)
""")


def _is_settled(house: House) -> bool:
    with house.session() as session:
        return house.drained.is_set() and session.scalar(_OPEN) == 0


def _catch_up(run: Run, house: House, since: datetime) -> None:
    """A sweep, and the check of each day that the run touched, over the Web API."""
    zone = server_zone(TIME_ZONE)
    days = sorted({_day(zone.wall_ms(moment)) for moment in (since, now())})
    with house.session() as session, house.platform() as platform:
        source = PlatformBackfill(platform, our_groups(session, house.server_id))
        session.rollback()
        look = Look(session, platform, source, house.server_id, zone, ACTOR)
        sweep = partial(sync.sweep, session, platform, house.server_id, since=since - OVERLAP, source=source)
        swept = _alone(house, sweep)
        run.tell(f"the sweep found {swept.new:,} deals new or changed, {swept.voided} deleted")
        mirror.mirror_deals(session)
        for day in days:
            checked = _alone(house, partial(reconcile.check_server, look, day))
            run.tell(f"the check of {day} compared {checked.deals_there:,} deals and booked {checked.booked} more")


def _judge(run: Run, house: House) -> None:
    """All that must be 0."""
    with house.session() as session, house.store() as store:
        mirror.mirror_deals(session)
        deals = compare(store.deals(None, 0, 2**62), _current(session, house.server_id))
        for words in deals.examples:
            run.tell(words)
        transfers = _transfers_off(session, store)
        logins = _logins_off(session, store)
        proved = _prove(run, session)
        breaks = findings.count_open(session, house.server_id)
        refused = session.scalar(text("SELECT count(*) FROM mt_dead_letter WHERE reason LIKE 'cannot be booked%'")) or 0
        _tell_what_happened(run, session)
    for name, value in (
        ("deals lost", deals.lost),
        ("deals other than at the server", deals.different),
        ("deals doubled", deals.doubled),
        ("transfers lost or doubled", transfers),
        ("logins whose ledger differs from their deals", logins),
        ("ledger breaks", proved),
        ("breaks open after the check", breaks),
        ("events refused by booking", refused),
    ):
        run.add(Result(f"all faults on: {name}", value, "", 0, better="lower"))


# ── deals ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Compared:
    """Deals that only the server has; that stand otherwise here; that stand here twice, or are gone at the server."""

    lost: int = 0
    different: int = 0
    doubled: int = 0
    examples: list[str] = field(default_factory=list)

    def note(self, words: str) -> None:
        if len(self.examples) < 10:
            self.examples.append(words)


def compare(there: Iterable[Deal], here: Iterable[Row]) -> Compared:
    """The server's deals beside our current rows (ticket, is_void and the columns COMPARED)."""
    found = Compared()
    rows: dict[int, list[Row]] = defaultdict(list)
    for row in here:
        if not row["is_void"] or row["action"] in CANCELLED:
            rows[row["ticket"]].append(row)
    for deal in there:
        mine = rows.pop(deal.ticket, [])
        if not mine:
            found.lost += 1
            found.note(f"lost: {deal}")
        elif len(mine) > 1:
            found.doubled += 1
            found.note(f"{len(mine)} times: {deal}")
        elif off := {name: (getattr(deal, name), mine[0][name]) for name in COMPARED if getattr(deal, name) != mine[0][name]}:
            found.different += 1
            found.note(f"deal {deal.ticket}, there and here: {off}")
    found.doubled += len(rows)
    for ticket in rows:
        found.note(f"not at the server: {ticket}")
    return found


def _current(session: Session, server_id: int) -> Iterable[Row]:
    columns = ", ".join(("ticket", "is_void", *COMPARED))
    statement = text(f"SELECT {columns} FROM deal WHERE server_id = :server_id AND is_current")
    return [row._asdict() for row in session.execute(statement, {"server_id": server_id})]


# ── money ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _transfers_off(session: Session, store: Store) -> int:
    """Operations that are not once at the server when they are done, or are there although they failed."""
    balance_deals = (deal for deal in store.deals(None, 0, 2**62) if deal.action == DealAction.BALANCE)
    found = Counter(deal.comment[:TOKEN_LENGTH] for deal in balance_deals)
    operations = session.execute(select(BalanceOperation.token, BalanceOperation.status)).all()
    session.rollback()
    return sum(found[row.token] != (row.status == "done") for row in operations)


def _logins_off(session: Session, store: Store) -> int:
    """Logins whose mirror in the ledger is not the sum of their deals at the server, in minor units."""
    currencies = dict(session.execute(select(TradingAccount.login, TradingAccount.currency)).tuples().all())
    there: dict[int, Decimal] = defaultdict(Decimal)
    for deal in store.deals(None, 0, 2**62):
        there[deal.login] += 0 if deal.action in CREDITS else deal.result
    rows = session.execute(
        text("SELECT split_part(code, ':', 3)::bigint, credits - debits FROM ledger.account WHERE code LIKE 'mt:%:balance:%'")
    ).tuples()
    here: dict[int, int] = dict(rows.all())
    session.rollback()
    minor = {login: int(amount.scaleb(exponent(currencies[login] or ""))) for login, amount in there.items()}
    return sum(minor.get(login, 0) != here.get(login, 0) for login in minor.keys() | here.keys())


def _prove(run: Run, session: Session) -> int:
    """All proofs, as `run.py prove` runs them. Returns how many breaks there are."""
    done: list[proofs.Proof] = []
    proofs.run(session, ACTOR, watch=lambda _, proof: done.append(proof) if proof else None)
    for proof in done:
        for words in proof.breaks[:3]:
            run.tell(f"{proof.code}: {words}")
    return sum(proof.break_count for proof in done)


_HAPPENED = {
    "deals": "SELECT count(*) FROM deal_head",
    "revisions beyond the first": "SELECT coalesce(sum(revision - 1), 0) FROM deal_head",
    "deals deleted": "SELECT count(*) FROM deal WHERE is_current AND is_void",
    "gaps": "SELECT count(*) FROM event WHERE type = 'server.gap'",
    "deals that only sweeps found": "SELECT coalesce(sum(jsonb_array_length(payload->'deal_ids')), 0) FROM event"
    " WHERE type = 'deal.booked' AND actor = 'system:sweep'",
    "events parked": "SELECT count(*) FROM mt_dead_letter",
    "transfers": "SELECT count(*) FROM transfer",
    "of them sent more than once": "SELECT count(*) FROM balance_operation WHERE sends > 1",
    "of them failed": "SELECT count(*) FROM transfer WHERE state = 'failed'",
}


def _tell_what_happened(run: Run, session: Session) -> None:
    """So that a reader sees that the faults were there."""
    counted = {name: session.scalar(text(statement)) for name, statement in _HAPPENED.items()}
    session.rollback()
    run.tell(", ".join(f"{name}: {number:,}" for name, number in counted.items()))


def _alone(house: House, work: Callable[[], T | None]) -> T:
    """The outcome of work that returns None while a job of the house does the same."""
    while (outcome := work()) is None:
        house.wait(1)
    return outcome


def _day(wall_ms: int) -> date:
    return datetime.fromtimestamp(wall_ms / 1000, UTC).date()
