"""The pumping session: subscribes, connects, and connects again when the API's own reconnecting has not helped."""

from __future__ import annotations

import logging
import threading
import time

from app.metatrader.bridge.manager import Connection, Refused
from app.metatrader.bridge.settings import BridgeSettings
from app.metatrader.bridge.sinks import DealSink, Inbox, OrderSink, PositionSink, SessionSink, StateSink, UserSink

log = logging.getLogger("lotwise.bridge")

FIRST_PAUSE_S = 2.0
LONGEST_PAUSE_S = 60.0
#: The API comes back by itself after a drop. When it has not done so for so long, the connection is made anew.
GIVE_UP_S = 180.0


class Session:
    """Keeps one pumping connection alive until it is stopped. `trouble` is why there is none; empty when all is well."""

    def __init__(self, settings: BridgeSettings, connection: Connection, inbox: Inbox, *, give_up_s: float = GIVE_UP_S) -> None:
        self._settings = settings
        self._connection = connection
        self._inbox = inbox
        self._give_up_s = give_up_s
        self._sink = SessionSink(inbox)
        # The API keeps bound references to handlers, not the objects; these keep the objects.
        self._sinks = (UserSink(inbox), DealSink(inbox), PositionSink(inbox), OrderSink(inbox), StateSink(inbox))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="bridge-session", daemon=True)
        self.trouble = "not connected yet"

    def start(self) -> None:
        """Subscribe, then connect in the background. Raises Refused when the API takes a sink not."""
        users, deals, positions, orders, states = self._sinks
        self._connection.subscribe(
            session=self._sink, users=users, deals=deals, positions=positions, orders=orders, states=states
        )
        self._thread.start()

    def stop(self, patience_s: float = 10.0) -> None:
        self._stop.set()
        self._connection.disconnect()
        self._thread.join(patience_s)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def _work(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._stop.is_set():
            if not self._connect():
                self._stop.wait(pause_s)
                pause_s = min(LONGEST_PAUSE_S, pause_s * 2)
                continue
            pause_s = FIRST_PAUSE_S
            self._watch()

    def _connect(self) -> bool:
        settings = self._settings
        try:
            self._connection.connect(
                settings.address, settings.manager_login, settings.password, timeout_s=settings.connect_timeout_s, pump=True
            )
        except Refused as refused:
            if str(refused) != self.trouble:
                log.error("cannot connect to %s as %d: %s", settings.address, settings.manager_login, refused)
            self.trouble = str(refused)
            return False
        self.trouble = ""
        self._sink.lost_at = None
        self._inbox.put("session", "complete")
        return True

    def _watch(self) -> None:
        """Returns when the connection has been lost for too long, or at the stop."""
        while not self._stop.wait(0.5):
            lost_at = self._sink.lost_at
            if lost_at is not None and time.monotonic() - lost_at > self._give_up_s:
                log.warning("the API did not reconnect within %.0f s, connecting anew", self._give_up_s)
                self._connection.disconnect()
                return
