"""The two processes of a bridge: the first pumps, writes down and sends; it starts the second, which answers requests."""

from __future__ import annotations

import logging
import secrets
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from app.core.clock import now
from app.metatrader.bridge import manager, settings
from app.metatrader.bridge.backfill import Answerer
from app.metatrader.bridge.outbox import Outbox
from app.metatrader.bridge.publisher import Publisher, redis_client
from app.metatrader.bridge.session import Session
from app.metatrader.bridge.settings import BridgeSettings
from app.metatrader.bridge.sinks import Inbox
from app.metatrader.bridge.telling import Teller
from app.metatrader.bridge.worker import Worker
from app.metatrader.events import Origin
from config import ROOT, StartError

log = logging.getLogger("lotwise.bridge")

VERSION = "1"
HEARTBEAT_S = 5.0
RESTART_S = 5.0
LOG_BYTES, LOG_FILES = 10_000_000, 10


def run(config: Path, *, module_name: str = "", second_of: str = "") -> None:
    """Run one of the two processes until SIGTERM, SIGINT or Ctrl-Break. Raises StartError.

    `second_of` makes it the second process: the boot in whose name it writes, which the first one gives it.
    `module_name` names a stand-in for MetaQuotes' package, for tests; without it only Windows will do.
    """
    if not module_name and sys.platform != "win32":
        raise StartError(
            "The bridge runs on Windows only, because MetaQuotes' mt5manager package does (docs/metatrader-bridge.md). "
            "Without a Windows host, let the server's events come by Kafka, webhooks, SQL export or polling."
        )
    config = config.absolute()  # the package is loaded from another folder
    loaded = settings.load(config)
    set_up_logging(loaded.folder / "logs", "requests" if second_of else "bridge")
    stop = stopped_by_signal()
    try:
        outbox = Outbox(loaded.folder / "outbox.sqlite3")
    except (sqlite3.Error, OSError) as error:
        raise StartError(f"The outbox in {loaded.folder} cannot be opened: {error}.") from error
    try:
        module = _module(module_name or manager.MODULE, loaded.folder / ("requests" if second_of else "pump"))
        if second_of:
            answer_requests(loaded, module, outbox, stop, second_of)
        else:
            with _only_one(loaded.folder):
                pump(loaded, module, outbox, stop, _Second(config, module_name))
    finally:
        outbox.close()


def pump(loaded: BridgeSettings, module: Any, outbox: Outbox, stop: threading.Event, second: _Second) -> None:
    """The first process, until `stop` is set. Raises StartError when a part of it has died: the service starts it again."""
    boot = f"{now():%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
    asks = loaded.answers_requests and loaded.asks_after_gap
    inbox = Inbox()
    connection = manager.Connection(module)
    teller = Teller(Origin(loaded.code, "bridge", boot), loaded.zone, loaded.shards)
    worker = Worker(inbox, outbox, connection, teller, gap_groups=loaded.groups if asks else "")
    publisher = Publisher(outbox, redis_client(loaded.redis))
    session = Session(loaded, connection, inbox)
    log.info("bridge of %s starts, boot %s, contract %s, %d events wait", loaded.code, boot, VERSION, outbox.size())
    worker.start()
    publisher.start()
    session.start()
    try:
        next_beat = 0.0
        while not stop.wait(0.25):
            if loaded.answers_requests:
                second.keep_running(boot)
            if not (worker.is_alive and session.is_alive and publisher.is_alive):
                raise StartError("A part of the bridge has died; its log says why. It has to be started again.")
            # A heartbeat that waits in the outbox tells nobody anything.
            if time.monotonic() >= next_beat and not publisher.is_away:
                next_beat = time.monotonic() + HEARTBEAT_S
                inbox.put("heartbeat", "", _notes(outbox, session, second, loaded))
    finally:
        second.stop()
        worker.stop()
        session.stop()
        publisher.stop()
        log.info("bridge of %s stopped, %d events wait in the outbox", loaded.code, outbox.size())


def answer_requests(loaded: BridgeSettings, module: Any, outbox: Outbox, stop: threading.Event, boot: str) -> None:
    """The second process, until `stop` is set or the first has ended."""
    teller = Teller(Origin(loaded.code, "bridge", boot), loaded.zone, loaded.shards)
    answerer = Answerer(loaded, manager.Connection(module), outbox, redis_client(loaded.redis), teller)

    def watch() -> None:
        while not stop.wait(0.25):
            pass
        answerer.stop()

    def wait_for_parent() -> None:
        sys.stdin.buffer.read()  # the first process holds the other end and never writes: its end is the end of the file
        stop.set()

    for wait in (watch, wait_for_parent):
        threading.Thread(target=wait, daemon=True).start()
    answerer.run()


class _Second:
    """The second process, started and started again."""

    def __init__(self, config: Path, module_name: str) -> None:
        self._command = [sys.executable, str(ROOT / "run.py"), "bridge", "--config", str(config)]
        self._command += ["--module", module_name] if module_name else []
        self._process: subprocess.Popen[bytes] | None = None
        self._next_start = 0.0

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def keep_running(self, boot: str) -> None:
        if self.is_running or time.monotonic() < self._next_start:
            return
        if self._process is not None:
            log.error("the second process ended with code %s, it is started again", self._process.returncode)
            self._close()
        self._next_start = time.monotonic() + RESTART_S
        self._process = subprocess.Popen([*self._command, "--second-of", boot], stdin=subprocess.PIPE, cwd=ROOT)

    def stop(self, patience_s: float = 10.0) -> None:
        """Let it end by itself, which the end of its input tells it; by force when it does not."""
        if self._process is None:
            return
        self._close()
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _close(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()


def _notes(outbox: Outbox, session: Session, second: _Second, loaded: BridgeSettings) -> dict[str, str]:
    """What a heartbeat tells beside what the worker knows."""
    try:
        requests, clock = outbox.note("requests"), outbox.note("clock_offset_min")
    except sqlite3.Error as error:
        requests, clock = f"outbox: {error}", ""
    # Only the second process looks at the clock: without it nobody knows.
    if not loaded.answers_requests:
        requests, clock = "switched off", ""
    elif not second.is_running:
        requests, clock = "the second process does not run", ""
    return {"contract": VERSION, "requests": requests, "clock_offset_min": clock, "session": session.trouble[:500]}


def _module(name: str, folder: Path) -> Any:
    try:
        return manager.load_module(name, folder)
    except ModuleNotFoundError as error:
        if name != manager.MODULE:
            raise StartError(f"There is no module {name}.") from error
        raise StartError(
            "MetaQuotes' package is not installed: python -m pip install -r requirements-bridge.txt puts it there."
        ) from error


class _only_one:  # noqa: N801  used as a function
    """Holds a lock on the folder for as long as the process lives, on any system: two pumps would tell everything twice."""

    def __init__(self, folder: Path) -> None:
        self._db = sqlite3.connect(folder / "running.lock", isolation_level=None, timeout=1, check_same_thread=False)

    def __enter__(self) -> None:
        try:
            self._db.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            self._db.close()
            raise StartError("Another bridge runs in this folder.") from error

    def __exit__(self, *_: object) -> None:
        self._db.close()


def stopped_by_signal() -> threading.Event:
    """An event that the usual signals set. Wait for it in short turns: on Windows nothing interrupts a long one."""
    stop = threading.Event()

    def end(_number: int, _frame: object) -> None:
        stop.set()

    for name in ("SIGTERM", "SIGINT", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), end)
    return stop


def set_up_logging(folder: Path, name: str) -> None:
    """Lines with their moment in UTC, on the standard error output and in files that do not grow for ever."""
    folder.mkdir(parents=True, exist_ok=True)
    line = logging.Formatter("%(asctime)sZ %(levelname)s %(name)s: %(message)s")
    line.converter = time.gmtime
    handlers: list[logging.Handler] = [
        logging.StreamHandler(),
        RotatingFileHandler(folder / f"{name}.log", maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8"),
    ]
    for handler in handlers:
        handler.setFormatter(line)
    logging.basicConfig(level=logging.WARNING, handlers=handlers, force=True)
    logging.getLogger("lotwise").setLevel(logging.INFO)
