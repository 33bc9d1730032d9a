"""The IB's links, with their QR codes."""

from __future__ import annotations

from flask import Response, current_app, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from wtforms import StringField
from wtforms.validators import Length

from app.core.errors import AppError, NotFound
from app.extensions import db, limiter
from app.partners import links
from app.portal.forms import show_problems
from app.portal.guards import client_actor, client_required
from app.portal.partner import blueprint, own_ib
from app.portal.partner_qr import MIMETYPES, Kind, qr_picture


class LinkForm(FlaskForm):
    name = StringField(_l("Name for yourself"), validators=[Length(max=60)])
    code = StringField(_l("Promotion code"), description=_l("4 to 24 letters, digits or dashes; left empty, one is drawn."))


@blueprint.get("/links", endpoint="links")
@client_required
def show_links() -> ResponseReturnValue:
    return _page(LinkForm())


@blueprint.post("/links")
@client_required
@limiter.limit("20 per hour")
def add_link() -> ResponseReturnValue:
    ib = own_ib()
    form = LinkForm()
    problem = ""
    if form.validate_on_submit():
        try:
            code = (form.code.data or "").strip() or None
            links.create_link(db.session(), ib.id, form.name.data or "", client_actor(), code=code)
            return redirect(url_for("portal_partner.links"))
        except AppError as error:
            problem = " ".join(show_problems(form, error))
    return _page(form, problem), 422


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


def _page(form: LinkForm, problem: str = "") -> str:
    found = [(link, link_address(link)) for link in links.links_of(db.session(), own_ib().id)]
    return render_template("portal/partner_links.html", form=form, problem=problem, links=found)
