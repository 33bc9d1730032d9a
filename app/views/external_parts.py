"""What the pages of statements share: rows by number, what lines are matched with or may be, and where suspense is cleared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from flask import abort, url_for
from markupsafe import Markup
from sqlalchemy import select

from app.core.errors import AppError
from app.core.money import Money
from app.extensions import appbuilder, db
from app.ledger import external_entries
from app.ledger.errors import LineMatched
from app.ledger.external_matching import Line, Proposal
from app.models.controls import ExternalLine, ExternalStatement
from app.models.ledger import Entry, Transaction
from app.surfaces.errors import sentence
from app.surfaces.facts import transaction_kind
from app.views.columns import account_link, person
from app.views.guarded import DeskPage


def key_link(txn_id: UUID, key: str) -> Markup:
    """The key of a ledger transaction; it leads to its page, for those who may open it."""
    words = Markup('<span class="mono break">{}</span>').format(key)
    if not appbuilder.sm.has_access("can_show", "Ledger transactions"):
        return words
    return Markup('<a href="{}">{}</a>').format(url_for("LedgerTransactionView.show", pk=txn_id), words)


class StatementPage(DeskPage):
    """What the pages of statements share."""

    extra_args = {
        "person": person,
        "account_link": account_link,
        "key_link": key_link,
        "transaction_kind": transaction_kind,
    }


def found(model: type[Any], pk: int) -> Any:
    """The row of this number; 404 when there is none, or no row could have it."""
    row = db.session.get(model, pk) if pk < 2**63 else None
    if row is None:
        abort(404)
    return row


def matched_entries(lines: Sequence[ExternalLine]) -> dict[int, Any]:
    """By line: the transaction that it is matched with."""
    ids = [line.id for line in lines if line.matched_at is not None]
    rows = db.session.execute(
        select(ExternalLine.id, Transaction)
        .join(Entry, (Entry.account_id == ExternalLine.account_id) & (Entry.account_version == ExternalLine.account_version))
        .join(Transaction, Transaction.id == Entry.txn_id)
        .where(ExternalLine.id.in_(ids))
    )
    return {row.id: row.Transaction for row in rows}


def proposals(statement: ExternalStatement, lines: Sequence[ExternalLine]) -> dict[int, list[Proposal]]:
    wanted = [Line(line.id, line.booked_on, line.reference, line.amount) for line in lines if line.matched_at is None]
    return external_entries.proposals_for(db.session(), statement, wanted)


def say(error: AppError) -> str:
    if isinstance(error, LineMatched):
        error.data["by"] = person(error.data["by"])
    return sentence(error)


def adjustment_address(debited: str, credited: str, amount: Money) -> str | None:
    """A new adjustment with these two legs; an account that somebody has yet to find is empty. None for who may not."""
    if not appbuilder.sm.has_access("can_propose", "Ledger requests"):
        return None
    given: dict[str, Any] = {}
    for number, (side, account) in enumerate((("debit", debited), ("credit", credited))):
        leg = {"account": account, "side": side, "amount": f"{amount.decimal:f}"}
        given |= {f"legs-{number}-{name}": value for name, value in leg.items()}
    return url_for("LedgerRequestPage.adjustment", **given)
