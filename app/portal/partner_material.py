"""Marketing material for the IB, each with the code that carries the IB's own link; and the banners themselves, for anybody."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from flask import Response, current_app, render_template, request, url_for
from flask.typing import ResponseReturnValue
from markupsafe import Markup

from app.engagement import material
from app.extensions import db
from app.models.marketing import MATERIAL_KINDS, MarketingMaterial
from app.partners import links
from app.portal.guards import client_required, portal
from app.portal.partner import blueprint, own_ib
from app.portal.partner_links import link_address

_SNIPPET = Markup('<a href="{0}"><img src="{1}" width="{2}" height="{3}" alt="{4}"></a>')


@blueprint.get("/material", endpoint="material")
@client_required
def show_material() -> ResponseReturnValue:
    """What there is, in a language and of a kind, for one of the own links."""
    session, own = db.session(), [link for link in links.links_of(db.session(), own_ib().id) if link.is_active]
    chosen = next((link for link in own if link.code == request.args.get("link")), own[-1] if own else None)
    language = _one_of(material.LANGUAGES, request.args.get("language", ""))
    kind = _one_of(MATERIAL_KINDS, request.args.get("kind", ""))
    found = material.material(session, language=language, kind=kind)
    rows = [(one, _code(one, chosen) if chosen else "", _address(one)) for one in found]
    return render_template("portal/partner_material.html", rows=rows, links=own, chosen=chosen, language=language, kind=kind)


@portal.get("/material/<uuid:public_id>")
def banner(public_id: UUID) -> ResponseReturnValue:
    """A banner, wherever it is embedded. It says nothing about who loads it, and nothing in it runs."""
    found = material.banner(db.session(), public_id)
    response = Response(found.content, mimetype=found.media_type)
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    response.headers["Cache-Control"] = "public, max-age=3600"
    return response


def _one_of(known: Collection[str], asked: str) -> str:
    """What was asked for; what is not known is no filter."""
    return asked if asked in known else ""


def _address(one: MarketingMaterial) -> str:
    if one.kind != "image":
        return ""
    return f"{current_app.extensions['settings'].base_url}{url_for('portal.banner', public_id=one.public_id)}"


def _code(one: MarketingMaterial, link: links.Link) -> str:
    """What the IB copies."""
    address = link_address(link)
    if one.kind == "image":
        return str(_SNIPPET.format(address, _address(one), one.width, one.height, one.title))
    if one.kind == "text":
        return one.words.replace(material.LINK, address)
    return material.page_with_code(one.words, link.code)
