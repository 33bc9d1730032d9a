"""The Flask extensions, made once and bound to an application in create_app.

Flask-SQLAlchemy gets Flask-AppBuilder's Model as its model class, so that one metadata holds all tables (the naming
convention stands in app.core.orm, which is imported first).
"""

from __future__ import annotations

from flask import current_app
from flask_appbuilder import AppBuilder
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from flask_sqlalchemy import SQLAlchemy
from flask_wtf import CSRFProtect
from redis import Redis
from werkzeug.local import LocalProxy

from app.core.orm import Model

db = SQLAlchemy(model_class=Model)
#: Flask-AppBuilder keeps its views in itself, so every application has one of its own; this is the present application's.
appbuilder: AppBuilder = LocalProxy(lambda: current_app.appbuilder)  # type: ignore[attr-defined]  # set by Flask-AppBuilder
csrf = CSRFProtect()
limiter = Limiter(key_func=get_remote_address, default_limits=[])


def redis_client(url: str) -> Redis:
    """A client of the Redis-protocol server; answers are bytes, as RQ needs them."""
    return Redis.from_url(url, socket_timeout=30, socket_connect_timeout=5, health_check_interval=30)
