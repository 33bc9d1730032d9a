"""The web part: gunicorn with threads, the application loaded once before its workers are forked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Flask
from gunicorn.app.base import BaseApplication

from app.startup import check_port

if TYPE_CHECKING:
    from config import Settings

WORKERS = 2
#: A hanging request is cut off after this; live updates hold a thread and are not counted.
TIMEOUT_S = 60
#: Live updates stay open for hours: at a stop nobody waits for them.
GRACEFUL_TIMEOUT_S = 2


class WebServer(BaseApplication):
    """Gunicorn, set up by our settings instead of its own command line."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        super().__init__()

    def load_config(self) -> None:
        for name, value in self.configuration().items():
            self.cfg.set(name, value)

    def configuration(self) -> dict[str, Any]:
        return {
            "bind": f"[{self.settings.host}]:{self.settings.port}"
            if ":" in self.settings.host
            else f"{self.settings.host}:{self.settings.port}",
            "workers": WORKERS,
            "worker_class": "gthread",
            "threads": self.settings.web_threads,
            "timeout": TIMEOUT_S,
            "graceful_timeout": GRACEFUL_TIMEOUT_S,
            "preload_app": True,
            "post_fork": self.post_fork,
            "loglevel": "warning",
            "forwarded_allow_ips": "",  # forwarded headers are judged in one place, by TRUSTED_PROXIES
            "control_socket_disable": True,
        }

    def load(self) -> Flask:
        from app import create_app

        return create_app(self.settings)

    def post_fork(self, _arbiter: object, _worker: object) -> None:
        """Drop database connections opened before the fork: two workers must not share a socket."""
        from app.extensions import db

        application = self.wsgi()
        with application.app_context():
            db.engine.dispose(close=False)


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    check_port(settings.host, settings.port, "web")
    WebServer(settings).run()
