"""A transfer whose process is killed between any two steps ends whole: at the server, in its operation, in the ledger."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import select

from app.core.actor import Actor
from app.core.money import Money
from app.core.uow import unit_of_work
from app.jobs import tasks
from app.ledger import chart, queries
from app.metatrader import mirror
from app.models.metatrader import BalanceOperation
from app.models.payments import Transfer
from app.payments import transfers
from tests.chaos.victim import KILLED
from tests.integration.trading.house import House, access

pytestmark = pytest.mark.slow

AMOUNT_MINOR = 10_000
START_MINOR = 50_000


@dataclass
class Victim:
    """The process that starts the children to be killed."""

    process: subprocess.Popen[str]
    house: House

    def move(self, account_id: int, direction: str, die_at: int = 0, *, by_line: bool = False) -> int:
        """Move money in a child that dies at a step; returns how many steps it passed when it did not die."""
        task = {
            "database_url": self.house.settings.database_url,
            "access": asdict(access(self.house.simulator)),
            "client_id": self.house.client_id,
            "account_id": account_id,
            "direction": direction,
            "amount_minor": AMOUNT_MINOR,
            "key": f"{direction}:{account_id}",
            "die_at": die_at,
            "by_line": by_line,
        }
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(task) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert answer["code"] == (KILLED if die_at and not answer["passed"] else 0)
        return int(answer["passed"])


@pytest.fixture
def victim(house: House) -> Iterator[Victim]:
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.victim"], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield Victim(process, house)
    process.communicate(timeout=10)


def funded_accounts(house: House, count: int) -> list[tuple[int, int]]:
    """(id, login) of accounts with money at the server, and in the ledger's mirror too."""
    made = []
    for _ in range(count):
        account = house.add_account()
        made.append((account.id, account.login))
        house.simulator.exchange.balance_operation(account.login, 2, Decimal(START_MINOR).scaleb(-2), "start")
    house.drain()
    return made


def recover(house: House, clock) -> None:
    """What the client and the planned jobs do after a crash, until nothing is open."""
    for _ in range(60):
        for transfer in house.session.scalars(select(Transfer)).all():
            again = transfers.request_transfer(
                house.session, client_id=transfer.client_id, trading_account_id=transfer.trading_account_id,
                direction=transfer.direction, amount=Money(transfer.amount_minor, "USD"), key=transfer.idempotency_key,
                actor=Actor.client(transfer.client_id),
            )  # fmt: skip
            assert again.id == transfer.id
        house.session.rollback()
        clock.advance(61)
        tasks.resolve_operations(house.session, house.settings)
        for operation_id in house.session.scalars(select(BalanceOperation.id)).all():
            with unit_of_work(house.session, Actor.system("follow_operation")) as unit:
                transfers.follow_operation(unit, operation_id)
        if not house.count(BalanceOperation, BalanceOperation.status.not_in(("done", "failed"))):
            return
    pytest.fail("something stays open")


def judge(house: House, account_id: int, login: int) -> None:
    """Server, operation and ledger agree about the one transfer of this account."""
    house.session.rollback()
    transfer = house.session.scalars(select(Transfer).where(Transfer.trading_account_id == account_id)).one_or_none()
    deals = house.at_server(login)[1:]
    sign = 0
    if transfer is not None:
        assert transfer.operation is not None
        assert (transfer.state, transfer.operation.status) == ("done", "done")
        assert [(deal.ticket, deal.comment) for deal in deals] == [(transfer.operation.deal_ticket, transfer.operation.token)]
        sign = 1 if transfer.direction == "to_account" else -1
    expected = Money(START_MINOR + sign * AMOUNT_MINOR, "USD")
    assert house.simulator.exchange.state(login).balance == expected.decimal
    assert house.mirrored(login) == expected


@pytest.mark.parametrize(
    ("direction", "fault", "by_line"),
    [
        ("to_account", None, False),
        ("to_wallet", None, False),
        ("to_account", "execute_then_drop", False),
        ("to_account", "drop", False),
        pytest.param("to_account", "execute_then_drop", True, marks=pytest.mark.slow),
    ],
)
def test_killed_between_any_two_steps(house, clock, victim, direction, fault, by_line):
    house.bring_money(house.client_id, 300 * AMOUNT_MINOR)

    def sacrifice(account_id: int, die_at: int) -> int:
        if fault:
            house.faults(fault, path="trade/balance")
        return victim.move(account_id, direction, die_at, by_line=by_line)

    used = funded_accounts(house, 1)
    steps = sacrifice(used[0][0], 0)
    # Before and after: commits of request, claim, record, booking; two requests to sign in, one to move. Or each line.
    assert steps >= (50 if by_line else 12)
    used += funded_accounts(house, steps)
    assert [sacrifice(used[die_at][0], die_at) for die_at in range(1, steps + 1)] == [0] * steps
    house.faults(path="")
    recover(house, clock)
    house.drain()
    mirror.mirror_deals(house.session)
    for account_id, login in used:
        judge(house, account_id, login)
    done = house.session.scalars(select(Transfer)).all()
    wallet = queries.balance(house.session, chart.client_wallet(house.client_id, "USD"))
    sign = -1 if direction == "to_account" else 1
    assert wallet.posted == Money(300 * AMOUNT_MINOR + sign * AMOUNT_MINOR * len(done), "USD")
    assert wallet.held == Money(0, "USD")
    assert len(done) >= (steps // 3 if by_line else steps - 1)
    house.prove()
