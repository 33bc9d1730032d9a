"""One brokerage per test, its server's events by each source in turn."""

from __future__ import annotations

import socket

import pytest

from tests.contracts.sources import mt4_world
from tests.contracts.sources.world import OPTIONS, Broker, build


@pytest.fixture
def broker():
    """A broker without topics."""
    return Broker()


@pytest.fixture
def make_world(database, redis, tmp_path, broker):
    """Makes the brokerage with a given source."""
    opened = []

    def make(source):
        folder = tmp_path / "server"
        is_mt4 = source == mt4_world.SOURCE
        made = mt4_world.build(database, redis, folder) if is_mt4 else build(source, database, redis, folder, broker)
        opened.append(made)
        return next(opened[-1])

    yield make
    for one in opened:
        next(one, None)


@pytest.fixture(params=sorted(OPTIONS))
def world(request, make_world):
    """Every source in turn."""
    return make_world(request.param)


@pytest.fixture(params=sorted(OPTIONS.keys() - {"webhook"}))
def read_world(request, make_world):
    """Every source that a thread of ours reads; a web request has neither a cursor nor time to wait."""
    return make_world(request.param)


@pytest.fixture
def unused_port():
    """A port on which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
