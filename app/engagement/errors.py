"""Errors of engagement that a person may see."""

from __future__ import annotations

from app.core.errors import N_, AppError, Conflict, map_constraint


class TooManyQuestions(AppError):
    code = "tickets.too_many"
    http_status = 409
    message = N_("You have %(most)s open questions. Please close one, or wait for our answers.")


class TicketClosed(Conflict):
    code = "tickets.closed"
    message = N_("This question is closed already. The client can open it again by writing.")


class AskedAgain(Conflict):
    """Another question about the same line was opened since."""

    code = "tickets.asked_again"
    message = N_("There is a newer open question about this line. Please write there.")


map_constraint("uq_ticket_open_line", AskedAgain)
