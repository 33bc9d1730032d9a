"""Payouts in words for staff: states, ways, warnings; and their rows in files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flask import request
from flask_babel import gettext
from flask_babel import lazy_gettext as _l

from app.commissions.payout_warnings import WARNINGS
from app.models.payouts import Payout
from app.surfaces.csv_files import Cell
from app.surfaces.formats import translated
from app.views.columns import person

STATES = {
    "requested": _l("Asked for"),
    "proposed": _l("In a run"),
    "held": _l("Held back"),
    "approved": _l("Approved"),
    "paying": _l("On its way"),
    "paid": _l("Paid"),
    "failed": _l("In the wallet only"),
    "reversed": _l("Taken back"),
    "rejected": _l("Rejected"),
    "cancelled": _l("Cancelled"),
}

#: The colour of a state's badge.
KINDS = {
    "requested": "warning",
    "proposed": "warning",
    "held": "warning",
    "approved": "info",
    "paying": "info",
    "paid": "success",
    "failed": "warning",
    "reversed": "danger",
    "rejected": "danger",
    "cancelled": "neutral",
}

DESTINATIONS = {"wallet": _l("Wallet"), "account": _l("Trading account"), "withdrawal": _l("Means of payment")}

#: What a warning names: kinds of documents, statuses of clients.
_VALUES = {
    "identity": _l("identity"),
    "address": _l("address"),
    "registered": _l("registered"),
    "verified": _l("mail address confirmed"),
    "blocked": _l("blocked"),
}

VERDICTS = {"pay": _l("Pay"), "hold": _l("Hold back"), "reject": _l("Reject")}


def _said(value: str) -> str:
    return str(_VALUES.get(value, value))


def warning(one: Mapping[str, Any]) -> str:
    """A warning as a sentence."""
    values = {name: ", ".join(map(_said, str(value).split(", "))) for name, value in one["data"].items()}
    return gettext(WARNINGS[one["code"]]) % values


def codes(told: Sequence[Mapping[str, Any]]) -> str:
    """The warnings that a page shows, as its form sends them back."""
    return " ".join(one["code"] for one in told)


def seen(name: str) -> frozenset[str]:
    """What `codes` wrote into a field of the form."""
    return frozenset(request.form.get(name, "").split())


def destination(payout: Payout) -> str:
    """Where it goes, with the trading account's login."""
    words = str(DESTINATIONS[payout.destination])
    return f"{words} {payout.trading_account.login}" if payout.trading_account else words


def head() -> list[str]:
    """Columns of a file of payouts."""
    return [
        gettext("Payout"),
        gettext("Run"),
        gettext("IB"),
        gettext("Name"),
        gettext("Amount"),
        gettext("Currency"),
        gettext("Goes to"),
        gettext("State"),
        gettext("Warnings"),
        gettext("Reason of the decision"),
        gettext("Decided by"),
        gettext("Made (UTC)"),
        gettext("Moved (UTC)"),
        gettext("Ledger transaction"),
    ]


def rows(payouts: Iterable[Payout]) -> list[list[Cell]]:
    """One row a payout."""
    return [
        [
            one.id,
            one.run_id,
            one.ib_id,
            one.client.full_name,
            one.amount,
            one.currency,
            destination(one),
            str(STATES[one.state]),
            " ".join(warning(told) for told in one.warnings),
            translated(one.decision_reason),
            person(one.decided_by) if one.decided_by else None,
            one.created_at,
            one.moved_at,
            str(one.ledger_txn_id) if one.ledger_txn_id else None,
        ]
        for one in payouts
    ]
