"""The QR codes of an IB's links: the own ones as pictures, another IB's not at all."""

from __future__ import annotations

import io

import pytest
import zxingcpp
from PIL import Image

from app.core.actor import Actor
from app.partners import links

ADMIN = Actor.system("test")


@pytest.fixture
def make_link(database):
    def make(client_id: int, code: str) -> int:
        with database.session() as session:
            ib = links.make_ib(session, client_id, "USD", ADMIN)
            return links.create_link(session, ib.id, "Summer", ADMIN, code=code).id

    return make


def test_an_own_link_shows_its_code_and_offers_it_as_a_file(signed_in, client_id, make_link):
    link_id = make_link(client_id, "SUMMER")
    page = signed_in.get("/portal/partner/links").text
    assert f'src="/portal/partner/links/{link_id}/qr.svg"' in page
    assert f'href="/portal/partner/links/{link_id}/qr.png?download=1"' in page
    drawn = signed_in.get(f"/portal/partner/links/{link_id}/qr.svg")
    assert (drawn.status_code, drawn.mimetype) == (200, "image/svg+xml")
    assert b"<svg" in drawn.data
    assert "style=" not in drawn.text
    assert "Content-Disposition" not in drawn.headers
    saved = signed_in.get(f"/portal/partner/links/{link_id}/qr.png?download=1")
    assert saved.headers["Content-Disposition"] == 'attachment; filename="SUMMER.png"'
    picture = Image.open(io.BytesIO(saved.data))
    width, height = picture.size
    assert width == height
    assert width >= 400
    (read,) = zxingcpp.read_barcodes(picture)
    assert read.text.endswith("/portal/register?ib=SUMMER")
    assert read.text in page


def test_two_links_have_two_codes(signed_in, client_id, make_link, database):
    first = make_link(client_id, "SUMMER")
    with database.session() as session:
        ib = links.ib_by_client(session, client_id)
        second = links.create_link(session, ib.id, "", ADMIN, code="WINTER").id
    pictures = {signed_in.get(f"/portal/partner/links/{link_id}/qr.svg").data for link_id in (first, second)}
    assert len(pictures) == 2


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_another_ibs_link_is_not_found(signed_in, client_id, make_client, make_link, another, kind):
    make_link(client_id, "SUMMER")
    foreign = make_link(make_client("noor@example.com"), "NOORS")
    assert signed_in.get(f"/portal/partner/links/{foreign}/qr.{kind}").status_code == 404
    assert another.get(f"/portal/partner/links/{foreign}/qr.{kind}").status_code == 302


def test_a_client_who_is_no_ib_and_an_unknown_kind_find_nothing(signed_in, make_client, make_link):
    foreign = make_link(make_client("noor@example.com"), "NOORS")
    assert signed_in.get(f"/portal/partner/links/{foreign}/qr.svg").status_code == 404
    assert signed_in.get(f"/portal/partner/links/{foreign}/qr.gif").status_code == 404
