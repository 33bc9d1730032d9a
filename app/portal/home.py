"""The start page: the one next thing to do, the wallets, and what happened lately."""

from __future__ import annotations

from dataclasses import dataclass

from flask import g, render_template
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from sqlalchemy import select

from app.compliance.documents import documents_of
from app.extensions import db
from app.models.compliance import DOCUMENT_KINDS, Document
from app.models.metatrader import TradingAccount
from app.models.payments import Deposit
from app.portal.guards import client_required, portal
from app.portal.money import balances
from app.portal.timeline import recent

EVENTS = 8


@dataclass(frozen=True)
class Progress:
    """Where the client stands on the way in. `next_step` is one of verify, documents, wait, account, deposit, or done."""

    next_step: str
    steps: list[dict[str, str]]
    rejected: list[Document]


@portal.get("/")
@client_required
def home() -> ResponseReturnValue:
    return render_template("portal/home.html", **_overview())


@portal.get("/overview")
@client_required
def overview() -> ResponseReturnValue:
    """The part of the page that changes by itself."""
    return render_template("portal/home_live.html", **_overview())


def _overview() -> dict[str, object]:
    wallets = balances()
    return {
        "progress": progress(has_wallet=bool(wallets)),
        "balances": wallets,
        "events": recent(db.session(), g.client.id, EVENTS),
    }


def progress(*, has_wallet: bool) -> Progress:
    """What is done and what comes next; each step waits for the one before it."""
    session, client = db.session(), g.client
    proofs = documents_of(session, client.id)
    sent = {kind for kind, document in proofs.items() if document.status in ("pending", "approved")}
    account = select(TradingAccount.id).where(TradingAccount.client_id == client.id, TradingAccount.status != "failed")
    paid_in = select(Deposit.id).where(Deposit.client_id == client.id, Deposit.settled_minor.is_not(None))
    is_approved = client.status == "approved"
    done = {
        "verify": client.email_verified_at is not None,
        "documents": is_approved or sent == set(DOCUMENT_KINDS),
        "wait": is_approved,
        "account": session.scalar(account.limit(1)) is not None,
        "deposit": has_wallet or session.scalar(paid_in.limit(1)) is not None,
    }
    next_step = next((step for step, is_done in done.items() if not is_done), "done")
    labels = {
        "verify": gettext("Confirm your mail address"),
        "documents": gettext("Send two documents"),
        "wait": gettext("We check them"),
        "account": gettext("Open a trading account"),
        "deposit": gettext("Deposit"),
    }
    steps = [
        {"label": label, "state": "done" if done[step] else "current" if step == next_step else "todo"}
        for step, label in labels.items()
    ]
    return Progress(next_step, steps, [document for document in proofs.values() if document.status == "rejected"])
