"""Marketing material: what is taken, what is refused, and the link that is put into it."""

from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image

from app.compliance.errors import FileTooLarge, UnknownContent
from app.core.actor import Actor
from app.core.errors import InvalidInput, NotFound
from app.engagement import material

STAFF = Actor.staff(1)


def picture(kind: str = "PNG", size: tuple[int, int] = (300, 250)) -> bytes:
    out = BytesIO()
    Image.new("RGB", size, "navy").save(out, kind)
    return out.getvalue()


def add(session, **changes):
    values = {"kind": "image", "language": "en", "title": "Spring", "words": "", "content": picture()}
    return material.add_material(session, **(values | changes), actor=STAFF)


def test_a_banner_is_known_by_its_content_and_served_until_it_is_off(session):
    row = add(session, content=picture("JPEG"))
    assert (row.media_type, row.width, row.height) == ("image/jpeg", 300, 250)
    assert Image.open(BytesIO(material.banner(session, row.public_id).content)).size == (300, 250)
    material.switch_material(session, row.id, is_active=False, actor=STAFF)
    with pytest.raises(NotFound):
        material.banner(session, row.public_id)
    assert material.material(session) == []
    assert [one.id for one in material.material(session, only_active=False)] == [row.id]


@pytest.mark.parametrize(
    ("content", "error"),
    [(b"<html><script>alert(1)</script>", UnknownContent), (b"<svg/>", UnknownContent), (b"x" * 2_000_001, FileTooLarge)],
)
def test_what_is_no_picture_is_refused(session, content, error):
    with pytest.raises(error):
        add(session, content=content)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"title": " "}, "title"),
        ({"content": b""}, "file"),
        ({"language": "fr"}, "language"),
        ({"kind": "script"}, "kind"),
        ({"kind": "text", "words": "Join us"}, "words"),
        ({"kind": "link", "words": "javascript:alert(1)"}, "words"),
        ({"kind": "link", "words": "http://example.com"}, "words"),
        ({"kind": "link", "words": "https://["}, "words"),
        ({"kind": "link", "words": "https://user:pw@example.com"}, "words"),
        ({"kind": "link", "words": "https://example.com:99999"}, "words"),
        ({"kind": "text", "words": "a\x00 {link}"}, "words"),
        ({"content": picture(size=(4_001, 10))}, "file"),
    ],
)
def test_what_cannot_be_used_is_said_with_its_field(session, changes, field):
    with pytest.raises(InvalidInput) as refused:
        add(session, **changes)
    assert set(refused.value.problems) == {field}


def test_a_page_s_address_carries_the_code_once():
    address = material.page_with_code("https://example.com/start?lang=ar&ib=OLD#top", "ALPHA8")
    assert address == "https://example.com/start?lang=ar&ib=ALPHA8#top"


def test_by_language_and_kind(session):
    add(session)
    text = add(session, kind="text", language="ar", words="انضم {link}", content=b"")
    assert [one.id for one in material.material(session, language="ar")] == [text.id]
    assert material.material(session, language="ar", kind="image") == []


def test_what_hangs_on_a_picture_is_cut_off(session):
    row = add(session, content=picture() + b"<script>alert(1)</script>")
    assert b"script" not in material.banner(session, row.public_id).content


def test_what_stands_inside_a_picture_is_cut_off(session):
    out, exif = BytesIO(), Image.Exif()
    exif[315] = "whose it is"  # the artist
    Image.new("RGB", (30, 30)).save(out, "JPEG", comment=b"<script>alert(1)</script>", exif=exif)
    kept = material.banner(session, add(session, content=out.getvalue()).public_id).content
    assert b"script" not in kept
    assert b"whose" not in kept
    out = BytesIO()
    Image.new("RGB", (30, 30)).save(out, "PNG", icc_profile=b"whose it is" * 20)
    assert b"iCCP" not in material.banner(session, add(session, content=out.getvalue()).public_id).content
