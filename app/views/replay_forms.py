"""The form of a replay: which deals, and what should have stood."""

from __future__ import annotations

from typing import Any

from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from sqlalchemy import select
from sqlalchemy.orm import joinedload
from wtforms import IntegerField, SelectField, TextAreaField
from wtforms.fields import SelectChoice
from wtforms.validators import NumberRange, Optional

from app.commissions.overrides import Instead, Overrides
from app.commissions.recompute import Scope
from app.commissions.replay import LONGEST_REASON
from app.core.errors import AppError
from app.core.money import MAX_AMOUNT_MINOR
from app.extensions import db
from app.models.commissions import Plan, PlanVersion
from app.models.metatrader import Server
from app.models.partners import IntroducingBroker
from app.surfaces.errors import sentence
from app.views.ledger_request_forms import Needed, UTCField

#: The choices of nothing chosen, and of no IB.
NONE, NOBODY = 0, -1


#: Fields of one alternative: all of them, or none.
_TOGETHER = (("version", "version_since"), ("paid_ib", "paid_plan", "paid_since"), ("client", "client_ib", "client_since"))


def _chosen(label: str) -> SelectField:
    return SelectField(label, coerce=int, default=NONE)


class ReplayForm(FlaskForm):
    """A period, what of it, and up to one alternative of each kind."""

    since = UTCField(_l("Deals from (UTC)"), validators=[Needed()])
    until = UTCField(_l("Until before (UTC)"), validators=[Needed()])
    plan = _chosen(_l("Plan"))
    branch = _chosen(_l("Branch of"))
    server = _chosen(_l("Server"))
    version = _chosen(_l("This version counted"))
    version_since = UTCField(_l("From (UTC)"), validators=[Optional()])
    paid_ib = _chosen(_l("This IB"))
    paid_plan = _chosen(_l("was paid by this plan"))
    paid_since = UTCField(_l("From (UTC)"), validators=[Optional()])
    client = IntegerField(_l("The client with this number"), validators=[Optional(), NumberRange(min=1, max=MAX_AMOUNT_MINOR)])
    client_ib = _chosen(_l("belonged to this IB"))
    client_since = UTCField(_l("From (UTC)"), validators=[Optional()])
    reason = TextAreaField(
        _l("Reason"),
        description=_l("Why the period is recomputed. Whoever decides reads it."),
        validators=[Needed()],
        render_kw={"rows": 2, "maxlength": LONGEST_REASON},
    )

    def __init__(self) -> None:
        super().__init__()
        self.elsewhere: list[str] = []
        session = db.session()
        plans = [SelectChoice(plan.id, plan.name) for plan in session.scalars(select(Plan).order_by(Plan.name))]
        ibs = [
            SelectChoice(ib.id, f"{ib.client.full_name} (#{ib.id})")
            for ib in session.scalars(
                select(IntroducingBroker).options(joinedload(IntroducingBroker.client)).order_by(IntroducingBroker.id)
            )
        ]
        versions = select(PlanVersion).options(joinedload(PlanVersion.plan)).order_by(PlanVersion.plan_id, PlanVersion.version)
        every, nothing = SelectChoice(NONE, gettext("All")), SelectChoice(NONE, "—")
        self.plan.choices = [every, *plans]
        self.branch.choices = [every, *ibs]
        self.server.choices = [every, *(SelectChoice(one.id, one.name) for one in session.scalars(select(Server)))]
        self.version.choices = [
            nothing,
            *(
                SelectChoice(one.id, gettext("%(plan)s, version %(number)s", plan=one.plan.name, number=one.version))
                for one in session.scalars(versions)
            ),
        ]
        self.paid_ib.choices, self.paid_plan.choices = [nothing, *ibs], [nothing, *plans]
        self.client_ib.choices = [nothing, SelectChoice(NOBODY, gettext("Nobody")), *ibs]

    def validate(self, extra_validators: Any = None) -> bool:
        """Besides each field: alternatives are whole or absent."""
        is_valid = super().validate(extra_validators)
        for name in ("since", "until"):
            if self[name].moment is None and not self[name].errors:
                self[name].errors = [gettext("Please give a day and a time, such as 2026-11-30 14:05.")]
        for names in (
            ("version", "version_since"),
            ("paid_ib", "paid_plan", "paid_since"),
            ("client", "client_ib", "client_since"),
        ):
            empty = [name for name in names if not self[name].data]
            if len(empty) < len(names):
                for name in empty:
                    self[name].errors = [*self[name].errors, gettext("Fill in this whole line, or leave all of it empty.")]
        return is_valid and not self.errors

    def scope(self) -> Scope:
        """Which deals; ask when the form is valid."""
        assert self.since.moment is not None
        assert self.until.moment is not None
        wanted = (self.plan.data or None, self.branch.data or None, self.server.data or None)
        return Scope(self.since.moment, self.until.moment, *wanted)

    def overrides(self) -> Overrides:
        """What should have stood; ask when the form is valid."""
        assert self.until.moment is not None
        versions: tuple[Instead, ...] = ()
        plans: tuple[Instead, ...] = ()
        clients: tuple[Instead, ...] = ()
        if self.version.data and self.version_since.moment:
            version = db.session.get_one(PlanVersion, self.version.data)
            versions = (Instead(version.plan_id, version.id, self.version_since.moment),)
        if self.paid_ib.data and self.paid_since.moment:
            plans = (Instead(self.paid_ib.data, self.paid_plan.data, self.paid_since.moment),)
        if self.client.data and self.client_since.moment:
            clients = (Instead(self.client.data, max(self.client_ib.data, 0), self.client_since.moment),)
        return Overrides(self.until.moment, versions, plans, clients)

    def show(self, error: AppError) -> None:
        """Write a refusal beside its field, or above the form."""
        problems: dict[str, str] = getattr(error, "problems", {})
        for name, problem in problems.items():
            if name in self:
                self[name].errors = [gettext(problem)]
        if not problems:
            self.elsewhere.append(sentence(error))
