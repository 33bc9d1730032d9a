"""The personal terms of IBs as they were agreed, read once for many deals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from sqlalchemy import ARRAY, BigInteger, any_, literal, select
from sqlalchemy.orm import Session

from app.commissions.terms import PersonalTerms
from app.models.ib_terms import IBTerms, IBTermsProposal

#: The guard of the table; repeatable, run after migrations.
SQL = Path(__file__).parent / "sql" / "terms.sql"


class AgreedTerms:
    """What was agreed with some IBs, whenever it held."""

    def __init__(self, session: Session, ib_ids: Iterable[int]) -> None:
        """Read all spans of these IBs."""
        self._spans: dict[int, list[tuple[datetime, datetime | None, PersonalTerms]]] = defaultdict(list)
        for row in session.scalars(select(IBTerms).where(IBTerms.ib_id == any_(literal(list(ib_ids), ARRAY(BigInteger))))):
            self._spans[row.ib_id].append((row.valid_from, row.valid_to, personal(row)))

    def moments(self) -> Iterator[datetime | None]:
        """When anybody's terms begin or end."""
        return (moment for spans in self._spans.values() for begin, end, _ in spans for moment in (begin, end))

    def of(self, ib_id: int, at: datetime) -> PersonalTerms | None:
        """The terms of an IB at a moment; None when it had none."""
        spans = self._spans.get(ib_id, ())
        return next((terms for begin, end, terms in spans if begin <= at and (end is None or at < end)), None)


def personal(row: IBTerms | IBTermsProposal) -> PersonalTerms:
    """The terms of a row, as the engine reads them."""
    rates = {(int(plan), key): Decimal(rate) for plan, own in row.rates.items() for key, rate in own.items()}
    return PersonalTerms(row.multiplier, rates, row.hand_on_percent)
