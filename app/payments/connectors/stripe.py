"""Stripe: card deposits on its hosted Checkout page, and refunds of them.

Stripe pays nobody but the payer, so a withdrawal is a refund on the deposit's payment intent. Calls go through the
official `stripe` package (16.1.0), which is imported on first use: it costs some 30 MB.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from app.core import clock
from app.core.money import Money
from app.payments.connector import (
    AmountLimits,
    Capabilities,
    DepositRequest,
    Failed,
    MalformedCallback,
    NotSent,
    Outcome,
    Pending,
    ProviderEvent,
    RefundRequest,
    StartedDeposit,
    StartedRefund,
    Unknown,
)
from app.payments.connectors import stripe_signature
from app.payments.connectors.stripe_objects import (
    ATTEMPT,
    Unreadable,
    attempt_of,
    event_from,
    refund_outcome,
    session_outcome,
    to_wire,
)

if TYPE_CHECKING:
    from stripe import RequestOptions, StripeClient
    from stripe.params import RefundCreateParams
    from stripe.params.checkout import SessionCreateParams, SessionRetrieveParams

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 20.0
MAX_CALLBACK_BYTES = 512 * 1024

#: Stripe's smallest charge per currency (docs.stripe.com/currencies#minimum-and-maximum-charge-amounts), in minor units.
#: The largest has eight digits on the wire. A broker's own deposit limits lie within these.
_MINIMUM_MINOR = {
    **dict.fromkeys(("USD", "EUR", "CHF", "AUD", "CAD", "NZD", "SGD", "JPY"), 50),
    **dict.fromkeys(("NOK", "SEK"), 300),
    "GBP": 30,
    "PLN": 200,
    "DKK": 250,
    "HKD": 400,
    "MXN": 1000,
}
_MAXIMUM_MINOR = 99_999_999

CAPABILITIES = Capabilities(
    methods=("card",),
    limits={code: AmountLimits(Money(low, code), Money(_MAXIMUM_MINOR, code)) for code, low in _MINIMUM_MINOR.items()},
)

#: What Checkout speaks; in any other language the page follows the browser.
_LANGUAGES = frozenset(
    {"bg", "cs", "da", "de", "el", "en", "es", "et", "fi", "fr", "hr", "hu", "id", "it", "ja", "ko",
     "lt", "lv", "ms", "mt", "nb", "nl", "pl", "pt", "ro", "ru", "sk", "sl", "sv", "th", "tr", "vi", "zh"}
)  # fmt: skip

#: What the stripe package itself raises over some malformed answers (not UTF-8, an error that is no object).
_STUMBLES = (ValueError, TypeError, AttributeError, KeyError)


class StripeSettings(Protocol):
    """The settings this connector reads. The webhook secret may be two, with a comma between, while one is rotated."""

    @property
    def stripe_secret_key(self) -> str: ...
    @property
    def stripe_webhook_secret(self) -> str: ...
    @property
    def stripe_api_base(self) -> str: ...


def connect(settings: StripeSettings) -> StripeConnector:
    secrets = tuple(secret.strip() for secret in settings.stripe_webhook_secret.split(",") if secret.strip())
    return StripeConnector(settings.stripe_secret_key, secrets, api_base=settings.stripe_api_base)


class StripeConnector:
    """Implements Connector and Refunds."""

    name = "stripe"
    capabilities = CAPABILITIES

    def __init__(
        self,
        secret_key: str,
        webhook_secrets: tuple[str, ...],
        api_base: str = "",
        timeout_s: tuple[float, float] = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S),
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        """`api_base` is Stripe's own address when empty; `timeout_s` is (to connect, to read)."""
        self._secret_key = secret_key
        self._webhook_secrets = webhook_secrets
        self._api_base = api_base
        self._timeout_s = timeout_s
        self._now = now
        self._made: StripeClient | None = None

    def start_deposit(self, request: DepositRequest) -> StartedDeposit:
        self.capabilities.check(request.amount)
        params = _checkout(request)
        session = self._change(lambda: self._client.v1.checkout.sessions.create(params, _once(request.attempt_id)))
        if not isinstance(session, dict):
            return StartedDeposit(session)
        url, reference = session.get("url"), session.get("id")
        if not (isinstance(url, str) and isinstance(reference, str)):
            return StartedDeposit(Unknown("unreadable"))
        return StartedDeposit(Pending(str(session.get("payment_status") or "")), url, reference)

    def fetch_deposit(self, provider_reference: str) -> Outcome:
        expand: SessionRetrieveParams = {"expand": ["payment_intent.latest_charge.balance_transaction"]}
        session = self._read(lambda: self._client.v1.checkout.sessions.retrieve(provider_reference, expand))
        return _readable(session_outcome, session) if isinstance(session, dict) else session

    def start_refund(self, request: RefundRequest) -> StartedRefund:
        params: RefundCreateParams = {
            "payment_intent": request.payment_reference,
            "amount": to_wire(request.amount),
            "reason": "requested_by_customer",
            "metadata": {ATTEMPT: request.attempt_id},
        }
        refund = self._change(lambda: self._client.v1.refunds.create(params, _once(request.attempt_id)))
        return _started_refund(refund)

    def fetch_refund(self, request: RefundRequest, provider_reference: str | None = None) -> StartedRefund:
        if provider_reference:
            return _started_refund(self._read(lambda: self._client.v1.refunds.retrieve(provider_reference)))
        listed = self._read(lambda: self._client.v1.refunds.list({"payment_intent": request.payment_reference, "limit": 100}))
        if not isinstance(listed, dict):
            return StartedRefund(listed)
        refunds = [refund for refund in listed.get("data") or [] if attempt_of(refund) == request.attempt_id]
        if refunds:
            return _started_refund(refunds[0])
        # With more than a page of refunds, not seeing ours proves nothing.
        return StartedRefund(Unknown("too_many" if listed.get("has_more") else "absent"))

    def parse_callback(self, raw_body: bytes, headers: Mapping[str, str]) -> list[ProviderEvent]:
        # Size first: not even the hash of an endless body is worth computing.
        if len(raw_body) > MAX_CALLBACK_BYTES:
            raise MalformedCallback()
        header = next((value for key, value in headers.items() if key.lower() == "stripe-signature"), None)
        stripe_signature.verify(raw_body, header, self._webhook_secrets, self._now())
        return self.read_stored(raw_body)

    def read_stored(self, raw_body: bytes) -> list[ProviderEvent]:
        try:
            body = json.loads(raw_body.decode("utf-8"), parse_constant=_refuse)
            if not isinstance(body, dict):
                raise Unreadable("body")
            return [event_from(body)]
        except (ValueError, RecursionError):
            raise MalformedCallback() from None

    @property
    def _client(self) -> StripeClient:
        if self._made is None:
            import stripe

            # Left on, the package writes an id file to the home folder and sends the machine's platform with each call.
            stripe.enable_telemetry = False
            self._made = stripe.StripeClient(
                self._secret_key,
                base_addresses={"api": self._api_base.rstrip("/")} if self._api_base else None,
                http_client=stripe.RequestsClient(timeout=self._timeout_s),
                max_network_retries=0,  # repeating is the caller's, with the same attempt id and on the record
            )
        return self._made

    def _change(self, call: Callable[[], Any]) -> dict[str, Any] | Outcome:
        """Make a call that changes something at Stripe: its answer, or what is known about what it did."""
        import stripe

        try:
            return _plain(call())
        except stripe.APIConnectionError as error:
            return _no_connection(error)
        except (stripe.RateLimitError, stripe.AuthenticationError, stripe.PermissionError) as error:
            return NotSent(type(error).__name__)
        except (stripe.CardError, stripe.InvalidRequestError) as error:
            return Failed(error.code or "invalid_request", error.user_message or "")
        except (stripe.StripeError, *_STUMBLES) as error:
            # Server errors, unreadable answers, the key in use by a call still running or used before with other content.
            return Unknown(type(error).__name__)

    def _read(self, call: Callable[[], Any]) -> dict[str, Any] | Unknown:
        """Make a call that only reads: its answer, or why there is none. Trouble in asking decides nothing."""
        import stripe

        try:
            return _plain(call())
        except stripe.InvalidRequestError as error:
            return Unknown("absent" if error.http_status == 404 else type(error).__name__)
        except (stripe.StripeError, *_STUMBLES) as error:
            return Unknown(type(error).__name__)


def _checkout(request: DepositRequest) -> SessionCreateParams:
    marks = {ATTEMPT: request.attempt_id}
    params: SessionCreateParams = {
        "mode": "payment",
        "client_reference_id": request.attempt_id,
        "metadata": marks,
        "payment_intent_data": {"metadata": marks},
        "allowed_payment_method_types": ["card"],
        "line_items": [
            {
                "quantity": 1,
                "price_data": {
                    "currency": request.amount.currency.lower(),
                    "unit_amount": to_wire(request.amount),
                    "product_data": {"name": request.description},
                },
            }
        ],
        # The client is charged in the wallet's own currency, or we would credit another sum than was asked for.
        "adaptive_pricing": {"enabled": False},
        "success_url": request.return_url,
        "cancel_url": request.cancel_url,
        "locale": request.language if request.language in _LANGUAGES else "auto",
    }
    if request.email:
        params["customer_email"] = request.email
    return params


def _once(attempt_id: str) -> RequestOptions:
    return {"idempotency_key": attempt_id}


def _no_connection(error: Exception) -> NotSent | Unknown:
    """NotSent where the connection was never made; with any other network trouble Stripe may have heard us."""
    import requests
    from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError

    cause = error.__cause__
    if isinstance(cause, requests.exceptions.ConnectTimeout):
        return NotSent("connect_timeout")
    if isinstance(cause, requests.exceptions.ReadTimeout):
        return Unknown("timeout")
    inner = cause.args[0] if cause is not None and cause.args else None
    reason = inner.reason if isinstance(inner, MaxRetryError) else inner
    if isinstance(reason, NewConnectionError | ConnectTimeoutError):
        return NotSent("no_connection")
    return Unknown("connection_lost")


def _plain(answer: Any) -> dict[str, Any]:
    """The answer as parsed JSON; empty, and so unreadable to the mappings, where it is JSON but no object of Stripe's."""
    from stripe import StripeObject

    return answer.to_dict() if isinstance(answer, StripeObject) else {}


def _started_refund(refund: dict[str, Any] | Outcome) -> StartedRefund:
    if not isinstance(refund, dict):
        return StartedRefund(refund)
    reference = refund.get("id")
    return StartedRefund(_readable(refund_outcome, refund), reference if isinstance(reference, str) else None)


def _readable(mapping: Callable[[dict[str, Any]], Outcome], answer: dict[str, Any]) -> Outcome:
    try:
        return mapping(answer)
    except Unreadable:
        return Unknown("unreadable")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
