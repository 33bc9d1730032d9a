"""Runs of payouts with four eyes: one person proposes what every IB gets, another one approves it line by line.

Proposing holds each amount on the IB's commission account, so that nothing else takes it. Approving says what becomes of each
line: pay, hold, or reject; a line with warnings must be named, with a reason. The money itself is moved line by line by a job
(app/commissions/payouts.py), so that one IB whose payment fails stops no other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.commissions.errors import NothingToPay, PayoutDecided
from app.commissions.payables import Payable, payables
from app.commissions.payout_warnings import Planned, Warned, warnings, warnings_now
from app.commissions.payouts import event_values, open_payout
from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import N_, InvalidInput, NotFound
from app.core.uow import UnitOfWork, unit_of_work
from app.ledger import chart, four_eyes, holds
from app.models.clients import Client
from app.models.partners import IntroducingBroker
from app.models.payouts import Payout, PayoutRun
from app.models.security import User

LONGEST_REASON = 500

Verdict = Literal["pay", "hold", "reject"]
VERDICTS: tuple[Verdict, ...] = ("pay", "hold", "reject")
OWN = N_("This is your own pay: somebody else must say what becomes of it.")
UNSEEN = N_("New warnings have come up since you opened this page. Please look at them first.")
_STATES = {"pay": "approved", "hold": "held", "reject": "rejected"}


@dataclass(frozen=True)
class RunLine:
    """A line that a run would have. `request_id`: the IB asked for it, so that its amount and way are the IB's own."""

    planned: Planned
    name: str
    figures: Mapping[str, Any]
    warnings: Sequence[Mapping[str, Any]]
    request_id: int | None


@dataclass(frozen=True)
class RunPreview:
    """What a run up to a moment would pay, and who gets nothing, with the reason (a key of `payables.REASONS`)."""

    lines: tuple[RunLine, ...]
    left_out: tuple[Payable, ...]


@dataclass(frozen=True)
class Decision:
    """What the approver says of one line. `seen`: codes of the warnings on the page that was looked at; None: all there are."""

    verdict: Verdict
    reason: str = ""
    seen: frozenset[str] | None = None


def preview_run(session: Session, until: datetime, *, requests_only: bool = False) -> RunPreview:
    """What a run of all that was settled before `until` would be now; writes nothing. Lines in order of IB.

    Who has asked for a payout gets just that, beside money in a currency of before. With `requests_only` nobody else is paid.
    """
    asked = session.scalars(select(Payout).where(Payout.state == "requested").order_by(Payout.ib_id)).all()
    have_asked = {(payout.ib_id, payout.currency) for payout in asked}
    found = [] if requests_only else [one for one in payables(session, until) if (one.ib_id, one.currency) not in have_asked]
    due = [one for one in found if not one.reason]
    planned = [
        *(Planned.of(one) for one in asked),
        *(Planned(one.ib_id, one.client_id, one.available, "wallet") for one in due),
    ]
    names = [*(one.client.full_name for one in asked), *(one.name for one in due)]
    figures = [*(one.figures for one in asked), *(one.figures() for one in due)]
    ids = [*(one.id for one in asked), *(None for _ in due)]
    told = warnings(session, planned, now())
    lines = [RunLine(*parts) for parts in zip(planned, names, figures, told, ids, strict=True)]
    return RunPreview(
        lines=tuple(sorted(lines, key=lambda line: (line.planned.ib_id, line.planned.amount.currency))),
        left_out=tuple(one for one in found if one.reason),
    )


def propose_run(session: Session, *, until: datetime, reason: str, actor: Actor, requests_only: bool = False) -> PayoutRun:
    """Propose what every IB gets of all that was settled before `until`, and hold it. Nothing moves before the approval.

    Raises InvalidInput for a moment that has not come or without a reason, NothingToPay.
    """
    said = _reason(reason)
    if until > now():
        raise InvalidInput({"until": N_("This moment has not come yet.")})
    with unit_of_work(session, actor) as unit:
        _lock_all(session)
        preview = preview_run(session, until, requests_only=requests_only)
        if not preview.lines:
            raise NothingToPay
        run = PayoutRun(until=until, reason=said, proposed_by=str(actor))
        session.add(run)
        session.flush()
        for line in sorted(preview.lines, key=_account):
            if line.request_id is None:
                open_payout(unit, line.planned, line.figures, run_id=run.id, warnings=line.warnings)
                continue
            payout = session.get_one(Payout, line.request_id, with_for_update=True)
            payout.run_id, payout.state, payout.warnings = run.id, "proposed", [dict(one) for one in line.warnings]
        session.flush()
        payouts = _payouts(session, run.id)
        unit.audit(
            "payout_run.propose",
            f"payout_run:{run.id}",
            after={
                "until": until.isoformat(),
                "payouts": [{"ib_id": one.ib_id, "amount": str(one.amount), "to": one.destination} for one in payouts],
            },
            reason=run.reason,
        )
        unit.emit("payout_run.proposed", subject_id=run.id, payouts=len(payouts))
        unit.emit_many("payout.proposed", [(one.id, one.client_id, event_values(one)) for one in payouts])
        return run


def approve_run(session: Session, run_id: int, *, decisions: Mapping[int, Decision], actor: Actor) -> PayoutRun:
    """Say what becomes of each line, by its id; lines that are not named are paid. The job pays those approved.

    Warnings are those of this moment: a line may have some that it had not when it was proposed.
    Raises NotFound, OwnRequest for the one who proposed, RequestDecided, and InvalidInput (by id) for a line with warnings
    that is not named or that were not seen, one whose decision has no reason where it needs one, or the approver's own pay,
    which may only be held back.
    """
    with unit_of_work(session, actor) as unit:
        run = _open(session, run_id)
        four_eyes.require_other(run, actor)
        payouts = _payouts(session, run_id)
        chosen = {one.id: decisions.get(one.id) for one in payouts}
        told = current_warnings(session, payouts)
        _check(told, chosen, _own(session, payouts, actor))
        for payout in payouts:
            payout.warnings = told[payout.id]
            decision = chosen[payout.id] or Decision("pay")
            _settle_line(unit, payout, decision)
        paid = [one for one in payouts if one.state == "approved"]
        _decide(unit, run, "approved", "approve", lines=payouts)
        unit.emit_many("payout.approved", [(one.id, one.client_id, event_values(one)) for one in paid])
        return run


def reject_run(session: Session, run_id: int, *, reason: str, actor: Actor) -> PayoutRun:
    """Turn a whole run down: amounts are free again, and what IBs asked for waits for the next run.

    Raises NotFound, OwnRequest, RequestDecided, InvalidInput without a reason.
    """
    said = _reason(reason)
    with unit_of_work(session, actor) as unit:
        run = _open(session, run_id)
        four_eyes.require_other(run, actor)
        _dissolve(unit, run, "rejected")
        _decide(unit, run, "rejected", "reject", said)
        return run


def withdraw_run(session: Session, run_id: int, *, actor: Actor) -> PayoutRun:
    """Take back one's own run: as if it had been rejected. Raises NotFound, NotYourRequest, RequestDecided."""
    with unit_of_work(session, actor) as unit:
        run = _open(session, run_id)
        four_eyes.require_proposer(run, actor)
        _dissolve(unit, run, "cancelled")
        _decide(unit, run, "withdrawn", "withdraw")
        return run


def decide_held(session: Session, payout_id: int, decision: Decision, *, actor: Actor) -> Payout:
    """Pay or reject a line that was held back when its run was approved; not by the one who proposed that run.

    Raises NotFound, OwnRequest, PayoutDecided, InvalidInput without a reason, with warnings that were not seen, or
    for one's own pay.
    """
    said = _reason(decision.reason)
    if decision.verdict == "hold":
        raise InvalidInput({"verdict": N_("It is held already. Please choose to pay or to reject it.")})
    with unit_of_work(session, actor) as unit:
        payout = session.get(Payout, payout_id, with_for_update=True)
        if payout is None or payout.run is None:
            raise NotFound
        four_eyes.require_other(payout.run, actor)
        if payout.state != "held":
            raise PayoutDecided(state=payout.state)
        before = {"state": payout.state, "reason": payout.decision_reason, "decided_by": payout.decided_by}
        payout.warnings = current_warnings(session, [payout])[payout.id]
        if not _has_seen(decision, payout.warnings):
            raise InvalidInput({"verdict": UNSEEN})
        if _own(session, [payout], actor):
            raise InvalidInput({"verdict": OWN})
        _settle_line(unit, payout, Decision(decision.verdict, said))
        unit.audit(
            f"payout.{decision.verdict}",
            f"payout:{payout.id}",
            before=before,
            after={"state": payout.state},
            reason=said,
        )
        if payout.state == "approved":
            unit.emit("payout.approved", subject_id=payout.id, client_id=payout.client_id, **event_values(payout))
        return payout


def current_warnings(session: Session, payouts: Sequence[Payout]) -> dict[int, list[Warned]]:
    """What whoever decides now must see, by payout: what was found at the proposal, and what came since."""
    return warnings_now(session, payouts, now())


def _lock_all(session: Session) -> None:
    """Two runs, and a run and a request, follow one another; settlements do too, and add nothing meanwhile."""
    session.execute(select(IntroducingBroker.id).order_by(IntroducingBroker.id).with_for_update(key_share=True)).all()


def _account(line: RunLine) -> str:
    """The account that is locked for a line: all lock accounts in the order of their codes."""
    return chart.ib_commission(line.planned.ib_id, line.planned.amount.currency).code


def _payouts(session: Session, run_id: int) -> list[Payout]:
    """The lines of a run, locked, in the order of the accounts that their holds are on."""
    query = select(Payout).where(Payout.run_id == run_id).order_by(Payout.id).with_for_update(of=Payout)
    return sorted(session.scalars(query), key=lambda one: chart.ib_commission(one.ib_id, one.currency).code)


def _own(session: Session, payouts: Sequence[Payout], actor: Actor) -> set[int]:
    """Those whose IB has the mail address of the member of staff who decides: most likely the same person."""
    if actor.kind != "staff":
        return set()
    address = select(func.lower(User.email)).where(User.id == int(actor.id)).scalar_subquery()
    ids = {one.client_id for one in payouts}
    own = session.scalars(select(Client.id).where(Client.id.in_(ids), func.lower(Client.email) == address)).all()
    return {one.id for one in payouts if one.client_id in own}


def _check(told: Mapping[int, Sequence[Warned]], chosen: Mapping[int, Decision | None], own: set[int]) -> None:
    problems: dict[str, str] = {}
    for payout_id, warned in told.items():
        decision = chosen[payout_id]
        if payout_id in own and (decision is None or decision.verdict != "hold"):
            problems[str(payout_id)] = OWN
        elif decision is None:
            if warned:
                problems[str(payout_id)] = N_("This line has warnings. Please say what becomes of it, and why.")
        elif decision.verdict not in VERDICTS:
            problems[str(payout_id)] = N_("Please choose to pay, to hold or to reject it.")
        elif not decision.reason.strip() and (warned or decision.verdict != "pay"):
            problems[str(payout_id)] = N_("Please give a reason.")
        elif not _has_seen(decision, warned):
            problems[str(payout_id)] = UNSEEN
    if problems:
        raise InvalidInput(problems)


def _has_seen(decision: Decision, warned: Sequence[Warned]) -> bool:
    """Nobody lets through what they were not shown; to hold it or to reject it needs no look."""
    return decision.verdict != "pay" or decision.seen is None or {one["code"] for one in warned} <= decision.seen


def _settle_line(unit: UnitOfWork, payout: Payout, decision: Decision) -> None:
    payout.state, payout.decision_reason = _STATES[decision.verdict], " ".join(decision.reason.split())[:LONGEST_REASON]
    payout.decided_by, payout.decided_at = str(unit.actor), now()
    if payout.state == "rejected":
        holds.release_hold(unit.session, payout.hold_id, actor=unit.actor)
        payout.finished_at = now()
    if payout.state in ("held", "rejected"):
        unit.emit(f"payout.{payout.state}", subject_id=payout.id, client_id=payout.client_id, **event_values(payout))


def _dissolve(unit: UnitOfWork, run: PayoutRun, state: str) -> None:
    """What the IBs asked for stays asked for, and held; everything else is free again."""
    for payout in _payouts(unit.session, run.id):
        if payout.is_asked_for:
            payout.run_id, payout.state, payout.warnings = None, "requested", []
            continue
        holds.release_hold(unit.session, payout.hold_id, actor=unit.actor)
        payout.state, payout.finished_at = state, now()


def _reason(text: str) -> str:
    said = " ".join(text.split())
    if not said:
        raise InvalidInput({"reason": N_("Please give a reason.")})
    return said[:LONGEST_REASON]


def _open(session: Session, run_id: int) -> PayoutRun:
    run = session.get(PayoutRun, run_id, with_for_update=True)
    if run is None:
        raise NotFound
    four_eyes.require_open(run)
    return run


def _decide(
    unit: UnitOfWork, run: PayoutRun, status: str, verb: str, reason: str = "", *, lines: Sequence[Payout] = ()
) -> None:
    run.status, run.decided_by, run.decided_at, run.decision_reason = status, str(unit.actor), now(), reason
    unit.session.flush()
    unit.audit(
        f"payout_run.{verb}",
        f"payout_run:{run.id}",
        before={"status": "proposed"},
        after={
            "status": status,
            **({"payouts": {one.id: {"state": one.state, "reason": one.decision_reason} for one in lines}} if lines else {}),
        },
        reason=reason,
    )
    unit.emit(f"payout_run.{status}", subject_id=run.id)
