"""The way back from a decision on a proposal: to its page, with what was done or why not."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from flask import flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext

from app.core.errors import AppError, InvalidInput, NotFound
from app.core.orm import Proposal
from app.surfaces.errors import sentence
from app.views.columns import person

LONGEST_REASON = 500


def replaced() -> int | None:
    """The number of what the page showed as replaced by the proposal, where the form says it: the field `replaces`."""
    return request.form.get("replaces", type=int)


def decided(endpoint: str, pk: int, decide: Callable[[], Proposal], done: Mapping[str, str]) -> ResponseReturnValue:
    """Decide, and go back to the proposal; `done` has the words (message ids) by the new state.

    A reason that was refused comes along, as `typed_reason` of the page.
    """
    reason = None
    try:
        flash(gettext(done[decide().status]), "success")
    except NotFound:
        raise
    except InvalidInput as error:
        flash(" ".join(gettext(problem) for problem in error.problems.values()) or sentence(error), "warning")
        reason = request.form.get("reason", "")[:LONGEST_REASON]
    except AppError as error:
        if "by" in error.data:
            error.data["by"] = person(error.data["by"])
        flash(sentence(error), "warning")
    return redirect(url_for(endpoint, pk=pk, reason=reason))
