"""Where the ledger's rows lead: what caused a transaction, whose an account is, what a hold is for, and details in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from flask import url_for
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from markupsafe import Markup
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.errors import N_
from app.extensions import appbuilder
from app.ledger import search, sources
from app.models.clients import Client
from app.models.ledger import Account, Hold, Transaction
from app.models.metatrader import Deal, Server, TradingAccount
from app.models.payments import Transfer, Withdrawal
from app.models.payouts import Payout
from app.surfaces.facts import transaction_kind
from app.views.columns import client_link, data, moment

#: The page of a row, by its table: the view that shows it, the name its permission goes by, and what it is called.
PAGES: dict[str, tuple[str, str, str]] = {
    "deposit": ("DepositView", "Deposits", N_("Deposit %(number)s")),
    "withdrawal": ("WithdrawalView", "All withdrawals", N_("Withdrawal %(number)s")),
    "transfer": ("TransferView", "Transfers", N_("Transfer %(number)s")),
    "deal": ("DealView", "Deals", N_("Deal %(number)s")),
    "settlement": ("SettlementView", "Settlements", N_("Settlement %(number)s")),
    "account": ("LedgerAccountView", "Ledger accounts", N_("Ledger account %(number)s")),
    "trading_account": ("TradingAccountView", "Trading accounts", N_("Trading account %(number)s")),
    "mt_server": ("ServerView", "Servers", N_("Trading server %(number)s")),
    "external_line": ("StatementLines", "Statement lines", N_("Statement line %(number)s")),
    "fx_quote": ("FXQuoteView", "FX quotes", N_("Quote %(number)s")),
    "ledger_request": ("LedgerRequestPage", "Ledger requests", N_("Request %(number)s")),
    "payout": ("PayoutPage", "Payouts", N_("Commission payout %(number)s")),
}

#: What the parts of a transaction's details are called.
DETAILS: dict[str, Any] = {
    "reason": _l("Reason"),
    "of": _l("Reverses a"),
    "deals": _l("Deals"),
    "logins": _l("Logins"),
    "late": _l("After its day was closed"),
    "funding": _l("Who pays, in minor units"),
    "server": _l("Server"),
    "period": _l("Period"),
    "quote": _l("Quote"),
    "quote_id": _l("Quote"),
    "rate": _l("Rate"),
    "rates": _l("Rates"),
    "sources": _l("Sources of the rate"),
    "source": _l("Source"),
    "pair": _l("Pair"),
    "base": _l("From"),
    "observed_at": _l("Observed"),
    "quoted_at": _l("Quoted"),
    "expires_at": _l("Good until"),
    "bid": _l("Bid"),
    "ask": _l("Ask"),
    "spread_bp": _l("Spread, basis points"),
    "deposit_id": _l("Deposit"),
    "withdrawal_id": _l("Withdrawal"),
    "transfer_id": _l("Transfer"),
    "settlement_id": _l("Settlement"),
    "payout_id": _l("Commission payout"),
    "run_id": _l("Payout run"),
    "ib_id": _l("Introducing broker"),
    "client_id": _l("Client"),
    "connector": _l("Connector"),
    "reference": _l("Reference"),
    "request_id": _l("Request"),
}


@dataclass(frozen=True)
class HoldLine:
    """An open hold, and the withdrawal, transfer or payout that waits for it."""

    hold: Hold
    cause: Markup | None


def row_link(subject: str, key: int, words: str = "") -> Markup:
    """The row in words; it leads to its page, for those who may open it."""
    endpoint, permission, label = PAGES.get(subject, ("", "", N_("Record %(number)s")))
    text = words or gettext(label, number=key)
    if not endpoint or not appbuilder.sm.has_access("can_show", permission):
        return Markup("{}").format(text)
    return Markup('<a href="{}">{}</a>').format(url_for(f"{endpoint}.show", pk=key), text)


def cause(session: Session, txn: Transaction) -> Markup | None:
    """The row that caused the transaction."""
    found = sources.cause_of(session, txn)
    return row_link(found.subject, found.id) if found else None


def deals(session: Session, txn_id: UUID, *, after: int | None, limit: int) -> Sequence[Deal]:
    """The deals whose results a transaction carries, by their number."""
    query = select(Deal).where(Deal.ledger_txn_id == txn_id).order_by(Deal.id).limit(limit)
    return session.scalars(query if after is None else query.where(Deal.id > after)).all()


def holds(session: Session, account: Account) -> list[HoldLine]:
    """The open holds on an account, with what each is for."""
    found = search.open_holds(session, account.id)
    if not found:
        return []
    causes: dict[UUID, Markup] = {}
    for model, subject in ((Withdrawal, "withdrawal"), (Transfer, "transfer"), (Payout, "payout")):
        rows = session.execute(
            select(model.hold_id, model.id).where(
                model.client_id == account.client_id, model.hold_id.in_([hold.id for hold in found])
            )
        )
        causes |= {row.hold_id: row_link(subject, row.id) for row in rows}
    return [HoldLine(hold, causes.get(hold.id)) for hold in found]


def about_account(session: Session, account: Account) -> list[tuple[str, Markup]]:
    """Whose account it is, and what it mirrors: name and link."""
    links = []
    client = session.get(Client, account.client_id) if account.client_id is not None else None
    if client is not None:
        links.append((gettext("Client"), client_link(client)))
    match account.code.split(":"):
        case ["mt", server, login, "balance", _] if login.isdecimal():
            query = select(TradingAccount.id).join(Server).where(Server.code == server, TradingAccount.login == int(login))
            key = session.scalar(query)
            if key is not None:
                links.append((gettext("Trading account"), row_link("trading_account", key, login)))
        case ["income", "trading", server, _]:
            key = session.scalar(select(Server.id).where(Server.code == server))
            if key is not None:
                links.append((gettext("Server"), row_link("mt_server", key, server)))
        case ["psp", connector, purpose, _]:
            view, permission = ("WithdrawalView", "All withdrawals") if purpose == "payouts" else ("DepositView", "Deposits")
            links.append((gettext("Connector"), _connector(connector, view, permission)))
        case ["expense", "psp_fees", connector, _]:
            links.append((gettext("Connector"), _connector(connector, "DepositView", "Deposits")))
    return links


def details(txn: Transaction) -> list[tuple[str, Any]]:
    """What the poster kept beside the legs, in words: name and value."""
    return [
        (_label(name), transaction_kind(value) if name == "of" and isinstance(value, str) else _detail(value))
        for name, value in txn.details.items()
    ]


def _label(name: str) -> str:
    return str(DETAILS.get(name) or name.replace("_", " ").capitalize())


def _detail(value: Any) -> Markup:
    """A value for people. What lies deeper, such as the rates that a conversion used, is one line each."""
    if isinstance(value, list):
        return Markup("").join(Markup("<div>{}</div>").format(_detail(item)) for item in value)
    if isinstance(value, dict):
        return Markup(" · ").join(Markup("{}: {}").format(_label(name), _detail(item)) for name, item in value.items())
    return Markup("{}").format(moment(at)) if (at := _moment(value)) else data(value)


def _moment(value: Any) -> datetime | None:
    """A moment as JSON has it, such as 2026-11-30T12:00:00+00:00; None for anything else."""
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) and "T" in value else None
    except ValueError:
        return None
    return at if at and at.tzinfo and 2000 <= at.year <= 2100 else None


def _connector(name: str, view: str, permission: str) -> Markup:
    """A connector's name; it leads to the payments that went through it."""
    if not appbuilder.sm.has_access("can_list", permission):
        return Markup("{}").format(name)
    address = url_for(f"{view}.list", _flt_3_connector=name)
    return Markup('<a href="{}">{}</a>').format(address, name)
