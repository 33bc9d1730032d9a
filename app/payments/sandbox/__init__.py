"""A Stripe-compatible sandbox for development, the demo and the tests: no real money, no network.

It speaks Stripe's API over HTTP as far as the connector uses it, shows a checkout page for test cards and sends signed
webhooks. It shares no code with the connector, so that each checks the other. Never runs in production.
"""

from app.payments.sandbox.server import Sandbox, run

__all__ = ["Sandbox", "run"]
