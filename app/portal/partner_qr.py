"""QR codes of an IB's links, for the screen (SVG) and for print (PNG)."""

from __future__ import annotations

import io
from typing import Literal

import segno

Kind = Literal["svg", "png"]
MIMETYPES: dict[str, str] = {"svg": "image/svg+xml", "png": "image/png"}

#: Pixels (SVG: units) per module of the code: a PNG of an ordinary link is some 600 pixels wide, enough for a flyer.
_SCALE: dict[str, int] = {"svg": 4, "png": 16}
#: Level M: a seventh of the code may be dirty or torn.
_ERROR_LEVEL = "m"


def qr_picture(text: str, kind: Kind) -> bytes:
    """The QR code of a text as a picture, black on white with the quiet zone that scanners need."""
    picture = io.BytesIO()
    code = segno.make(text, error=_ERROR_LEVEL, micro=False)
    code.save(picture, kind=kind, scale=_SCALE[kind], border=4, dark="#000", light="#fff")
    return picture.getvalue()
