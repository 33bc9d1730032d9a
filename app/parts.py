"""The long-running parts of the house by name, each a command of run.py and a process of `run.py up`."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from config import StartError

if TYPE_CHECKING:
    from config import Settings


@dataclass(frozen=True)
class PartOfHouse:
    """`target` is module:function, called with the settings, running until SIGTERM.

    A helper stands in for the outside world and runs in development only; without `databases` it needs neither of them.
    """

    target: str
    summary: str
    helper: bool = False
    databases: bool = True


PARTS = {
    "simulator": PartOfHouse(
        "app.metatrader.simulator:run", "The MT5 simulator: a trading server for development.", helper=True
    ),
    "mt4-simulator": PartOfHouse(
        "app.metatrader.simulator.mt4:run", "The MT4 simulator: a trading server with its bridge.", helper=True
    ),
    "sandbox": PartOfHouse(
        "app.payments.sandbox:run", "The Stripe sandbox: a PSP for development.", helper=True, databases=False
    ),
    "mailbox": PartOfHouse(
        "app.messaging.mailbox:run", "The development mailbox: an SMTP sink with a page.", helper=True, databases=False
    ),
    "web": PartOfHouse("app.web:run", "The web part: portal, back office, API and callbacks."),
    "worker": PartOfHouse("app.jobs.worker:run", "The worker pool: runs the jobs."),
    "cron": PartOfHouse("app.jobs.cron:run", "The scheduler: plans the recurring jobs."),
    "relay": PartOfHouse("app.jobs.relay:run", "The relay: hands events to their handlers."),
    "ingest": PartOfHouse("app.metatrader.ingest:run", "Ingest: books what the trading servers report."),
}


def run_part(name: str, settings: Settings) -> None:
    """Run one part in this process until it is told to stop."""
    part = PARTS[name]
    if part.helper and settings.is_production:
        raise StartError(f"The part {name} is for development; with LOTWISE_ENV=production it does not run.")
    set_up_logging()
    module, _, function = part.target.partition(":")
    getattr(import_module(module), function)(settings)


def set_up_logging() -> None:
    """Warnings of everybody and our own progress, as lines on the standard error output."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("lotwise").setLevel(logging.INFO)
    # Flask-AppBuilder warns of each column type that its search form has no field for, and of each menu entry that it
    # looks for under a second name when permissions are made.
    for name in ("flask_appbuilder.models.filters", "flask_appbuilder.security.sqla.manager"):
        logging.getLogger(name).setLevel(logging.ERROR)
