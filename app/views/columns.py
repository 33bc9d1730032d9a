"""How columns read in generated screens: amounts with currency, moments in UTC, states as badges, people by their names."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from flask import g, url_for
from flask_appbuilder.security.sqla.models import User
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from markupsafe import Markup
from sqlalchemy import select

from app.core.money import Money
from app.extensions import appbuilder, db
from app.surfaces import formats

#: Which colour of badge a state has; anything else is neutral.
KINDS = {
    "success": ("active", "approved", "settled", "paid", "done", "sent", "verified"),
    "warning": ("pending", "requested", "held", "waiting", "opening", "sending", "submitting", "unknown", "created", "new"),
    "danger": ("rejected", "failed", "blocked", "charged_back", "returned"),
}

#: What MetaTrader's numbers mean (IMTDeal::EnDealAction and EnDealEntry, the ones that occur with clients).
ACTIONS = {0: _l("Buy"), 1: _l("Sell"), 2: _l("Balance"), 3: _l("Credit"), 4: _l("Charge"), 5: _l("Correction"), 6: _l("Bonus")}
ENTRIES = {0: _l("In"), 1: _l("Out"), 2: _l("In/out"), 3: _l("Out by")}

_Formatter = Callable[[Any], Any]


def badge(state: str | None) -> Markup:
    """A dot and the word; colour is never the only sign."""
    kind = next((name for name, states in KINDS.items() if state in states), "neutral")
    words = gettext((state or "—").replace("_", " ").capitalize())
    return Markup('<span class="badge kind-{}">{}</span>').format(kind, words)


def figure(text: str) -> Markup:
    """A figure at the end of its column; lists put the column's name there, too."""
    return Markup('<span class="num">{}</span>').format(text)


def amount(value: Money | None) -> Markup:
    return figure(formats.money(value) if value is not None else "")


def decimals(value: Decimal | None) -> Markup:
    """Two digits after the point, as trading servers show money."""
    return figure(formats.decimals(value))


def exact(value: Decimal | None) -> Markup:
    """All digits that matter."""
    return figure(formats.exact(value))


def lots(value: int | None) -> Markup:
    return figure(formats.lots(value))


def ago(value: datetime | None) -> Markup:
    """How long ago, with the exact moment on hover."""
    return Markup('<span class="nowrap">{}</span>').format(formats.ago(value))


def moment(value: datetime | None) -> Markup | str:
    """The exact moment, and that it is UTC."""
    if value is None:
        return Markup('<span class="muted">—</span>')
    return Markup('<time class="nowrap" datetime="{}">{} UTC</time>').format(formats.iso(value), formats.when(value))


def identifier(value: Any) -> Markup:
    return Markup('<span class="mono nowrap">{}</span>').format(value) if value not in (None, "") else Markup("—")


def action(value: int | None) -> str:
    """Buy, sell and so on, from MetaTrader's number; a number without a word stays one."""
    return "—" if value is None else str(ACTIONS.get(value, value))


def entry(value: int | None) -> str:
    return "—" if value is None else str(ENTRIES.get(value, value))


def data(value: Any) -> Markup:
    """A JSON value for people: one field a line, what lies deeper in one line each."""
    if value in (None, {}, []):
        return Markup('<span class="muted">—</span>')
    if isinstance(value, list):
        return Markup("").join(
            data(item) if isinstance(item, dict) else Markup("<div>{}</div>").format(_one_line(item)) for item in value
        )
    if not isinstance(value, dict):
        return Markup("{}").format(_one_line(value))
    lines = (
        Markup("<dt>{}</dt><dd>{}</dd>").format(name, data(item) if _is_plain_list(item) else _one_line(item))
        for name, item in value.items()
    )
    return Markup('<dl class="detail-list">{}</dl>').format(Markup("").join(lines))


def _is_plain_list(value: Any) -> bool:
    """A list of texts, such as permissions, which reads better one below the other."""
    return isinstance(value, list) and all(isinstance(item, str) and " " in item for item in value)


def _one_line(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_one_line(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(_one_line(item) for item in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def client_link(client: Any) -> Markup:
    """The client's name; it leads to the client's page, for those who may open it."""
    if client is None:
        return Markup("—")
    if not appbuilder.sm.has_access("can_show", "Clients"):
        return Markup("{}").format(client.full_name)
    return Markup('<a href="{}">{}</a>').format(url_for("ClientView.show", pk=client.id), client.full_name)


def transaction_link(txn_id: UUID | None) -> Markup:
    """The id of a ledger transaction; it leads to its page, for those who may open it."""
    if txn_id is None or not txn_id.int:  # zero: looked at, and nothing was to be posted
        return Markup('<span class="muted">—</span>')
    if not appbuilder.sm.has_access("can_show", "Ledger transactions"):
        return identifier(txn_id)
    address = url_for("LedgerTransactionView.show", pk=txn_id)
    return Markup('<a href="{}">{}</a>').format(address, identifier(txn_id))


def account_link(code: str) -> Markup:
    """The code of a ledger account; it leads to its page, for those who may open it."""
    if not appbuilder.sm.has_access("can_show", "Ledger accounts"):
        return identifier(code)
    return Markup('<a href="{}">{}</a>').format(url_for("LedgerAccountView.show", pk=code), identifier(code))


def person(actor: str | None) -> str:
    """Who acted, for people: a staff member's name, "Client 7", or the name of the job."""
    kind, _, name = (actor or "").partition(":")
    if kind == "staff":
        return _staff_names().get(name) or gettext("Staff member %(number)s", number=name)
    if kind == "client":
        return gettext("Client %(number)s", number=name)
    if kind == "system":
        return gettext("System: %(job)s", job=name.replace("_", " "))
    return actor or "—"


def staff_called(text: str) -> list[str]:
    """The staff members, as actors, whose name contains this text."""
    return [f"staff:{key}" for key, name in _staff_names().items() if text.casefold() in name.casefold()]


def _staff_names() -> dict[str, str]:
    """All staff by id, read once per page: there are dozens, not thousands."""
    if "staff_names" not in g:
        rows = db.session.execute(select(User.id, User.first_name, User.last_name))
        g.staff_names = {str(row.id): f"{row.first_name} {row.last_name}".strip() for row in rows}
    names: dict[str, str] = g.staff_names
    return names


#: Formatters of columns that mean the same on every screen.
_USUAL: dict[str, _Formatter] = {
    **dict.fromkeys(("state", "status"), badge),
    **dict.fromkeys(("amount", "posted", "set_aside", "debited", "credited", "settled_amount"), amount),
    **dict.fromkeys(("actor", "approved_by", "requested_by", "reviewed_by"), person),
    **dict.fromkeys(
        ("created_at", "requested_at", "uploaded_at", "occurred_at", "at", "failed_at", "received_at", "done_at"),
        ago,
    ),
    **dict.fromkeys(
        (
            "settled_at",
            "finished_at",
            "accrued_at",
            "posted_at",
            "effective_at",
            "judged_at",
            "approved_at",
            "sent_at",
            "opened_at",
            "closed_at",
            "valid_from",
            "valid_to",
            "state_at",
            "replayed_at",
            "retried_at",
            "processed_at",
            "looked_at",
            "last_login",
            "created_on",
            "changed_on",
        ),
        moment,
    ),
    **dict.fromkeys(("payload", "before", "after", "fields", "arguments", "details", "rules", "values"), data),
    **dict.fromkeys(("login", "token", "provider_reference", "payment_reference", "idempotency_key"), identifier),
}


def formatters(**by_column: _Formatter) -> dict[str, _Formatter]:
    """The formatters of columns that mean the same everywhere, and the given ones."""
    return {**_USUAL, **by_column}
