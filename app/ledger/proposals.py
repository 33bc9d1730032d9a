"""Manual rates, with four eyes: one person proposes a rate, another one makes it count or turns it down."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation

from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import N_, InvalidInput, NotFound
from app.core.money import InvalidMoney, exponent, parent
from app.core.uow import UnitOfWork, unit_of_work
from app.ledger import four_eyes, rates
from app.ledger.known_rates import FoundRate, rate_text
from app.models.fx import FXRate, FXRateProposal

SOURCE = "manual"
LONGEST_REASON = 500

#: What a table of rates holds: ten digits before and after the point. Below, too few digits are left to convert by.
_PLAIN = re.compile(r"\d{1,20}(\.\d{1,20})?")
_SMALLEST, _LARGEST, _UNIT = Decimal("0.00001"), Decimal(10) ** 10, Decimal("0.0000000001")

#: By how many percent a rate may differ from the one that counts before whoever types it is asked whether it is meant.
FAR_OFF = 5


@dataclass(frozen=True)
class Compared:
    """A rate beside the one that counts now (None: none is known), and by how many percent it lies above; below is negative."""

    current: FoundRate | None = None
    percent: Decimal | None = None

    @property
    def is_far_off(self) -> bool:
        return self.percent is not None and abs(self.percent) > FAR_OFF


def compare(session: Session, *, base: str, quote: str, rate: Decimal | str) -> Compared:
    """How a rate differs from what is known, too old or not. What cannot be proposed differs from nothing."""
    current = rates.known(session).find(base, quote, stale_too=True)
    exact = _exact(rate)
    if current is None or exact is None or not _is_typeable(exact) or _currency_problems(base, quote):
        return Compared(current)
    return Compared(current, (exact - current.rate) / current.rate * 100)


def propose_rate(session: Session, *, base: str, quote: str, rate: Decimal | str, reason: str, actor: Actor) -> FXRateProposal:
    """Ask that from its approval on 1 `base` be `rate` `quote`. Raises InvalidInput with all that is wrong."""
    problems = _currency_problems(base, quote)
    exact = _exact(rate)
    if exact is None:
        problems["rate"] = N_("Please enter a rate above zero with ten decimals at most.")
    elif not _is_typeable(exact):
        problems["rate"] = N_("This rate is too small or too large to be exact. Please enter it the other way round.")
    reason = reason.strip()
    if not reason:
        problems["reason"] = N_("Please give a reason.")
    if problems or exact is None:
        raise InvalidInput(problems)
    with unit_of_work(session, actor) as unit:
        proposal = FXRateProposal(base=base, quote=quote, rate=exact, reason=reason[:LONGEST_REASON], proposed_by=str(actor))
        session.add(proposal)
        session.flush()
        unit.audit("fx_rate.propose", f"fx_rate_proposal:{proposal.id}", after=_facts(proposal), reason=proposal.reason)
        _tell(unit, proposal, "fx_rate.proposed")
        return proposal


def approve_rate(session: Session, proposal_id: int, *, actor: Actor) -> FXRateProposal:
    """Make a proposed rate count from now on. Raises NotFound, OwnRequest for the one who proposed it, RequestDecided."""
    with unit_of_work(session, actor) as unit:
        proposal, at = _open(session, proposal_id, actor), now()
        rate = FXRate(
            source=SOURCE,
            base=proposal.base,
            quote=proposal.quote,
            rate=proposal.rate,
            observed_at=at,
            reference=f"proposal:{proposal.id}",
        )
        session.add(rate)
        session.flush()
        proposal.rate_id = rate.id
        _decide(unit, proposal, "approved", at=at)
        return proposal


def reject_rate(session: Session, proposal_id: int, *, reason: str, actor: Actor) -> FXRateProposal:
    """Turn a proposed rate down. Raises NotFound, OwnRequest, RequestDecided, InvalidInput without a reason."""
    reason = reason.strip()
    if not reason:
        raise InvalidInput({"reason": N_("Please give a reason.")})
    with unit_of_work(session, actor) as unit:
        proposal = _open(session, proposal_id, actor)
        _decide(unit, proposal, "rejected", reason=reason[:LONGEST_REASON])
        return proposal


def withdraw_rate(session: Session, proposal_id: int, *, actor: Actor) -> FXRateProposal:
    """Take back one's own proposal. Raises NotFound, NotYourRequest, RequestDecided."""
    with unit_of_work(session, actor) as unit:
        proposal = _open(session, proposal_id, None)
        four_eyes.require_proposer(proposal, actor)
        _decide(unit, proposal, "withdrawn")
        return proposal


def _currency_problems(base: str, quote: str) -> dict[str, str]:
    problems = {}
    for field, currency in (("base", base), ("quote", quote)):
        try:
            exponent(currency)
        except InvalidMoney:
            problems[field] = N_("Please choose a currency.")
        else:
            if parent(currency) != (currency, 1):
                problems[field] = N_("The rate of a cent currency follows from the currency it is part of.")
    if not problems and base == quote:
        problems["quote"] = N_("Please choose two different currencies.")
    return problems


def _exact(rate: Decimal | str) -> Decimal | None:
    """The rate with ten decimals at most; None for what is no such number."""
    try:
        value = Decimal(rate) if isinstance(rate, Decimal) or _PLAIN.fullmatch(rate.strip()) else Decimal("NaN")
        return value if value.is_finite() and value > 0 and value == value.quantize(_UNIT) else None
    except InvalidOperation:  # more digits than can be meant
        return None


def _is_typeable(rate: Decimal) -> bool:
    return _SMALLEST <= rate < _LARGEST


def _open(session: Session, proposal_id: int, decider: Actor | None) -> FXRateProposal:
    """The proposal, locked and not decided yet. A decider must be another person than who proposed it."""
    proposal = session.get(FXRateProposal, proposal_id, with_for_update=True, populate_existing=True)
    if proposal is None:
        raise NotFound()
    four_eyes.require_open(proposal)
    if decider is not None:
        four_eyes.require_other(proposal, decider)
    return proposal


def _decide(unit: UnitOfWork, proposal: FXRateProposal, status: str, *, reason: str = "", at: datetime | None = None) -> None:
    proposal.status, proposal.decided_by, proposal.decided_at = status, str(unit.actor), at or now()
    proposal.decision_reason = reason
    unit.session.flush()
    unit.audit(
        f"fx_rate.{_VERBS[status]}",
        f"fx_rate_proposal:{proposal.id}",
        before={"status": "proposed"},
        after={"status": status, **_facts(proposal)},
        reason=reason,
    )
    _tell(unit, proposal, f"fx_rate.{status}")


_VERBS = {"approved": "approve", "rejected": "reject", "withdrawn": "withdraw"}


def _facts(proposal: FXRateProposal) -> dict[str, str]:
    return {"base": proposal.base, "quote": proposal.quote, "rate": rate_text(proposal.rate)}


def _tell(unit: UnitOfWork, proposal: FXRateProposal, event: str) -> None:
    unit.emit(event, subject_id=proposal.id, client_id=None, **_facts(proposal))
