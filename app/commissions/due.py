"""What commission without a deal is due: an occasion with the rule that pays for it, and what that gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from app.commissions.components import COMPONENTS
from app.commissions.engine import Accrued, Upline
from app.commissions.plans import PlanSnapshot, Rule
from app.commissions.reasons import Reason

Kind = Literal["client", "month"]


@dataclass(frozen=True)
class Due:
    """That a rule pays for a client who was won, or for a month ("2026-11") of the first IB of the upline, at a moment.

    `facts` are what made it come true, as JSON; `lines` what each IB gets, or why that is not known yet.
    """

    kind: Kind
    plan: PlanSnapshot
    rule: Rule
    upline: Sequence[Upline]
    at: datetime
    facts: dict[str, Any]
    lines: Sequence[Accrued] | Reason
    client_id: int | None = None
    month: str = ""

    @property
    def ib_id(self) -> int:
        """The IB whose client or month it is."""
        return self.upline[0].ib_id


def rules_on(plan: PlanSnapshot, kind: Kind) -> list[Rule]:
    """The rules of a plan for such occasions."""
    return [rule for rule in plan.rules if COMPONENTS[rule.component].on == kind]
