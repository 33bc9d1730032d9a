"""The months of deals: partitions of table `deal`, made when the first deal of a month is booked.

The rest of the code does not notice them. The SQL stands in sql/deal_months.sql and is run after migrations.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.orm import Session

SQL = Path(__file__).parent / "sql" / "deal_months.sql"


_PARTITION = re.compile(r"deal_(\d{4}_\d{2}|other)")


def is_partition(table: str) -> bool:
    """Whether a table is a part of `deal`, which migrations and models leave alone."""
    return _PARTITION.fullmatch(table) is not None


def ensure_months(session: Session, moments: Iterable[datetime]) -> None:
    """Have a partition for the month of each moment. Months in the far future stay in the default partition."""
    months = {moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0) for moment in moments}
    for month in sorted(months):
        session.execute(text("SELECT deal_month(:month)"), {"month": month})
