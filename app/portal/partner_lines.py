"""The IB's accrual lines, each with its deal, rule and arithmetic."""

from __future__ import annotations

from flask import render_template
from flask.typing import ResponseReturnValue

from app.commissions import explain
from app.extensions import db
from app.portal.guards import client_required
from app.portal.partner import blueprint, own_ib


@blueprint.get("/lines/<int:accrual_id>")
@client_required
def line(accrual_id: int) -> ResponseReturnValue:
    """Why this line has this amount, down to deal, rule and rounding."""
    return render_template(
        "portal/partner_line.html", explanation=explain.explain_accrual(db.session(), accrual_id, own_ib().id)
    )
