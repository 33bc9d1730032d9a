"""A trading server of its own for every test, over real TLS, and the adapters that the contract holds for."""

from __future__ import annotations

import httpx
import pytest

from app.metatrader.platform import NewAccount, ServerAccess, TradingPlatform
from app.metatrader.platforms import PLATFORMS
from app.metatrader.platforms.mt5_web import MT5WebPlatform
from app.metatrader.simulator import Simulator

PASSWORD = "Mt5#Manager1"
QUICK = httpx.Timeout(connect=2.0, read=1.0, write=2.0, pool=2.0)


@pytest.fixture
def simulator(tmp_path):
    with Simulator(state_dir=tmp_path / "server", password=PASSWORD, tick_s=0) as running:
        yield running


def access(simulator, **changes) -> ServerAccess:
    known = {
        "code": "sim",
        "platform": "mt5_web",
        "url": simulator.url,
        "manager_login": 1000,
        "password": PASSWORD,
        "ca_file": str(simulator.ca_file),
        "time_zone": "GMT+2/EU",
    }
    return ServerAccess(**{**known, **changes})


@pytest.fixture(params=sorted(PLATFORMS))
def platform(request, simulator) -> TradingPlatform:
    """Every registered adapter in turn, connected to the simulator."""
    with PLATFORMS[request.param](access(simulator, platform=request.param)) as connected:
        yield connected


@pytest.fixture
def mt5(simulator):
    """The Web API adapter with short time-outs."""
    with MT5WebPlatform(access(simulator), timeouts=QUICK) as connected:
        yield connected


@pytest.fixture
def wanted():
    return NewAccount(
        group="real\\std\\usd",
        leverage=100,
        first_name="Zoë",
        last_name="O'Brien & Søn",
        main_password="Main1234!",
        investor_password="Invest1234!",
        mark="A-8QK2N0V5ZT3RM",
        email="zoe@example.com",
        country="Denmark",
    )
