"""The simulator's command: a load of accounts with faults, a history, a second server, and what it refuses."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.metatrader.events import DealEvent, MalformedEvent, decode
from app.metatrader.simulator.holdings import Account
from app.metatrader.simulator.store import Store

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
PROGRAM = (
    "import sys, json; from app.metatrader.simulator import Options, run; from app.parts import set_up_logging;"
    " from config import load_settings; set_up_logging(); run(load_settings(), Options(**json.loads(sys.argv[1])))"
)
EVER = (0, 2**62)


@pytest.fixture
def simulator(tmp_path, redis, base_settings):
    """A function that runs the command with options until it ends; returns its exit code and what it said."""
    environment = {
        **os.environ,
        "LOTWISE_ENV": "test",
        "LOTWISE_VAR": str(tmp_path),
        "PORT": "18000",
        "DATABASE_URL": "postgresql://unused",
        "REDIS_URL": base_settings.redis_url,
        "SECRET_KEY": "k" * 48,
        "DOCUMENT_KEY": "11" * 32,
        "STRIPE_SECRET_KEY": "sk_test_1",
        "STRIPE_WEBHOOK_SECRET": "whsec_1",
        "MT5_PASSWORD": "Mt5#Manager1",
        "SIMULATOR_DEALS_PER_MINUTE": "0",
    }

    def run(options: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, options],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.returncode, done.stderr

    return run


def entries(redis, stream):
    return [fields for _, fields in redis.xrange(stream)]


def events(redis, stream):
    found = []
    for fields in entries(redis, stream):
        try:
            found.append(decode(fields))
        except MalformedEvent:
            continue
    return found


def test_a_load_with_faults(simulator, redis, tmp_path):
    code, said = simulator(
        '{"port": 0, "accounts": 60, "deals_per_second": 40, "seconds": 4, "seed": 7, "faults": "duplicates=20%,garbage=2%"}'
    )
    assert code == 0, said
    total = re.search(r"in all: ([\d.]+) deals a second, \d+% of a core, \d+ MB", said)
    assert total
    assert 20 < float(total[1]) < 60
    store = Store(tmp_path / "simulator" / "state.sqlite3")
    deals = {deal.ticket: deal for deal in store.deals(None, *EVER)}
    accounts: list[Account] = store.accounts()
    assert len(accounts) == 60
    for account in accounts:
        assert (account.balance, account.credit) == store.sums(account.login)
    assert store.outbox_size() == 0
    store.close()
    told = [event for event in events(redis, "mt:sim:0") if isinstance(event, DealEvent)]
    assert {event.deal.ticket: event.deal for event in told if event.deal.ticket in deals} == deals
    assert len(told) > 1.1 * len(deals)  # a fifth of them twice
    assert len(entries(redis, "mt:sim:0")) > len(events(redis, "mt:sim:0"))  # garbage among them


def test_a_second_server_with_a_history(simulator, redis, tmp_path):
    code, said = simulator(
        '{"port": 0, "code": "sim2", "number": 2, "time_zone": "GMT+2/US", "accounts": 20, "fill_deals": 400, "fill_days": 5,'
        ' "seconds": 0.1}'
    )
    assert code == 0, said
    store = Store(tmp_path / "simulator-sim2" / "state.sqlite3")
    deals = store.deals(None, *EVER)
    assert len(deals) == 420
    assert min(deal.ticket for deal in deals) == 1_000_500_001
    assert all(account.group_name.startswith("real2\\") for account in store.accounts())
    store.close()
    kinds = {event.kind for event in events(redis, "mt:sim2:0")}
    assert "deal.add" not in kinds
    assert {"control.connected", "control.disconnected"} <= kinds
    code, said = simulator(
        '{"port": 0, "code": "sim2", "number": 2, "time_zone": "GMT+2/US", "accounts": 20, "fill_deals": 400, "seconds": 0.1}'
    )
    assert code == 0, said
    store = Store(tmp_path / "simulator-sim2" / "state.sqlite3")
    assert store.count_deals(None, *EVER) == 420  # it had its history
    store.close()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ('{"faults": "explosions=5%"}', "explosions"),
        ('{"time_zone": "Mars/Olympus"}', "Mars/Olympus"),
        ('{"number": 0}', "--number"),
    ],
)
def test_what_cannot_be_meant_is_said(simulator, options, word):
    code, said = simulator(options)
    assert code != 0
    assert word in said
