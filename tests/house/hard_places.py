"""`make run` from a clean clone in the hard places: a path with spaces, below a closed home as an ordinary user, as root.

Each place gets a clone of this repository and an environment of its own, so this takes minutes: it is not collected by a plain
`pytest`. Run it with `python -m pytest tests/house/hard_places.py`. As root it makes an ordinary user and removes it again.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.parse import urlencode

import pytest

from app import server_home

ROOT = Path(__file__).resolve().parents[2]
AM_ROOT = os.getuid() == 0
INSTALLED_WITHIN_S = 420
READY_WITHIN_S = 90
STOPPED_WITHIN_S = 10

pytestmark = pytest.mark.slow


@dataclass
class Place:
    """A checkout in an awkward place, and the user who works there (None: ourselves)."""

    top: Path
    checkout: Path
    user: str | None
    python: str
    port: int = 0
    home: Path = field(default_factory=Path)

    def start(self) -> subprocess.Popen[str]:
        """`make run`, as from the user's own shell."""
        identity = {} if self.user is None else {"user": self.user, "group": self.user, "extra_groups": []}
        log = (self.top / "output").open("a")
        with log:
            return subprocess.Popen(
                ["make", "run", f"PORT={self.port}", f"PYTHON={self.python}"],
                cwd=self.checkout,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
                **identity,
            )

    def environment(self) -> dict[str, str]:
        """What a login shell would have, and nothing that points at this test's own environment."""
        kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_")) or name == "LANG"}
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return kept | {"PATH": path, "HOME": str(self.home), "USER": self.user or pwd.getpwuid(os.getuid()).pw_name}

    @property
    def output(self) -> str:
        return (self.top / "output").read_text(encoding="utf-8", errors="replace")

    def modes(self) -> dict[str, tuple[int, int, int]]:
        """Mode and owner of every folder above the checkout, of the checkout, and of the files under version control."""
        tracked = subprocess.run(
            ["git", "-c", f"safe.directory={self.checkout}", "ls-files", "-z"],
            cwd=self.checkout,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split("\0")
        paths = [self.checkout, *self.checkout.parents, *(self.checkout / name for name in tracked if name)]
        return {str(path): (path.stat().st_mode, path.stat().st_uid, path.stat().st_gid) for path in paths}


def free_ports(count: int) -> int:
    """The first of some neighbouring ports that are free."""
    while True:
        first = 20_000 + secrets.randbelow(30_000)
        with suppress(OSError):
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            return first


def ordinary_python() -> str:
    """A Python that every user may run: ours may lie in somebody's home."""
    for candidate in (f"/usr/bin/python3.{sys.version_info[1]}", "/usr/bin/python3"):
        if Path(candidate).exists():
            return candidate
    return sys.executable


@pytest.fixture(params=["a path with spaces", "a closed home, as an ordinary user", "a closed home, as root"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    top = Path(tempfile.mkdtemp(prefix="lotwise-"))
    top.chmod(0o755)
    python = os.path.realpath(sys.executable)
    user = None
    if request.param == "a path with spaces":
        made = Place(top, top / "my brokers" / "lot wise", None, python, home=top)
    elif request.param == "a closed home, as root":
        if not AM_ROOT:
            pytest.skip("needs root")
        made = Place(top, top / "home" / "lotwise", None, python, home=top / "home")
    elif AM_ROOT:
        user = f"lotwise-{secrets.token_hex(4)}"
        subprocess.run(["useradd", "--create-home", "--home-dir", str(top / "home"), "--shell", "/bin/bash", user], check=True)
        made = Place(top, top / "home" / "lotwise", user, ordinary_python(), home=top / "home")
    else:
        made = Place(top, top / "home" / "lotwise", None, python, home=top / "home")
    made.port = free_ports(5)
    made.checkout.parent.mkdir(parents=True, exist_ok=True)
    made.home.chmod(0o755 if made.home == top else 0o700)
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(made.checkout)], check=True)
    if user:
        subprocess.run(["chown", "-R", f"{user}:{user}", str(made.checkout)], check=True)
    try:
        yield made
    finally:
        if user:
            subprocess.run(["userdel", user], check=True)
        shutil.rmtree(top)
        server_home.sweep()
        for run_dir in Path("/tmp").glob("lotwise-[0-9]*-*"):
            with suppress(KeyError):
                pwd.getpwuid(run_dir.stat().st_uid)
                continue
            shutil.rmtree(run_dir)


def descendants(pid: int) -> dict[int, str]:
    """The living processes below a process, with what tells each from a later one of the same number."""
    found: dict[int, str] = {}
    children: dict[int, list[int]] = {}
    started: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(entry.name))
                started[int(entry.name)] = fields[19]
    waiting = [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            found[child] = started[child]
            waiting.append(child)
    return found


def still_running(processes: dict[int, str]) -> list[str]:
    """Those of the processes that are alive, as their command lines."""
    alive = []
    for pid, started in processes.items():
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            if fields[19] == started and fields[0] != "Z":
                alive.append(Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "))
    return alive


def wait_until_ready(place: Place, process: subprocess.Popen[str], within_s: float) -> float:
    """Wait for the welcome; the seconds that it names."""
    deadline = time.monotonic() + within_s
    before = place.output.count("Lotwise is ready after")
    while place.output.count("Lotwise is ready after") == before:
        assert process.poll() is None, place.output
        assert time.monotonic() < deadline, place.output
        time.sleep(0.1)
    return float(re.findall(r"Lotwise is ready after ([\d.]+) s", place.output)[-1])


def check_pages(place: Place) -> None:
    """All parts are up, the first page is served, and the demo's administrator can sign in."""
    base = f"http://127.0.0.1:{place.port}"
    with urllib.request.urlopen(f"{base}/healthz", timeout=10) as answer:
        state = json.load(answer)
    assert set(state["parts"].values()) == {"up"}, state
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    with browser.open(f"{base}/portal/", timeout=10) as answer:
        assert answer.status == 200
        assert "<html" in answer.read().decode()
    with browser.open(f"{base}/login/", timeout=10) as answer:
        token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', answer.read().decode())
    assert token
    form = urlencode({"username": "admin", "password": "demo-Lotwise-1", "csrf_token": token[1]}).encode()
    with browser.open(f"{base}/login/", data=form, timeout=10) as answer:
        assert "/login" not in answer.url
        assert "Ada" in answer.read().decode() or answer.status == 200


def stop(place: Place, process: subprocess.Popen[str], how: signal.Signals) -> None:
    """Stop as a process manager (SIGTERM to make) or a keyboard (SIGINT to all in the foreground) would."""
    running = descendants(process.pid)
    assert len(running) >= 10, running
    began = time.monotonic()
    if how is signal.SIGTERM:
        process.terminate()
    else:
        os.killpg(process.pid, how)
    process.wait(STOPPED_WITHIN_S + 5)
    assert time.monotonic() - began < STOPPED_WITHIN_S, place.output
    assert still_running(running) == []
    assert "did not stop in time" not in place.output
    assert "Stopped." in place.output


def test_make_run(place: Place, request: pytest.FixtureRequest) -> None:
    modes = place.modes()

    process = place.start()
    try:
        took_s = wait_until_ready(place, process, INSTALLED_WITHIN_S)
        check_pages(place)
        assert place.output.count("the demo brokerage is loaded") == 1
        secret = (place.checkout / "var" / "secrets.json").read_bytes()
        stop(place, process, signal.SIGTERM)

        process = place.start()
        again_s = wait_until_ready(place, process, READY_WITHIN_S)
        check_pages(place)
        assert place.output.count("the demo brokerage is loaded") == 1, "the data of the first start was not found"
        assert place.output.count("Making .venv") == 1
        assert (place.checkout / "var" / "secrets.json").read_bytes() == secret
        stop(place, process, signal.SIGINT)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()

    assert place.modes() == modes
    assert "Traceback" not in place.output
    assert "died (" not in place.output
    report = request.config.get_terminal_writer()
    report.line(f" {request.node.callspec.id}: ready after {took_s} s, again after {again_s} s")
