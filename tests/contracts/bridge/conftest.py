"""A trading server in memory behind the fake of MetaQuotes' package, and readers on a real Redis."""

from __future__ import annotations

import pytest

from tests.contracts.bridge import house
from tests.contracts.bridge.fake_manager import SERVER


@pytest.fixture
def server():
    """The fake server with one group and one login."""
    SERVER.clear()
    SERVER.groups[house.GROUP] = house.mt_group()
    SERVER.user_add(house.mt_user())
    SERVER.state(house.mt_state())
    yield SERVER
    SERVER.clear()


@pytest.fixture
def reader(redis):
    return house.Reader(redis)


@pytest.fixture
def loaded(tmp_path, base_settings):
    return house.settings(tmp_path, base_settings.redis_url)


@pytest.fixture
def gate(base_settings):
    made = house.Gate(base_settings.redis_url)
    yield made
    made.close()
