"""What happened to a client, in words: the facts of the event table that concern clients, and how each is said."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.errors import N_
from app.core.tables import Event
from app.surfaces.facts import Moment, Words, moment, types_of

#: See app/surfaces/facts.py.
WORDS: Words = {
    "client.registered": (N_("You registered"), "neutral"),
    "client.imported": (N_("Your account was taken over from our former system"), "neutral"),
    "client.verified": (N_("Mail address confirmed"), "success"),
    "client.approved": (N_("Documents complete: you can open live accounts"), "success"),
    "client.password_changed": (N_("Password changed"), "warning"),
    "client.profile_changed": (N_("Profile changed"), "neutral"),
    "session.revoked": (N_("Signed out on one device"), "neutral"),
    "document.uploaded:identity": (N_("Proof of identity sent"), "neutral"),
    "document.uploaded:address": (N_("Proof of address sent"), "neutral"),
    "document.approved:identity": (N_("Proof of identity approved"), "success"),
    "document.approved:address": (N_("Proof of address approved"), "success"),
    "document.rejected:identity": (N_("Proof of identity not accepted"), "danger"),
    "document.rejected:address": (N_("Proof of address not accepted"), "danger"),
    "account.requested": (N_("Trading account asked for"), "neutral"),
    "account.opened": (N_("Trading account %(login)s opened"), "success"),
    "account.failed": (N_("A trading account could not be opened"), "danger"),
    "account.topped_up": (N_("Practice money for account %(login)s asked for"), "neutral"),
    "account_change.done:leverage": (N_("Leverage of trading account %(login)s changed"), "success"),
    "account_change.done:group": (N_("Trading account %(login)s has other conditions now"), "success"),
    "account_change.done:main_password": (N_("New password for trading account %(login)s"), "warning"),
    "account_change.done:investor_password": (N_("New investor password for trading account %(login)s"), "warning"),
    "account_change.done:disable": (N_("Trading account %(login)s was disabled"), "danger"),
    "account_change.done:enable": (N_("Trading account %(login)s can be used again"), "success"),
    "account_change.done:archive": (N_("Trading account %(login)s closed"), "neutral"),
    "account_change.done:restore": (N_("Trading account %(login)s reopened"), "success"),
    "account_change.failed": (N_("A change of trading account %(login)s was not possible"), "danger"),
    "deposit.settled": (N_("Deposit of %(amount)s arrived in your wallet"), "success"),
    "deposit.failed": (N_("A deposit did not go through; nothing was credited"), "danger"),
    "transfer.done:to_account": (N_("%(amount)s moved to trading account %(login)s"), "success"),
    "transfer.done:to_wallet": (N_("%(amount)s moved from trading account %(login)s to your wallet"), "success"),
    "transfer.failed:to_account": (N_("A transfer did not go through; the money is in your wallet"), "danger"),
    "transfer.failed:to_wallet": (N_("A transfer did not go through; the money is on your trading account"), "danger"),
    "withdrawal.requested": (N_("Withdrawal of %(amount)s asked for"), "neutral"),
    "withdrawal.approved": (N_("Withdrawal of %(amount)s approved"), "neutral"),
    "withdrawal.rejected": (N_("Withdrawal of %(amount)s refused; the money is in your wallet"), "danger"),
    "withdrawal.cancelled": (N_("Withdrawal of %(amount)s cancelled; the money is in your wallet"), "neutral"),
    "withdrawal.paid": (N_("Withdrawal of %(amount)s paid out"), "success"),
    "withdrawal.failed": (N_("Withdrawal of %(amount)s failed; the money is back in your wallet"), "danger"),
    "conversion.done": (N_("%(sold)s converted into %(bought)s"), "success"),
    "commission.settled": (N_("Commission of %(amount)s settled"), "success"),
    "ib.currency_changed": (N_("Commission is paid in %(currency)s from now on, no longer in %(before)s"), "neutral"),
    "payout.requested": (N_("Payout of %(amount)s commission asked for"), "neutral"),
    "payout.cancelled": (N_("Payout of %(amount)s commission cancelled"), "neutral"),
    "payout.rejected": (N_("Payout of %(amount)s commission refused; you keep it as commission"), "danger"),
    "payout.moved": (N_("Commission of %(amount)s paid into your wallet"), "success"),
    "payout.failed": (N_("Commission of %(amount)s went no further than your wallet"), "warning"),
    "payout.reversed": (N_("Commission of %(amount)s taken back from your wallet"), "warning"),
    "ib.applied": (N_("You asked to become a partner"), "neutral"),
    "ib.application_approved": (N_("You are a partner now"), "success"),
    "ib.application_rejected": (N_("Your application as a partner was not accepted"), "danger"),
    "ib.application_withdrawn": (N_("You took your application as a partner back"), "neutral"),
    "partner_agreement.asked": (N_("We asked you to accept a new partner agreement"), "neutral"),
    "partner_agreement.accepted": (N_("You accepted the partner agreement"), "success"),
    "ticket.opened": (N_("You asked us a question"), "neutral"),
    "ticket.answered": (N_("We answered your question"), "success"),
    "ticket.closed": (N_("A question of yours was closed"), "neutral"),
}

_TYPES = types_of(WORDS)


def recent(session: Session, client_id: int, limit: int) -> list[Moment]:
    """The newest facts about a client that mean something to the client, newest first."""
    rows = session.scalars(
        select(Event).where(Event.client_id == client_id, Event.type.in_(_TYPES)).order_by(Event.id.desc()).limit(limit)
    )
    return [line for row in rows if (line := moment(row, WORDS)) is not None]
