"""What stops a command: one clear line, the right exit code, no trace."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import startup
from app.parts import PARTS
from config import StartError

ROOT = Path(__file__).resolve().parents[3]
NO_DATABASE = "postgresql://lotwise_app:secret-word@127.0.0.1:1/lotwise"
NO_REDIS = "redis://127.0.0.1:1/0"


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    names = {"DATABASE_URL", "DATABASE_OWNER_URL", "REDIS_URL", "LOTWISE_ENV", "LOTWISE_VAR", "PORT"}
    inherited = {name: value for name, value in os.environ.items() if name not in names}
    return subprocess.run(
        [sys.executable, "run.py", *arguments],
        cwd=ROOT,
        env=inherited | environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def assert_one_line(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stdout + done.stderr
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize("command", ["up", "migrate", "worker", "demo"])
def test_an_unreachable_database(command: str, tmp_path: Path) -> None:
    done = run(command, LOTWISE_VAR=str(tmp_path), DATABASE_URL=NO_DATABASE, REDIS_URL=NO_REDIS)
    assert_one_line(done, "DATABASE_URL cannot be reached", "Connection refused")
    assert "secret-word" not in done.stderr


def test_an_unreachable_redis(tmp_path: Path) -> None:
    assert_one_line(run("up", LOTWISE_VAR=str(tmp_path), REDIS_URL=NO_REDIS), "REDIS_URL cannot be reached")


def test_a_folder_that_cannot_be_written() -> None:
    assert_one_line(run("up", LOTWISE_VAR="/proc/lotwise"), "/proc/lotwise", "LOTWISE_VAR names another")


def test_a_taken_port(taken_port: int, tmp_path: Path) -> None:
    assert_one_line(
        run("up", LOTWISE_VAR=str(tmp_path), PORT=str(taken_port)), f"Port {taken_port}", "in use", "PORT names another"
    )
    assert_one_line(run("up", LOTWISE_VAR=str(tmp_path), PORT=str(taken_port - 2)), f"Port {taken_port}", "Stripe sandbox")


def test_a_malformed_setting(tmp_path: Path) -> None:
    assert_one_line(run("up", LOTWISE_VAR=str(tmp_path), PORT="eighty"), "PORT is 'eighty'; it must be a whole number.")


def test_production_needs_its_databases() -> None:
    assert_one_line(run("up", LOTWISE_ENV="production"), "DATABASE_URL is not set")


@pytest.mark.parametrize("arguments", [["nonsense"], ["up", "--nonsense"], ["translations", "extract"], ["demo", "x"]])
def test_bad_arguments(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert "Usage: run.py" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_help_names_every_command() -> None:
    done = run("--help")
    assert done.returncode == 0
    for name in [*PARTS, "up", "migrate", "demo", "permissions", "translations", "doctor"]:
        assert f"\n  {name} " in done.stdout


def test_helpers_do_not_run_in_production() -> None:
    environ = {"LOTWISE_ENV": "production", "BASE_URL": "https://x.example", "SMTP_HOST": "x", "MAIL_FROM": "x@x.example"}
    environ |= dict.fromkeys(
        ("SECRET_KEY", "DOCUMENT_KEY", "STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET", "MT5_PASSWORD"), "ab" * 32
    )
    done = run("mailbox", DATABASE_URL=NO_DATABASE, REDIS_URL=NO_REDIS, **environ)
    assert_one_line(done, "mailbox is for development")


def test_the_doctor_says_what_is_wrong_and_how_to_mend_it(taken_port: int, tmp_path: Path) -> None:
    done = run("doctor", LOTWISE_VAR=str(tmp_path), PORT=str(taken_port), DATABASE_URL=NO_DATABASE, REDIS_URL=NO_REDIS)
    assert done.returncode == 1
    verdicts = {line.split()[1]: line.split()[0] for line in done.stdout.splitlines()}
    assert verdicts["Python"] == verdicts["Folders"] == "ok"
    assert verdicts["Ports"] == verdicts["Databases"] == "WRONG"
    assert "PORT names another" in done.stdout


def test_the_doctor_judges_settings_too(tmp_path: Path) -> None:
    done = run("doctor", LOTWISE_VAR=str(tmp_path), PORT="eighty")
    assert done.returncode == 1
    assert "WRONG   Settings   PORT is 'eighty'" in done.stdout


def test_private_servers_take_the_place_of_what_is_not_named_in_development_only() -> None:
    assert set(startup.missing_servers({})) == {"DATABASE_URL", "REDIS_URL"}
    assert set(startup.missing_servers({"REDIS_URL": "redis://x"})) == {"DATABASE_URL"}
    assert startup.missing_servers({"LOTWISE_ENV": "production"}) == {}


def test_a_free_port_passes_and_a_foreign_host_does_not(taken_port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    startup.check_port("127.0.0.1", free, "web")
    with pytest.raises(StartError, match="HOST must be an address of this machine"):
        startup.check_port("no-such-host.invalid", free, "web")
    with pytest.raises(StartError):
        startup.check_port("127.0.0.1", taken_port, "web")
