"""Runs of all proofs: recorded with what they found, told by alerts, and the condition for paying out by the clock."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from time import perf_counter

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.uow import unit_of_work
from app.ledger import alerts
from app.ledger.errors import ProofsRunning, SettlementStopped
from app.ledger.proofs import books, causes, outside, seals, segregation
from app.ledger.proofs.proof import Proof, could_not_run
from app.models.controls import ProofResult, ProofRun

log = logging.getLogger("lotwise.ledger")

ALERT = "ledger.proof_failed"
LOCK_KEY = 720_106
#: All proofs by name, in their order.
ALL: dict[str, Callable[[Session], Proof]] = {
    **{name: partial(books.prove_one, name=name) for name in books.NAMES},
    segregation.NAME: segregation.prove_one,
    causes.NAME: causes.prove_one,
    outside.NAME: outside.prove_one,
    seals.NAME: seals.prove_one,
}

_LOCK_HELD = text(
    "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND classid = 0"
    " AND objid = :key AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
)

#: Called with a proof's name and None when it begins, and with what it found.
Watch = Callable[[str, Proof | None], None]


def run(session: Session, actor: Actor, *, kept_head: bytes | None = None, watch: Watch | None = None) -> ProofRun:
    """Seal what is new, run all proofs, record what they found, and raise or close alerts. Mends nothing.

    Takes minutes on a large ledger; the session must not be in use for anything else. `kept_head`: a head of the chain of
    seals that was kept outside and must be in it. A proof that breaks off is recorded as not held, and the others go on.
    Emits ledger.proved or ledger.proof_failed. Raises ProofsRunning while another run is under way.
    """
    proofs: list[Proof] = []
    with _only_run(session):
        with unit_of_work(session, actor):
            record = ProofRun(started_by=str(actor))
            session.add(record)
            session.flush()
            run_id = record.id
        for name, prove in ALL.items():
            if watch:
                watch(name, None)
            proof = _prove_one(session, name, partial(seals.prove_one, kept_head=kept_head) if name == seals.NAME else prove)
            proofs.append(proof)
            with unit_of_work(session, actor):
                session.add(_result(run_id, proof))
            if watch:
                watch(name, proof)
        return _finish(session, run_id, proofs, actor)


def require_sound(session: Session) -> None:
    """Let pass unless the newest finished run found a break; no run yet lets pass, too. Raises SettlementStopped."""
    newest = session.scalars(
        select(ProofRun).where(ProofRun.finished_at.is_not(None)).order_by(ProofRun.id.desc()).limit(1)
    ).one_or_none()
    if newest is not None and not newest.holds:
        raise SettlementStopped(run=newest.id, proofs=", ".join(one.name for one in newest.results if one.break_count))


def _prove_one(session: Session, name: str, prove: Callable[[Session], Proof]) -> Proof:
    """One proof in a transaction of its own that leaves nothing behind."""
    started = perf_counter()
    try:
        if name == seals.NAME:
            seals.seal(session)
            started = perf_counter()
        session.execute(text("SET LOCAL statement_timeout = 0"))
        session.execute(text("SET LOCAL work_mem = '128MB'"))
        return prove(session)
    except Exception as error:
        log.exception("proof could not be run name=%s", name)
        return could_not_run(name, error, started)
    finally:
        session.rollback()


def _result(run_id: int, proof: Proof) -> ProofResult:
    return ProofResult(
        run_id=run_id,
        name=proof.code,
        compared=proof.compared,
        break_count=proof.break_count,
        breaks=list(proof.breaks),
        seconds=proof.seconds,
    )


def _finish(session: Session, run_id: int, proofs: list[Proof], actor: Actor) -> ProofRun:
    failed = [proof for proof in proofs if not proof.holds]
    with unit_of_work(session, actor) as unit:
        record = session.get_one(ProofRun, run_id)
        record.finished_at, record.holds = now(), not failed
        for proof in failed:
            alerts.raise_alert(unit, ALERT, proof.code, {"breaks": proof.break_count, "first": proof.breaks[0]})
        alerts.close_others(unit, ALERT, [proof.code for proof in failed])
        unit.emit(
            "ledger.proof_failed" if failed else "ledger.proved",
            subject_id=run_id,
            breaks={proof.code: proof.break_count for proof in failed},
            head=seals.head(session),
        )
    return record


@contextmanager
def _only_run(session: Session) -> Iterator[None]:
    """Hold an advisory lock on a connection of its own: the session's comes and goes with its transactions."""
    bind = session.get_bind()
    with bind.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": LOCK_KEY}):
            raise ProofsRunning()
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": LOCK_KEY})


def request_run(session: Session, actor: Actor) -> None:
    """Ask for a run by a job, because it may take minutes. Emits ledger.proof_requested."""
    with unit_of_work(session, actor) as unit:
        unit.audit("proofs.request", "proof_run")
        unit.emit("ledger.proof_requested")


def is_running(session: Session) -> bool:
    """Whether a run is under way anywhere: somebody holds its lock."""
    return bool(session.scalar(_LOCK_HELD, {"key": LOCK_KEY}))
