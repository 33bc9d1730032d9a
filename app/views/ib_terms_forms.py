"""The form of an IB's personal terms: multiplier, handing on, and a rate for each rule that may pay the IB."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from flask import request
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from wtforms import StringField, TextAreaField
from wtforms.validators import Length, Optional

from app.commissions.agreements import LONGEST_REASON
from app.commissions.plans import Rule
from app.commissions.terms import PersonalTerms
from app.core.errors import AppError
from app.surfaces.errors import sentence
from app.views.ledger_request_forms import Needed, UTCField

_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,10})?")


@dataclass
class RateRow:
    """One rule of one plan, with the rate as typed; empty: the plan's own."""

    plan_id: int
    plan: str
    rule: Rule
    typed: str = ""
    problem: str = ""

    @property
    def name(self) -> str:
        return f"rate-{self.plan_id}-{self.rule.key}"


class TermsForm(FlaskForm):
    """All that may be agreed; what is left empty is not."""

    multiplier = StringField(
        _l("Multiplier"),
        description=_l("Multiplies all that the IB gets, such as 1.2. Left empty: nothing changes."),
        validators=[Optional(), Length(max=20)],
        render_kw={"inputmode": "decimal", "autocomplete": "off"},
    )
    hand_on_percent = StringField(
        _l("Hands on to the trader, percent"),
        description=_l("Of what the IB gets for its own clients, as a rebate on the client's wallet."),
        validators=[Optional(), Length(max=20)],
        render_kw={"inputmode": "decimal", "autocomplete": "off"},
    )
    valid_from = UTCField(
        _l("Valid from (UTC)"),
        description=_l("Left empty: from the approval on. Deals that were judged already stay as they are."),
        validators=[Optional()],
    )
    reason = TextAreaField(
        _l("Reason"),
        description=_l("What was agreed, and with whom. Whoever decides reads it."),
        validators=[Needed()],
        render_kw={"rows": 2, "maxlength": LONGEST_REASON},
    )

    def __init__(self, rows: Sequence[RateRow]) -> None:
        super().__init__()
        self.rows = rows
        self.elsewhere: list[str] = []
        if self.is_submitted():
            for row in rows:
                row.typed = request.form.get(row.name, "").strip()[:20]

    def show_terms(self, terms: PersonalTerms) -> None:
        """Begin with what is agreed now."""
        self.multiplier.data = "" if terms.multiplier is None else f"{terms.multiplier.normalize():f}"
        self.hand_on_percent.data = "" if terms.hand_on_percent is None else f"{terms.hand_on_percent.normalize():f}"
        for row in self.rows:
            rate = terms.rates.get((row.plan_id, row.rule.key))
            row.typed = "" if rate is None else f"{rate:f}"

    def terms(self) -> PersonalTerms | None:
        """The terms as typed; None, with the problem beside its field, for what is no number."""
        multiplier, handed = (self._number(name) for name in ("multiplier", "hand_on_percent"))
        rates: dict[tuple[int, str], Decimal] = {}
        for row in self.rows:
            if row.typed and not _NUMBER.fullmatch(row.typed):
                row.problem = gettext("Please give a number such as 7.50.")
            elif row.typed:
                rates[row.plan_id, row.rule.key] = Decimal(row.typed)
        if self.errors or any(row.problem for row in self.rows):
            return None
        return PersonalTerms(multiplier, rates, handed)

    def _number(self, name: str) -> Decimal | None:
        typed = (self[name].data or "").strip()
        if typed and not _NUMBER.fullmatch(typed):
            self[name].errors = [gettext("Please give a number such as 1.2.")]
        return Decimal(typed) if typed and not self[name].errors else None

    def show(self, error: AppError) -> None:
        """Write a refusal beside its field, its rate, or above the form."""
        problems: dict[str, str] = getattr(error, "problems", {})
        rows = {f"rates.{row.plan_id}.{row.rule.key}": row for row in self.rows}
        for name, problem in problems.items():
            if name in rows:
                rows[name].problem = gettext(problem)
            elif name in self:
                self[name].errors = [gettext(problem)]
            else:
                self.elsewhere.append(f"{name}: {gettext(problem)}")
        if not problems:
            self.elsewhere.append(sentence(error))
