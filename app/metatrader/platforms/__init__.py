"""The ways to reach a trading server, by name. A new one is a file here, a line below, and a factory in its contract test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from app.metatrader.platform import ServerAccess, TradingPlatform
from app.metatrader.platforms.mt5_web import MT5WebPlatform

PLATFORMS: dict[str, Callable[[ServerAccess], TradingPlatform]] = {
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


def connect(server: ServerRecord, *, password: str, ca_file: str) -> TradingPlatform:
    """The adapter for a server; it opens its connections when they are first needed.

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
        )
    )
