"""What a payment connector is: a small protocol, and the frozen values that travel through it.

A connector translates between our words and one provider's. It keeps nothing, touches no database and decides nothing
about a client's money: the caller stores, locks, posts and repeats.

Three rules hold for every connector:

* Our attempt id goes into every call (as idempotency key and as metadata) and stays the same when a call is repeated.
* What is not recognised is `Pending`. Only the provider's own clear word makes `Settled` or `Failed`.
* No answer is `Unknown`, never `Failed`: the provider may have acted. `NotSent` is said only where nothing can have happened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol, runtime_checkable

from app.core.errors import N_, AppError, InvalidInput
from app.core.money import Money

#: The code of a Failed outcome that means: nobody paid in time, or the client turned back.
EXPIRED = "expired"


@dataclass(frozen=True)
class Settled:
    """The provider processed the money. `amount` is what it says it processed: credit this, not what was asked for."""

    amount: Money
    fee: Money | None = None  # in the currency of our account with the provider; None while the provider has not said
    payment_reference: str | None = None  # what a refund of this payment names
    card_fingerprint: str | None = None  # the provider's own, the same for the same card; never the number


@dataclass(frozen=True)
class Failed:
    """The provider's final no. `code` is for machines, `words` are the provider's, for staff."""

    code: str
    words: str = ""


@dataclass(frozen=True)
class Pending:
    """The provider knows the attempt and has not decided, or said something we do not recognise."""

    status: str = ""


@dataclass(frozen=True)
class Unknown:
    """We do not know what the provider did. `cause` is for staff, such as "timeout" or "absent" (it knows no such thing)."""

    cause: str


@dataclass(frozen=True)
class NotSent:
    """This call did nothing at the provider: it never left, or was turned away at the door. It may be repeated as it was."""

    cause: str


Outcome = Settled | Failed | Pending | Unknown | NotSent


@dataclass(frozen=True)
class AmountLimits:
    """The smallest and largest amount the provider takes in one currency, both included."""

    minimum: Money
    maximum: Money


@dataclass(frozen=True)
class Capabilities:
    """What a connector offers: payment methods, and the currencies with their limits."""

    methods: tuple[str, ...]
    limits: Mapping[str, AmountLimits]

    @property
    def currencies(self) -> frozenset[str]:
        return frozenset(self.limits)

    def check(self, amount: Money) -> None:
        """Raise UnsupportedAmount when the provider would not take this amount."""
        limits = self.limits.get(amount.currency)
        if limits is None:
            raise UnsupportedAmount(message=N_("This payment method does not take %(currency)s."), currency=amount.currency)
        if not limits.minimum <= amount <= limits.maximum:
            raise UnsupportedAmount(minimum=str(limits.minimum), maximum=str(limits.maximum))


@dataclass(frozen=True)
class DepositRequest:
    """A client wants to pay in. A repeated request must be equal in every field: providers refuse the same key otherwise."""

    attempt_id: str
    amount: Money
    description: str  # what the client reads on the provider's page
    return_url: str  # where the browser goes after paying; for display only, nothing is credited there
    cancel_url: str
    email: str | None = None
    language: str | None = None


@dataclass(frozen=True)
class StartedDeposit:
    """The answer to a deposit request. With a Pending outcome, `redirect_url` and `provider_reference` are both set."""

    outcome: Outcome
    redirect_url: str | None = None
    provider_reference: str | None = None


@dataclass(frozen=True)
class RefundRequest:
    """Pay back part or all of a settled payment. Same rule as for deposits: a repeat is equal in every field."""

    attempt_id: str
    payment_reference: str
    amount: Money


@dataclass(frozen=True)
class StartedRefund:
    """The state of a refund. `provider_reference` is set as soon as the provider has named it."""

    outcome: Outcome
    provider_reference: str | None = None


@dataclass(frozen=True)
class ProviderEvent:
    """One event of a verified callback, in our words.

    `kind` says what it is about: our deposit; a refund; money taken back by the payer's bank (chargeback) or given back
    again (chargeback_reversed); or nothing we act on (ignored: store it, do no more). `attempt_id` is None for what was not
    started by us, such as a refund made by hand at the provider. For chargebacks the outcome's amount is what moved.
    """

    event_id: str
    type: str  # the provider's own word
    kind: Literal["deposit", "refund", "chargeback", "chargeback_reversed", "ignored"]
    fingerprint: bytes  # SHA-256 of the content: the same id with another fingerprint is an error, not a repeat
    occurred_at: datetime
    attempt_id: str | None = None
    provider_reference: str | None = None
    payment_reference: str | None = None
    outcome: Outcome = field(default_factory=Pending)
    payload: Mapping[str, Any] = field(default_factory=dict)  # the few fields staff may want to see; no personal data


class Connector(Protocol):
    """Takes deposits through one provider. Implementations are stateless and safe to use from several threads."""

    @property
    def name(self) -> str: ...

    @property
    def capabilities(self) -> Capabilities: ...

    def start_deposit(self, request: DepositRequest) -> StartedDeposit:
        """Ask the provider for a page where the client pays. No money moves in here.

        Repeating an equal request finds what the first call made, for as long as the provider remembers the key.
        Raises UnsupportedAmount before anything is sent.
        """

    def fetch_deposit(self, provider_reference: str) -> Outcome:
        """Ask the provider how a deposit stands. Trouble in asking is `Unknown`; it changes nothing about the deposit."""

    def parse_callback(self, raw_body: bytes, headers: Mapping[str, str]) -> list[ProviderEvent]:
        """Verify the raw bytes, then translate. Raises BadSignature or MalformedCallback. Touches nothing outside."""

    def read_stored(self, raw_body: bytes) -> list[ProviderEvent]:
        """Translate a body that `parse_callback` accepted before and the caller kept: its signature may be old by now."""


@runtime_checkable
class Refunds(Protocol):
    """Optional ability: pay back a settled deposit, in whole or in part."""

    def start_refund(self, request: RefundRequest) -> StartedRefund:
        """Ask for a refund. Repeating an equal request finds the first refund and makes no second one, for as long as the
        provider remembers the key; so when the outcome was unknown for long, look with `fetch_refund` first.
        """

    def fetch_refund(self, request: RefundRequest, provider_reference: str | None = None) -> StartedRefund:
        """How this refund stands, found by the provider's reference or, where we never learned it, by our attempt id.

        `Unknown("absent")` means that the provider shows no such refund; an earlier call may still be on its way, so
        the only safe next step is to repeat `start_refund` with the equal request.
        """


class BadSignature(AppError):
    """The callback is not from the provider, is too old, or comes from a clock far ahead."""

    code = "payments.bad_signature"
    http_status = 403
    message = N_("The signature of this callback is not valid.")


class MalformedCallback(AppError):
    """The callback is signed, but is not in the provider's form: too large, cut off, not JSON, fields missing."""

    code = "payments.malformed_callback"
    http_status = 400
    message = N_("This callback cannot be read.")


class ConflictingEvent(AppError):
    """An event id came again with other content."""

    code = "payments.conflicting_event"
    http_status = 409
    message = N_("An event with this id and other content was received before.")


class UnsupportedAmount(InvalidInput):
    code = "payments.unsupported_amount"
    message = N_("This payment method takes amounts from %(minimum)s to %(maximum)s.")
