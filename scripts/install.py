"""Makes .venv from a lock with hashes: once per version of the lock, of Python and of the folder. `make` calls it.

Runs with the machine's own Python and its standard library. What Debian leaves out of Python (the venv module) and what
no package of PyPI carries (Pango) is installed with apt where we are root; elsewhere the one command to run is printed.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LIBRARIES = {"libpango-1.0.so.0": "libpango-1.0-0", "libpangoft2-1.0.so.0": "libpangoft2-1.0-0"}
#: Installing the second holds everything of the first.
LOCKS = ("requirements.txt", "requirements-dev.txt")


def main() -> None:
    lock = sys.argv[1] if len(sys.argv) > 1 else LOCKS[0]
    if lock not in LOCKS:
        sys.exit(f"usage: install.py [{'|'.join(LOCKS)}]")
    if sys.version_info < (3, 11):
        sys.exit(f"Python {sys.version.split()[0]} is too old; 3.11 or newer is needed: make run PYTHON=python3.11")
    install_system_packages(missing_system_packages())
    if is_installed(lock):
        return
    if made_by() != maker():
        shutil.rmtree(VENV, ignore_errors=True)
        print("Making .venv …", flush=True)
        run([sys.executable, "-m", "venv", str(VENV)])
        (VENV / "made-by").write_text(maker(), encoding="utf-8")
    install(lock)
    run([str(PYTHON), "-m", "compileall", "-q", "config.py", "app", "migrations"])
    for name in LOCKS[: LOCKS.index(lock) + 1]:
        stamp(name).write_text(digest(name), encoding="utf-8")


def missing_system_packages() -> list[str]:
    """Debian's names of what is missing."""
    missing = []
    probe = [sys.executable, "-c", "import ensurepip, venv"]
    if subprocess.run(probe, stderr=subprocess.DEVNULL, check=False).returncode != 0:
        missing.append(f"python{sys.version_info[0]}.{sys.version_info[1]}-venv")
    for library, package in LIBRARIES.items():
        try:
            ctypes.CDLL(library)
        except OSError:
            missing.append(package)
    return missing


def install_system_packages(packages: list[str]) -> None:
    if not packages:
        return
    command = f"apt-get install -y --no-install-recommends {' '.join(packages)}"
    if shutil.which("apt-get") is None:
        sys.exit(f"This machine lacks what Debian calls {', '.join(packages)}; install it, then try again.")
    if os.geteuid() != 0:
        sys.exit(f"This machine lacks {', '.join(packages)}. Run this once, then try again:\n\n    sudo {command}\n")
    print(f"Installing {', '.join(packages)} …", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "-qq"], environment)
    run(command.split(), environment)


def is_installed(lock: str) -> bool:
    return made_by() == maker() and stamp(lock).exists() and stamp(lock).read_text(encoding="utf-8") == digest(lock)


def maker() -> str:
    """The Python and the folder that an environment belongs to: its scripts name both."""
    return f"{os.path.realpath(sys.executable)} {sys.version.split()[0]}\n{ROOT}\n"


def made_by() -> str:
    path = VENV / "made-by"
    return path.read_text(encoding="utf-8") if path.exists() and PYTHON.exists() else ""


def stamp(lock: str) -> Path:
    return VENV / f"{lock}.installed"


def digest(lock: str) -> str:
    return hashlib.sha256((ROOT / lock).read_bytes()).hexdigest()


def install(lock: str) -> None:
    """Let pip install exactly what the lock names, and show how far it is."""
    total = sum(
        "==" in line and not line.startswith((" ", "#")) for line in (ROOT / lock).read_text(encoding="utf-8").splitlines()
    )
    command = [str(PYTHON), "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    pip = subprocess.Popen(
        [*command, "--require-hashes", "-r", lock], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert pip.stdout is not None
    print(f"Installing {total} packages into .venv …", flush=True)
    began, done, tail = time.monotonic(), 0, []
    for line in pip.stdout:
        tail = [*tail, line][-20:]
        if line.startswith(("Collecting ", "Ignoring ", "Requirement already satisfied")):
            done += 1
            show_bar(done, total, time.monotonic() - began)
        elif line.startswith("Installing collected"):
            show_bar(total, total, time.monotonic() - began)
    if sys.stdout.isatty():
        print("\r\033[K", end="")
    if pip.wait() != 0:
        sys.exit("".join(tail) + "\nThe packages could not be installed; pip says why above.")
    print(f"Installed in {time.monotonic() - began:.0f} s.", flush=True)


def show_bar(done: int, total: int, elapsed_s: float) -> None:
    """A bar with the time left, on a terminal only. Unpacking at the end takes about a third of the time."""
    if not sys.stdout.isatty():
        return
    share = min(done / total, 1.0) * 2 / 3
    filled = round(share * 36)
    left_s = elapsed_s / share - elapsed_s
    print(f"\r\033[K  [{'#' * filled}{'-' * (36 - filled)}] {share:4.0%}, about {left_s:.0f} s left", end="", flush=True)


def run(command: list[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False)
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed with exit code {done.returncode}.")


if __name__ == "__main__":
    main()
