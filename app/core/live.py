"""Live updates to the browser: a hint on a Redis channel that something of this client changed; the page asks again."""

from __future__ import annotations


def channel(client_id: int) -> str:
    """The channel on which facts about one client are announced (their type only, no content)."""
    return f"live:client:{client_id}"
