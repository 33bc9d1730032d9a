"""The rates that an IB gives to the IBs right below it, out of its own."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from flask import flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from sqlalchemy import select
from sqlalchemy.orm import joinedload

from app.commissions import offers
from app.commissions.components import COMPONENTS
from app.commissions.offers import Offer
from app.core.clock import now
from app.core.errors import AppError, InvalidInput
from app.extensions import db, limiter
from app.models.partners import IntroducingBroker
from app.partners.privacy import current_privacy
from app.portal.guards import client_actor, client_required
from app.portal.partner import blueprint, own_ib
from app.surfaces.errors import sentence
from app.surfaces.formats import exact

#: A comma may part thousands or decimals: it is refused rather than guessed.
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,10})?")

#: What rules are called here that pay for something else than a part of an amount.
_WORDS = {
    "per_lot": _l("Each lot"),
    "per_deal": _l("Each deal"),
    "cpa": _l("Each client who was won"),
    "retainer": _l("Each month"),
}
_KEEPS = {
    "per_lot": _l("You keep %(kept)s %(unit)s a lot."),
    "per_deal": _l("You keep %(kept)s %(unit)s a deal."),
    "cpa": _l("You keep %(kept)s %(unit)s a client."),
    "retainer": _l("You keep %(kept)s %(unit)s a month."),
}
_KEEPS_OTHERWISE = _l("You keep %(kept)s %(unit)s.")


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
    session, me, at = db.session(), own_ib().id, now()
    found = offers.offers(session, me, at)
    below = select(IntroducingBroker).options(joinedload(IntroducingBroker.client))
    people = {ib.id: ib for ib in session.scalars(below.where(IntroducingBroker.id.in_({offer.sub_ib_id for offer in found})))}
    privacy = current_privacy(session)
    rows: list[dict[str, Any]] = []
    for offer in found:
        is_refused = refused == (offer.sub_ib_id, offer.rule.key)
        will_be = f"{offer.coming.present:f}" if offer.coming else ""
        rows.append(
            {
                "offer": offer,
                "name": privacy.ib_name(offer.sub_ib_id, people[offer.sub_ib_id].client),
                "is_of_deals": COMPONENTS[offer.rule.component].on == "deal",
                "words": _WORDS.get(offer.rule.component, COMPONENTS[offer.rule.component].label),
                "unit": _unit(offer),
                "kept": offer.most - offer.present,
                "keeps": _keeps(offer, exact(offer.coming.most - offer.coming.present)) if offer.coming else "",
                "keeps_open": _keeps(offer, "{kept}"),
                "typed": typed if is_refused else will_be,
                "problem": problem if is_refused else "",
            }
        )
    return render_template(
        "portal/partner_rates.html",
        rows=rows,
        problem="" if any(row["problem"] for row in rows) else problem,
        has_below=bool(found) or offers.has_below(session, me, at),
        form=FlaskForm(),
    )


def _unit(offer: Offer) -> str:
    """What a rate is counted in."""
    kind = COMPONENTS[offer.rule.component]
    if kind.is_percentage:
        return "%"
    return gettext(kind.rate_label).lower() if kind.rate_label else offer.rule.currency


def _keeps(offer: Offer, kept: str) -> str:
    """The sentence beside the field. `kept` is the number in it, or what stands for it while somebody types."""
    said = _KEEPS.get(offer.rule.component, _KEEPS_OTHERWISE)
    return str(said % {"kept": kept, "unit": _unit(offer)})
