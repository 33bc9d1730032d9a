"""Child processes that end with their parent (Linux): starting them, naming how they ended, finding what they left.

Used by the private database servers and by the supervisor.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

#: prctl(2), from <linux/prctl.h>.
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


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

    def before_exec() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(death_signal))
        if os.getppid() != parent:  # it died before the kernel was told to watch it
            os._exit(1)

    return subprocess.Popen(
        list(argv),
        cwd=cwd,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=before_exec,
        **identity,
    )


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent dies, so that none of them escapes a stop."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)


def how_it_ended(returncode: int) -> str:
    """An exit status in words: "exit code 3" or "killed by SIGKILL"."""
    if returncode >= 0:
        return f"exit code {returncode}"
    with suppress(ValueError):
        return f"killed by {signal.Signals(-returncode).name}"
    return f"killed by signal {-returncode}"


def in_session(session_id: int) -> list[int]:
    """Ids of the living processes of one session, process groups of their own included."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                # The name in brackets may hold anything; what follows the last bracket is: state, parent, group, session.
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
    """Whether a living process has this working folder: how a pid from a file is told from a stranger that got its number."""
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == folder
    except OSError:
        return False
