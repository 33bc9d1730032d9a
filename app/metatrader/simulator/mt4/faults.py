"""The line of text that names faults, as the MT4 double means it: the same words as the MT5 simulator's, with MT4's codes."""

from __future__ import annotations

from dataclasses import replace

from app.metatrader.simulator.faults import FaultPlan, parse_event_faults

#: Too frequent, busy and no network: what MT5 says → what MT4 says.
_MT4_CODES = {12: 8, 1018: 146, 7: 6}


def parse_faults(text: str) -> FaultPlan:
    """As parse_event_faults. Raises ValueError with one sentence."""
    plan = parse_event_faults(text)
    return replace(plan, commands=tuple(replace(fault, code=_MT4_CODES.get(fault.code, fault.code)) for fault in plan.commands))
