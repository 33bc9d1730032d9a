"""Keeps the parts of the house running in one terminal.

Each part is a process in a session of its own. Its output is shown line by line behind its name; when it dies, the console
says how, what it left behind is ended, and it is started again after a delay that grows while it keeps dying. A stop goes
through the stages from the highest to the lowest, so that the database is the last to leave.
"""

from __future__ import annotations

import os
import selectors
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import IO, Protocol, TextIO

from app import processes
from app.server_home import EmbeddedError

#: Stages in order of start.
SERVERS, HELPERS, APPLICATION = range(3)
#: Seconds after the wish to stop until what is left of a stage is killed. Time that one stage leaves is the next one's:
#: the database, last to leave, may have much to write.
KILLED_AFTER_S = (9.0, 5.5, 4.5)

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
#: A part that ran this long has recovered: its next death starts with the first delay again.
RECOVERED_S = 30.0
TICK_S = 0.1
KILL_S = 0.5
READ_BYTES = 65_536
LONGEST_LINE = 16_384
COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)


class Process(Protocol):
    """What subprocess.Popen and processes.Forked have in common."""

    pid: int
    stdout: IO[bytes] | None

    def poll(self) -> int | None: ...
    def send_signal(self, number: signal.Signals, /) -> None: ...


@dataclass
class Part:
    """One process to keep running. `launch` starts it; `process` may hold one that is running already."""

    name: str
    launch: Callable[[], Process]
    stage: int = APPLICATION
    stop_signal: signal.Signals = signal.SIGTERM
    restart: bool = True
    process: Process | None = None
    returncode: int | None = None
    deaths: int = 0
    started_at: float = 0.0
    due_at: float | None = None
    unfinished_line: bytes = b""


@dataclass
class Console:
    """Where lines go: "name | text", the name in a colour of its own on a terminal."""

    stream: TextIO = field(default_factory=lambda: sys.stdout)
    width: int = 9
    #: Nobody reads any more: the terminal was closed, or the pipe's other end.
    deserted: bool = False
    _names: list[str] = field(default_factory=list)

    def line(self, name: str, text: str) -> None:
        label = f"{name:<{self.width}} |"
        if self.stream.isatty():
            if name not in self._names:
                self._names.append(name)
            label = f"\033[{COLOURS[self._names.index(name) % len(COLOURS)]}m{label}\033[0m"
        self.write(f"{label} {text}\n")

    def write(self, text: str) -> None:
        try:
            self.stream.write(text)
            self.stream.flush()
        except OSError:
            self.deserted = True


class Supervisor:
    """Starts parts, pumps their output, starts again what dies, stops everything. Single-threaded, because it forks."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.parts: list[Part] = []
        self.stopping = False
        self._hurry = False
        self._selector = selectors.DefaultSelector()

    def listen(self) -> None:
        """Take SIGINT, SIGTERM and SIGHUP as the wish to stop; a second one skips all patience."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def start(self, part: Part) -> None:
        """Start a part and watch it from now on."""
        self.parts.append(part)
        if part.process is None:
            self._launch(part)
        else:
            self._watch(part)

    def run(self, until: Callable[[], bool] = lambda: False) -> bool:
        """Keep the parts running until the condition holds (True) or a stop is wished (False)."""
        while not self.stopping:
            if until():
                return True
            self._tick()
        return False

    def once(self, part: Part) -> int | None:
        """Run a part that ends by itself, keeping the others running. Its exit status; None when a stop came first."""
        part.restart = False
        self.start(part)
        self.run(until=lambda: part.returncode is not None)
        return part.returncode

    def stop(self) -> None:
        """Stop stage by stage, the highest first. Nothing of any part is left running."""
        self.stopping = True
        began = time.monotonic()
        for stage in sorted({part.stage for part in self.parts}, reverse=True):
            running = [part for part in reversed(self.parts) if part.stage == stage and part.process is not None]
            for part in running:
                if part.process is not None:
                    part.process.send_signal(part.stop_signal)
            deadline = began + KILLED_AFTER_S[stage]
            while any(part.process for part in running) and time.monotonic() < deadline and not self._hurry:
                self._tick()
            for part in running:
                if part.process is not None:
                    self.console.line(part.name, "did not stop in time; killed")
                    processes.kill_session(part.process.pid)
            while any(part.process for part in running) and time.monotonic() < deadline + KILL_S:
                self._tick()
        self._selector.close()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._hurry = self.stopping
        self.stopping = True

    def _launch(self, part: Part) -> None:
        part.due_at = None
        try:
            part.process = part.launch()
        except (OSError, EmbeddedError) as error:
            self._plan_restart(part, str(error))
        else:
            self._watch(part)

    def _watch(self, part: Part) -> None:
        assert part.process is not None
        part.started_at = time.monotonic()
        if part.process.stdout is not None:
            os.set_blocking(part.process.stdout.fileno(), False)
            self._selector.register(part.process.stdout, selectors.EVENT_READ, part)

    def _tick(self) -> None:
        """Show what was written, notice who died, start who is due."""
        for key, _ in self._selector.select(TICK_S):
            if self._show(key.data) == b"":
                self._selector.unregister(key.fileobj)
        for part in self.parts:
            if part.process is not None and processes.has_ended(part.process.pid):
                self._bury(part)
            elif part.due_at is not None and not self.stopping and time.monotonic() >= part.due_at:
                self._launch(part)
        self.stopping = self.stopping or self.console.deserted

    def _show(self, part: Part) -> bytes | None:
        """Print the whole lines that a part has written since. Returns what it wrote: empty at the end, None for not yet."""
        assert part.process is not None
        assert part.process.stdout is not None
        try:
            data = os.read(part.process.stdout.fileno(), READ_BYTES)
        except BlockingIOError:
            return None
        *lines, part.unfinished_line = (part.unfinished_line + data).split(b"\n")
        if part.unfinished_line and (not data or len(part.unfinished_line) > LONGEST_LINE):
            lines, part.unfinished_line = [*lines, part.unfinished_line], b""
        for line in lines:
            self.console.line(part.name, line.decode("utf-8", "replace").rstrip("\r"))
        return data

    def _bury(self, part: Part) -> None:
        """End what a dead part left running, show its last words, and plan its next start."""
        process = part.process
        assert process is not None
        processes.kill_session(process.pid)
        if process.stdout is not None:
            while self._show(part):
                pass
            with suppress(KeyError):
                self._selector.unregister(process.stdout)
            process.stdout.close()
        part.process = None
        part.returncode = process.poll()
        assert part.returncode is not None
        if part.restart and not self.stopping:
            self._plan_restart(part, f"died ({processes.how_it_ended(part.returncode)})")

    def _plan_restart(self, part: Part, why: str) -> None:
        if time.monotonic() - part.started_at > RECOVERED_S:
            part.deaths = 0
        delay_s = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2**part.deaths)
        part.deaths += 1
        part.due_at = time.monotonic() + delay_s
        self.console.line(part.name, f"{why}; starting it again in {delay_s:g} s")
