"""All tables. Importing this package declares every one of them, which Alembic and the tests rely on."""

from app.core import tables as spine
from app.models import (
    clients,
    commissions,
    compliance,
    controls,
    fx,
    ib_terms,
    ledger,
    messaging,
    metatrader,
    partner_moves,
    partner_privacy,
    partners,
    payments,
    payouts,
    plan_tiers,
    security,
    trading_desk,
)

__all__ = [
    "clients",
    "commissions",
    "compliance",
    "controls",
    "fx",
    "ib_terms",
    "ledger",
    "messaging",
    "metatrader",
    "partner_moves",
    "partner_privacy",
    "partners",
    "payments",
    "payouts",
    "plan_tiers",
    "security",
    "spine",
    "trading_desk",
]
