"""What of a trading server's settings goes together: told while they are typed, not when nothing arrives. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from app.core.errors import N_

#: Events and sweeps that only one of MetaTrader's generations has.
MT5_ONLY, MT4_ONLY = ("kafka", "webhook", "sql"), ("mt4_report",)


class Secrets(Protocol):
    """What of MT_SECRETS decides whether a source can be read."""

    @property
    def database_url(self) -> str: ...

    @property
    def kafka(self) -> tuple[tuple[str, str], ...]: ...

    @property
    def webhook_secret(self) -> str: ...


def problems(
    *, platform: str, events: str, backfill: str, options: Mapping[str, Any], secrets: Secrets | None
) -> dict[str, str]:
    """What cannot work, by field; nothing when all of it can. Without `secrets` they are not looked at.

    `platform`, `events`, `backfill` and `options` are those of mt_server.
    """
    return {
        field: found
        for field, found in (
            ("events", _of_generation(platform, events) or _of_secrets(events, secrets)),
            ("backfill", _of_backfill(platform, events, backfill) or _of_secrets(backfill, secrets)),
            ("options", _of_options(events, options)),
        )
        if found
    }


def _of_generation(platform: str, way: str) -> str:
    is_mt4 = platform.startswith("mt4")
    if way in MT5_ONLY and is_mt4:
        return N_("Only MetaTrader 5 has this, and this is an MT4 server. It has a bridge, or its report database.")
    if way in MT4_ONLY and not is_mt4:
        return N_("Only MetaTrader 4 has a report database, and this is an MT5 server. Please choose another way.")
    return ""


def _of_backfill(platform: str, events: str, backfill: str) -> str:
    if backfill == "bridge" and events != "stream":
        return N_("Nobody would answer: there is a bridge only where it publishes the events, too. Please choose another way.")
    return _of_generation(platform, backfill)


def _of_secrets(way: str, secrets: Secrets | None) -> str:
    if secrets is None:
        return ""
    if way in ("sql", "mt4_report") and not secrets.database_url:
        return N_("The database's address is missing: MT_SECRETS needs database_url under this server's code.")
    if way == "kafka" and not dict(secrets.kafka).get("bootstrap.servers"):
        return N_("Kafka's address is missing: MT_SECRETS needs kafka with bootstrap.servers under this server's code.")
    if way == "webhook" and not secrets.webhook_secret:
        return N_("The secret of its requests is missing: MT_SECRETS needs webhook_secret under this server's code.")
    return ""


def _of_options(events: str, options: Mapping[str, Any]) -> str:
    of_source = options.get(events, {})
    if not isinstance(of_source, Mapping):
        return N_('The settings of a source are an object of their own, such as {"poll": {"every_s": 15}}.')
    if events == "kafka" and not of_source.get("prefix") and not of_source.get("topics"):
        return N_('Kafka needs to know its topics, such as {"kafka": {"prefix": "mt5-live."}}.')
    return ""
