"""Faults of events that can be switched on, to prove that readers of the stream survive them.

All that is random comes from the seed and the event itself: the same events meet the same faults in every run.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import Any

GARBAGE = ("malformed", "truncated", "unknown_version", "unknown_kind", "negative_volume", "impossible_time", "wrong_encoding")
SECONDS_MAX = 86_400.0


@dataclass(frozen=True)
class EventSettings:
    """What happens to events on their way out. Parts are from 0 to 1, times in seconds.

    duplicates  sent twice, the second time up to `reorder_s` later
    reorder_s   every event but the source's own signals is held back up to so long, each for another time
    late        held back for `late_s` besides, so that an old state arrives after a newer one
    gap_s       so long in every `gap_every_s` the source is away: it says so, and what happens meanwhile is never sent
    garbage     an event that cannot be meant is sent besides, of each kind in GARBAGE
    edits       deals that a dealer changes some seconds later
    deletes     deals that a dealer deletes some seconds later
    """

    duplicates: float = 0.0
    reorder_s: float = 0.0
    late: float = 0.0
    late_s: float = 60.0
    gap_s: float = 0.0
    gap_every_s: float = 120.0
    garbage: float = 0.0
    edits: float = 0.0
    deletes: float = 0.0


class EventFaults:
    """The faults of events that are on. Thread-safe: settings are replaced as a whole."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self.settings = EventSettings()
        #: Until when everything is lost, or held back, by order from outside.
        self._away_until: datetime | None = None
        self._held_until: datetime | None = None

    def set(self, settings: EventSettings) -> None:
        self.settings = settings

    def lose(self, now: datetime, seconds: float) -> None:
        """The source is away from now on for so long; what happens meanwhile is never sent."""
        self._away_until = now + timedelta(seconds=seconds)

    def hold(self, now: datetime, seconds: float) -> None:
        """Nothing is sent for so long; then all of it is."""
        self._held_until = now + timedelta(seconds=seconds)

    def is_held(self, now: datetime) -> bool:
        return self._held_until is not None and now < self._held_until

    def is_away(self, now: datetime) -> bool:
        """Whether the source has lost its server just now."""
        if self._away_until is not None and now < self._away_until:
            return True
        settings = self.settings
        if not settings.gap_s:
            return False
        period, place_s = divmod(now.timestamp(), settings.gap_every_s)
        begins_s = self._draw("gap", str(int(period))) * (settings.gap_every_s - settings.gap_s)
        return begins_s <= place_s < begins_s + settings.gap_s

    def delay_s(self, event: str) -> float:
        """For how long the event of this name is held back."""
        settings = self.settings
        delay_s = settings.reorder_s * self._draw("reorder", event) if settings.reorder_s else 0.0
        return delay_s + (settings.late_s if self._hits("late", settings.late, event) else 0.0)

    def again_after_s(self, event: str) -> float | None:
        """How long after the first time the event is sent once more; None for most of them."""
        settings = self.settings
        if not self._hits("duplicates", settings.duplicates, event):
            return None
        return settings.reorder_s * self._draw("again", event)

    def garbage(self, event: str) -> str | None:
        """The kind of garbage to be sent beside the event, if any."""
        if not self._hits("garbage", self.settings.garbage, event):
            return None
        return GARBAGE[int(self._draw("kind", event) * len(GARBAGE))]

    def dealer(self, ticket: int) -> tuple[str, float] | None:
        """What a dealer does to a deal, edit or delete, and after how many seconds; None for most of them."""
        settings = self.settings
        if not settings.edits and not settings.deletes:
            return None
        drawn = self._draw("dealer", str(ticket))
        if drawn >= settings.edits + settings.deletes:
            return None
        return "edit" if drawn < settings.edits else "delete", 1 + 19 * self._draw("when", str(ticket))

    def listed(self) -> dict[str, float]:
        return asdict(self.settings)

    def _hits(self, what: str, part: float, event: str) -> bool:
        return part > 0 and self._draw(what, event) < part

    def _draw(self, what: str, of: str) -> float:
        return random.Random(f"{self._seed}:{what}:{of}").random()  # noqa: S311  # faults, not secrets


def spoil(entry: Mapping[str, str], kind: str) -> dict[str, Any]:
    """An entry of the stream made into garbage of one kind. Its key and sequence stay, as a careless source would have it."""
    payload = entry["payload"]
    match kind:
        case "malformed":
            return {**entry, "payload": payload.replace(":", "=")}
        case "truncated":
            return {**entry, "payload": payload[: len(payload) // 2]}
        case "unknown_version":
            return {**entry, "v": "99"}
        case "unknown_kind":
            return {**entry, "kind": "deal.rewind"}
        case "negative_volume":
            spoilt = {**json.loads(payload), "Volume": "-10000", "VolumeExt": "-100000000"}
            return {**entry, "kind": "deal.add", "payload": json.dumps(spoilt)}
        case "impossible_time":
            return {**entry, "srv_time_msc": "4102444799000"}
    return {**entry, "payload": payload.encode("utf-8") + b"\xff\xfe"}


def read_event_settings(raw: Any) -> EventSettings:
    """Settings from JSON: an object of numbers; what is left out is off. Raises ValueError for anything else."""
    if not isinstance(raw, Mapping) or set(raw) - {one.name for one in fields(EventSettings)}:
        raise ValueError("these are no settings of event faults")
    if not all(
        isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= SECONDS_MAX for value in raw.values()
    ):
        raise ValueError("these are no settings of event faults")
    settings = EventSettings(**raw)
    parts = (settings.duplicates, settings.late, settings.garbage, settings.edits + settings.deletes)
    if any(part > 1 for part in parts) or (settings.gap_s and settings.gap_every_s < 2 * settings.gap_s):
        raise ValueError("these are no settings of event faults")
    return settings
