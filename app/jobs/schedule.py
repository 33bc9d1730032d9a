"""What runs by the clock: the plan, and the job that claims a slot and runs it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from flask import current_app
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.uow import unit_of_work
from app.extensions import db
from app.jobs import tasks
from app.ledger.errors import SettlementStopped
from config import Settings

log = logging.getLogger("lotwise.cron")


@dataclass(frozen=True)
class Planned:
    """A job that runs every `every_s` seconds; of a day's job `at_s` says when, in seconds after midnight (UTC).

    The function may run again for a slot that failed: it is idempotent.
    """

    name: str
    queue: str
    every_s: int
    function: Callable[[Session, Settings], None]
    timeout_s: int = 300
    at_s: int = 0


PLAN = (
    Planned("resolve_operations", "money", 15, tasks.resolve_operations),
    Planned("open_lost_accounts", "money", 60, tasks.open_lost_accounts),
    Planned("send_lost_changes", "money", 60, tasks.send_lost_changes),
    Planned("ask_providers", "money", 30, tasks.ask_providers),
    Planned("mirror_deals", "money", 20, tasks.mirror_deals),
    Planned("accrue_waiting", "bulk", 60, tasks.accrue_waiting),
    Planned("true_up_periods", "bulk", 900, tasks.true_up_periods, timeout_s=3600),
    Planned("accrue_occasions", "bulk", 900, tasks.accrue_occasions),
    Planned("settle_commissions", "money", 300, tasks.settle_commissions),
    Planned("find_commission_abuse", "bulk", 3600, tasks.find_commission_abuse, timeout_s=1800),
    Planned("refetch_hinted", "default", 10, tasks.refetch_hinted),
    Planned("sweep_deals", "bulk", 300, tasks.sweep_deals),
    Planned("check_servers", "bulk", 600, tasks.check_servers),
    Planned("watch_breaks", "bulk", 600, tasks.watch_breaks),
    Planned("restore_negative_balances", "money", 60, tasks.restore_negative_balances),
    Planned("fetch_rates", "bulk", 4 * 3600, tasks.fetch_rates),
    Planned("observe_rates", "bulk", 60, tasks.observe_rates),
    Planned("expire_holds", "money", 600, tasks.expire_holds),
    Planned("seal_audit", "bulk", 60, tasks.seal_audit),
    Planned("seal_ledger", "bulk", 60, tasks.seal_ledger),
    Planned("prove_ledger", "bulk", 24 * 3600, tasks.prove_ledger, timeout_s=4 * 3600, at_s=2 * 3600),
    Planned("match_statements", "bulk", 3600, tasks.match_statements),
    Planned("clean_up", "bulk", 3600, tasks.clean_up),
    Planned("tidy_months", "bulk", 24 * 3600, tasks.tidy_months, timeout_s=3600, at_s=3 * 3600),
)

_BY_NAME = {planned.name: planned for planned in PLAN}


def run_planned(name: str, slot: str) -> None:
    """Claim the slot and run the job; a slot that somebody else claimed is left alone.

    The claim commits with the job's success only in so far as a failure releases it: the retry of the same slot then
    finds it free.
    """
    planned = _BY_NAME[name]
    session: Session = db.session()
    key = {"job": name, "slot": datetime.fromisoformat(slot)}
    with unit_of_work(session, Actor.system(name)):
        claimed = session.execute(
            text("INSERT INTO cron_slot (job, slot) VALUES (:job, :slot) ON CONFLICT DO NOTHING RETURNING job"), key
        ).scalar()
    if claimed is None:
        log.info("slot already claimed job=%s slot=%s", name, slot)
        return
    try:
        planned.function(session, current_app.extensions["settings"])
    except SettlementStopped as stopped:
        session.rollback()
        log.warning("nothing is paid out by the clock job=%s reason=%s", name, stopped)
    except Exception:
        session.rollback()
        with unit_of_work(session, Actor.system(name)):
            session.execute(text("DELETE FROM cron_slot WHERE job = :job AND slot = :slot"), key)
        raise
