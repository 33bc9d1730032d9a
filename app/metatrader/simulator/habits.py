"""What differs from server to server, as a switch: clients must get along with all of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

GROUPS_MAX = 5_000


@dataclass
class Habits:
    """`total_name`: what commands call their total, "Total" or "total"; empty for both, each command as it likes.

    `groups_max`: of how many groups a mask shows at most. `timer`: the clock of sessions, in seconds.
    """

    total_name: str = ""
    groups_max: int = GROUPS_MAX
    timer: Callable[[], float] = time.monotonic
