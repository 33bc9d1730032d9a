"""What the adapters think alike about answers: what can be read out of them, and what a failed exchange says of a server."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import httpx

from app.metatrader.errors import AccessDenied, BadAnswer, ServerBusy, UnknownOutcome
from app.metatrader.fields import FieldError

T = TypeVar("T")


def parsed(build: Callable[[], T]) -> T:
    """What a read contains. Raises BadAnswer for fields that cannot be meant."""
    try:
        return build()
    except (ValueError, ArithmeticError) as error:
        raise BadAnswer(detail=str(error)[:200]) from error


def from_change(command: str, build: Callable[[], T]) -> T:
    """What a confirmed change must contain. Without it the effect is there but cannot be named: somebody has to look."""
    try:
        return build()
    except FieldError as error:
        raise UnknownOutcome(detail=f"{command}: {error.reason}") from error


def is_broken(error: BaseException) -> bool:
    """Whether a read failed by a connection that broke, so that a fresh one may bring the answer. Silence would last as long
    again.
    """
    cause = error.__cause__
    return isinstance(cause, httpx.TransportError) and not isinstance(cause, httpx.TimeoutException)


def silence(error: BaseException) -> str | None:
    """What an exchange that failed says about the server (see traffic.Silence)."""
    cause = error if isinstance(error, httpx.TransportError) else error.__cause__
    if isinstance(cause, httpx.TransportError):
        return f"{type(cause).__name__}: {cause}"
    return "" if isinstance(error, (AccessDenied, ServerBusy, BadAnswer)) else None
