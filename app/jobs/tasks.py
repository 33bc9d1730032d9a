"""What the clock wakes: thin calls of use cases, each safe to run again."""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import date, timedelta

from flask import current_app
from sqlalchemy import or_, select, text
from sqlalchemy.orm import Session

from app.commissions import abuse, accrual, occasions, settlement, true_up
from app.core import audit
from app.core.actor import Actor
from app.core.clock import now
from app.core.uow import unit_of_work
from app.jobs import gateways, servers
from app.ledger import ecb, external, holds, proofs, seen_rates
from app.ledger.errors import HoldAlreadyResolved, ProofsRunning
from app.metatrader import accounts, breaks, change_sending, commands, mirror, months, negative_balance, rates, reconcile, sync
from app.metatrader import state as noted
from app.metatrader.errors import PlatformError
from app.metatrader.servertime import server_zone
from app.metatrader.sources import refetch
from app.metatrader.sources.held import Held
from app.models.metatrader import Server, ServerState, TradingAccount
from app.models.trading_desk import ServerBreak
from app.payments import janitor
from config import Settings

log = logging.getLogger("lotwise.jobs")

#: How far behind the last pull the next one begins: what a server enters late.
SWEEP_OVERLAP = timedelta(minutes=15)
FIRST_SWEEP = timedelta(days=1)


def resolve_operations(session: Session, settings: Settings) -> None:
    """Look after every operation and account whose answer was lost. A sick server does not stop the others."""
    for operation_id, server_id, status in commands.unresolved_operations(session):
        is_unsent = status == "new"
        connect = gateways.command_platform_of if is_unsent else gateways.platform_of
        try:
            with connect(session, settings, server_id, fresh=True) as platform:
                session.rollback()
                (commands.send_operation if is_unsent else commands.resolve_operation)(session, platform, operation_id)
        except PlatformError as error:
            log.warning("operation stays unresolved operation=%s error=%s", operation_id, type(error).__name__)


def open_lost_accounts(session: Session, settings: Settings) -> None:
    """Bring accounts to an end that were asked for longer than two minutes ago."""
    waiting = session.execute(
        select(TradingAccount.id, TradingAccount.server_id)
        .join(Server, Server.id == TradingAccount.server_id)
        .where(
            TradingAccount.status.in_(("requested", "opening", "unknown")),
            TradingAccount.requested_at < now() - timedelta(minutes=2),
            Server.commands_paused_at.is_(None),
        )
    ).all()
    session.rollback()
    for account_id, server_id in waiting:
        try:
            with gateways.command_platform_of(session, settings, server_id, fresh=True) as platform:
                session.rollback()
                accounts.open_account(session, platform, gateways.password_vault(settings), account_id)
        except PlatformError as error:
            log.warning("account stays unresolved account=%s error=%s", account_id, type(error).__name__)


def send_lost_changes(session: Session, settings: Settings) -> None:
    """Bring changes of accounts to an end that their own jobs did not. A sick server does not stop the others."""
    for change_id, server_id in change_sending.open_changes(session):
        try:
            with gateways.command_platform_of(session, settings, server_id, fresh=True) as platform:
                session.rollback()
                change_sending.send_change(session, platform, gateways.password_vault(settings), change_id)
        except PlatformError as error:
            log.warning("change stays open change=%s error=%s", change_id, type(error).__name__)


def ask_providers(session: Session, settings: Settings) -> None:
    janitor.ask_providers(session, lambda name: gateways.connector_of(settings, name))


def mirror_deals(session: Session, settings: Settings) -> None:
    mirror.mirror_deals(session)


def accrue_waiting(session: Session, settings: Settings) -> None:
    """Judge again the deals that waited for their account, their opening or a readable plan."""
    accrual.accrue_waiting(session)


def true_up_periods(session: Session, settings: Settings) -> None:
    """Periods of plans with tiers or caps in which something came late or was reversed, and those that have ended."""
    true_up.true_up_all(session, at=now())


def accrue_occasions(session: Session, settings: Settings) -> None:
    """Pay for clients who were won and months that ended."""
    occasions.accrue_occasions(session, now())


def find_commission_abuse(session: Session, settings: Settings) -> None:
    """Look for IBs that are their own clients, clients that are one person, and accounts that trade against each other."""
    abuse.find_abuse(session)


def settle_commissions(session: Session, settings: Settings) -> None:
    """Not while the ledger's proofs do not hold: what is paid out on wrong books is hard to get back."""
    proofs.require_sound(session)
    session.rollback()
    settlement.settle_all(session, at=now())


def sweep_deals(session: Session, settings: Settings) -> None:
    """A sweep of every server, each in a job of its own: one that is sick holds up no other."""
    servers.fan_out(session, "sweep_server")


def sweep_server(session: Session, settings: Settings, server_id: int) -> None:
    """Pull a server's deals since the last pull that succeeded, with an overlap, and its open positions. So nothing falls
    between two pulls, however long we or the server were down; what the stream brought already changes nothing.
    """
    server, state = session.get_one(Server, server_id), session.get(ServerState, server_id)
    code, is_still = server.code, not server.is_active or server.events_paused_at is not None
    since = (state.swept_through if state and state.swept_through else now() - FIRST_SWEEP) - SWEEP_OVERLAP
    session.rollback()
    if is_still:
        return
    try:
        platform = gateways.platform_of(session, settings, server_id)
        source = gateways.backfill_of(session, settings, server_id, platform)
        session.rollback()
        swept = sync.sweep(session, platform, server_id, since=since, source=source)
    except PlatformError as error:
        session.rollback()
        log.warning("sweep failed server=%s error=%s", code, type(error).__name__)
        with unit_of_work(session, Actor.system("sweep_server")):
            noted.note_error(session, server_id, f"{type(error).__name__}: {error}")
        return
    if swept is not None:
        with unit_of_work(session, Actor.system("sweep_server")):
            noted.note_swept(session, server_id, swept.began_at, swept.through, swept.new + swept.voided)


def refetch_hinted(session: Session, settings: Settings) -> None:
    """A job for every server of which somebody only said that something happened."""
    redis = current_app.extensions["redis_client"]
    found = session.execute(select(Server.id, Server.code).where(Server.is_active, Server.events_paused_at.is_(None))).all()
    session.rollback()
    for server_id, code in found:
        if refetch.waiting(redis, code):
            servers.enqueue("refetch_server", server_id)


def refetch_server(session: Session, settings: Settings, server_id: int) -> None:
    """Ask a server for what was hinted at. What it does not answer now is asked for the next time."""
    server = session.get_one(Server, server_id)
    code, shards, zone = server.code, server.shards, server_zone(server.time_zone)
    platform = gateways.platform_of(session, settings, server_id)
    held = Held(session.get_bind(), server_id, zone)
    session.rollback()
    try:
        refetch.refetch(current_app.extensions["redis_client"], platform, held, code=code, zone=zone, shards=shards)
    except PlatformError as error:
        log.warning("hints stay unanswered server=%s error=%s", code, type(error).__name__)
        with unit_of_work(session, Actor.system("refetch_server")):
            noted.note_error(session, server_id, f"{type(error).__name__}: {error}")


def check_servers(session: Session, settings: Settings) -> None:
    """A check of every server whose day is over, soon after its own midnight; a check that failed is tried again."""
    booked = select(Server.id).where(Server.is_active, Server.events_paused_at.is_(None))
    server_ids = session.scalars(booked.order_by(Server.id)).all()
    session.rollback()
    for server_id in server_ids:
        day = reconcile.due_day(session, server_id, now())
        if day is not None:
            servers.enqueue("check_server", server_id, day=day.isoformat())


def check_server(session: Session, settings: Settings, server_id: int, day: str) -> None:
    """Compare a server's whole day with what we booked of it. That it could not be read stands in the check."""
    try:
        look = gateways.look_of(session, settings, server_id, Actor.system("check_server"))
        reconcile.check_server(look, date.fromisoformat(day))
    except PlatformError as error:
        session.rollback()
        log.warning("check failed server=%s day=%s error=%s", server_id, day, type(error).__name__)


def watch_breaks(session: Session, settings: Settings) -> None:
    breaks.watch(session)


def restore_negative_balances(session: Session, settings: Settings) -> None:
    """A look at every server that has accounts below zero, or had some when somebody looked last."""
    below = select(TradingAccount.server_id).where(TradingAccount.balance < 0)
    had = select(ServerBreak.server_id).where(ServerBreak.kind == negative_balance.KIND, ServerBreak.closed_at.is_(None))
    wanted = select(Server.id).where(Server.is_active, or_(Server.id.in_(below), Server.id.in_(had)))
    server_ids = session.scalars(wanted.order_by(Server.id)).all()
    session.rollback()
    for server_id in server_ids:
        servers.enqueue("restore_balances", server_id)


def restore_balances(session: Session, settings: Settings, server_id: int) -> None:
    platform = gateways.platform_of(session, settings, server_id)
    session.rollback()
    try:
        negative_balance.restore_balances(session, platform, server_id)
    except PlatformError as error:
        session.rollback()
        log.warning("balances not restored server=%s error=%s", server_id, type(error).__name__)


def fetch_rates(session: Session, settings: Settings) -> None:
    ecb.refresh(session, settings.ecb_url)


def observe_rates(session: Session, settings: Settings) -> None:
    """Look at the rates on the last deals of every server. A sick server does not stop the others.

    A server is asked for its symbols, which is much to ask, only when one was traded that was not looked at for a while.
    """
    started, seen, new = now(), list[seen_rates.Seen](), set[str]()
    looked_at = set(
        session.scalars(
            text("SELECT job FROM cron_slot WHERE job LIKE 'rates:%' AND slot > :since"), {"since": started - seen_rates.EVERY}
        )
    )
    for (server_id, code), deals in rates.recent_deals(session).items():
        traded = {f"rates:{code}:{deal.symbol}" for deal in deals}
        if traded <= looked_at:
            continue
        platform = gateways.platform_of(session, settings, server_id)
        session.rollback()
        try:
            seen += rates.rates_of(code, deals, platform.symbols())
        except PlatformError as error:
            log.warning("rates not observed server=%s error=%s", code, type(error).__name__)
            continue
        new |= traded - looked_at
    with unit_of_work(session, Actor.system("observe_rates")):
        seen_rates.record_seen(session, seen)
        for job in sorted(new):
            session.execute(text("INSERT INTO cron_slot (job, slot) VALUES (:job, :slot)"), {"job": job, "slot": started})


def expire_holds(session: Session, settings: Settings) -> None:
    actor = Actor.system("expire_holds")
    due = holds.due_holds(session)
    session.rollback()
    for hold_id in due:
        # Captured or released between the list and now: nothing is left to expire.
        with suppress(HoldAlreadyResolved), unit_of_work(session, actor):
            holds.expire_hold(session, hold_id, actor=actor)


def match_statements(session: Session, settings: Settings) -> None:
    """Find the entries that were booked after the bank's statement was imported."""
    external.match_open(session)


def tidy_months(session: Session, settings: Settings) -> None:
    months.tidy_months(session)


def seal_audit(session: Session, settings: Settings) -> None:
    while audit.seal(session) == audit.LIMIT:
        pass


def seal_ledger(session: Session, settings: Settings) -> None:
    proofs.seal(session)


def prove_ledger(session: Session, settings: Settings) -> None:
    with suppress(ProofsRunning):  # somebody else's run is as good as this one
        proofs.run(session, Actor.system("prove_ledger"))


def clean_up(session: Session, settings: Settings) -> None:
    """Forget what has no more use: old sessions, used links, slots of past runs."""
    with unit_of_work(session, Actor.system("clean_up")):
        session.execute(text("DELETE FROM portal_session WHERE expires_at < now() - interval '30 days'"))
        session.execute(text("DELETE FROM fx_quote WHERE txn_id IS NULL AND expires_at < now() - interval '30 days'"))
        session.execute(text("DELETE FROM client_token WHERE expires_at < now() - interval '30 days'"))
        session.execute(text("DELETE FROM cron_slot WHERE slot < now() - interval '7 days'"))
