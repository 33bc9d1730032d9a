"""Machine-facing routes: provider callbacks and health."""

from __future__ import annotations

from flask import Flask

from app.api import callbacks, health


def init_app(app: Flask) -> None:
    app.register_blueprint(callbacks.blueprint)
    app.register_blueprint(health.blueprint)
