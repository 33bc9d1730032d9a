"""Sample files for the tests: small ones that are what they claim, and many that are not."""

from __future__ import annotations

from io import BytesIO

from PIL import Image
from pypdf import PdfWriter
from pypdf.generic import ArrayObject, ByteStringObject, DictionaryObject, NameObject, NumberObject, TextStringObject


def picture(format_name: str = "JPEG", size: tuple[int, int] = (320, 200), mode: str = "RGB") -> bytes:
    made = BytesIO()
    Image.effect_noise(size, 40).convert(mode).save(made, format_name)
    return made.getvalue()


def pdf(pages: int = 1, password: str = "") -> bytes:
    writer = _writer(pages)
    if password:
        writer.encrypt(password)
    return _written(writer)


def pdf_with_javascript() -> bytes:
    writer = _writer(1)
    script = DictionaryObject(
        {NameObject("/S"): NameObject("/JavaScript"), NameObject("/JS"): TextStringObject("app.alert(1)")}
    )
    writer._root_object[NameObject("/OpenAction")] = writer._add_object(script)
    return _written(writer)


def pdf_with_attachment() -> bytes:
    writer = _writer(1)
    writer.add_attachment("invoice.xml", b"<x/>")
    return _written(writer)


def pdf_with_action(action: str, *, place: str = "open", hidden: bool = False) -> bytes:
    """A PDF with an action of this kind when it is opened, or on its page; `hidden`: its name is an object of its own."""
    writer = _writer(1)
    name = NameObject(f"/{action}")
    what = DictionaryObject({NameObject("/S"): writer._add_object(name) if hidden else name})
    if action == "Launch":
        what[NameObject("/F")] = TextStringObject("calc.exe")
    if place == "open":
        writer._root_object[NameObject("/OpenAction")] = writer._add_object(what)
    else:
        writer.pages[0][NameObject("/AA")] = DictionaryObject({NameObject("/O"): ArrayObject([what])})
    return _written(writer)


def pdf_of_a_form() -> bytes:
    """An interactive form in the old XML dialect, which can carry programs."""
    writer = _writer(1)
    writer._root_object[NameObject("/AcroForm")] = DictionaryObject({NameObject("/XFA"): ByteStringObject(b"<xdp/>")})
    return _written(writer)


def pdf_with_page_loop() -> bytes:
    """A page tree that is its own child."""
    writer = _writer(1)
    tree = writer._pages.get_object()
    tree[NameObject("/Kids")] = ArrayObject([writer._pages])
    tree[NameObject("/Count")] = NumberObject(1)
    return _written(writer)


def png_bomb() -> bytes:
    """A few kilobytes that would unfold to 400 million pixels."""
    made = BytesIO()
    Image.new("1", (20_000, 20_000)).save(made, "PNG", optimize=True)
    return made.getvalue()


def _writer(pages: int) -> PdfWriter:
    writer = PdfWriter()
    for _ in range(pages):
        writer.add_blank_page(width=200, height=200)
    return writer


def _written(writer: PdfWriter) -> bytes:
    made = BytesIO()
    writer.write(made)
    return made.getvalue()
