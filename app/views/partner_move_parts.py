"""What the pages of moves show: the people a move is about, where it may go, what it would change; and the list as a file."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from flask import Response
from flask_babel import gettext

from app.commissions import move_preview
from app.core.clock import now
from app.core.money import exponent
from app.extensions import db
from app.models.partner_moves import PartnerMove
from app.partners import directory
from app.surfaces import formats
from app.surfaces.csv_files import Cell, csv_file
from app.views.columns import person
from app.views.partner_move_forms import NOBODY

#: What a search finds at most.
FOUND = 20


def preview(move: PartnerMove) -> dict[str, Any]:
    """What a move would change, with the names of the IBs it changes it for."""
    session, at = db.session(), now()
    found = move_preview.preview_move(session, move, at)
    ibs = directory.ibs_named(session, [effect.ib_id for effect in found.effects], at)
    return {"found": found, "names": {ib.ib_id: ib.name for ib in ibs}, "days": move_preview.DAYS.days, "amount": _rounded}


def _rounded(amount: Decimal, currency: str) -> str:
    """An unrounded amount as its currency is written."""
    digits = exponent(currency)
    return f"{formats.decimals(round(amount, digits), digits)} {currency}"


def about(move: PartnerMove) -> dict[str, Any]:
    """The people a move is about: the client or IB, whose it is, and who stands at the other end."""
    session, at = db.session(), now()
    ids = [ib_id for ib_id in (move.ib_id, move.from_id, move.target_id) if ib_id is not None]
    ibs = {ib.ib_id: ib for ib in directory.ibs_named(session, ids, at)}
    clients = directory.clients_named(session, [move.client_id], at) if move.client_id is not None else []
    return {
        "client": clients[0] if clients else None,
        "ib": ibs.get(move.ib_id or 0),
        "source": ibs.get(move.from_id or 0),
        "target": ibs.get(move.target_id or 0),
    }


def targets(draft: PartnerMove, text: str, chosen: str) -> dict[str, Any]:
    """What the search finds, below what is chosen; not where the subject is already."""
    session, at = db.session(), now()
    without = [ib_id for ib_id in (draft.ib_id, draft.from_id) if ib_id is not None]
    found = directory.find_ibs(session, text, at, FOUND, without=without)
    number = int(chosen) if chosen.isascii() and chosen.isdecimal() and len(chosen) < 19 else None
    kept = [] if number is None or number in [ib.ib_id for ib in found] else directory.ibs_named(session, [number], at)
    can_be_nobody = draft.from_id is not None
    return {"targets": [*kept, *found], "chosen": chosen, "most": FOUND, "nobody": NOBODY if can_be_nobody else None}


def file_of(moves: Iterable[PartnerMove]) -> Response:
    """The list as a CSV file."""
    return csv_file("moves", _head(), map(_row, moves))


def _head() -> list[str]:
    return [
        gettext("No."),
        gettext("What"),
        gettext("Client"),
        gettext("IB"),
        gettext("From IB"),
        gettext("To IB"),
        gettext("From (UTC)"),
        gettext("State"),
        gettext("Moved"),
        gettext("Reason"),
        gettext("Proposed by"),
        gettext("Proposed at"),
        gettext("Decided by"),
        gettext("Decided at"),
        gettext("Reason of the decision"),
        gettext("Cancelled by"),
        gettext("Cancelled at"),
        gettext("Reason of the cancelling"),
    ]


def _row(one: PartnerMove) -> list[Cell]:
    subject: list[Cell] = [one.id, one.kind, one.client_id, one.ib_id, one.from_id, one.target_id, one.effective_at]
    decision: list[Cell] = [one.decided_by and person(one.decided_by), one.decided_at, one.decision_reason]
    cancelled: list[Cell] = [one.cancelled_by and person(one.cancelled_by), one.cancelled_at, one.cancel_reason]
    return [*subject, one.status, one.moved, one.reason, person(one.proposed_by), one.proposed_at, *decision, *cancelled]
