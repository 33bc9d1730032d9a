"""Python's garbage collector, for processes that make many thousand objects at a time and free them all together."""

from __future__ import annotations

import gc


def calm_collector() -> None:
    """Look at what a batch made rarely, and never again at what the process had when it began. Once per process."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
