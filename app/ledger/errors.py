"""What the ledger refuses, as errors a person can read, and how the database's refusals become them.

The functions in sql/ raise SQLSTATE codes of the class LG; constraints speak by their names. Both are mapped here, once.
After any of these the database transaction is spent: let the error leave the unit of work, nothing was posted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy.exc import DataError, DBAPIError

from app.core.errors import N_, AppError, InvalidInput, map_constraint, map_sqlstate, typed


class LedgerError(AppError):
    """The root of the ledger's refusals."""

    code = "ledger.refused"
    http_status = 409


class InvalidPosting(LedgerError):
    """A leg without a positive amount."""

    code = "ledger.invalid_posting"
    http_status = 422
    message = N_("This movement of money is not valid: each amount must be greater than zero. Nothing was posted.")


class AccountTwice(InvalidPosting):
    code = "ledger.account_twice"
    message = N_("One account stands in this movement twice. Nothing was posted.")


class UnusableText(InvalidPosting):
    """A key, name, reason or detail that no column holds: empty, too long, with a NUL or half a character."""

    code = "ledger.unusable_text"
    message = N_("A text in this request is empty, too long, or has characters that cannot be kept. Nothing was posted.")


class AmountTooLarge(LedgerError):
    code = "ledger.amount_too_large"
    http_status = 422
    message = N_("This amount is too large.")


class TooManyLegs(LedgerError):
    code = "ledger.too_many_legs"
    http_status = 422
    message = N_("One transaction can touch 200 accounts at most. Split it into several.")


class UnbalancedTransaction(LedgerError):
    code = "ledger.unbalanced"
    http_status = 422
    message = N_("Debits and credits differ in at least one currency. Nothing was posted.")


class IdempotencyConflict(LedgerError):
    code = "ledger.idempotency_conflict"
    message = N_("This request was made before with other content. Nothing was changed.")


class InsufficientFunds(LedgerError):
    code = "ledger.insufficient_funds"
    message = N_("Your balance is not enough for this.")


class CurrencyMismatch(LedgerError):
    code = "ledger.currency_mismatch"
    http_status = 422
    message = N_("This account is kept in another currency.")


class UnknownAccount(LedgerError):
    code = "ledger.unknown_account"
    http_status = 404
    message = N_("There is no such account in the ledger.")


class AccountClosed(LedgerError):
    code = "ledger.account_closed"
    message = N_("This account is closed.")


class AccountNotEmpty(LedgerError):
    code = "ledger.account_not_empty"
    message = N_("Only an account without balance and reservations can be closed.")


class AccountMismatch(LedgerError):
    """The account, or its currency, was opened before with another nature than now asked for."""

    code = "ledger.account_mismatch"
    message = N_("This account was opened before with other properties.")


class PeriodClosed(LedgerError):
    code = "ledger.period_closed"
    message = N_("The books are closed for this date.")


class MomentOutOfRange(LedgerError):
    """A movement from before there were markets in currencies, or of a day that is still to come."""

    code = "ledger.moment_out_of_range"
    http_status = 422
    message = N_("This date is not possible: it must lie between 1970 and tomorrow. Nothing was posted.")


class PeriodNotOver(LedgerError):
    code = "ledger.period_not_over"
    http_status = 422
    message = N_("Only a period that is over can be closed.")


class UnknownTransaction(LedgerError):
    code = "ledger.unknown_transaction"
    http_status = 404
    message = N_("There is no such transaction in the ledger.")


class AlreadyReversed(LedgerError):
    code = "ledger.already_reversed"
    message = N_("This transaction was reversed before.")


class ReversalMismatch(LedgerError):
    code = "ledger.reversal_mismatch"
    http_status = 422
    message = N_("A reversal must mirror the transaction that it reverses.")


class UnknownHold(LedgerError):
    code = "ledger.unknown_hold"
    http_status = 404
    message = N_("There is no such reservation.")


class HoldAlreadyResolved(LedgerError):
    code = "ledger.hold_already_resolved"
    message = N_("This reservation has ended already. Nothing was changed.")


class HoldNotDue(LedgerError):
    code = "ledger.hold_not_due"
    message = N_("This reservation has not come to its end.")


class CaptureMismatch(LedgerError):
    """The legs take nothing from the held account, or more than was held."""

    code = "ledger.capture_mismatch"
    http_status = 422
    message = N_("A reservation can be used up to its amount, not beyond.")


class JournalSealed(LedgerError):
    """Somebody tried to change or remove what is written, or to add to a finished transaction."""

    code = "ledger.sealed"
    message = N_("What is in the ledger stays as it is. Correct it by a reversal.")


class OwnRequest(LedgerError):
    """Four eyes: who asked for something in the ledger does not decide it."""

    code = "ledger.own_request"
    message = N_("You proposed this yourself, so somebody else must decide it. Nothing was changed.")


class NotYourRequest(LedgerError):
    code = "ledger.not_your_request"
    message = N_("Only who proposed a request can withdraw it. Nothing was changed.")


class RequestDecided(LedgerError):
    """Somebody came first. `data` has by and at."""

    code = "ledger.request_decided"
    message = N_("%(by)s decided this request before you, at %(at)s UTC. Nothing was changed by you.")
    messages = {
        "approved": N_("%(by)s approved this request before you, at %(at)s UTC. Nothing was changed by you."),
        "rejected": N_("%(by)s rejected this request before you, at %(at)s UTC. Nothing was changed by you."),
        "withdrawn": N_("%(by)s withdrew this request, at %(at)s UTC. Nothing was changed by you."),
        "cancelled": N_("%(by)s approved this request, at %(at)s UTC, and it was cancelled since. Nothing was changed by you."),
    }


class ReversalRequested(LedgerError):
    code = "ledger.reversal_requested"
    message = N_("Somebody has asked already to reverse this transaction, and the request waits for a decision.")


class RefusedRequest(InvalidInput):
    """All that is wrong with a request. `faults` has the errors by field, such as "reason" or "legs-0-amount"."""

    code = "ledger.request_refused"
    message = N_("Please check the marked fields. Nothing was stored, nothing was posted.")

    def __init__(self, faults: Mapping[str, Sequence[AppError]]) -> None:
        super().__init__({field: " ".join(map(str, errors)) for field, errors in faults.items() if errors})
        self.faults = {field: list(errors) for field, errors in faults.items() if errors}


class NotPostable(RefusedRequest):
    """A request that was in order once cannot be carried out now; it stays as it is."""

    code = "ledger.not_postable"
    http_status = 409
    message = N_("This cannot be carried out now. Nothing was posted, the request still waits.")


class StatementRefused(LedgerError):
    """A file of a bank or provider that cannot be taken. `problems` are those of app.ledger.external_formats."""

    code = "ledger.statement_refused"
    http_status = 422
    message = N_("This file was not imported. What is wrong with it stands below; nothing was stored.")

    def __init__(self, problems: Sequence[Any] = (), *, problem_count: int = 0, message: str | None = None) -> None:
        super().__init__(message)
        self.problems, self.problem_count = tuple(problems), problem_count


class StatementKnown(LedgerError):
    """The same file was imported before, as statement `statement_id` (None when that happened at this moment)."""

    code = "ledger.statement_known"
    message = N_("This very file was imported before. Nothing was stored again.")

    def __init__(self, statement_id: int | None = None) -> None:
        super().__init__()
        self.statement_id = statement_id


class LineMatched(LedgerError):
    """Somebody came first. `data` has by."""

    code = "ledger.line_matched"
    message = N_("%(by)s matched this line before you. Nothing was changed by you.")


class LineNotMatched(LedgerError):
    code = "ledger.line_not_matched"
    message = N_("This line is not matched any more. Nothing was changed by you.")


class EntryMatched(LedgerError):
    code = "ledger.entry_matched"
    message = N_("This entry was matched with another line before you. Nothing was changed by you.")


class EntryDiffers(LedgerError):
    code = "ledger.entry_differs"
    http_status = 422
    message = N_("A line and its entry must have the same account, amount and direction. Nothing was changed.")


class NotAReceipt(LedgerError):
    code = "ledger.not_a_receipt"
    http_status = 422
    message = N_("Only money that came in can be put into suspense. Money that left needs an adjustment request.")


class SuspenseStands(LedgerError):
    """What put the receipt into suspense is in the books; undoing the match alone would let it be booked again."""

    code = "ledger.suspense_stands"
    message = N_("This receipt is booked in suspense. Ask for the reversal of that transaction first.")


class SuspenseReversed(LedgerError):
    code = "ledger.suspense_reversed"
    message = N_("This receipt was in suspense before, and that was reversed. Match it, or propose an adjustment for it.")


class NoRate(LedgerError):
    """No way leads from one currency to the other. `data` has base and quote."""

    code = "fx.no_rate"
    message = N_("There is no exchange rate from %(base)s to %(quote)s at present. Nothing was changed.")


class StaleRate(NoRate):
    """What is known is too old to convert by. `data` has base, quote and observed_at (UTC, as text)."""

    code = "fx.stale_rate"
    message = N_(
        "The last exchange rate from %(base)s to %(quote)s is from %(observed_at)s UTC and too old to convert by. "
        "Please try again later; nothing was changed."
    )


class ConversionNotAllowed(LedgerError):
    code = "fx.client_not_approved"
    message = N_("Please have your documents approved first. Nothing was changed.")


class QuoteExpired(LedgerError):
    code = "fx.quote_expired"
    message = N_("This offer has expired. Please ask for a new one; nothing was converted.")


class AmountTooSmall(InvalidInput):
    """The amount, or what it would become, is less than the smallest unit there is."""

    code = "fx.amount_too_small"
    message = N_("This amount is too small to convert. Nothing was changed.")


class SettlementStopped(LedgerError):
    """The newest run of the proofs found a break. `data` has run (its number) and proofs (such as "P2, P6")."""

    code = "ledger.settlement_stopped"
    message = N_("Settlements are stopped: run %(run)s of the ledger's proofs found a break (%(proofs)s). Nothing was posted.")


class ProofsRunning(LedgerError):
    code = "ledger.proofs_running"
    message = N_("The proofs of the ledger are running already. Please wait for their result.")


class AlertClosed(LedgerError):
    code = "ledger.alert_closed"
    message = N_("This alert has closed in the meantime: what it told of is gone.")


_SQLSTATES: dict[str, type[AppError]] = {
    "LG001": InvalidPosting,
    "LG002": IdempotencyConflict,
    "LG003": UnbalancedTransaction,
    "LG004": AccountClosed,
    "LG005": UnknownAccount,
    "LG006": JournalSealed,
    "LG007": PeriodClosed,
    "LG008": CurrencyMismatch,
    "LG009": HoldAlreadyResolved,
    "LG010": TooManyLegs,
    "LG011": UnknownHold,
    "LG012": ReversalMismatch,
    "LG013": CaptureMismatch,
    "LG014": HoldNotDue,
    "LG015": AccountNotEmpty,
    "LG016": MomentOutOfRange,
}
_CONSTRAINTS: dict[str, type[AppError]] = {
    "sufficient_funds": InsufficientFunds,
    "uq_txn_reverses": AlreadyReversed,
    "fk_txn_reverses": UnknownTransaction,
    "uq_entry_txn_id_account_id": AccountTwice,
    "ck_hold_idempotency_key": UnusableText,
    "ck_hold_positive": InvalidPosting,
    "ck_period_close_past": PeriodNotOver,
    "uq_external_statement_sha256": StatementKnown,
    "uq_external_line_account_id_account_version": EntryMatched,
    "ck_ledger_request_four_eyes": OwnRequest,
    "ck_fx_rate_proposal_four_eyes": OwnRequest,
    "uq_ledger_request_reverses_open": ReversalRequested,
}
for _sqlstate, _error in _SQLSTATES.items():
    map_sqlstate(_sqlstate, _error)
for _constraint, _error in _CONSTRAINTS.items():
    map_constraint(_constraint, _error)

#: PostgreSQL's own codes, which mean this only inside the ledger's functions: bigint overflow, text that a column or JSON
#: cannot hold.
_HERE: dict[str, type[AppError]] = {
    "22003": AmountTooLarge,
    "22001": UnusableText,
    "22P02": UnusableText,
    "22P05": UnusableText,
}


@contextmanager
def typed_errors() -> Iterator[None]:
    """Let database errors of the block leave as the ledger's typed errors; unmapped ones leave as they are."""
    try:
        yield
    except (DBAPIError, UnicodeEncodeError) as error:
        meant = _meant(error)
        if meant is None:
            raise
        raise meant from error


def _meant(error: DBAPIError | UnicodeEncodeError) -> AppError | None:
    if isinstance(error, UnicodeEncodeError):  # half a character, which only Python's texts can have
        return UnusableText()
    sqlstate = getattr(error.orig, "sqlstate", None)
    if sqlstate is None and isinstance(error, DataError):  # the driver's own: a NUL
        return UnusableText()
    return typed(error) or (_HERE[sqlstate]() if sqlstate in _HERE else None)
