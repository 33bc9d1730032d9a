"""The thread that carries the outbox to Redis, in order, for as long as it takes."""

from __future__ import annotations

import logging
import random
import sqlite3
import threading
import time
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from app.metatrader.bridge.outbox import Outbox
from app.metatrader.bridge.settings import RedisAccess
from app.metatrader.stream import publish

log = logging.getLogger("lotwise.bridge")

BATCH = 500
#: The other process writes into the outbox too, without being able to wake this thread.
LOOK_EVERY_S = 0.2
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
SAY_AGAIN_S = 300.0


def redis_client(access: RedisAccess) -> Redis:
    """A client that speaks TLS to a certificate of the pinned authority, and gives up on a silent connection."""
    options: dict[str, Any] = {"socket_timeout": 10, "socket_connect_timeout": 5, "health_check_interval": 30}
    if access.url.startswith("rediss:"):
        options |= {"ssl_ca_certs": access.ca_file, "ssl_cert_reqs": "required", "ssl_check_hostname": True}
    return Redis.from_url(access.url, password=access.password or None, **options)


class Publisher:
    """Sends the oldest rows, and removes them when Redis has said that it took them. In doubt it sends them again."""

    def __init__(self, outbox: Outbox, redis: Redis) -> None:
        self._outbox = outbox
        self._redis = redis
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="bridge-publisher", daemon=True)
        self._pause_s = 0.0
        self._said_at = 0.0
        self.is_away = False

    def start(self) -> None:
        self._thread.start()

    def stop(self, patience_s: float = 10.0) -> None:
        """Send what is there, if Redis takes it, and end. The rest stays in the outbox for the next start."""
        self._stop.set()
        self._outbox.changed.set()
        self._thread.join(patience_s)
        self._redis.close()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def _work(self) -> None:
        while True:
            self._outbox.changed.clear()
            is_last_round = self._stop.is_set()
            try:
                self._send_all()
                self._is_back()
            except (RedisError, OSError, sqlite3.Error) as error:
                self._is_gone(error)
            if is_last_round:
                return
            if self.is_away:
                self._stop.wait(self._pause_s)
            else:
                self._outbox.changed.wait(LOOK_EVERY_S)

    def _send_all(self) -> None:
        while rows := self._outbox.oldest(BATCH):
            publish(self._redis, [(stream, fields) for _, stream, fields in rows])
            self._outbox.remove(rows[-1][0])
            self._is_back()

    def _is_back(self) -> None:
        if self.is_away:
            log.warning("redis is back; %d events waited in the outbox", self._outbox.size())
        self.is_away, self._pause_s, self._said_at = False, 0.0, 0.0

    def _is_gone(self, error: Exception) -> None:
        """Wait longer each time, with some chance in it, so that many bridges do not come back at once."""
        self.is_away = True
        self._pause_s = min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, self._pause_s * 2)) * random.uniform(0.8, 1.2)  # noqa: S311
        if time.monotonic() - self._said_at > SAY_AGAIN_S or not self._said_at:
            self._said_at = time.monotonic()
            log.warning("events wait in the outbox (%d), redis did not take them: %s", self._outbox.size(), error)
