"""Which currencies a client can convert into: those that the client, or the house, has a use for."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.clock import now
from app.core.money import InvalidMoney, exponent, parent
from app.ledger import rates
from app.models.fx import FXPair
from app.models.ledger import Account
from app.models.metatrader import Product


def offered(session: Session, client_id: int, sold: Iterable[str], always: Iterable[str] = ()) -> list[str]:
    """The currencies that some currency of `sold` can be converted into, by code.

    Candidates are those that trading accounts can be opened in, those of the client's wallets, those that the house has set a
    spread for, and `always` (what is paid in and out). Of these, whatever a rate is known for, too old or not: that one is too
    old at present is said when somebody asks for it. Cent accounts are filled from their parent's wallet, so that nobody needs
    a wallet in cents.
    """
    of_products = session.scalars(select(Product.currency).where(Product.is_open, ~Product.is_demo))
    candidates = {
        *always,
        *(parent(currency)[0] for currency in of_products),
        *session.scalars(
            select(Account.currency).where(Account.client_id == client_id, Account.code.like("client:%:wallet:%"))
        ),
        *session.scalars(select(FXPair.base)),
        *session.scalars(select(FXPair.quote)),
    }
    known = rates.known(session, now())
    sources = set(sold)
    return sorted(
        currency
        for currency in candidates
        if _is_known(currency)
        and any(one != currency and known.find(one, currency, stale_too=True) is not None for one in sources)
    )


def _is_known(currency: str) -> bool:
    """Whether the currency is still among the configured ones."""
    try:
        exponent(currency)
    except InvalidMoney:
        return False
    return True
