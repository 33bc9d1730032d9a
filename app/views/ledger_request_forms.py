"""The forms of requests: rows of legs that survive every refusal, moments in UTC, a file that stays chosen."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from flask_wtf.file import FileField
from wtforms import DateField, DateTimeLocalField, DecimalField, HiddenField, TextAreaField

from app.core.clock import now
from app.core.errors import AppError
from app.ledger.adjustments import DraftLeg
from app.ledger.errors import IdempotencyConflict
from app.ledger.requests import MAX_REASON
from app.surfaces.errors import sentence
from app.views import evidence

_PART = re.compile(r"legs-([0-9]{1,4})-(account|side|amount)")
#: Rows of an empty form.
FEWEST_ROWS = 2


class Needed:
    """Marks a field as needed; whether what stands in it will do is judged by the use case, with everything else."""

    field_flags = {"required": True}

    def __call__(self, form: Any, field: Any) -> None:
        """Nothing to judge here."""


class UTCField(DateTimeLocalField):
    """A moment in UTC, by minutes."""

    def process_formdata(self, valuelist: list[str]) -> None:
        try:
            super().process_formdata(valuelist)
        except ValueError:
            raise ValueError(gettext("Please give a day and a time, such as 2026-11-30 14:05.")) from None

    @property
    def moment(self) -> datetime | None:
        return self.data.replace(tzinfo=UTC) if self.data else None


class NumberField(DecimalField):
    """A number; not one of the values that a Decimal has beside numbers, with which nothing can be compared."""

    data: Decimal | None

    def process_formdata(self, valuelist: list[str]) -> None:
        super().process_formdata(valuelist)
        if self.data is not None and not self.data.is_finite():
            self.data = None
            raise ValueError(self.gettext("Not a valid decimal value."))


class DayField(DateField):
    """A day whose error is ours to word."""

    def process_formdata(self, valuelist: list[str]) -> None:
        try:
            super().process_formdata(valuelist)
        except ValueError:
            raise ValueError(gettext("Please give a day such as 2026-11-30.")) from None


@dataclass
class Row:
    """One leg as it stands in the form, and what was wrong with it."""

    account: str = ""
    side: str = "debit"
    amount: str = ""
    errors: dict[str, list[str]] = field(default_factory=dict)

    @property
    def is_blank(self) -> bool:
        return not self.account.strip() and not self.amount.strip()


class RequestForm(FlaskForm):
    """What all requests have. `key` is drawn when the page is made: sent twice, it is one request."""

    reason = TextAreaField(
        _l("Reason"),
        description=_l("What happened, and why this is right. Whoever decides reads it, and so do auditors."),
        validators=[Needed()],
        render_kw={"rows": 3, "maxlength": MAX_REASON},
    )
    key = HiddenField()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.elsewhere: list[str] = []
        try:
            uuid.UUID(self.key.data or "")
        except ValueError:
            self.key.data = str(uuid.uuid4())

    @property
    def is_refused(self) -> bool:
        return bool(self.errors or self.elsewhere)

    def show(self, error: AppError) -> None:
        """Write what is wrong beside the fields, and into `elsewhere` what belongs to none."""
        faults: Mapping[str, Sequence[AppError]] = getattr(error, "faults", {"": [error]})
        for name, found in faults.items():
            self.place(name, [sentence(fault) for fault in found])
        if isinstance(error, IdempotencyConflict):
            self.key.data = str(uuid.uuid4())  # this one is spent; pressed again, it is a request of its own

    def place(self, name: str, sentences: list[str]) -> None:
        if name not in self:
            self.elsewhere += sentences
        elif not self[name].errors:
            self[name].errors = sentences


class EvidencedForm(RequestForm):
    """A request that needs a file, which stays chosen when the page comes back."""

    effective_at = UTCField(
        _l("Effective, in UTC"),
        description=_l("From this moment on it counts in balances and statements."),
        validators=[Needed()],
    )
    evidence = FileField(
        _l("Evidence"), description=_l("A PDF, a PNG or a JPEG, such as the bank's confirmation. It is kept encrypted.")
    )
    note = HiddenField()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.draft: evidence.Draft | None = None
        if not self.is_submitted() and self.effective_at.data is None:
            self.effective_at.data = now().replace(second=0, microsecond=0, tzinfo=None)

    def keep_evidence(self) -> None:
        """Keep the file that came with the form, or else the one that was kept before."""
        self.draft = evidence.kept(self.note.data or "")
        if self.evidence.data:
            try:
                newer = evidence.keep(self.evidence.data)
            except AppError as error:
                self.evidence.errors = [sentence(error)]
            else:
                evidence.forget(self.draft)
                self.draft = newer
        self.note.data = self.draft.note if self.draft else ""


class AdjustmentForm(EvidencedForm):
    """The legs are no field of WTForms: they stand in `rows`, read from names such as legs-0-account."""

    def __init__(self, values: Mapping[str, str]) -> None:
        super().__init__()
        self.rows = read_rows(values)
        self.pad()

    @property
    def is_refused(self) -> bool:
        return super().is_refused or any(row.errors for row in self.rows)

    def pad(self) -> None:
        while len(self.rows) < FEWEST_ROWS:
            self.rows.append(Row(side="debit" if not self.rows else "credit"))

    def add_row(self) -> None:
        self.rows.append(Row(side="credit" if self.rows and self.rows[-1].side == "debit" else "debit"))

    def remove_row(self, number: str) -> None:
        if number.isascii() and number.isdecimal() and int(number[:4]) < len(self.rows):
            del self.rows[int(number[:4])]
        self.pad()

    def drafts(self) -> list[DraftLeg]:
        """The rows in which something stands; blank ones move to the end, so that rows and legs have the same numbers."""
        self.rows.sort(key=lambda row: row.is_blank)
        return [DraftLeg(row.account, row.side, row.amount) for row in self.rows if not row.is_blank]

    def place(self, name: str, sentences: list[str]) -> None:
        if parts := _PART.fullmatch(name):
            self.rows[int(parts[1])].errors[parts[2]] = sentences
        else:
            super().place(name, sentences)


class ReversalForm(EvidencedForm):
    txn = HiddenField()


class PeriodCloseForm(RequestForm):
    through = HiddenField()


class PeriodForm(FlaskForm):
    """Chooses the period that is looked at; sent by address."""

    class Meta:
        csrf = False

    through = DayField(_l("Last day of the period (UTC)"), validators=[Needed()])


def read_rows(values: Mapping[str, str]) -> list[Row]:
    """The rows of a form or an address, in the order of their numbers, which may have gaps."""
    rows: dict[int, Row] = {}
    for name, value in values.items():
        if parts := _PART.fullmatch(name):
            setattr(rows.setdefault(int(parts[1]), Row()), parts[2], value)
    return [rows[number] for number in sorted(rows)]


def last_month() -> Any:
    """The last day of the month before this one, in UTC: the period that is closed most often."""
    return (now().date().replace(day=1)) - timedelta(days=1)
