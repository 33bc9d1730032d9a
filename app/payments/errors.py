"""Errors of deposits, withdrawals and transfers that a client or staff member may read."""

from __future__ import annotations

from typing import Any

from app.core.errors import N_, Conflict, InvalidInput


class AlreadyDecided(Conflict):
    """Somebody else decided first; this decision changed nothing."""

    code = "payments.already_decided"
    message = N_("This request was already decided: it is %(state)s. Your click changed nothing.")


class OwnRequest(Conflict):
    code = "payments.own_request"
    message = N_("You asked for this yourself, so somebody else must decide. Nothing was changed.")


class NotRefundable(InvalidInput):
    code = "payments.not_refundable"
    message = N_(
        "We can return at most %(most)s to one of your earlier payments. Please ask for less, or for several withdrawals."
    )


class NoPaymentToRefund(InvalidInput):
    code = "payments.no_payment_to_refund"
    message = N_("We pay out to the card you paid in with, and there is no such payment in this currency yet.")


class ClientNotApproved(Conflict):
    code = "payments.client_not_approved"
    message = N_("Please have your documents approved first. Nothing was changed.")


class KeyReused(Conflict):
    """The key of an earlier request came with other content: that one stands, and this one is not it."""

    code = "payments.key_reused"
    message = N_(
        "You have sent this form before with other values, and that request stands. "
        "If you want this one as well, please press the button again."
    )


class AccountNotReady(Conflict):
    code = "payments.account_not_ready"
    message = N_("This trading account is not open yet. Nothing was changed.")


class WrongCurrency(InvalidInput):
    code = "payments.wrong_currency"
    message = N_("The wallet and the trading account have different currencies. Please convert first.")


class NotEnoughOnAccount(InvalidInput):
    code = "payments.not_enough_on_account"
    message = N_("This trading account does not have that much. Nothing was moved.")


class ReasonMissing(InvalidInput):
    code = "payments.reason_missing"
    message = N_("Please write a reason that the client can understand.")


def check_same(known: Any, **wanted: Any) -> None:
    """Whether a request that was found by its key is the one that is asked for now. Raises KeyReused."""
    if any(getattr(known, name) != value for name, value in wanted.items()):
        raise KeyReused()
