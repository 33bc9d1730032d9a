"""What can go wrong with a report, in words for the person who asked for it."""

from __future__ import annotations

from app.core.errors import N_, InvalidInput, NotFound


class UnknownClient(NotFound):
    code = "reporting.unknown_client"


class InvalidPeriod(InvalidInput):
    """The period ends before it begins, is longer than a year and a day, or begins in the future."""

    code = "reporting.invalid_period"
    message = N_("Please choose a period of up to one year that has begun already.")


class TooManyLines(InvalidInput):
    """Laying out a statement takes time in proportion to its lines; a person is waiting for it."""

    code = "reporting.too_many_lines"
    message = N_("A statement holds %(most)s lines at most. Please choose a shorter period.")


class UnknownReport(NotFound):
    """There is no folder of this name under reports/."""

    code = "reporting.unknown_report"


class ForbiddenResource(Exception):
    """A report asks for something outside reports/, or over the network: a mistake in the report, not of its reader."""
