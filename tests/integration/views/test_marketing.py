"""Staff add marketing material and switch it off."""

from __future__ import annotations

from io import BytesIO

from PIL import Image

from app.engagement import material
from tests.integration.views.conftest import LIBRARY_WARNINGS, Office

pytestmark = LIBRARY_WARNINGS


def test_a_banner_is_added_and_switched_off(office: Office) -> None:
    browser, title = office.browser("Partner manager"), f"Banner {office.number()}"
    out = BytesIO()
    Image.new("RGB", (20, 10)).save(out, "PNG")
    form = {"title": title, "kind": "image", "language": "en", "words": ""}
    refused = browser.post("/marketing-material/add", form | {"file": (BytesIO(b"<html>"), "x.png")})
    assert refused.status_code == 422
    assert title in refused.text

    added = browser.post("/marketing-material/add", form | {"file": (BytesIO(out.getvalue()), "x.png")})
    assert "Added." in added.text
    with office.session() as session:
        row = next(one for one in material.material(session) if one.title == title)
        assert f'src="/marketing-material/{row.id}/picture"' in added.text
        assert "Not shown any more." in browser.post(f"/marketing-material/{row.id}/switch", {"shows": "0"}).text
        session.expire_all()
        assert row.id not in {one.id for one in material.material(session)}
        preview = browser.get(f"/marketing-material/{row.id}/picture")
        assert (preview.status_code, preview.mimetype) == (200, "image/png"), "staff see what is off, too"
        assert browser.get("/marketing-material/987654/picture").status_code == 404
