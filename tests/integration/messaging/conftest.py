from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.messaging.mailbox import Mailbox


@pytest.fixture
def mailbox(tmp_path: Path) -> Iterator[Mailbox]:
    """A running mailbox on free ports."""
    with Mailbox(tmp_path) as running:
        yield running
