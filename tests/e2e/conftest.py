"""A whole brokerage for the browser tests: the real processes of `run.py up` on free ports and a folder of their own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.conftest import CHROMIUM

ROOT = Path(__file__).resolve().parents[2]
READY_WITHIN_S = 120
expect.set_options(timeout=20_000)
T = TypeVar("T")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browser tests run where a chromium is; in CI a missing one is a failure, elsewhere a reported skip."""
    if CHROMIUM or os.environ.get("CI") == "true":
        return
    reason = pytest.mark.skip(reason="no chromium on this machine; install Debian's package chromium to run the browser tests")
    for item in items:
        if item.get_closest_marker("browser"):
            item.add_marker(reason)


def free_ports(count: int) -> int:
    """The first of `count` neighbouring free ports."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            first = probe.getsockname()[1]
        if first + count >= 65_000:
            continue
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first


def eventually(condition: Callable[[], T], *, within_s: float = 30, what: str = "") -> T:
    """The first true value of the condition; fails with its last answer when none comes in time."""
    deadline = time.monotonic() + within_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not in {within_s} s: {what or condition}; last: {value!r}")
        time.sleep(0.1)


@dataclass
class Brokerage:
    """A running brokerage and the doors to it."""

    port: int
    var_dir: Path
    environment: dict[str, str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def mails(self, address: str) -> list[dict[str, Any]]:
        """Mails to this address in the development mailbox, newest first, with their text."""
        base = f"http://127.0.0.1:{self.port + 3}"
        listed = httpx.get(f"{base}/messages.json", params={"to": address}).json()
        messages = listed["messages"] if isinstance(listed, dict) else listed
        return [httpx.get(f"{base}/messages/{message['id']}.json").json() for message in messages]

    def link_in_mail(self, address: str, pattern: str) -> str:
        """The first link in the mails to this address that matches the pattern; waits for the mail."""

        def find() -> str:
            for mail in self.mails(address):
                match = re.search(pattern, json.dumps(mail, ensure_ascii=False))
                if match:
                    return match.group(0)
            return ""

        return eventually(find, what=f"mail with {pattern}")

    def trade(self, login: int, symbol: str, side: str, lots: str, *, on_mt4: bool = False) -> dict[str, Any]:
        """Let the simulator trade this login once, there and back."""
        folder, port, manager = ("mt4-simulator", self.port + 5, "1") if on_mt4 else ("simulator", self.port + 1, "1000")
        context = ssl.create_default_context(cafile=str(self.var_dir / folder / "ca.pem"))
        with httpx.Client(verify=context) as client:
            answer = client.post(
                f"https://127.0.0.1:{port}/sim/trade",
                json={"login": login, "symbol": symbol, "side": side, "lots": lots, "close": True},
                auth=(manager, self.secret("MT5_PASSWORD")),
            )
        answer.raise_for_status()
        return dict(answer.json())

    def secret(self, name: str) -> str:
        return str(json.loads((self.var_dir / "secrets.json").read_text())[name])

    def run(self, *arguments: str) -> str:
        """Run a command of run.py beside the running processes."""
        done = subprocess.run(
            [sys.executable, "run.py", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="session")
def brokerage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokerage]:
    """`run.py up` from nothing, ready to use; stopped with SIGTERM at the end."""
    var_dir = tmp_path_factory.mktemp("brokerage")
    port = free_ports(6)
    environment = {
        **{
            name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "DATABASE_OWNER_URL", "REDIS_URL")
        },
        "PORT": str(port),
        "LOTWISE_VAR": str(var_dir),
        "LOTWISE_ENV": "development",
        "SIMULATOR_DEALS_PER_MINUTE": "0",
    }
    log_path = var_dir / "console.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "run.py", "up"],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + READY_WITHIN_S
        while True:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail("the brokerage did not come up:\n" + log_path.read_text(errors="replace")[-6000:])
            if "Lotwise is ready" in log_path.read_text(errors="replace"):
                break
            time.sleep(0.2)
        assert httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=5).status_code == 200
        yield Brokerage(port, var_dir, environment)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise


@pytest.fixture
def screenshots() -> Path | None:
    """Where to put pictures of each step: the folder in SCREENSHOTS, or nowhere."""
    folder = os.environ.get("SCREENSHOTS")
    if not folder:
        return None
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    return path


@dataclass
class Person:
    """Somebody with a browser of their own; everything the page complains about is collected."""

    context: BrowserContext
    page: Page
    complaints: list[str]


@pytest.fixture
def person(browser: Browser) -> Iterator[Callable[..., Person]]:
    """Make people: `person(width=390, locale="ar")`. At the end no page may have complained (errors, blocked scripts)."""
    made: list[Person] = []

    def make(width: int = 1280, height: int = 900, locale: str = "en-GB") -> Person:
        context = browser.new_context(viewport={"width": width, "height": height}, locale=locale)
        context.set_default_timeout(20_000)
        page = context.new_page()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        made.append(Person(context, page, complaints))
        return made[-1]

    yield make
    # Chromium also logs every answer with a status of 400 and above; a refused form is one, and meant to be.
    complaints = [text for one in made for text in one.complaints if "the server responded with a status of 4" not in text]
    for one in made:
        one.context.close()
    assert not complaints, complaints
