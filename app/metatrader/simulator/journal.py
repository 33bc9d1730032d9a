"""The simulator's event source: writes canonical events into the outbox, and a thread that carries them to Redis.

An event is written in the transaction of the change that it tells of. It leaves the outbox when Redis has taken it; until
then it is sent again, also after a restart, so readers may see it twice, but never not at all.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime

from redis import Redis
from redis.exceptions import RedisError

from app.metatrader.events import (
    AnyEvent,
    Change,
    Origin,
    Signal,
    Stamp,
    account_event,
    control_event,
    deal_event,
    encode,
    position_event,
)
from app.metatrader.platform import AccountState, Deal, Position
from app.metatrader.servertime import ServerZone
from app.metatrader.simulator.store import Store
from app.metatrader.stream import publish, stream_name

log = logging.getLogger("lotwise.simulator")

BATCH = 500
RETRY_S = 1.0


class Journal:
    """Turns what happens into outbox rows. Call it inside the store's transaction."""

    def __init__(self, store: Store, origin: Origin, zone: ServerZone, clock: Callable[[], datetime], shards: int = 1) -> None:
        self._store = store
        self._origin = origin
        self._zone = zone
        self._clock = clock
        self._shards = shards

    def deal(self, change: Change, deal: Deal) -> None:
        self._put(lambda stamp: deal_event(self._origin, stamp, change, deal), deal.login)

    def position(self, change: Change, position: Position) -> None:
        self._put(lambda stamp: position_event(self._origin, stamp, change, position), position.login)

    def account(self, account: AccountState) -> None:
        self._put(lambda stamp: account_event(self._origin, stamp, account), account.login)

    def control(self, signal: Signal, **notes: str) -> None:
        """A signal of the source itself, to every shard."""
        with self._store.transaction():
            for shard in range(self._shards):
                self._put(lambda stamp: control_event(self._origin, stamp, signal, notes), shard)

    def _put(self, make: Callable[[Stamp], AnyEvent], login: int) -> None:
        stream = stream_name(self._origin.server, login, self._shards)
        moment = self._clock()
        stamp = Stamp(
            seq=self._store.next_number(f"seq:{stream}", 1),
            server_time_ms=self._zone.wall_ms(moment),
            utc_offset_min=self._zone.offset_min(moment),
            received_at=moment,
        )
        self._store.put_in_outbox(stream, encode(make(stamp)))


class Publisher:
    """The thread that empties the outbox into Redis, in order, for as long as it takes."""

    def __init__(self, store: Store, redis_url: str) -> None:
        self._store = store
        self._redis = Redis.from_url(redis_url, socket_timeout=10, socket_connect_timeout=5)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="simulator-publisher", daemon=True)
        self._is_away = False

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Send what is there, if Redis takes it, and end."""
        self._stop.set()
        self._store.changed.set()
        self._thread.join(timeout=10)
        self._redis.close()

    def _work(self) -> None:
        while True:
            self._store.changed.clear()
            is_last_round = self._stop.is_set()  # asked after the clearing, or the wake-up of `stop` could be cleared away
            try:
                is_done = self._send_all()
            except Exception:
                log.exception("publishing stumbled; it is tried again")
                is_done = False
            if is_last_round:
                return
            if is_done:
                self._store.changed.wait(timeout=5.0)
            else:
                self._stop.wait(RETRY_S)

    def _send_all(self) -> bool:
        """Empty the outbox; False when Redis is away."""
        while rows := self._store.outbox(BATCH):
            try:
                publish(self._redis, [(stream, fields) for _, stream, fields in rows])
            except RedisError as error:
                if not self._is_away:
                    log.warning("events wait in the outbox, Redis is away: %s", type(error).__name__)
                self._is_away = True
                return False
            self._is_away = False
            self._store.remove_sent(rows[-1][0])
        return True
