"""The ways to reach a trading server, by name. A new one is a file here, a line below, and a factory in its contract test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from redis import Redis

from app.metatrader.platform import ServerAccess, TradingPlatform
from app.metatrader.platforms.breaker import Health, health
from app.metatrader.platforms.mt4_bridge import MT4BridgePlatform
from app.metatrader.platforms.mt5_web import MT5WebPlatform

__all__ = ["PLATFORMS", "Health", "ServerRecord", "connect", "health"]


class Adapter(Protocol):
    """How an adapter is made. `redis` and `places`: what it shares with other processes (traffic.py)."""

    def __call__(self, access: ServerAccess, *, redis: Redis | None = None, places: int | None = None) -> TradingPlatform: ...


PLATFORMS: dict[str, Adapter] = {
    "mt4_bridge": MT4BridgePlatform,
    "mt5_web": MT5WebPlatform,
}


class ServerRecord(Protocol):
    """What is written down about a server (app.models.metatrader.Server)."""

    @property
    def code(self) -> str: ...

    @property
    def platform(self) -> str: ...

    @property
    def url(self) -> str: ...

    @property
    def manager_login(self) -> int: ...

    @property
    def time_zone(self) -> str: ...

    @property
    def options(self) -> Mapping[str, Any]: ...


def connect(
    server: ServerRecord, *, password: str, ca_file: str, redis: Redis | None = None, places: int | None = None
) -> TradingPlatform:
    """The adapter for a server; it opens its connections when they are first needed.

    With `redis` all processes together keep to the server's rate, and leave it alone while it does not answer. `places` is
    for processes that serve many servers: how many of them may be in an exchange with this one at a time.
    Raises KeyError for an adapter that is not registered.
    """
    return PLATFORMS[server.platform](
        ServerAccess(
            code=server.code,
            platform=server.platform,
            url=server.url,
            manager_login=server.manager_login,
            password=password,
            ca_file=ca_file,
            time_zone=server.time_zone,
            options=dict(server.options or {}),
        ),
        redis=redis,
        places=places,
    )
