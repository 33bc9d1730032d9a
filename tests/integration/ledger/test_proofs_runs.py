"""Runs of all proofs: what is recorded, alerts, the stop of settlements, one run at a time, and `run.py prove`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from sqlalchemy import select, text

from app import ROOT
from app.commissions import accrual
from app.core.actor import Actor
from app.core.tables import AuditEntry, CronSlot, Event
from app.jobs.handlers import HANDLERS
from app.jobs.schedule import run_planned
from app.ledger import alerts, chart, proofs
from app.ledger.errors import AlertClosed, ProofsRunning, SettlementStopped
from app.ledger.proofs import outside, runs, seals
from app.models.commissions import Settlement
from app.models.controls import Alert, ProofResult, ProofRun
from tests.integration.commissions.brokerage import build
from tests.integration.ledger.house import House

NORA, OMAR = Actor.staff(11), Actor.staff(12)
CODES = [f"P{number}" for number in range(1, 10)]


@pytest.fixture
def house(database):
    with database.session() as session:
        House(session).build()
    return database


def spoil(database, statement="UPDATE ledger.account SET credits = credits + 500 WHERE code LIKE 'client:%:wallet:USD'"):
    """Damage the books behind the ledger's back, for good."""
    with database.owner_session() as session:
        for table in ("account", "txn", "entry", "seal"):
            session.execute(text(f"ALTER TABLE ledger.{table} DISABLE TRIGGER USER"))
        session.execute(text(statement))
        for table in ("account", "txn", "entry", "seal"):
            session.execute(text(f"ALTER TABLE ledger.{table} ENABLE TRIGGER USER"))
        session.commit()


def mend(database):
    spoil(database, "UPDATE ledger.account SET credits = credits - 500 WHERE code LIKE 'client:%:wallet:USD'")


def _facts(session):
    return [
        (event.type, event.payload.get("breaks"))
        for event in session.scalars(select(Event).where(Event.type.like("ledger.pro%")).order_by(Event.id))
    ]


def test_a_sound_house(house):
    seen = []
    with house.session() as session:
        run = proofs.run(session, NORA, watch=lambda name, proof: seen.append((name, proof)))
        assert (run.holds, run.started_by) == (True, "staff:11")
        assert run.finished_at >= run.started_at
        results = {one.name: one for one in run.results}
        assert list(results) == CODES == list(proofs.NAMES)
        assert all(one.break_count == 0 and one.breaks == [] and one.seconds >= 0 for one in results.values())
        assert results["P9"].compared == results["P3"].compared > 0, "what is new is sealed before it is proved"
        assert [name for name, proof in seen if proof is None] == [proof.name for _, proof in seen if proof is not None]
        assert _facts(session) == [("ledger.proved", {})]
        assert session.scalar(select(Event.payload["head"].astext).where(Event.type == "ledger.proved")) == seals.head(session)
        assert alerts.open_alerts(session) == []
        proofs.require_sound(session)


def test_a_break_is_recorded_told_and_not_mended(house):
    spoil(house)
    with house.session() as session:
        before = session.execute(text("SELECT * FROM ledger.account ORDER BY id")).all()
        run = proofs.run(session, NORA)
        assert run.holds is False
        broken = {one.name: one for one in run.results if one.break_count}
        assert list(broken) == ["P2"]
        assert broken["P2"].breaks[0].startswith("account client:1:wallet:USD: counters ")
        assert session.execute(text("SELECT * FROM ledger.account ORDER BY id")).all() == before
        assert _facts(session) == [("ledger.proof_failed", {"P2": 1})]
        (alert,) = alerts.open_alerts(session)
        assert (alert.code, alert.subject) == ("ledger.proof_failed", "P2")
        assert alert.data == {"breaks": 1, "first": broken["P2"].breaks[0]}


def test_an_alert_lives_as_long_as_its_cause(house):
    spoil(house)
    with house.session() as session:
        proofs.run(session, NORA)
        (alert,) = alerts.open_alerts(session, unacknowledged=True)
        first_seen = alert.seen_at
        alerts.acknowledge(session, alert.id, OMAR)
        alerts.acknowledge(session, alert.id, NORA)
        assert alerts.open_alerts(session, unacknowledged=True) == []
        assert (alert.acknowledged_by, session.query(AuditEntry).filter_by(action="alert.acknowledge").count()) == (
            "staff:12",
            1,
        )

        proofs.run(session, NORA)
        (again,) = alerts.open_alerts(session)
        assert again.id == alert.id
        assert again.seen_at > first_seen
        assert again.acknowledged_by == "staff:12", "the same find: somebody looks after it"
    spoil(house)
    with house.session() as session:
        proofs.run(session, NORA)
        (changed,) = alerts.open_alerts(session, unacknowledged=True)
        assert (changed.id, changed.acknowledged_by) == (alert.id, None)
    mend(house)
    mend(house)
    with house.session() as session:
        assert proofs.run(session, NORA).holds
        assert alerts.open_alerts(session) == []
        assert session.get_one(Alert, alert.id).closed_at is not None
        with pytest.raises(AlertClosed):
            alerts.acknowledge(session, alert.id, OMAR)
    spoil(house)
    with house.session() as session:
        proofs.run(session, NORA)
        (new,) = alerts.open_alerts(session)
        assert new.id != alert.id


def test_settlements_stop_and_go_on(app, database):
    with database.session() as session:
        brokerage = build(session)
        broker = brokerage.ib()
        deal = brokerage.deal(brokerage.brought(broker))
        chart.open_account(session, chart.client_wallet(1, "USD"))
        brokerage.save()
        accrual.accrue_deals(session, [deal])
        proofs.require_sound(session)  # nothing is known yet

    def settle(minute):
        with app.app_context():
            run_planned("settle_commissions", datetime(2026, 1, 5, 10, minute, tzinfo=UTC).isoformat())
        with database.session() as session:
            return len(session.scalars(select(Settlement)).all()), len(session.scalars(select(CronSlot)).all())

    spoil(database)
    with database.session() as session:
        run = proofs.run(session, NORA)
        with pytest.raises(SettlementStopped) as stopped:
            proofs.require_sound(session)
    assert stopped.value.http_status == 409
    assert str(stopped.value) == (
        f"Settlements are stopped: run {run.id} of the ledger's proofs found a break (P2, P6). Nothing was posted."
    )
    assert settle(0) == (0, 1), "nothing is settled, and no job has failed"
    mend(database)
    with database.session() as session:
        assert proofs.run(session, NORA).holds
    assert settle(5) == (1, 2)


def test_a_run_that_was_cut_short_says_nothing(house):
    with house.session() as session:
        proofs.run(session, NORA)
        session.add(ProofRun(started_by="system:test"))
        session.commit()
        proofs.require_sound(session)


def test_one_proof_that_breaks_off_does_not_stop_the_others(house, monkeypatch):
    def breaks_off(session):
        session.execute(text("SELECT 1 / 0"))

    monkeypatch.setitem(runs.ALL, outside.NAME, breaks_off)
    with house.session() as session:
        run = proofs.run(session, NORA)
        assert run.holds is False
        broken = {one.name: (one.break_count, one.breaks) for one in run.results if one.break_count}
        assert broken == {"P8": (1, ["could not be run: DataError"])}
        assert [one.name for one in run.results] == CODES
        with pytest.raises(SettlementStopped):
            proofs.require_sound(session)


def test_one_run_at_a_time(house):
    def second(name, proof):
        with house.session() as other:
            assert proofs.is_running(other)
            with pytest.raises(ProofsRunning):
                proofs.run(other, OMAR)

    with house.session() as session:
        assert not proofs.is_running(session)
        proofs.run(session, NORA, watch=second)
        assert not proofs.is_running(session)
        assert session.query(ProofRun).count() == 1
        assert proofs.run(session, OMAR).holds


def test_only_the_first_breaks_are_kept(database, book_of):
    with database.session() as session:
        book = book_of(session)
        wallet, other = book.wallet(1, "1000"), book.wallet(2)
        for _ in range(205):
            book.pay(wallet, other, "1", kind="gift")
        session.commit()
        run = proofs.run(session, NORA)
        kept = session.get_one(ProofResult, (run.id, "P7"))
        assert (kept.break_count, len(kept.breaks)) == (206, 200)


def test_a_run_that_staff_asked_for(house):
    with house.session() as session:
        proofs.request_run(session, OMAR)
        event = session.scalars(select(Event).where(Event.type == "ledger.proof_requested")).one()
        session.expunge(event)
        session.rollback()
        handler = HANDLERS["prove_ledger"]
        assert handler.types == ("ledger.proof_requested",)
        handler.function(session, event, house.settings)
        assert [(run.started_by, run.holds) for run in session.scalars(select(ProofRun))] == [("staff:12", True)]


# ── run.py prove ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _prove(database, *arguments):
    settings = database.settings
    names = {"DATABASE_URL", "DATABASE_OWNER_URL", "REDIS_URL", "LOTWISE_ENV", "LOTWISE_VAR", "PORT"}
    environ = {name: value for name, value in os.environ.items() if name not in names} | {
        "DATABASE_URL": settings.database_url,
        "DATABASE_OWNER_URL": settings.database_owner_url,
        "REDIS_URL": settings.redis_url,
        "LOTWISE_VAR": str(settings.var_dir),
    }
    return subprocess.run(
        [sys.executable, "run.py", "prove", *arguments],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_command_on_sound_books(house, tmp_path):
    file = tmp_path / "proofs.json"
    done = _prove(house, "--json", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0].split() == ["proof", "compared", "breaks", "seconds"]
    assert done.stdout.splitlines()[-1] == "All proofs hold."
    found = json.loads(file.read_text())
    assert [one["name"].split()[0] for one in found] == CODES
    assert all(one["breaks"] == [] and one["break_count"] == 0 and one["seconds"] >= 0 for one in found)
    assert found[2]["compared"] > 0
    with house.session() as session:
        assert found[-1]["head"] == seals.head(session)
        assert [(run.started_by, run.holds) for run in session.scalars(select(ProofRun))] == [("system:prove", True)]


def test_the_command_names_each_break_and_ends_with_1(house, tmp_path):
    file = tmp_path / "proofs.json"
    spoil(house)
    done = _prove(house, "--json", str(file))
    assert done.returncode == 1
    found = {one["name"].split()[0]: one["breaks"] for one in json.loads(file.read_text())}
    assert found["P2"][0].startswith("account client:1:wallet:USD")
    assert f"P2  {found['P2'][0]}" in done.stdout
    assert done.stdout.splitlines()[-1] == "Not proved: P2. Settlements stop until a run holds."


def test_the_command_compares_with_a_head_that_was_kept(house):
    with house.session() as session:
        seals.seal(session)
        kept = seals.head(session)
        session.rollback()
    assert _prove(house, "--head", kept.upper()).returncode == 0
    spoil(house, "UPDATE ledger.txn SET actor = 'nobody' WHERE seq = (SELECT max(seq) FROM ledger.txn)")
    spoil(house, "DELETE FROM ledger.seal")  # and all is sealed anew
    assert _prove(house).returncode == 0
    done = _prove(house, "--head", kept)
    assert done.returncode == 1
    assert f"P9  head {kept}: kept outside, and no seal has it any more" in done.stdout


def test_the_command_ends_with_2_when_it_cannot_prove(house, tmp_path):
    for arguments in (("--head", "abc"), ("--head", "g" * 64), ("--json", str(tmp_path / "no" / "file")), ("--nothing",)):
        done = _prove(house, *arguments)
        assert done.returncode == 2, arguments
        assert "Traceback" not in done.stderr
    elsewhere = {**vars(house.settings), "database_url": "postgresql://127.0.0.1:1/none"}
    lost = SimpleNamespace(settings=SimpleNamespace(**elsewhere))
    done = _prove(lost)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: DATABASE_URL cannot be reached")
    with house.owner_session() as session:
        session.execute(text("ALTER TABLE external_line RENAME TO hidden"))
        session.commit()
    done = _prove(house)
    assert done.returncode == 2
    assert "P8  could not be run: ProgrammingError" in done.stdout
