"""The thread that keeps the report database: all of it once at the start, then what has changed, some times a second."""

from __future__ import annotations

import logging
import threading

from sqlalchemy.exc import SQLAlchemyError

from app.metatrader.simulator.mt4.engine import MT4Engine
from app.metatrader.simulator.mt4.report import Report

log = logging.getLogger("lotwise.simulator")

EVERY_S = 0.2
RETRY_S = 1.0


class Reporting:
    """What the database has not taken is written again: nothing is lost while it is away."""

    def __init__(self, engine: MT4Engine, url: str, schema: str) -> None:
        self._engine = engine
        self._report = Report(url, schema)
        self._orders: set[int] = set()
        self._logins: set[int] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="mt4-report", daemon=True)

    def start(self) -> None:
        store = self._engine.store
        self._orders = {row.order for row in store.trades()}
        self._logins = {login.login for login in store.logins()}
        self._thread.start()

    def stop(self) -> None:
        """Write what is there, if it is taken, and end."""
        self._stop.set()
        self._thread.join(timeout=10)
        self._report.close()

    def _work(self) -> None:
        has_tables = False
        while True:
            is_last_round = self._stop.is_set()
            try:
                if not has_tables:
                    self._report.create_tables()
                    has_tables = True
                self._write()
                pause_s = EVERY_S
            except SQLAlchemyError:
                log.exception("the report database did not take it; it is tried again")
                pause_s = RETRY_S
            if is_last_round:
                return
            self._stop.wait(pause_s)

    def _write(self) -> None:
        engine = self._engine
        with engine.store.reading():
            changes = engine.store.take_changes()
            self._orders |= changes.orders
            self._logins |= changes.logins
            there = [row for order in sorted(self._orders) if (row := engine.store.trade(order))]
            trades = [engine.books.shown(row) for row in there]
            logins = [engine.login(number) for number in sorted(self._logins)]
        if self._orders or self._logins:
            self._report.write(trades, logins, sorted(self._orders - {row.order for row in trades}))
            self._orders.clear()
            self._logins.clear()
