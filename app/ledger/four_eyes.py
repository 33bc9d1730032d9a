"""Who may decide a proposal: somebody else than its proposer, and only once."""

from __future__ import annotations

from datetime import UTC

from app.core.actor import Actor
from app.core.orm import Proposal
from app.ledger.errors import NotYourRequest, OwnRequest, RequestDecided


def require_open(proposal: Proposal, name: str = "") -> None:
    """Raises RequestDecided, with who decided it (`name`, or the actor as kept) and when, unless it is still proposed."""
    if proposal.status != "proposed":
        at = f"{proposal.decided_at.astimezone(UTC):%Y-%m-%d %H:%M}" if proposal.decided_at else ""
        raise RequestDecided(RequestDecided.messages[proposal.status], by=name or proposal.decided_by, at=at)


def require_other(proposal: Proposal, actor: Actor) -> None:
    """Raises OwnRequest for the one who proposed."""
    if proposal.proposed_by == str(actor):
        raise OwnRequest()


def require_proposer(proposal: Proposal, actor: Actor) -> None:
    """Raises NotYourRequest for everybody but the one who proposed."""
    if proposal.proposed_by != str(actor):
        raise NotYourRequest()
