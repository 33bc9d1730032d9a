"""A simulator that publishes to a real Valkey."""

from __future__ import annotations

import pytest

from app.metatrader.simulator import Simulator

PASSWORD = "Mt5#Manager1"
USER = {
    "Group": "real\\std\\usd",
    "Leverage": "100",
    "PassMain": "Main1234!",
    "PassInvestor": "Invest1234!",
    "FirstName": "Ann",
}


@pytest.fixture
def simulator(tmp_path, redis, base_settings):
    with Simulator(state_dir=tmp_path / "server", password=PASSWORD, redis_url=base_settings.redis_url, tick_s=0) as running:
        yield running


@pytest.fixture
def login(simulator):
    return simulator.control.users.add(USER).login
