"""Partners desk: suspicions about commission with their evidence, dismissed or confirmed with a reason; what is looked for."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from flask import abort, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_appbuilder import AppBuilder, expose, has_access, permission_name
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from sqlalchemy import select
from sqlalchemy.orm import joinedload
from wtforms import BooleanField, IntegerField
from wtforms.validators import InputRequired

from app.commissions import flags
from app.core.errors import AppError, InvalidInput
from app.extensions import db
from app.models.clients import Client
from app.models.commission_flags import KINDS, CommissionFlag, FlagSetting
from app.models.metatrader import Deal, Server, TradingAccount
from app.models.partners import IntroducingBroker
from app.surfaces.csv_files import csv_file
from app.surfaces.errors import sentence
from app.surfaces.filters import Filters
from app.views.columns import person
from app.views.guarded import DeskPage, staff_actor
from app.views.ledger_request_forms import NumberField

RIGHTS = "Commission flags"
PAGE = 50
STATES = ("open", "dismissed", "confirmed")


class HedgeForm(FlaskForm):
    """Whether hedges are looked for, and how near two openings must be."""

    is_on = BooleanField(_l("Look for it"))
    window_s = IntegerField(_l("Seconds between the openings, at most"), validators=[InputRequired()])
    tolerance_percent = NumberField(_l("How much the volumes may differ, percent"), validators=[InputRequired()])


class CommissionFlagPage(DeskPage):
    """The queue, one suspicion with its decision, and what is looked for."""

    class_permission_name = RIGHTS
    route_base = "/commission-flags"
    extra_args = {"person": person}

    @expose("/")
    @has_access
    @permission_name("list")
    def index(self) -> ResponseReturnValue:
        """The newest first; those that wait for a decision unless others are asked for."""
        filters = Filters()
        state, kind, ib_id = filters.choice("state", STATES), filters.choice("kind", KINDS), filters.whole("ib")
        after = filters.after_number("after")
        query = select(CommissionFlag).options(joinedload(CommissionFlag.ib).joinedload(IntroducingBroker.client))
        query = query.where(CommissionFlag.status == (state or "open")).order_by(CommissionFlag.id.desc())
        if kind:
            query = query.where(CommissionFlag.kind == kind)
        if ib_id is not None:
            query = query.where(CommissionFlag.ib_id == ib_id)
        if filters.wants_csv and not filters.problems:
            return _file(db.session.scalars(query).all())
        if after is not None:
            query = query.where(CommissionFlag.id < after)
        shown = db.session.scalars(query.limit(PAGE + 1)).all()
        return self.render_template(
            "office/commission_flags.html",
            filters=filters,
            state=state or "open",
            states=STATES,
            kinds=KINDS,
            flags=shown[:PAGE],
            first=filters.address() if after is not None else None,
            next=filters.address(after=shown[PAGE - 1].id) if len(shown) > PAGE else None,
        )

    @expose("/<int:pk>")
    @has_access
    @permission_name("list")
    def flag(self, pk: int) -> ResponseReturnValue:
        """One suspicion with all that speaks for it."""
        found = db.session.get(CommissionFlag, pk)
        if found is None:
            abort(404)
        return self.render_template(
            "office/commission_flag.html",
            one=found,
            **_evidence(found),
            decides=found.status == "open" and self.appbuilder.sm.has_access("can_decide", RIGHTS),
            typed_reason=request.args.get("reason", "")[: flags.LONGEST_REASON],
            longest=flags.LONGEST_REASON,
        )

    @expose("/<int:pk>/<decision>", methods=["POST"])
    @has_access
    @permission_name("decide")
    def decide(self, pk: int, decision: str) -> ResponseReturnValue:
        typed = request.form.get("reason", "")
        try:
            flags.decide_flag(db.session(), pk, decision=decision, reason=typed, actor=staff_actor())
            flash(gettext("Dismissed.") if decision == "dismissed" else gettext("Confirmed."), "success")
            return redirect(url_for("CommissionFlagPage.flag", pk=pk))
        except InvalidInput as error:
            flash(" ".join(gettext(problem) for problem in error.problems.values()), "warning")
        except AppError as error:
            if error.http_status == 404:
                abort(404)
            flash(sentence(error), "warning")
        return redirect(url_for("CommissionFlagPage.flag", pk=pk, reason=typed[: flags.LONGEST_REASON] or None))

    @expose("/settings", methods=["GET"])
    @has_access
    @permission_name("set")
    def settings(self) -> ResponseReturnValue:
        """What is looked for, and how."""
        return self._settings(HedgeForm(obj=db.session.get(FlagSetting, flags.HEDGED)))

    @expose("/settings/<kind>", methods=["POST"])
    @has_access
    @permission_name("set")
    def change(self, kind: str) -> ResponseReturnValue:
        """Switch a kind on or off; of hedges also how near two openings must be."""
        form, is_hedge = HedgeForm(), kind == flags.HEDGED
        if is_hedge and not form.validate():
            return self._settings(form), 422
        try:
            flags.set_kind(
                db.session(),
                kind,
                is_on=bool(form.is_on.data),
                window_s=form.window_s.data if is_hedge else None,
                tolerance_percent=form.tolerance_percent.data if is_hedge else None,
                actor=staff_actor(),
            )
        except InvalidInput as error:
            for name, problem in error.problems.items():
                form[name].errors = [gettext(problem)]
            return self._settings(form), 422
        flash(gettext("Saved."), "success")
        return redirect(url_for("CommissionFlagPage.settings"))

    def _settings(self, form: HedgeForm) -> str:
        rows = {row.kind: row for row in db.session.scalars(select(FlagSetting))}
        page: str = self.render_template(
            "office/commission_flag_settings.html", rows=[rows[kind] for kind in KINDS if kind in rows], form=form
        )
        return page


def _evidence(flag: CommissionFlag) -> dict[str, Any]:
    """The people, accounts and deals that the details name."""
    session, details = db.session(), flag.details
    deal_ids = [*details.get("deals", []), *(deal for pair in details.get("pairs", []) for deal in pair)]
    deals = select(Deal, Server).join(Server, Server.id == Deal.server_id).where(Deal.id.in_(deal_ids))
    ibs = select(IntroducingBroker).options(joinedload(IntroducingBroker.client))
    return {
        "clients": session.scalars(select(Client).where(Client.id.in_(details.get("clients", []))).order_by(Client.id)).all(),
        "accounts": session.scalars(
            select(TradingAccount).where(TradingAccount.id.in_(details.get("accounts", []))).order_by(TradingAccount.id)
        ).all(),
        "deals": {deal.id: (deal, server) for deal, server in session.execute(deals)},
        "ibs": {ib.id: ib for ib in session.scalars(ibs.where(IntroducingBroker.id.in_(details.get("ibs", []))))},
        "amounts": {name: Decimal(details[name]) for name in ("earned", "paid", "rate", "rate_above") if name in details},
    }


def _file(found: Iterable[CommissionFlag]) -> Any:
    head = [
        gettext("No."),
        gettext("What"),
        gettext("IB"),
        gettext("Name"),
        gettext("Found"),
        gettext("State"),
        gettext("Clients"),
        gettext("Reason"),
        gettext("Decided by"),
        gettext("Decided at"),
    ]
    return csv_file(
        "commission-flags",
        head,
        [
            [
                one.id,
                one.kind,
                one.ib_id,
                one.ib.client.full_name,
                one.found_at,
                one.status,
                " ".join(str(client) for client in one.details.get("clients", [])),
                one.reason,
                one.decided_by and person(one.decided_by),
                one.decided_at,
            ]
            for one in found
        ],
    )


def register(appbuilder: AppBuilder) -> None:
    desk = {"category": "Partners desk", "category_label": _l("Partners")}
    appbuilder.add_view(CommissionFlagPage, RIGHTS, label=_l("Commission flags"), icon="flag", **desk)
