"""The rates that an IB gives to the IBs right below it, out of its own."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from flask import flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from flask_wtf import FlaskForm
from sqlalchemy import select
from sqlalchemy.orm import joinedload

from app.commissions import offers
from app.commissions.components import COMPONENTS
from app.core.clock import now
from app.core.errors import AppError, InvalidInput
from app.extensions import db, limiter
from app.models.partners import IntroducingBroker
from app.partners.privacy import current_privacy
from app.portal.guards import client_actor, client_required
from app.portal.partner import blueprint, own_ib
from app.surfaces.errors import sentence

#: A comma may part thousands or decimals: it is refused rather than guessed.
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,10})?")


@blueprint.get("/rates", endpoint="rates")
@client_required
def show_rates() -> ResponseReturnValue:
    return _page()


@blueprint.post("/rates/<int:sub_ib>/<rule_key>")
@client_required
@limiter.limit("60 per hour")
def give_rate(sub_ib: int, rule_key: str) -> ResponseReturnValue:
    """Give a sub-IB a rate; what is wrong stands beside the field, with what was typed."""
    typed, problem = request.form.get("rate", "")[:40].strip(), ""
    if not FlaskForm().validate_on_submit():
        problem = gettext("This form is too old. Please send it again.")
    else:
        try:
            given = offers.offer_rate(db.session(), own_ib().id, sub_ib, rule_key, _decimal(typed), now(), client_actor())
            day = given.valid_from.date().isoformat()
            flash(gettext("Saved. It counts from %(day)s (UTC) on.", day=day), "success")
            return redirect(url_for("portal_partner.rates"))
        except InvalidInput as error:
            db.session.rollback()
            problem = " ".join(gettext(message) for message in error.problems.values())
        except AppError as error:
            if error.http_status == 404:
                raise
            db.session.rollback()
            problem = sentence(error)
    return _page(refused=(sub_ib, rule_key), typed=typed, problem=problem), 422


def _decimal(typed: str) -> Decimal:
    """The rate as it was typed, with a point; what is no plain number is refused as one that is too small."""
    return Decimal(typed) if _NUMBER.fullmatch(typed) else Decimal(0)


def _page(refused: tuple[int, str] | None = None, typed: str = "", problem: str = "") -> str:
    session, me = db.session(), own_ib().id
    found = offers.offers(session, me, now())
    below = select(IntroducingBroker).options(joinedload(IntroducingBroker.client))
    people = {ib.id: ib for ib in session.scalars(below.where(IntroducingBroker.id.in_({offer.sub_ib_id for offer in found})))}
    privacy = current_privacy(session)
    rows: list[dict[str, Any]] = [
        {
            "offer": offer,
            "name": privacy.name(people[offer.sub_ib_id].client),
            "is_percentage": COMPONENTS[offer.rule.component].is_percentage,
            "kept": offer.most - offer.present,
            "typed": typed if refused == (offer.sub_ib_id, offer.rule.key) else f"{offer.present:f}",
            "problem": problem if refused == (offer.sub_ib_id, offer.rule.key) else "",
        }
        for offer in found
    ]
    return render_template("portal/partner_rates.html", rows=rows, form=FlaskForm())
