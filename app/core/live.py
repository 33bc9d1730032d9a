"""Live updates to the browser: a hint on a Redis channel that something of this client changed; the page asks again."""

from __future__ import annotations

from typing import Literal


def channel(client_id: int | Literal["*"]) -> str:
    """The channel on which facts about one client are announced (their type only, no content); "*" is all of them."""
    return f"live:client:{client_id}"
