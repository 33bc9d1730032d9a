"""The months of deals: partitions of table `deal`, made when the first deal of a month is booked.

The rest of the code does not notice them. The SQL stands in sql/deal_months.sql and is run after migrations.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.uow import unit_of_work

log = logging.getLogger("lotwise.metatrader")

SQL = Path(__file__).parent / "sql" / "deal_months.sql"


_PARTITION = re.compile(r"deal_(\d{4}_\d{2}|other)")


def is_partition(table: str) -> bool:
    """Whether a table is a part of `deal`, which migrations and models leave alone."""
    return _PARTITION.fullmatch(table) is not None


def ensure_months(session: Session, moments: Iterable[datetime]) -> None:
    """Have a partition for the month of each moment. Months in the far future stay in the default partition.

    Asked anew in every unit of work, which costs one call a month: a month that is made goes again when its unit fails.
    """
    months = {(moment.year, moment.month) for moment in (moment.astimezone(UTC) for moment in moments)}
    for year, month in sorted(months):
        session.execute(text("SELECT deal_month(:month)"), {"month": datetime(year, month, 1, tzinfo=UTC)})


def tidy_months(session: Session) -> int:
    """Move what lies in the default partition into months of its own, and make the coming months. Returns how many moved.

    When deals are read or booked without a pause nothing is moved: the next night is soon enough.
    """
    moment = now()
    with unit_of_work(session, Actor.system("tidy_months")):
        ensure_months(session, [moment, moment + timedelta(days=31)])
        moved = session.execute(text("SELECT tidy_deal_months()")).scalar_one()
    if moved is None:
        log.warning("deals of some months stay in the default partition: it is in use without a pause")
    return moved or 0
