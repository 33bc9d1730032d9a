"""A dialog whose form was refused: the page comes back with it open, what is wrong in it, and what was typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from flask import request
from flask_babel import gettext

from app.core.errors import AppError
from app.surfaces.errors import sentence


@dataclass(frozen=True)
class Refused:
    """Which dialog comes back, by its id, why, and what was typed."""

    dialog: str = ""
    problem: str = ""
    typed: Mapping[str, str] = field(default_factory=dict)

    def why(self, dialog: str) -> str:
        """What is wrong with this dialog; empty for every other one."""
        return self.problem if dialog == self.dialog else ""

    def value(self, dialog: str, name: str, otherwise: str = "") -> str:
        """What stood in a field of this dialog."""
        return self.typed.get(name, "") if dialog == self.dialog else otherwise


NOTHING_REFUSED = Refused()


def refused(dialog: str, error: AppError | str) -> Refused:
    """The dialog of this request, refused for this error, or in these words."""
    return Refused(dialog, error if isinstance(error, str) else why(error), request.form.to_dict())


def why(error: AppError) -> str:
    """An error in words, also where it is about fields."""
    problems: dict[str, str] = getattr(error, "problems", {})
    text = " ".join(map(gettext, problems.values()))
    return (text % error.data if error.data else text) or sentence(error)
