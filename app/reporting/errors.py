"""What can go wrong with a report, in words for the person who asked for it."""

from __future__ import annotations

from app.core.errors import N_, InvalidInput, NotFound


class UnknownClient(NotFound):
    code = "reporting.unknown_client"


class InvalidPeriod(InvalidInput):
    """The period ends before it begins, is longer than a year and a day, or begins in the future."""

    code = "reporting.invalid_period"
    message = N_("Please choose a period of up to one year that has begun already.")


class UnknownReport(NotFound):
    """There is no folder of this name under reports/."""

    code = "reporting.unknown_report"


class ForbiddenResource(Exception):
    """A report asks for something outside reports/, or over the network: a mistake in the report, not of its reader."""
