"""An explanation of a commission line as JSON, so that a question about it keeps what was asked about, whatever comes later.

Names of clients are left out: which of them an IB may see is a policy that can change.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from app.commissions.explain import Explanation
from app.commissions.tier_steps import Step


@dataclass(frozen=True)
class FrozenExplanation:
    """A line as it was explained. `ticket` is what a terminal shows; of an occasion there is none, nor a deal."""

    accrual_id: int
    ticket: int | None
    deal_id: int | None
    revision: int | None
    symbol: str
    client_id: int | None
    done_at: datetime
    plan: str
    version: int
    rule: str
    level: int
    amount: Decimal
    currency: str
    is_settled: bool
    steps: tuple[Step, ...]


def freeze(explanation: Explanation) -> dict[str, Any]:
    """What is kept of an explanation; amounts as texts, exact."""
    line = explanation.line
    return {
        "accrual_id": line.id,
        "ticket": line.ticket,
        "deal_id": explanation.deal_id,
        "revision": explanation.revision,
        "symbol": line.symbol,
        "client_id": line.client_id,
        "done_at": line.done_at.isoformat(),
        "plan": explanation.plan,
        "version": explanation.version,
        "rule": line.rule,
        "level": line.level,
        "amount": format(line.amount, "f"),
        "currency": line.currency,
        "is_settled": explanation.settled is not None,
        "steps": [[step.operator, step.label, format(step.value, "f"), step.unit] for step in explanation.steps],
    }


def thaw(kept: dict[str, Any]) -> FrozenExplanation:
    """A kept explanation to be shown; the labels of its steps are message ids."""
    steps = tuple(Step(operator, label, Decimal(value), unit) for operator, label, value, unit in kept["steps"])
    done_at, amount = datetime.fromisoformat(kept["done_at"]), Decimal(kept["amount"])
    return FrozenExplanation(**{**kept, "steps": steps, "done_at": done_at, "amount": amount})
