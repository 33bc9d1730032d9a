"""What the parts of the sandbox share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from app.payments.sandbox.payments import Delays
from app.payments.sandbox.store import Store


@dataclass(frozen=True)
class House:
    """`site` is the sandbox's own address, `merchant` who is paid, `wake` tells the clock that something may be due."""

    store: Store
    delays: Delays
    secret_key: str
    merchant: str
    site: str
    wake: Callable[[], None]
