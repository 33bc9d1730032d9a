"""The IB's material carries the IB's own link, and banners load for anybody."""

from __future__ import annotations

import re
from html import unescape
from io import BytesIO

import pytest
from PIL import Image

from app.core.actor import Actor
from app.engagement import material
from app.partners import links

STAFF = Actor.staff(1)


@pytest.fixture
def banner(database, client_id):
    out = BytesIO()
    Image.new("RGB", (300, 250)).save(out, "PNG")
    with database.session() as session:
        ib = links.make_ib(session, client_id, "USD", STAFF)
        links.create_link(session, ib.id, "Site", STAFF, code="ALPHA8")
        material.add_material(
            session, kind="text", language="ar", title="Text", words="Join <me> at {link}", content=b"", actor=STAFF
        )
        made = material.add_material(
            session, kind="image", language="en", title='Big "sale"', words="", content=out.getvalue(), actor=STAFF
        )
        yield made.public_id


def test_the_code_has_the_link_and_is_escaped(signed_in, banner):
    page = signed_in.get("/portal/partner/material").text
    code = next(found for one in re.findall('data-copy="([^"]+)"', page) if (found := unescape(one)).startswith("<a"))
    assert code.startswith('<a href="')
    assert "register?ib=ALPHA8" in code
    assert f"/portal/material/{banner}" in code
    assert 'alt="Big &#34;sale&#34;"' in code
    assert "Join &lt;me&gt; at" in page
    assert "Join &lt;me&gt;" not in signed_in.get("/portal/partner/material?language=en").text


def test_a_banner_loads_without_signing_in_and_runs_nothing(visitor, banner):
    answer = visitor.get(f"/portal/material/{banner}")
    assert (answer.status_code, answer.mimetype) == (200, "image/png")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    visitor.get(f"/portal/material/{banner}?ib=ALPHA8")
    assert visitor.http.get_cookie("lotwise_ib", path="/portal") is None
    assert visitor.get("/portal/material/00000000-0000-4000-8000-000000000000").status_code == 404


PAGE = "/portal/partner/material"


@pytest.mark.parametrize(
    ("asked", "titles"),
    [
        ("", {"Text", "Big &#34;sale&#34;"}),
        ("language=en", {"Big &#34;sale&#34;"}),
        ("language=ar&kind=text", {"Text"}),
        ("kind=image", {"Big &#34;sale&#34;"}),
        ("language=en&kind=text", set()),
        ("language=xx&kind=nothing", {"Text", "Big &#34;sale&#34;"}),
    ],
)
def test_the_filters_choose_language_and_kind_and_what_is_unknown_is_no_filter(signed_in, banner, asked, titles):
    page = signed_in.get(f"{PAGE}?{asked}").text
    assert set(re.findall(r'<h2 id="material-\d+"[^>]*>(.*?)</h2>', page)) == titles
    assert ("Nothing in this language and of this kind" in page) == (not titles)
    assert "No material yet" not in page


def test_a_choice_of_the_filters_stays_chosen(signed_in, banner):
    page = signed_in.get(f"{PAGE}?language=ar&kind=text").text
    assert '<option value="ar" selected>' in page
    assert '<option value="text" selected>' in page


def test_the_code_carries_the_link_that_was_chosen(signed_in, banner, database, client_id):
    with database.session() as session:
        links.create_link(session, links.ib_by_client(session, client_id).id, "Blog", STAFF, code="BETA88")
    assert "ib=BETA88" in signed_in.get(f"{PAGE}?link=BETA88").text
    other = signed_in.get(f"{PAGE}?link=ALPHA8").text
    assert "ib=ALPHA8" in other
    assert "ib=BETA88" not in other
    assert signed_in.get(f"{PAGE}?link=SOMEBODYS").status_code == 200


def test_without_material_or_links_the_page_says_what_to_do(signed_in, database, client_id):
    with database.session() as session:
        ib = links.make_ib(session, client_id, "USD", STAFF)
        assert "No links yet" in signed_in.get(PAGE).text
        links.create_link(session, ib.id, "Site", STAFF, code="ALPHA8")
    page = signed_in.get(PAGE).text
    assert "No material yet" in page
    assert "Share your link" in page
