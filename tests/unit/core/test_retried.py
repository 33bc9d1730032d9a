"""What is run again, and what is not: only work that the database ended in favour of another's."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from sqlalchemy.exc import DBAPIError, OperationalError, PendingRollbackError

from app.core import uow
from app.core.errors import AppError
from app.core.uow import ATTEMPTS, retried


def database_error(sqlstate: str | None) -> DBAPIError:
    return OperationalError("SELECT", {}, SimpleNamespace(sqlstate=sqlstate))


class Work:
    """Fails with these errors, one after the other, and then gives its number of runs."""

    def __init__(self, *failures: BaseException) -> None:
        self.failures = list(failures)
        self.runs = 0

    def __call__(self) -> int:
        self.runs += 1
        if self.failures:
            raise self.failures.pop(0)
        return self.runs


@pytest.fixture(autouse=True)
def pauses(monkeypatch) -> list[float]:
    """The pauses between attempts, taken without waiting."""
    taken: list[float] = []
    monkeypatch.setattr(uow.time, "sleep", taken.append)
    return taken


def test_work_that_succeeds_is_run_once(pauses):
    assert retried(Work()) == 1
    assert pauses == []


@pytest.mark.parametrize("sqlstate", ["40P01", "40001"])
def test_work_that_lost_to_another_is_run_again(sqlstate, pauses):
    assert retried(Work(database_error(sqlstate), database_error(sqlstate))) == 3
    assert len(pauses) == 2


def test_the_last_attempt_says_what_was_wrong(pauses):
    errors = [database_error("40P01") for _ in range(ATTEMPTS)]
    work = Work(*errors, AssertionError("one attempt too many"))
    with pytest.raises(DBAPIError) as caught:
        retried(work)
    assert caught.value is errors[-1]
    assert work.runs == ATTEMPTS
    assert len(pauses) == ATTEMPTS - 1


@pytest.mark.parametrize(
    "error",
    [
        database_error("23514"),  # a constraint
        database_error("57P01"),  # the connection was ended: whether it committed is not known
        database_error("55P03"),  # a lock that was not waited for
        database_error(None),
        AppError(),
        RuntimeError(),
        KeyboardInterrupt(),
    ],
    ids=repr,
)
def test_what_would_fail_again_or_may_have_happened_is_not_tried_again(error, pauses):
    work = Work(error)
    with pytest.raises(type(error)) as caught:
        retried(work)
    assert caught.value is error
    assert work.runs == 1
    assert pauses == []


def test_other_errors_end_the_attempts():
    work = Work(database_error("40P01"), AppError(), AssertionError("one attempt too many"))
    with pytest.raises(AppError):
        retried(work)
    assert work.runs == 2


@pytest.mark.parametrize("second", [database_error("25P02"), PendingRollbackError()], ids=["statement", "flush"])
def test_work_in_an_outer_unit_leaves_its_loss_to_the_outer_one(second):
    """Run again it finds the same lost transaction; what is told is what ended it."""
    first = database_error("40P01")
    with pytest.raises(DBAPIError) as caught:
        retried(Work(first, second, AssertionError("one attempt too many")))
    assert caught.value is first


@pytest.mark.parametrize("error", [database_error("25P02"), PendingRollbackError()], ids=["statement", "flush"])
def test_a_transaction_that_was_lost_before_is_not_mended(error):
    with pytest.raises(type(error)) as caught:
        retried(Work(error))
    assert caught.value is error


def test_pauses_grow_and_differ(monkeypatch, pauses):
    """Two that met would meet again if they paused alike."""
    monkeypatch.setattr(uow.random, "uniform", lambda low, high: high)
    assert retried(Work(*[database_error("40P01") for _ in range(ATTEMPTS - 1)])) == ATTEMPTS
    assert pauses == sorted(set(pauses))
    assert sum(pauses) < 1
