"""A trading server of its own for every test, over real TLS, and the adapters that the contract holds for."""

from __future__ import annotations

import httpx
import pytest

from app.metatrader.platform import NewAccount, TradingPlatform
from app.metatrader.platforms import PLATFORMS
from app.metatrader.platforms.mt5_web import MT5WebPlatform
from app.metatrader.simulator import Simulator
from tests.contracts.platforms.houses import HOUSES, PASSWORD, access

QUICK = httpx.Timeout(connect=2.0, read=1.0, write=2.0, pool=2.0)


@pytest.fixture
def simulator(tmp_path):
    with Simulator(state_dir=tmp_path / "server", password=PASSWORD, tick_s=0) as running:
        yield running


@pytest.fixture(params=sorted(PLATFORMS))
def house(request, tmp_path):
    """A server for every registered adapter in turn."""
    house = HOUSES[request.param](tmp_path / "server")
    with house.simulator:
        yield house


@pytest.fixture
def platform(request, house) -> TradingPlatform:
    """The adapter, connected to the house's server."""
    name = request.node.callspec.params["house"]
    with PLATFORMS[name](access(house.simulator, platform=name)) as connected:
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
