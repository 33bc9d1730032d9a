"""The form of a move: where to, from when on, and why."""

from __future__ import annotations

from typing import Any

from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from wtforms import SearchField, StringField, TextAreaField, ValidationError
from wtforms.validators import Length, Optional

from app.core.errors import AppError
from app.partners.moves import LONGEST_REASON
from app.surfaces.errors import sentence
from app.views.ledger_request_forms import Needed, UTCField

#: What the choice of no IB sends.
NOBODY = "nobody"

_LONGEST_NUMBER = 18


class MoveForm(FlaskForm):
    """The choice of the IB comes from a search on the server, so it is a number that anybody may have typed."""

    q = SearchField(
        _l("Find the introducing broker"),
        description=_l("A number, or parts of the name or mail address."),
        validators=[Length(max=120)],
    )
    target = StringField(_l("Moves to"), validators=[Needed()])
    effective_at = UTCField(
        _l("From (UTC)"),
        description=_l("Left empty: from the approval on. The past is possible as far as the present place reaches back."),
        validators=[Optional()],
    )
    reason = TextAreaField(
        _l("Reason"),
        description=_l("Who asked for it, and why this is right. Whoever decides reads it."),
        validators=[Needed()],
        render_kw={"rows": 2, "maxlength": LONGEST_REASON},
    )

    def __init__(self) -> None:
        super().__init__()
        self.elsewhere: list[str] = []

    def validate_target(self, field: Any) -> None:
        chosen = field.data or ""
        if chosen != NOBODY and not (chosen.isascii() and chosen.isdecimal() and len(chosen) <= _LONGEST_NUMBER):
            raise ValidationError(gettext("Please choose the introducing broker, or nobody."))

    @property
    def target_id(self) -> int | None:
        """The chosen IB; None for nobody. Ask when the form is valid."""
        return None if self.target.data == NOBODY else int(self.target.data or 0)

    def show(self, error: AppError) -> None:
        """Write a refusal beside its field, or above the form."""
        problems: dict[str, str] = getattr(error, "problems", {})
        for name, problem in problems.items():
            if name in self:
                self[name].errors = [gettext(problem)]
        if not problems:
            self.elsewhere.append(sentence(error))
