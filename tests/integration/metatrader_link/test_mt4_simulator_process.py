"""The MT4 double as a process: starts from the settings, trades, stops at SIGTERM, goes on with the same state."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[3]
PROGRAM = (
    "import sys; from app.metatrader.simulator.mt4 import Options, run; from config import load_settings;"
    "run(load_settings(), Options(accounts=3, faults=sys.argv[1]))"
)
SECRET = "Mt4#Bridge1"


@pytest.fixture
def environment(tmp_path, redis, base_settings):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return {
        **os.environ,
        "LOTWISE_ENV": "test",
        "LOTWISE_VAR": str(tmp_path),
        "PORT": str(port - 5),
        "DATABASE_URL": "postgresql://unused",
        "REDIS_URL": base_settings.redis_url,
        "SECRET_KEY": "k" * 48,
        "DOCUMENT_KEY": "11" * 32,
        "STRIPE_SECRET_KEY": "sk_test_1",
        "STRIPE_WEBHOOK_SECRET": "whsec_1",
        "MT5_PASSWORD": SECRET,
        "SIMULATOR_DEALS_PER_MINUTE": "600",
    }


def start(environment, faults=""):
    return subprocess.Popen([sys.executable, "-c", PROGRAM, faults], cwd=ROOT, env=environment, stderr=subprocess.PIPE)


def state(environment, *, until=lambda found: True):
    """/sim/state as soon as the process answers and it is what is waited for."""
    port = int(environment["PORT"]) + 5
    ca_file = Path(environment["LOTWISE_VAR"]) / "mt4-simulator" / "ca.pem"
    deadline = time.monotonic() + 60
    while True:
        try:
            trust = ssl.create_default_context(cafile=str(ca_file))
            answer = httpx.get(f"https://127.0.0.1:{port}/sim/state", auth=("1", SECRET), verify=trust, trust_env=False)
            if until(answer.json()):
                return answer.json()
        except (OSError, httpx.HTTPError):
            pass
        assert time.monotonic() < deadline
        time.sleep(0.1)


def end(process):
    process.send_signal(signal.SIGTERM)
    _, words = process.communicate(timeout=30)
    assert process.returncode == 0
    return words.decode()


def test_people_trade_and_everything_is_there_after_a_restart(environment):
    process = start(environment)
    try:
        before = state(environment, until=lambda found: found["trades"] > 5)
        assert len(before["accounts"]) == 3
    finally:
        words = end(process)
    assert "Traceback" not in words
    environment["SIMULATOR_DEALS_PER_MINUTE"] = "0"
    process = start(environment)
    try:
        after = state(environment)
        assert after["accounts"] == before["accounts"]
        assert after["trades"] >= before["trades"]
    finally:
        end(process)


def test_a_fault_that_there_is_not_ends_it_in_one_line(environment):
    process = start(environment, "nonsense=1%")
    _, words = process.communicate(timeout=60)
    assert process.returncode
    assert "--faults: there is no fault 'nonsense'" in words.decode()
