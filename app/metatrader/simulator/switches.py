"""The switches for faults that the control interfaces of all simulated servers have alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from app.metatrader.simulator.books import Refused
from app.metatrader.simulator.event_faults import read_event_settings
from app.metatrader.simulator.faults import FaultPlan, Faults, Misread, read_rules
from app.metatrader.simulator.journal import Journal

GAP_MAX_S = 3600.0
MEANINGLESS = 3


def set_faults(
    fields: Mapping[str, Any], commands: Faults, journal: Journal, parse: Callable[[str], FaultPlan]
) -> dict[str, Any]:
    """{rules: [{kind, path, times, code, seconds, chance}, …]} replaces all rules for commands, {events: {…}} all settings
    for events, {line: "duplicates=5%,…"} both. What is not named stays as it is; an empty list, object or line is off.
    """
    events = journal.faults
    if not fields or not set(fields) <= {"rules", "events", "line"}:
        raise Refused(MEANINGLESS)
    if "line" in fields:
        try:
            plan = parse(str(fields["line"]))
        except ValueError as error:
            raise Misread(str(error)) from None
        commands.set(list(plan.commands))
        events.set(plan.events)
    if "rules" in fields:
        commands.set(read_rules(fields["rules"]))
    if "events" in fields:
        events.set(read_event_settings(fields["events"]))
    return {"faults": commands.listed(), "event_faults": events.listed()}


def begin_gap(fields: Mapping[str, Any], journal: Journal) -> dict[str, Any]:
    """{seconds, do: "lose"}: the source is away and what happens is never sent; {seconds, do: "hold"}: it is sent later."""
    seconds = float(fields["seconds"])
    if not 0 <= seconds <= GAP_MAX_S or fields["do"] not in ("lose", "hold"):
        raise Refused(MEANINGLESS)
    begin = journal.faults.lose if fields["do"] == "lose" else journal.faults.hold
    begin(journal.clock(), seconds)
    return {"seconds": seconds}
