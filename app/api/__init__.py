"""Machine-facing routes: provider callbacks, web requests of trading servers, health."""

from __future__ import annotations

from flask import Flask

from app.api import callbacks, health, trading_events


def init_app(app: Flask) -> None:
    app.register_blueprint(callbacks.blueprint)
    app.register_blueprint(health.blueprint)
    app.register_blueprint(trading_events.blueprint)
