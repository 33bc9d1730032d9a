"""Typed errors that a person may see, and the mapping of database errors onto them.

An error carries a stable code for machines, an HTTP status, and a message id with named values. The surfaces (portal,
back office, API) translate the message into the reader's language; nothing is translated in here.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.exc import DBAPIError


def N_(message: str) -> str:  # noqa: N802  gettext's own name
    """Mark a message for translation without translating it; the surface translates when it shows the error."""
    return message


class AppError(Exception):
    """The root of all errors with a message for people.

    Subclasses set `code`, `http_status` and `message`; `message` may name values of `data` as %(name)s.
    """

    code = "app.error"
    http_status = 400
    message = N_("Something went wrong. Nothing was changed.")

    def __init__(self, message: str | None = None, **data: Any) -> None:
        self.data = data
        if message is not None:
            self.message = message
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message % self.data if self.data else self.message


class NotFound(AppError):
    """The thing does not exist, or not for this person: the two are not told apart."""

    code = "app.not_found"
    http_status = 404
    message = N_("We could not find this. It may have been removed, or it belongs to somebody else.")


class Forbidden(AppError):
    code = "app.forbidden"
    http_status = 403
    message = N_("You may not do this.")


class Conflict(AppError):
    """The state changed in the meantime; the request was not carried out."""

    code = "app.conflict"
    http_status = 409
    message = N_("This was changed by somebody else in the meantime. Nothing was changed by you.")


class InvalidInput(AppError):
    """One or more fields are wrong. `problems` maps field names to message ids, all of them, not only the first."""

    code = "app.invalid_input"
    http_status = 422
    message = N_("Please check the marked fields.")

    def __init__(self, problems: dict[str, str] | None = None, message: str | None = None, **data: Any) -> None:
        super().__init__(message, **data)
        self.problems = problems or {}


_BY_SQLSTATE: dict[str, type[AppError]] = {}
_BY_CONSTRAINT: dict[str, type[AppError]] = {}


def map_sqlstate(sqlstate: str, error: type[AppError]) -> None:
    """Let a database error with this SQLSTATE reach callers as `error`."""
    _BY_SQLSTATE[sqlstate] = error


def map_constraint(constraint: str, error: type[AppError]) -> None:
    """Let a violation of this constraint reach callers as `error`."""
    _BY_CONSTRAINT[constraint] = error


def typed(error: DBAPIError) -> AppError | None:
    """The AppError that stands for a database error, or None when none is mapped (then it is a bug, not bad input)."""
    original = error.orig
    constraint = getattr(getattr(original, "diag", None), "constraint_name", None)
    found = _BY_CONSTRAINT.get(constraint or "") or _BY_SQLSTATE.get(getattr(original, "sqlstate", None) or "")
    return found() if found else None
