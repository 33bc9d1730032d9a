"""/healthz: the state of each part, 200 when all of them are up, 503 with the reason otherwise."""

from __future__ import annotations

import time

from flask import Blueprint, current_app, jsonify
from flask.typing import ResponseReturnValue
from redis import Redis
from redis.exceptions import RedisError
from rq import Worker
from rq.cron import CronScheduler
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app import migrate
from app.core import heartbeat
from app.extensions import db

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> ResponseReturnValue:
    parts = {"database": database(), "redis": redis_server()}
    if parts["redis"] == "up":
        connection: Redis = current_app.extensions["redis_client"]
        parts |= {"worker": workers(connection), "cron": cron(connection)}
        parts |= {name: beating(connection, name) for name in ("relay", "ingest")}
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


def workers(connection: Redis) -> str:
    return "up" if Worker.count(connection) else "no worker"


def cron(connection: Redis) -> str:
    return "up" if CronScheduler.all(connection) else "no cron process"


def beating(connection: Redis, name: str) -> str:
    age_s = heartbeat.age_s(connection, name, time.time())
    return "up" if age_s is not None and age_s < heartbeat.STALE_AFTER_S else "not running"
