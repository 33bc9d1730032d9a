"""Facts of the event table as lines of a timeline. Each surface has words of its own: clients are addressed, staff informed.

Words are a table: type of a fact, with a colon and its detail where the words depend on it → sentence, kind of mark. A
sentence may name %(amount)s, %(login)s, and of a conversion %(sold)s and %(bought)s.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flask_babel import gettext

from app.core.money import Money
from app.core.tables import Event
from app.ledger.sources import SOURCES
from app.surfaces.formats import money

Words = dict[str, tuple[str, str]]

#: What each kind of ledger transaction is called, as message ids.
TRANSACTION_KINDS: dict[str, str] = {kind: source.label for kind, source in SOURCES.items()}


@dataclass(frozen=True)
class Moment:
    """One line of a timeline; `text` is what somebody wrote to the client, `actor` who did it, on screens for staff."""

    at: datetime
    title: str
    text: str
    kind: str
    actor: str = ""


def transaction_kind(kind: str) -> str:
    """A kind of ledger transaction in the reader's language; one that nobody named is said word by word."""
    known = TRANSACTION_KINDS.get(kind)
    return gettext(known) if known else kind.replace(".", " ").replace("_", " ").capitalize()


def types_of(words: Words) -> set[str]:
    """The types of facts that these words can say."""
    return {key.partition(":")[0] for key in words}


def moment(event: Event, words: Words) -> Moment | None:
    """The line for a fact in the reader's language, or None when the words do not cover it."""
    payload = event.payload
    detail = payload.get("kind") or payload.get("direction")
    found = words.get(f"{event.type}:{detail}") or words.get(event.type)
    if found is None:
        return None
    message, kind = found
    title = gettext(message)
    if "%(" in title:
        title %= _values(payload)
    return Moment(event.occurred_at, title, str(payload.get("reason") or ""), kind)


def _values(payload: dict[str, Any]) -> dict[str, str]:
    """What sentences may name; the direction of figures is kept in right-to-left text (U+2066 … U+2069)."""
    values = {
        "amount": _amount(payload, "amount_minor", "currency"),
        "sold": _amount(payload, "sold_minor", "sold_currency"),
        "bought": _amount(payload, "bought_minor", "bought_currency"),
        "login": str(payload.get("login") or "—"),
        "currency": str(payload.get("currency") or "—"),
        "before": str(payload.get("before") or "—"),
    }
    return {name: f"\u2066{value}\u2069" for name, value in values.items()}


def _amount(payload: dict[str, Any], minor: str, currency: str) -> str:
    return money(Money(payload[minor], payload[currency])) if minor in payload else "—"
