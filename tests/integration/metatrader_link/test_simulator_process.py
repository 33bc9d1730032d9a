"""The simulator as a process: starts from the settings, stops at SIGTERM, continues with the same state."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROGRAM = "from app.metatrader.simulator import run; from config import load_settings; run(load_settings())"
PASSWORD = "Mt5#Manager1"


@pytest.fixture
def environment(tmp_path, redis, base_settings):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return {
        **os.environ,
        "LOTWISE_ENV": "test",
        "LOTWISE_VAR": str(tmp_path),
        "PORT": str(port - 1),
        "DATABASE_URL": "postgresql://unused",
        "REDIS_URL": base_settings.redis_url,
        "SECRET_KEY": "k" * 48,
        "DOCUMENT_KEY": "11" * 32,
        "STRIPE_SECRET_KEY": "sk_test_1",
        "STRIPE_WEBHOOK_SECRET": "whsec_1",
        "MT5_PASSWORD": PASSWORD,
        "SIMULATOR_DEALS_PER_MINUTE": "0",
    }


def start(environment):
    return subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=ROOT, env=environment, stderr=subprocess.PIPE)


def state(environment):
    """/sim/state as soon as the process answers."""
    port = int(environment["PORT"]) + 1
    ca_file = Path(environment["LOTWISE_VAR"]) / "simulator" / "ca.pem"
    token = base64.b64encode(f"1000:{PASSWORD}".encode()).decode()
    request = urllib.request.Request(f"https://127.0.0.1:{port}/sim/state", headers={"Authorization": f"Basic {token}"})
    deadline = time.monotonic() + 60
    while True:
        try:
            trust = ssl.create_default_context(cafile=str(ca_file))
            with urllib.request.urlopen(request, context=trust, timeout=2) as response:
                return json.load(response)
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_start_stop_and_go_on(environment, redis):
    first = start(environment)
    try:
        assert state(environment)["accounts"] == []
        deadline = time.monotonic() + 10
        while state(environment)["market_step"] < 1:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        first.send_signal(signal.SIGTERM)
        assert first.wait(timeout=10) == 0
        first.stderr.close()
    kinds = [fields[b"kind"] for _, fields in redis.xrange("mt:sim:0")]
    assert kinds[0] == b"control.connected"
    assert kinds[-1] == b"control.disconnected"
    second = start(environment)
    try:
        assert state(environment)["market_step"] >= 1
    finally:
        second.send_signal(signal.SIGINT)
        assert second.wait(timeout=10) == 0
        second.stderr.close()


def test_a_taken_port_is_one_clear_line(environment):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(environment["PORT"]) + 1))
        taken.listen()
        process = start(environment)
        _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    assert b"Traceback" not in said
    assert said.strip().count(b"\n") == 0
    assert str(int(environment["PORT"]) + 1).encode() in said
