"""What jobs need of the outside: trading platforms, payment connectors, the mailer, the vaults. Made once per process."""

from __future__ import annotations

import json
import os
import threading

from flask import current_app
from redis import Redis
from rq import get_current_job
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.crypto import Vault
from app.extensions import redis_client
from app.messaging.mail import Mailer
from app.metatrader.accounts import VAULT_PURPOSE
from app.metatrader.backfill import BackfillSource, PlatformBackfill, our_groups
from app.metatrader.balances import Look
from app.metatrader.bridge.asking import BridgeBackfill
from app.metatrader.errors import CommandsPaused
from app.metatrader.platform import TradingPlatform
from app.metatrader.platforms import connect
from app.metatrader.servertime import server_zone
from app.metatrader.sources.mt4_report import MT4Report
from app.metatrader.sources.sql_copy import CopyingSQLExport
from app.models.metatrader import Server
from app.payments import connectors
from app.payments.connector import Connector
from app.surfaces.mails import FlaskRenderer
from config import Settings

_lock = threading.Lock()
#: Kept per process and for exactly these settings: a server that staff gave another address gets a new adapter.
_platforms: dict[tuple[object, ...], TradingPlatform] = {}
_connectors: dict[tuple[object, ...], Connector] = {}
_clients: dict[tuple[object, ...], Redis] = {}


def platform_of(session: Session, settings: Settings, server_id: int, *, fresh: bool = False) -> TradingPlatform:
    """The adapter of a trading server, to ask it. `fresh` gives one with sessions of its own, as resolving a lost answer
    demands; whoever asked for it closes it.
    """
    server = session.get_one(Server, server_id)
    redis = _redis_of(settings)
    if fresh:
        return _connect(settings, server, redis)
    with _lock:
        options = json.dumps(server.options, sort_keys=True)
        key = (os.getpid(), settings, server_id, server.platform, server.url, server.manager_login, server.time_zone, options)
        if key not in _platforms:
            _platforms[key] = _connect(settings, server, redis)
        return _platforms[key]


def command_platform_of(session: Session, settings: Settings, server_id: int, *, fresh: bool = False) -> TradingPlatform:
    """The adapter of a trading server, to have it change something. Raises CommandsPaused while staff let nothing out."""
    if session.get_one(Server, server_id).commands_paused_at is not None:
        raise CommandsPaused(server=server_id)
    return platform_of(session, settings, server_id, fresh=fresh)


def _connect(settings: Settings, server: Server, redis: Redis) -> TradingPlatform:
    """Workers, of whom there are few, are never all in an exchange with the same server."""
    secrets = settings.server_secrets(server.code)
    places = max(1, settings.workers - 1) if get_current_job() else None
    return connect(server, password=secrets.password, ca_file=secrets.ca_file, redis=redis, places=places)


def _redis_of(settings: Settings) -> Redis:
    with _lock:
        key = (os.getpid(), settings.redis_url)
        if key not in _clients:
            _clients[key] = redis_client(settings.redis_url)
        return _clients[key]


def backfill_of(session: Session, settings: Settings, server_id: int, platform: TradingPlatform) -> BackfillSource:
    """Where sweeps and checks read what this server has, as its row says."""
    server, groups = session.get_one(Server, server_id), our_groups(session, server_id)
    if server.backfill == "bridge":
        return BridgeBackfill(_redis_of(settings), server.code, server_zone(server.time_zone), groups)
    if server.backfill not in ("sql", "mt4_report"):
        return PlatformBackfill(platform, groups)
    database_url, zone = settings.server_secrets(server.code).database_url, server_zone(server.time_zone)
    options = {"groups": groups, **server.options.get(server.backfill, {})}
    if server.backfill == "mt4_report":
        return MT4Report(database_url, zone, options, platform.symbols)
    return CopyingSQLExport(database_url, zone, options)


def look_of(session: Session, settings: Settings, server_id: int, actor: Actor) -> Look:
    """What a check or a repair of this server needs."""
    platform = platform_of(session, settings, server_id)
    source = backfill_of(session, settings, server_id, platform)
    zone = server_zone(session.get_one(Server, server_id).time_zone)
    session.rollback()
    return Look(session, platform, source, server_id, zone, actor)


def connector_of(settings: Settings, name: str) -> Connector:
    with _lock:
        key = (os.getpid(), settings, name)
        if key not in _connectors:
            _connectors[key] = connectors.load(name, settings)
        return _connectors[key]


def mailer_of(settings: Settings) -> Mailer:
    return Mailer(
        smtp_host=settings.smtp_host,
        smtp_port=settings.smtp_port,
        sender=settings.mail_from,
        base_url=settings.base_url,
        renderer=FlaskRenderer(current_app._get_current_object()),  # type: ignore[attr-defined]  # noqa: SLF001  # werkzeug's proxy
    )


def password_vault(settings: Settings) -> Vault:
    return Vault(settings.document_key, VAULT_PURPOSE)
