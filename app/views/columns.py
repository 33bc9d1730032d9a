"""How columns read in generated lists: amounts with currency, moments in UTC, states as badges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import url_for
from flask_babel import gettext
from markupsafe import Markup

from app.core.money import Money
from app.surfaces import formats

#: Which colour of badge a state has; anything else is neutral.
KINDS = {
    "success": ("active", "approved", "settled", "paid", "done", "sent", "verified"),
    "warning": ("pending", "requested", "held", "waiting", "opening", "sending", "submitting", "unknown", "created", "new"),
    "danger": ("rejected", "failed", "blocked", "charged_back", "returned"),
}


def badge(state: str | None) -> Markup:
    """A dot and the word; colour is never the only sign."""
    kind = next((name for name, states in KINDS.items() if state in states), "neutral")
    words = gettext((state or "—").replace("_", " "))
    return Markup('<span class="badge kind-{}">{}</span>').format(kind, words.capitalize())


def amount(value: Money | None) -> Markup:
    """An amount with its currency; right-aligned, with its header."""
    return Markup('<span class="num">{}</span>').format(formats.money(value) if value is not None else "")


def moment(value: Any) -> Markup | str:
    return formats.ago(value)


def identifier(value: Any) -> Markup:
    return Markup('<span class="mono">{}</span>').format(value if value is not None else "—")


def client_link(client: Any) -> Markup:
    """The client's name, leading to the client's page."""
    if client is None:
        return Markup("—")
    return Markup('<a href="{}">{}</a>').format(url_for("ClientView.show", pk=client.id), client.full_name)


def formatters(**by_column: Callable[[Any], Any]) -> dict[str, Callable[[Any], Any]]:
    """Formatters for moments that most lists have, and the given ones."""
    moments = (
        "created_at",
        "requested_at",
        "settled_at",
        "finished_at",
        "uploaded_at",
        "occurred_at",
        "at",
        "failed_at",
        "accrued_at",
        "done_at",
        "posted_at",
        "effective_at",
        "received_at",
        "judged_at",
        "approved_at",
        "sent_at",
    )
    return {**dict.fromkeys(moments, moment), "state": badge, "status": badge, "amount": amount, "posted": amount, **by_column}
