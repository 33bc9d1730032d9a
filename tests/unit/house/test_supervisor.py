"""The supervisor, run as a process of its own: it forks, takes signals and watches children, which a test process must not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from app import processes

ROOT = Path(__file__).resolve().parents[3]

#: Parts are made by part(name, code): a Python program. `say` writes a line that the test can wait for.
PRELUDE = f"""
import os, signal, subprocess, sys, time
sys.path.insert(0, {str(ROOT)!r})
from functools import partial
from app import processes, supervisor
from app.supervisor import APPLICATION, HELPERS, SERVERS, Console, Part, Supervisor

SAY = '''
import os, signal, sys, time
def say(text):  # in one write, so that lines of two processes do not mix
    os.write(1, (text + chr(10)).encode())
'''

def part(name, code, stage=APPLICATION):
    argv = [sys.executable, "-u", "-c", SAY + code]
    return Part(name, partial(processes.launch, argv, cwd="/", environment=os.environ, output=subprocess.PIPE), stage)

house = Supervisor(Console())
house.listen()
"""
FOREVER = "time.sleep(600)"


class Driver:
    """A supervising process and what it has printed so far."""

    def __init__(self, code: str, tmp_path: Path) -> None:
        script = tmp_path / "driver.py"
        script.write_text(PRELUDE + code, encoding="utf-8")
        self.log = tmp_path / "output"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(script)], stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def output(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def wait_for(self, text: str, count: int = 1) -> None:
        eventually(lambda: self.output.count(text) >= count, lambda: f"{text!r} in:\n{self.output}")

    def pid(self, name: str) -> int:
        """The process id that a part has printed as "pid N" (its latest)."""
        self.wait_for(f"{name:<9} | pid ")
        line = [line for line in self.output.splitlines() if line.startswith(f"{name:<9} | pid ")][-1]
        return int(line.split()[-1])


@contextmanager
def driver(code: str, tmp_path: Path) -> Iterator[Driver]:
    made = Driver(code, tmp_path)
    try:
        yield made
    finally:
        with suppress(ProcessLookupError):
            os.kill(made.process.pid, signal.SIGKILL)
        made.process.wait(10)


def eventually(condition: Callable[[], object], what: Callable[[], str] = lambda: "condition", within_s: float = 15) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists() or Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_output_is_shown_by_line_behind_the_name(tmp_path: Path) -> None:
    code = """
house.start(part("first", "print('one'); sys.stdout.write('tw'); sys.stdout.flush(); time.sleep(.2); print('o\\\\r')"))
house.parts[0].restart = False
house.once(part("second", "sys.stdout.write('no newline at the end'); sys.stderr.write('')"))
house.run(until=lambda: house.parts[0].returncode is not None)
house.stop()
"""
    with driver(code, tmp_path) as house:
        assert house.process.wait(15) == 0
        assert "first     | one\n" in house.output
        assert "first     | two\n" in house.output
        assert "second    | no newline at the end\n" in house.output


def test_the_exit_code_of_one_piece_of_work(tmp_path: Path) -> None:
    with driver("sys.exit(house.once(part('work', 'sys.exit(7)')))", tmp_path) as house:
        assert house.process.wait(15) == 7
        assert "starting it again" not in house.output


def test_a_part_that_dies_is_started_again_and_the_console_says_why(tmp_path: Path) -> None:
    code = f"""
house.start(part("quick", "say('pid %d' % os.getpid()); sys.exit(3)"))
house.start(part("steady", "say('pid %d' % os.getpid()); {FOREVER}"))
house.run()
house.stop()
"""
    with driver(code, tmp_path) as house:
        first = house.pid("steady")
        os.kill(first, signal.SIGKILL)
        house.wait_for("steady    | died (killed by SIGKILL); starting it again in 0.5 s")
        house.wait_for("steady    | pid", 2)
        assert house.pid("steady") != first
        house.wait_for("quick     | died (exit code 3); starting it again in 0.5 s")
        house.wait_for("quick     | died (exit code 3); starting it again in 1 s")
        house.process.terminate()
        assert house.process.wait(15) == 0
        assert is_gone(house.pid("steady"))


def test_what_a_dead_part_left_running_is_ended_before_it_starts_again(tmp_path: Path) -> None:
    code = f"""
house.start(part("parent", '''
child = os.fork()
if child == 0:
    os.setpgid(0, 0)  # as RQ's work horses do
    say('pid %d' % os.getpid())
    {FOREVER}
say('leader %d' % os.getpid())
{FOREVER}
'''))
house.run()
house.stop()
"""
    with driver(code, tmp_path) as house:
        child = house.pid("parent")
        house.wait_for("leader ")
        leader = int(house.output.split("leader ")[1].split()[0])
        os.kill(leader, signal.SIGKILL)
        eventually(lambda: is_gone(child))
        house.wait_for("leader ", 2)


def test_a_stop_goes_from_the_application_to_the_servers(tmp_path: Path) -> None:
    code = """
obey = '''
def stop(*_):
    print('stopping'); time.sleep(.2); sys.exit()
signal.signal(signal.SIGTERM, stop)
say('pid %d' % os.getpid())
while True: time.sleep(1)
'''
for name, stage in (("database", SERVERS), ("helper", HELPERS), ("web", APPLICATION)):
    house.start(part(name, obey, stage))
house.run()
house.stop()
"""
    with driver(code, tmp_path) as house:
        pids = [house.pid(name) for name in ("database", "helper", "web")]
        house.process.send_signal(signal.SIGINT)
        assert house.process.wait(15) == 0
        stopping = [line.split()[0] for line in house.output.splitlines() if line.endswith("stopping")]
        assert stopping == ["web", "helper", "database"]
        assert all(map(is_gone, pids))


def test_everything_ends_within_ten_seconds_whoever_refuses(tmp_path: Path) -> None:
    code = f"""
deaf = '''
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0: os.setpgid(0, 0)
say('pid %d' % os.getpid())
{FOREVER}
'''
for name, stage in (("database", SERVERS), ("helper", HELPERS), ("web", APPLICATION)):
    house.start(part(name, deaf, stage))
house.run()
house.stop()
"""
    with driver(code, tmp_path) as house:
        for name in ("database", "helper", "web"):
            house.wait_for(f"{name:<9} | pid ", 2)
        pids = [int(line.split()[-1]) for line in house.output.splitlines() if "| pid " in line]
        began = time.monotonic()
        house.process.terminate()
        assert house.process.wait(15) == 0
        assert time.monotonic() - began < 10
        assert house.output.count("did not stop in time; killed") == 3
        assert all(map(is_gone, pids))


def test_a_second_signal_skips_all_patience(tmp_path: Path) -> None:
    code = f"""
house.start(part("deaf", "signal.signal(signal.SIGTERM, signal.SIG_IGN); say('pid %d' % os.getpid()); {FOREVER}"))
house.run()
print("asked", flush=True)
house.stop()
"""
    with driver(code, tmp_path) as house:
        pid = house.pid("deaf")
        began = time.monotonic()
        house.process.terminate()
        house.wait_for("asked")
        house.process.terminate()
        house.process.wait(15)
        assert time.monotonic() - began < 3
        assert is_gone(pid)


def test_nothing_stays_when_the_supervisor_itself_is_killed(tmp_path: Path) -> None:
    code = f"""
house.start(part("launched", "say('pid %d' % os.getpid()); {FOREVER}"))
def forked():
    print('pid', os.getpid())
    {FOREVER}
house.start(Part("forked", partial(processes.fork, "forked", forked)))
house.run()
"""
    with driver(code, tmp_path) as house:
        pids = [house.pid("launched"), house.pid("forked")]
        house.process.kill()
        for pid in pids:
            eventually(lambda pid=pid: is_gone(pid))


def test_a_forked_part_tells_its_errors_and_its_exit_code(tmp_path: Path) -> None:
    code = """
from config import StartError
def refuse():
    raise StartError("The port is taken.")
def fail():
    raise ValueError("surprise")
codes = [house.once(Part(work.__name__, partial(processes.fork, work.__name__, work))) for work in (refuse, fail)]
codes.append(house.once(Part("leave", partial(processes.fork, "leave", partial(sys.exit, 4)))))
codes.append(house.once(Part("fine", partial(processes.fork, "fine", partial(print, "done")))))
print(codes)
"""
    with driver(code, tmp_path) as house:
        assert house.process.wait(15) == 0
        assert "refuse    | The port is taken.\n" in house.output
        assert "fail      | ValueError: surprise" in house.output
        assert "fine      | done" in house.output
        assert house.output.count("Traceback") == 1
        assert "[1, 1, 4, 0]" in house.output


def test_a_part_that_cannot_be_launched_is_tried_again(tmp_path: Path) -> None:
    program = tmp_path / "program"
    code = f"""
launch = partial(processes.launch, [{str(program)!r}], cwd="/", environment=os.environ, output=subprocess.PIPE)
house.start(Part("late", launch))
house.run()
house.stop()
"""
    with driver(code, tmp_path) as house:
        house.wait_for("No such file or directory")
        program.write_text("#!/bin/sh\necho here\nsleep 600\n")
        program.chmod(0o755)
        house.wait_for("late      | here")
        house.process.terminate()
        assert house.process.wait(15) == 0


@pytest.mark.parametrize(
    ("code", "words"), [(0, "exit code 0"), (3, "exit code 3"), (-9, "killed by SIGKILL"), (-200, "killed by signal 200")]
)
def test_how_it_ended(code: int, words: str) -> None:
    assert processes.how_it_ended(code) == words


def test_a_process_is_told_from_a_stranger_by_its_folder(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"], cwd=tmp_path) as process:
        eventually(lambda: processes.works_in(process.pid, tmp_path))
        assert not processes.works_in(process.pid, tmp_path / "other")
        process.kill()
    assert not processes.works_in(process.pid, tmp_path)
