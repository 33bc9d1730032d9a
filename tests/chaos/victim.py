"""A process that moves money and is killed at a chosen step; run by test_money_survives_kills.py.

Reads one JSON task per line, forks a child for each and answers with one JSON line: how the child ended, and how many steps
it passed. A step is the moment before or after a commit, and before or after a request to the trading server; with `by_line` it
is the moment before each line of the modules that send and record.
"""

from __future__ import annotations

import json
import os
import sys
from types import FrameType
from typing import Any

import httpx
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.orm import Session, configure_mappers

from app.core.actor import Actor
from app.core.money import Money
from app.core.uow import unit_of_work
from app.metatrader import commands
from app.metatrader.platform import ServerAccess
from app.metatrader.platforms.mt5_web import MT5WebPlatform
from app.payments import transfers

KILLED = 9


class Steps:
    """Counts the steps and ends the process, without a word to anybody, at the chosen one."""

    def __init__(self, last: int) -> None:
        self.last = last
        self.passed = 0

    def __call__(self, *_: object) -> None:
        self.passed += 1
        if self.passed == self.last:
            os._exit(KILLED)


class Lines:
    """A trace function that takes a step before each line of the modules that send and record, when it is first come to."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self.seen: set[tuple[str, int]] = set()
        self.files = {commands.__file__, transfers.__file__}

    def __call__(self, frame: FrameType, kind: str, _argument: object) -> Lines | None:
        place = (frame.f_code.co_filename, frame.f_lineno)
        if place[0] not in self.files:
            return None
        if kind == "line" and place not in self.seen:
            self.seen.add(place)
            self.steps()
        return self


def count_crossings(engine: Engine, steps: Steps) -> None:
    """A step before and after each commit and each request."""
    event.listen(engine, "commit", steps)
    event.listen(Session, "after_commit", steps)
    real_send = httpx.Client.send

    def send(client: httpx.Client, request: httpx.Request, **options: Any) -> httpx.Response:
        steps()
        response = real_send(client, request, **options)
        steps()
        return response

    httpx.Client.send = send  # type: ignore[method-assign]


def move(task: dict[str, Any]) -> int:
    """Carry out one transfer from the request to the ledger; returns the steps it took."""
    steps = Steps(task["die_at"])
    engine = create_engine(task["database_url"])
    if task["by_line"]:
        sys.settrace(Lines(steps))
    else:
        count_crossings(engine, steps)
    actor = Actor.client(task["client_id"])
    with Session(engine) as session, MT5WebPlatform(ServerAccess(**task["access"])) as platform:
        transfer = transfers.request_transfer(
            session,
            client_id=task["client_id"],
            trading_account_id=task["account_id"],
            direction=task["direction"],
            amount=Money(task["amount_minor"], "USD"),
            key=task["key"],
            actor=actor,
        )
        operation_id = transfer.operation_id
        assert operation_id is not None
        commands.send_operation(session, platform, operation_id)
        with unit_of_work(session, Actor.system("follow_operation")) as unit:
            transfers.follow_operation(unit, operation_id)
    return steps.passed


def main() -> None:
    configure_mappers()  # once for all children
    for line in sys.stdin:
        task = json.loads(line)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            passed = move(task)
            os.write(writer, str(passed).encode())
            os._exit(0)
        os.close(writer)
        _, status = os.waitpid(child, 0)
        with os.fdopen(reader) as pipe:
            passed_text = pipe.read()
        print(json.dumps({"code": os.waitstatus_to_exitcode(status), "passed": int(passed_text or 0)}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
