"""A simulator without network: a clock that stands still until moved, a market that moves only when told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from app.metatrader.simulator import Simulator


class Clock:
    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def __call__(self) -> datetime:
        return self.moment

    def move(self, **parts) -> None:
        self.moment += timedelta(**parts)


@pytest.fixture
def clock():
    """Tuesday, 24 November 2026, noon UTC; 14:00 at the server."""
    return Clock(datetime(2026, 11, 24, 12, tzinfo=UTC))


@pytest.fixture
def simulator(tmp_path, clock):
    """Not started: no port, no threads, no Redis."""
    made = Simulator(state_dir=tmp_path, password="Mt5#Manager1", clock=clock, tick_s=0)
    yield made
    made.store.close()


@pytest.fixture
def exchange(simulator):
    return simulator.exchange


@pytest.fixture
def new_login(simulator):
    """A function that opens a login, with money when wanted."""

    def make(group="real\\std\\usd", leverage="100", money=""):
        from decimal import Decimal

        account = simulator.control.users.add(
            {"Group": group, "Leverage": leverage, "PassMain": "Main1234!", "PassInvestor": "Invest1234!", "FirstName": "Ann"}
        )
        if money:
            simulator.exchange.balance_operation(account.login, 2, Decimal(money), "deposit")
        return account.login

    return make
