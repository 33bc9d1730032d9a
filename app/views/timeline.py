"""What happened to a client, in words for staff: every fact that concerns the client, newest first."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.errors import N_
from app.core.tables import Event
from app.surfaces.facts import Moment, Words, moment
from app.views.columns import person

WORDS: Words = {
    "client.registered": (N_("Registered"), "neutral"),
    "client.imported": (N_("Taken over from the former system"), "neutral"),
    "client.verified": (N_("Mail address confirmed"), "success"),
    "client.approved": (N_("Approved: documents complete"), "success"),
    "client.attributed": (N_("Came through an introducing broker"), "neutral"),
    "client.moved": (N_("Moved to another introducing broker, or from one to nobody"), "neutral"),
    "client.move_cancelled": (N_("The move to another introducing broker was cancelled before its moment"), "neutral"),
    "partner_agreement.asked": (N_("Asked to accept a new partner agreement"), "neutral"),
    "partner_agreement.accepted": (N_("Accepted the partner agreement"), "success"),
    "ib_terms.begun": (N_("New terms as an introducing broker"), "neutral"),
    "client.password_changed": (N_("Password changed"), "warning"),
    "client.password_reset_requested": (N_("Link for a new password asked for"), "neutral"),
    "client.profile_changed": (N_("Profile changed"), "neutral"),
    "client.register_repeated": (N_("Somebody tried to register with this mail address again"), "warning"),
    "client.verification_requested": (N_("New link to confirm the mail address asked for"), "neutral"),
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
    "account.bound": (N_("Trading account %(login)s bound to this client"), "success"),
    "account.unbound": (N_("Trading account %(login)s taken from this client"), "warning"),
    "account_change.requested:leverage": (N_("Another leverage for account %(login)s asked for"), "neutral"),
    "account_change.requested:group": (N_("Another group for account %(login)s asked for"), "neutral"),
    "account_change.requested:main_password": (N_("New main password for account %(login)s asked for"), "neutral"),
    "account_change.requested:investor_password": (N_("New investor password for account %(login)s asked for"), "neutral"),
    "account_change.requested:disable": (N_("Disabling account %(login)s asked for"), "neutral"),
    "account_change.requested:enable": (N_("Enabling account %(login)s asked for"), "neutral"),
    "account_change.requested:archive": (N_("Archiving account %(login)s asked for"), "neutral"),
    "account_change.requested:restore": (N_("Restoring account %(login)s asked for"), "neutral"),
    "account_change.done:leverage": (N_("Leverage of account %(login)s changed"), "success"),
    "account_change.done:group": (N_("Account %(login)s moved to another group"), "success"),
    "account_change.done:main_password": (N_("New main password for account %(login)s"), "success"),
    "account_change.done:investor_password": (N_("New investor password for account %(login)s"), "success"),
    "account_change.done:disable": (N_("Account %(login)s disabled"), "warning"),
    "account_change.done:enable": (N_("Account %(login)s enabled"), "success"),
    "account_change.done:archive": (N_("Account %(login)s archived"), "neutral"),
    "account_change.done:restore": (N_("Account %(login)s restored"), "success"),
    "account_change.failed": (N_("A change of account %(login)s failed"), "danger"),
    "account.password_shown": (N_("Password of a trading account shown, once"), "neutral"),
    "deposit.started": (N_("Deposit of %(amount)s started"), "neutral"),
    "deposit.settled": (N_("Deposit of %(amount)s settled"), "success"),
    "deposit.failed": (N_("A deposit failed"), "danger"),
    "deposit.amount_differs": (N_("The provider processed another amount than was asked for"), "warning"),
    "transfer.requested:to_account": (N_("Transfer of %(amount)s to a trading account asked for"), "neutral"),
    "transfer.requested:to_wallet": (N_("Transfer of %(amount)s to the wallet asked for"), "neutral"),
    "transfer.done:to_account": (N_("%(amount)s moved to trading account %(login)s"), "success"),
    "transfer.done:to_wallet": (N_("%(amount)s moved from trading account %(login)s to the wallet"), "success"),
    "transfer.failed": (N_("A transfer did not go through"), "danger"),
    "withdrawal.requested": (N_("Withdrawal of %(amount)s asked for"), "neutral"),
    "withdrawal.approved": (N_("Withdrawal of %(amount)s approved"), "neutral"),
    "withdrawal.rejected": (N_("Withdrawal of %(amount)s rejected"), "danger"),
    "withdrawal.cancelled": (N_("Withdrawal of %(amount)s cancelled by the client"), "neutral"),
    "withdrawal.paid": (N_("Withdrawal of %(amount)s paid out"), "success"),
    "withdrawal.failed": (N_("Withdrawal of %(amount)s failed; the money is back in the wallet"), "danger"),
    "withdrawal.amount_differs": (N_("The provider paid out another amount than was asked for"), "warning"),
    "conversion.done": (N_("%(sold)s converted into %(bought)s"), "success"),
    "commission.settled": (N_("Commission of %(amount)s settled"), "success"),
    "ib.currency_changed": (N_("Commission is paid in %(currency)s from now on, no longer in %(before)s"), "neutral"),
    "payout.requested": (N_("Payout of %(amount)s commission asked for"), "neutral"),
    "payout.proposed": (N_("Payout of %(amount)s commission proposed"), "neutral"),
    "payout.cancelled": (N_("Payout of %(amount)s commission cancelled by the IB"), "neutral"),
    "payout.approved": (N_("Payout of %(amount)s commission approved"), "neutral"),
    "payout.held": (N_("Payout of %(amount)s commission held back"), "warning"),
    "payout.rejected": (N_("Payout of %(amount)s commission rejected"), "danger"),
    "payout.moved": (N_("Commission of %(amount)s paid into the wallet"), "success"),
    "payout.sent_on": (N_("Commission of %(amount)s on its way from the wallet"), "neutral"),
    "payout.paid": (N_("Payout of %(amount)s commission complete"), "success"),
    "payout.failed": (N_("Payout of %(amount)s commission went no further than the wallet"), "warning"),
    "payout.reversed": (N_("Payout of %(amount)s commission taken back from the wallet"), "warning"),
    "ticket.opened": (N_("Asked a question"), "neutral"),
    "ticket.written": (N_("Wrote again to a question"), "neutral"),
    "ticket.answered": (N_("Question answered"), "success"),
    "ticket.closed": (N_("Question closed"), "neutral"),
}


def recent(session: Session, client_id: int, limit: int) -> list[Moment]:
    """The newest facts about a client. A fact without words stands under its technical name rather than being left out."""
    rows = session.scalars(select(Event).where(Event.client_id == client_id).order_by(Event.id.desc()).limit(limit))
    return [replace(moment(row, WORDS) or _unnamed(row), actor=person(row.actor)) for row in rows]


def _unnamed(event: Event) -> Moment:
    words = event.type.replace(".", " ").replace("_", " ").capitalize()
    return Moment(event.occurred_at, words, "", "neutral")
