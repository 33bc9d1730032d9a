"""The real processes: `run.py bridge`, killed, cut off, stopped, over TLS and with no more rights in Redis than it needs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from redis.exceptions import NoPermissionError

from app.core.clock import now
from app.metatrader.bridge.outbox import Outbox
from app.metatrader.bridge.publisher import redis_client
from app.metatrader.bridge.settings import RedisAccess
from app.metatrader.simulator.certificates import server_context
from config import ROOT
from tests.contracts.bridge import house
from tests.contracts.bridge.house import mt_deal, mt_user, until

MODULE = "tests.contracts.bridge.fake_manager"

#: What docs/metatrader-bridge.md tells an operator to grant, and nothing else.
GRANTS = [
    "resetkeys", "~mt:live1:*", "resetchannels", "-@all", "+ping", "+hello", "+auth", "+client|setinfo", "+client|setname",
    "+multi", "+exec", "+xadd", "+expire", "+xgroup|create", "+xreadgroup", "+xack", "+xautoclaim", "+xpending",
    "+xinfo|groups", "+xtrim", "+exists",
]  # fmt: skip


class Program:
    """`run.py bridge` as a service would run it, its server fed through a file."""

    def __init__(self, folder: Path, redis_url: str, *, redis_lines: str = "", env: dict[str, str] | None = None):
        self.folder = folder
        self.feed = folder / f"feed-{len(list(folder.glob('feed-*')))}.jsonl"
        self.feed.touch()
        self.log = folder / "state" / "logs" / "bridge.log"
        config = folder / "bridge.toml"
        config.write_text(
            '[server]\ncode = "live1"\naddress = "mt5.example:443"\nmanager_login = 1005\ntime_zone = "GMT+2/EU"\n'
            f'groups = "real\\\\*"\n[redis]\nurl = "{redis_url}"\n{redis_lines}\n[files]\nfolder = "state"\n'
        )
        fake = {"FAKE_MT5_FEED": str(self.feed), "FAKE_MT5_CLOCK_AHEAD_S": str(house.ZONE.offset_min(now()) * 60)}
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "run.py"), "bridge", "--config", str(config), "--module", MODULE],
            env={**os.environ, "MT5_MANAGER_PASSWORD": "Mt5#Manager1", **fake, **(env or {})},
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def happen(self, call: str, record=None):
        with self.feed.open("a") as feed:
            feed.write(json.dumps({"call": call, "values": vars(record) if record else {}}) + "\n")

    def connected(self):
        """Wait until the session is up, by the outbox: Redis may be away."""
        path = self.folder / "state" / "outbox.sqlite3"
        until(path.exists)
        outbox = Outbox(path)
        until(lambda: outbox.number("is_connected"))
        outbox.close()
        return self

    def waiting(self) -> int:
        outbox = Outbox(self.folder / "state" / "outbox.sqlite3")
        try:
            return outbox.size()
        finally:
            outbox.close()

    def children(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in children]

    def kill(self):
        self.process.kill()
        self.process.communicate(timeout=10)

    def terminate(self) -> str:
        """Stop it in order; returns what it printed."""
        self.process.terminate()
        printed, _ = self.process.communicate(timeout=30)
        return printed


@pytest.fixture
def start(tmp_path):
    """Start programs; whatever still runs at the end is killed."""
    running: list[Program] = []

    def start(redis_url: str, **values) -> Program:
        running.append(Program(tmp_path, redis_url, **values))
        return running[-1]

    yield start
    for program in running:
        if program.process.poll() is None:
            program.kill()


def authority(folder: Path):
    """The TLS side of a server whose certificate `folder`/ca.pem has signed."""
    folder.mkdir()
    return server_context(folder, "127.0.0.1")


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_killed_between_outbox_and_redis_nothing_is_lost_and_the_gap_is_fetched(start, gate, reader):
    gate.shut()
    program = start(gate.url).connected()
    program.happen("user_add", mt_user())
    for ticket in range(1, 21):
        program.happen("deal_add", mt_deal(ticket))
    until(lambda: program.waiting() >= 23)
    children = until(program.children)
    program.kill()
    until(lambda: all(is_gone(pid) for pid in children), what="the second process ends with the first")
    assert reader.read() == []

    gate.open()
    again = Program(program.folder, gate.url)
    try:
        again.happen("user_add", mt_user())
        again.happen("deal_add", mt_deal(21))  # happened before the new session: nobody tells it
        again.connected()
        until(lambda: {event.key for event in reader.of("deal.add")} >= {str(ticket) for ticket in range(1, 22)}, 30)
        until(lambda: len(reader.of("control.sync_done")) >= 2 + 4)
        printed = again.terminate()
    finally:
        if again.process.poll() is None:
            again.kill()
    assert again.process.returncode == 0, printed
    assert "Traceback" not in printed
    told = [event.deal.ticket for event in reader.of("deal.add")]
    assert told[:20] == list(range(1, 21)), "in their order"
    signals = [event.change for event in reader.of("control.connected", "control.disconnected")]
    assert signals == ["connected", "disconnected", "connected", "disconnected"]
    notes = [event.notes for event in reader.of("control.sync_done") if "request" in event.notes]
    assert [note["what"] for note in notes] == ["deals", "positions", "orders", "accounts"]
    seqs = [event.seq for event in reader.read()]
    assert seqs == list(range(1, len(seqs) + 1)), "one sequence over both processes and both starts"


def test_killed_after_redis_took_it_the_events_come_twice_not_never(start, gate, reader):
    program = start(gate.url).connected()
    reader.first("control.sync_done")
    beats = len(reader.of("control.heartbeat"))
    until(lambda: len(reader.of("control.heartbeat")) > beats)  # the next one would take the only chance of the deals
    gate.swallow_answers = True
    for ticket in range(1, 4):
        program.happen("deal_add", mt_deal(ticket))
    until(lambda: reader.of("deal.add"))  # the first of them, maybe with others: later connections do not get that far
    until(lambda: program.waiting() >= 3)
    program.kill()
    taken = len(reader.of("deal.add"))
    gate.swallow_answers = False
    start(gate.url).connected()
    until(lambda: len(reader.of("deal.add")) >= 3 + taken)
    assert {event.key for event in reader.of("deal.add")} == {"1", "2", "3"}


def test_the_second_process_is_started_again(start, gate, reader):
    program = start(gate.url).connected()
    reader.first("control.heartbeat", requests="ready")
    (child,) = program.children()
    os.kill(child, signal.SIGKILL)
    until(lambda: any(pid != child and not is_gone(pid) for pid in program.children()), 20)
    printed = program.terminate()
    assert "the second process ended with code" in printed


def test_a_heartbeat_says_how_things_are(start, gate, reader):
    start(gate.url).connected()
    beat = reader.first("control.heartbeat", requests="ready", connected="yes")
    assert beat.notes["contract"] == "1"
    assert beat.notes["address"] == "10.0.0.1:443"
    assert int(beat.notes["clock_offset_min"]) == house.ZONE.offset_min(now())
    assert beat.notes["handler_failures"] == "0"


def test_over_tls_to_a_pinned_authority_with_a_client_password(start, base_settings, redis, reader, tmp_path):
    redis.execute_command("ACL", "SETUSER", "bridge", "reset", "on", ">s3cret pass", *GRANTS)
    gate = house.Gate(base_settings.redis_url, tls=authority(tmp_path / "tls"))
    try:
        url = gate.url.replace("rediss://", "rediss://bridge@")
        program = start(url, redis_lines='ca_file = "tls/ca.pem"', env={"BRIDGE_REDIS_PASSWORD": "s3cret pass"}).connected()
        program.happen("user_add", mt_user())
        program.happen("deal_add", mt_deal(1))
        reader.first("deal.add", key="1")
        reader.first("control.heartbeat", requests="ready")
        program.happen("drop")
        program.happen("restore")
        until(lambda: len([event for event in reader.of("control.sync_done") if "request" in event.notes]) == 4)
        printed = program.terminate()
        assert "NOPERM" not in printed, printed
        assert "s3cret" not in printed
        assert "Mt5#Manager1" not in printed
        access = RedisAccess(url, str(tmp_path / "tls" / "ca.pem"), "s3cret pass")
        client = redis_client(access)
        for call in (lambda: client.get("mt:live1:0"), lambda: client.xadd("mt:other:0", {"a": "b"}), client.flushall):
            with pytest.raises(NoPermissionError):
                call()
        client.close()
    finally:
        gate.close()
        redis.execute_command("ACL", "DELUSER", "bridge")


def test_another_authoritys_certificate_is_refused_and_events_wait(start, base_settings, reader, tmp_path):
    gate = house.Gate(base_settings.redis_url, tls=authority(tmp_path / "impostor"))
    authority(tmp_path / "tls")
    try:
        url = gate.url.replace("rediss://", "rediss://bridge@")
        program = start(url, redis_lines='ca_file = "tls/ca.pem"', env={"BRIDGE_REDIS_PASSWORD": "x"}).connected()
        until(lambda: "certificate verify failed" in program.log.read_text(), 20)
        assert program.waiting() >= 2
        assert reader.read() == []
    finally:
        gate.close()


def test_two_bridges_in_one_folder_are_refused(start, gate):
    start(gate.url).connected()
    second = start(gate.url)
    printed, _ = second.process.communicate(timeout=20)
    assert second.process.returncode == 1
    assert "Error: Another bridge runs in this folder." in printed


def test_elsewhere_than_on_windows_it_says_why_it_does_not_run(tmp_path):
    config = tmp_path / "bridge.toml"
    config.touch()
    done = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), "bridge", "--config", str(config)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "runs on Windows only" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_bridge_needs_only_what_its_requirements_bring():
    """Everything that is imported on the Windows host stands in requirements-bridge.txt."""
    code = (
        "import sys, click, run\nfrom app.metatrader.bridge import program\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    printed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    owners = packages_distributions()
    used = {owner.lower() for name in printed.split() for owner in owners.get(name, []) if name not in sys.stdlib_module_names}
    lock = (ROOT / "requirements-bridge.txt").read_text()
    known = {line.partition("==")[0] for line in lock.splitlines() if "==" in line and line[0].isalnum()}
    assert "redis" in used
    # The Redis client takes the first two when they happen to be there, and does without; the third is this environment's.
    assert used - known - {"hiredis", "cryptography", "setuptools"} == set()
