"""Child processes that end with their parent (Linux): started or forked, told apart from strangers, ended with all they left.

Used by the private database servers and by the supervisor.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NoReturn

from config import StartError

#: prctl(2), from <linux/prctl.h>.
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_HIGHEST_DESCRIPTOR = 4096

_libc = ctypes.CDLL(None, use_errno=True)

Work = Callable[[], None]


class Forked:
    """A child that runs one of our functions. The part of subprocess.Popen's interface that a supervisor needs."""

    def __init__(self, pid: int, output: IO[bytes]) -> None:
        self.pid = pid
        self.stdout: IO[bytes] | None = output
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit status once the child has ended, negative for a signal; None before."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def launch(
    argv: Sequence[str],
    *,
    cwd: Path | str,
    environment: Mapping[str, str],
    output: int | IO[Any],
    death_signal: signal.Signals = signal.SIGTERM,
    account: tuple[int, int] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program as leader of its own session, so that the terminal's Ctrl-C reaches only the parent.

    The kernel sends it `death_signal` when the parent dies, however it dies. `account` is the (user id, group id) to run as;
    only root may give one. Call it from the main thread: the kernel watches the thread that forked.
    """
    parent = os.getpid()
    identity: dict[str, Any] = {}
    if account is not None:
        identity = {"user": account[0], "group": account[1], "extra_groups": []}
    return subprocess.Popen(
        list(argv),
        cwd=cwd,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=lambda: _die_with(parent, death_signal),
        **identity,
    )


def fork(name: str, run: Work) -> Forked:
    """Run a function in a child that shares what this process has imported; its output comes through `stdout`.

    Like `launch`: a session of its own, SIGTERM when the parent dies. The parent must have one thread and no open
    database connection. `name` is what `ps` and `top` show.
    """
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        _be_child(name, run, parent, writable)
    os.close(writable)
    return Forked(pid, os.fdopen(readable, "rb", buffering=0))


def how_it_ended(returncode: int) -> str:
    """An exit status in words: "exit code 3" or "killed by SIGKILL"."""
    if returncode >= 0:
        return f"exit code {returncode}"
    with suppress(ValueError):
        return f"killed by {signal.Signals(-returncode).name}"
    return f"killed by signal {-returncode}"


def has_ended(pid: int) -> bool:
    """Whether a child has ended; it stays unreaped, so that nobody gets its number yet."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # reaped already
        return True


def in_session(session_id: int) -> list[int]:
    """Ids of the living processes of one session, also those in process groups of their own (as RQ's jobs are)."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                # The name in brackets may hold anything; what follows the last bracket: state, parent, group, session.
                state, _parent, _group, session, *_ = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(session) == session_id and state != "Z":
                    found.append(int(entry.name))
    return found


def kill_session(session_id: int) -> None:
    """SIGKILL every process of a session."""
    for pid in in_session(session_id):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def works_in(pid: int, folder: Path) -> bool:
    """Whether a living process has this working folder: tells the process of a pid file from a stranger with its number."""
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == folder
    except OSError:
        return False


def _die_with(parent: int, death_signal: signal.Signals) -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, int(death_signal))
    if os.getppid() != parent:  # it died before the kernel was told to watch it
        os._exit(1)


def _be_child(name: str, run: Work, parent: int, output: int) -> NoReturn:
    code = 1
    try:
        os.setsid()
        _die_with(parent, signal.SIGTERM)
        _libc.prctl(_PR_SET_NAME, name.encode())
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        # Locks and pipes of the parent are not the child's; their objects live on in the parent's frames, never used.
        os.closerange(3, _HIGHEST_DESCRIPTOR)
        run()
        code = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)  # noqa: T201  as the interpreter does
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except StartError as error:
        print(error, file=sys.stderr)  # noqa: T201  one line, as run.py does
    except BaseException:  # noqa: BLE001  the last frame of this process
        traceback.print_exc()
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
