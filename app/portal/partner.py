"""The IB's pages: links, clients, and every accrual line with its deal, rule and arithmetic."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, current_app, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from wtforms import StringField
from wtforms.validators import Length

from app.commissions import explain
from app.core.actor import Actor
from app.core.errors import AppError, NotFound
from app.extensions import db, limiter
from app.partners import attribution, links
from app.portal.guards import client_required
from app.portal.partner_qr import MIMETYPES, Kind, qr_picture
from app.surfaces.errors import sentence

blueprint = Blueprint("portal_partner", __name__, url_prefix="/portal/partner")

LINES = 25


class LinkForm(FlaskForm):
    name = StringField(_l("Name for yourself"), validators=[Length(max=60)])


def own_ib() -> links.IB:
    """The IB that the signed-in client is; NotFound for everybody else."""
    ib = links.ib_by_client(db.session(), g.client.id)
    if ib is None:
        raise NotFound()
    return ib


@blueprint.get("/")
@client_required
def index() -> ResponseReturnValue:
    """The IB's start page; a client who is no IB reads what it would be."""
    if links.ib_by_client(db.session(), g.client.id) is None:
        return render_template("portal/partner_none.html")
    return render_template("portal/partner.html", form=LinkForm(), **overview())


@blueprint.get("/live")
@client_required
def live() -> ResponseReturnValue:
    """The part of the page that changes by itself."""
    return render_template("portal/partner_live.html", **overview())


@blueprint.get("/lines/<int:accrual_id>")
@client_required
def line(accrual_id: int) -> ResponseReturnValue:
    """Why this line has this amount, down to deal, rule and rounding."""
    return render_template(
        "portal/partner_line.html", explanation=explain.explain_accrual(db.session(), accrual_id, own_ib().id)
    )


@blueprint.post("/links")
@client_required
@limiter.limit("20 per hour")
def add_link() -> ResponseReturnValue:
    ib = own_ib()
    form = LinkForm()
    problem = ""
    if form.validate_on_submit():
        try:
            links.create_link(db.session(), ib.id, form.name.data or "", Actor.client(g.client.id, request.remote_addr or ""))
            return redirect(url_for("portal_partner.index"))
        except AppError as error:
            problem = sentence(error)
    return render_template("portal/partner.html", form=form, problem=problem, **overview()), 422


@blueprint.get("/links/<int:link_id>/qr.<any(svg, png):kind>")
@client_required
def link_qr(link_id: int, kind: Kind) -> ResponseReturnValue:
    """The QR code of an own link; ?download saves it as a file. Another IB's link is not found."""
    link = next((link for link in links.links_of(db.session(), own_ib().id) if link.id == link_id), None)
    if link is None:
        raise NotFound()
    response = Response(qr_picture(link_address(link), kind), mimetype=MIMETYPES[kind])
    if "download" in request.args:
        response.headers["Content-Disposition"] = f'attachment; filename="{link.code}.{kind}"'
    return response


def link_address(link: links.Link) -> str:
    """What a link's visitor opens, from anywhere."""
    return f"{current_app.extensions['settings'].base_url}{url_for('portal.register')}?ib={link.code}"


def overview() -> dict[str, Any]:
    ib = own_ib()
    session = db.session()
    before = request.args.get("before", type=int)
    found = explain.accrual_lines(session, ib.id, before, LINES + 1)
    return {
        "ib": ib,
        "totals": explain.totals(session, ib.id),
        "lines": found[:LINES],
        "older": url_for("portal_partner.index", before=found[LINES - 1].id) if len(found) > LINES else None,
        "newer": url_for("portal_partner.index") if before else None,
        "clients": attribution.clients_of(session, ib.id),
        "links": [(link, link_address(link)) for link in links.links_of(session, ib.id)],
    }
