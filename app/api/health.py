"""/healthz: the state of each part, 200 when all of them are up, 503 with the reason otherwise."""

from __future__ import annotations

import time

from flask import Blueprint, current_app, jsonify
from flask.typing import ResponseReturnValue
from redis import Redis
from redis.exceptions import RedisError
from rq.cron import CronScheduler
from rq.registry import ScheduledJobRegistry
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app import migrate
from app.core import heartbeat
from app.extensions import db
from app.jobs import queues

#: A retry this late has nobody to enqueue it.
OVERDUE_AFTER_S = 120.0

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> ResponseReturnValue:
    parts = {"database": database(), "redis": redis_server()}
    if parts["redis"] == "up":
        connection: Redis = current_app.extensions["redis_client"]
        parts |= {name: beating(connection, name) for name in ("worker", "relay", "ingest")}
        parts |= {"cron": cron(connection), "retries": retries(connection)}
    healthy = all(state == "up" for state in parts.values())
    return jsonify(status="up" if healthy else "down", parts=parts), 200 if healthy else 503


def database() -> str:
    try:
        db.session.execute(text("SELECT 1"))
        present, newest = migrate.revisions(current_app.extensions["settings"])
    except SQLAlchemyError:
        return "unreachable"
    return "up" if present == newest else f"needs migration to {newest}"


def redis_server() -> str:
    try:
        current_app.extensions["redis_client"].ping()
    except RedisError:
        return "unreachable"
    return "up"


def cron(connection: Redis) -> str:
    return "up" if CronScheduler.all(connection) else "no cron process"


def retries(connection: Redis) -> str:
    """Jobs wait for their next try in a registry that one of the workers looks after; without it they wait for ever."""
    late = time.time() - OVERDUE_AFTER_S
    overdue = sum(
        connection.zcount(ScheduledJobRegistry(name, connection=connection).key, "-inf", late) for name in queues.NAMES
    )
    return f"{overdue} overdue" if overdue else "up"


def beating(connection: Redis, name: str) -> str:
    age_s = heartbeat.age_s(connection, name, time.time())
    return "up" if age_s is not None and age_s < heartbeat.STALE_AFTER_S else "not running"
