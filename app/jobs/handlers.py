"""Which facts wake which work. One entry per handler; the functions only translate to a use case and back."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from flask import current_app
from redis import Redis
from sqlalchemy.orm import Session

from app.clients.countries import country_names
from app.commissions import accrual, payout_statements, payouts, replay, replay_posting, simulation
from app.commissions.units import SHARDS
from app.core import live
from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import AppError
from app.core.tables import Event
from app.core.uow import unit_of_work
from app.extensions import db
from app.jobs import gateways, servers
from app.ledger import external, proofs
from app.ledger.errors import ProofsRunning
from app.messaging import mail
from app.metatrader import accounts, breaks, change_sending, cleaning, commands, import_reading, importing, sync
from app.metatrader.errors import CommandsPaused
from app.models.metatrader import AccountChange, BalanceOperation, TradingAccount
from app.models.payments import Callback, Deposit, Withdrawal
from app.models.payouts import Payout
from app.models.trading_desk import LoginImport
from app.partners import attribution, network
from app.partners.touches import Touch, unpacked
from app.payments import callbacks, deposits, transfers, withdrawals
from app.reporting import rendering
from config import Settings

log = logging.getLogger("lotwise.jobs")

Function = Callable[[Session, Event, Settings], None]


class FeeNotYetKnown(AppError):
    """The provider has not named its fee yet; the delivery stays open and is brought again."""

    code = "jobs.fee_not_yet_known"


@dataclass(frozen=True)
class Handler:
    """`is_command`: talks to the outside between transactions of its own and is safe to repeat; otherwise its effect
    commits together with the mark that it was delivered. `by_server`: events of different trading servers (`server_id` in
    the payload) never share a job, so that none waits for a server that is sick.
    """

    types: tuple[str, ...]
    function: Function
    queue: str = "default"
    timeout_s: int = 120
    is_command: bool = False
    by_server: bool = False


def left_to_the_clock(function: Function) -> Function:
    """A command to a trading server that staff let nothing out to: what waits is brought by the clock (tasks.py)."""

    @functools.wraps(function)
    def run(session: Session, event: Event, settings: Settings) -> None:
        try:
            function(session, event, settings)
        except CommandsPaused:
            session.rollback()
            log.info("commands are paused handler=%s subject=%s", function.__name__, event.subject_id)

    return run


def attribute_client(session: Session, event: Event, settings: Settings) -> None:
    touches = unpacked(event.payload.get("touches"))
    if not touches and (code := event.payload.get("link_code")):  # told before visits were remembered
        touches = (Touch(code, event.occurred_at),)
    promo_code = event.payload.get("promo_code") or ""
    if event.client_id and (touches or promo_code):
        attribution.attribute_visitor(
            session, client_id=event.client_id, promo_code=promo_code, touches=touches, at=event.occurred_at
        )


def tell_networks(session: Session, event: Event, settings: Settings) -> None:
    """A client or an IB joined, moved or left: the pages of all above it, before and now, are told."""
    named = [event.payload.get(part) for part in ("ib_id", "parent_id", "before_id")]
    if event.type == "ib.placed":
        named.append(event.subject_id)
    redis: Redis = current_app.extensions["redis_client"]
    for client_id in network.watchers(session, {one for one in named if one is not None}, now()):
        redis.publish(live.channel(client_id), json.dumps({"type": "network.changed"}))


def send_mail(session: Session, event: Event, settings: Settings) -> None:
    mail.HANDLERS[event.type](session, event, gateways.mailer_of(settings))


@left_to_the_clock
def open_account(session: Session, event: Event, settings: Settings) -> None:
    account = session.get_one(TradingAccount, event.subject_id)
    platform = gateways.command_platform_of(session, settings, account.server_id)
    account_id = account.id
    session.rollback()
    accounts.open_account(session, platform, gateways.password_vault(settings), account_id)


@left_to_the_clock
def send_change(session: Session, event: Event, settings: Settings) -> None:
    change = session.get_one(AccountChange, event.subject_id)
    platform = gateways.command_platform_of(session, settings, change.trading_account.server_id)
    change_id = change.id
    session.rollback()
    change_sending.send_change(session, platform, gateways.password_vault(settings), change_id)


def read_logins(session: Session, event: Event, settings: Settings) -> None:
    found = session.get_one(LoginImport, event.subject_id)
    platform, import_id = gateways.platform_of(session, settings, found.server_id), found.id
    session.rollback()
    countries = {name.lower(): code for code, name in country_names("en")}
    import_reading.read_users(session, platform, import_id, countries)


def import_logins(session: Session, event: Event, settings: Settings) -> None:
    found = session.get_one(LoginImport, event.subject_id)
    platform, import_id = gateways.platform_of(session, settings, found.server_id), found.id
    session.rollback()
    importing.carry_out(session, platform, import_id)


@left_to_the_clock
def send_operation(session: Session, event: Event, settings: Settings) -> None:
    operation = session.get_one(BalanceOperation, event.subject_id)
    platform = gateways.command_platform_of(session, settings, operation.server_id)
    operation_id = operation.id
    session.rollback()
    commands.send_operation(session, platform, operation_id)


def follow_operation(session: Session, event: Event, settings: Settings) -> None:
    with unit_of_work(session, Actor.system("follow_operation")) as unit:
        assert event.subject_id is not None
        transfers.follow_operation(unit, event.subject_id)


def process_callback(session: Session, event: Event, settings: Settings) -> None:
    with unit_of_work(session, Actor.system("process_callback")) as unit:
        callback = session.get_one(Callback, event.subject_id)
        callbacks.process_callback(unit, gateways.connector_of(settings, callback.connector), callback.id)


def book_fee(session: Session, event: Event, settings: Settings) -> None:
    deposit = session.get_one(Deposit, event.subject_id)
    connector, deposit_id = gateways.connector_of(settings, deposit.connector), deposit.id
    session.rollback()
    if not deposits.book_fee(session, connector, deposit_id):
        raise FeeNotYetKnown(deposit=deposit_id)


def submit_payout(session: Session, event: Event, settings: Settings) -> None:
    withdrawal = session.get_one(Withdrawal, event.subject_id)
    connector, withdrawal_id = gateways.connector_of(settings, withdrawal.connector), withdrawal.id
    session.rollback()
    withdrawals.submit_payout(session, connector, withdrawal_id)


def prove_ledger(session: Session, event: Event, settings: Settings) -> None:
    kind, _, person = event.actor.partition(":")
    with suppress(ProofsRunning):  # a run is under way, which is what was asked for
        proofs.run(session, Actor(kind, person))


def match_statement(session: Session, event: Event, settings: Settings) -> None:
    assert event.subject_id is not None
    external.match_lines(session, event.subject_id)


def accrue_commissions(session: Session, event: Event, settings: Settings) -> None:
    """Deals with a new owner lie behind the cursor and are judged by their ids; booked ones lie before it."""
    assert event.subject_id is not None
    session.rollback()
    if event.payload.get("again"):
        accrual.accrue_deals(session, event.payload["deal_ids"])
    # One event after the other is another worker's.
    accrual.accrue_server(session, event.subject_id, first_shard=event.id % SHARDS)


def compute_replay(session: Session, event: Event, settings: Settings) -> None:
    assert event.subject_id is not None
    session.rollback()
    with _snapshot() as snapshot:
        replay.compute_replay(session, snapshot, event.subject_id)


def post_replay(session: Session, event: Event, settings: Settings) -> None:
    assert event.subject_id is not None
    session.rollback()
    replay_posting.post_replay(session, event.subject_id)


def compute_simulation(session: Session, event: Event, settings: Settings) -> None:
    assert event.subject_id is not None
    session.rollback()
    with _snapshot() as snapshot:
        simulation.compute_simulation(session, snapshot, event.subject_id)


def _snapshot() -> Session:
    """A session that sees one moment for as long as it lasts."""
    return Session(db.engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True))


def pay_payout(session: Session, event: Event, settings: Settings) -> None:
    assert event.subject_id is not None
    session.rollback()
    payouts.pay(session, event.subject_id, functools.partial(_send_on, session))


def _send_on(session: Session, payout: Payout, key: str) -> payouts.SentOn:
    """From the IB's wallet to where it is to go, by the ways of payments; in the unit of work that filled the wallet."""
    actor = Actor.system("pay_payout")
    if payout.trading_account_id is None:
        withdrawal = withdrawals.request_withdrawal(
            session, client_id=payout.client_id, amount=payout.amount, key=key, actor=actor
        )
        return payouts.SentOn(withdrawal_id=withdrawal.id)
    transfer = transfers.request_transfer(
        session,
        client_id=payout.client_id,
        trading_account_id=payout.trading_account_id,
        direction="to_account",
        amount=payout.amount,
        key=key,
        actor=actor,
    )
    return payouts.SentOn(transfer_id=transfer.id)


def follow_payout(session: Session, event: Event, settings: Settings) -> None:
    way = "transfer_id" if event.type.startswith("transfer.") else "withdrawal_id"
    with unit_of_work(session, Actor.system("follow_payout")) as unit:
        payouts.follow(unit, **{way: event.subject_id})


def make_payout_statement(session: Session, event: Event, settings: Settings) -> None:
    """The file of what was frozen when the money moved; laying it out takes a moment, so no transaction is open meanwhile."""
    assert event.subject_id is not None
    kept = payout_statements.document(session, event.subject_id)
    session.rollback()
    if kept.pdf is None:
        pdf = rendering.render_pdf("payout", kept.content, kept.language, at=kept.frozen_at)
        with unit_of_work(session, Actor.system("make_payout_statement")):
            payout_statements.keep_pdf(session, kept.payout_id, pdf)


def sweep_server(session: Session, event: Event, settings: Settings) -> None:
    assert event.subject_id is not None
    session.rollback()
    servers.enqueue("sweep_server", event.subject_id)


def check_server(session: Session, event: Event, settings: Settings) -> None:
    assert event.subject_id is not None
    session.rollback()
    servers.enqueue("check_server", event.subject_id, day=event.payload["day"])


def follow_cleaning(session: Session, event: Event, settings: Settings) -> None:
    told = event.payload
    with unit_of_work(session, Actor.system("follow_cleaning")) as unit:
        at = datetime.fromisoformat(told["at"])
        cleaning.follow(unit, told["server_id"], told["login"], told["group"], at)


def repair_break(session: Session, event: Event, settings: Settings) -> None:
    kind, _, person = event.actor.partition(":")
    assert event.subject_id is not None
    look = gateways.look_of(session, settings, event.payload["server_id"], Actor(kind, person))
    breaks.repair(look, event.subject_id)
    breaks.watch(session)  # with the last one that was too old its alert goes, too


def refetch_deals(session: Session, event: Event, settings: Settings) -> None:
    """What contradicts what we have, and is not surely older, is asked of the server itself."""
    look = gateways.look_of(session, settings, event.payload["server_id"], Actor.system("refetch_deals"))
    sync.follow(session, look.witness, look.server_id, event.payload["tickets"], actor=look.actor)


HANDLERS: dict[str, Handler] = {
    "attribute_client": Handler(("client.registered",), attribute_client),
    "tell_networks": Handler(("client.attributed", "client.moved", "ib.placed"), tell_networks),
    "send_mail": Handler(tuple(mail.HANDLERS), send_mail, is_command=True),
    "open_account": Handler(("account.requested",), open_account, queue="money", is_command=True, by_server=True),
    "send_change": Handler(("account_change.requested",), send_change, queue="money", is_command=True, by_server=True),
    "send_operation": Handler(("operation.new",), send_operation, queue="money", is_command=True, by_server=True),
    "read_logins": Handler(
        ("login_import.requested",), read_logins, queue="bulk", timeout_s=3600, is_command=True, by_server=True
    ),
    "import_logins": Handler(
        ("login_import.ordered",), import_logins, queue="bulk", timeout_s=3600, is_command=True, by_server=True
    ),
    "follow_operation": Handler(
        ("operation.sending", "operation.unknown", "operation.waiting", "operation.done", "operation.failed"),
        follow_operation,
        queue="money",
    ),
    "process_callback": Handler(("callback.received",), process_callback, queue="money"),
    "book_fee": Handler(("deposit.settled",), book_fee, is_command=True),
    "submit_payout": Handler(("withdrawal.approved",), submit_payout, queue="money", is_command=True),
    "prove_ledger": Handler(("ledger.proof_requested",), prove_ledger, queue="bulk", timeout_s=4 * 3600, is_command=True),
    "match_statement": Handler(("statement.imported",), match_statement, queue="bulk"),
    "accrue_commissions": Handler(("deal.booked",), accrue_commissions, is_command=True),
    "compute_replay": Handler(("replay.requested",), compute_replay, queue="bulk", timeout_s=4 * 3600, is_command=True),
    "post_replay": Handler(("replay.approved",), post_replay, queue="bulk", timeout_s=4 * 3600, is_command=True),
    "compute_simulation": Handler(
        ("plan_simulation.requested",), compute_simulation, queue="bulk", timeout_s=4 * 3600, is_command=True
    ),
    "pay_payout": Handler(("payout.approved",), pay_payout, queue="money", is_command=True),
    "follow_payout": Handler(
        (
            *("transfer.done", "transfer.failed"),
            *(f"withdrawal.{state}" for state in ("paid", "rejected", "cancelled", "failed")),
        ),
        follow_payout,
        queue="money",
    ),
    "make_payout_statement": Handler(("payout.moved",), make_payout_statement, queue="bulk", is_command=True),
    "sweep_server": Handler(("server.gap",), sweep_server, queue="bulk", is_command=True),
    "check_server": Handler(("server.check_requested",), check_server, queue="bulk", is_command=True),
    "follow_cleaning": Handler(("account.cleaned",), follow_cleaning),
    "repair_break": Handler(("break.repair_ordered",), repair_break, timeout_s=600, is_command=True, by_server=True),
    "refetch_deals": Handler(("deal.disputed",), refetch_deals, is_command=True, by_server=True),
}
