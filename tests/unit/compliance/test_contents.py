"""What a file is, is found by decoding it."""

from __future__ import annotations

import zlib

import pytest
from PIL import ImageFile

from app.compliance import contents
from app.compliance.contents import media_type_of
from app.compliance.documents import shown_name
from app.compliance.errors import (
    ActivePDF,
    BrokenFile,
    EmptyFile,
    EncryptedPDF,
    FileTooLarge,
    PictureTooLarge,
    RefusedFile,
    TooManyPages,
    UnknownContent,
)
from tests.unit.compliance import proofs

LIMIT = 10_000_000


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (proofs.picture("JPEG"), "image/jpeg"),
        (proofs.picture("JPEG", mode="L"), "image/jpeg"),
        (proofs.picture("JPEG", mode="CMYK"), "image/jpeg"),
        (proofs.picture("PNG"), "image/png"),
        (proofs.picture("PNG", mode="1"), "image/png"),
        (proofs.pdf(), "application/pdf"),
        (proofs.pdf(pages=50), "application/pdf"),
    ],
)
def test_what_is_taken(content, media_type):
    assert media_type_of(content, LIMIT) == media_type


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", EmptyFile),
        (b"%PDF-1.7", BrokenFile),
        (b"%PDF-1.7\n%%EOF", BrokenFile),
        (b"\xff\xd8\xff", BrokenFile),
        (b"\x89PNG\r\n\x1a\n", BrokenFile),
        (b"plain text", UnknownContent),
        (b"<html><script>alert(1)</script></html>", UnknownContent),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", UnknownContent),
        (b"MZ\x90\x00" + b"\x00" * 100, UnknownContent),
        (b"PK\x03\x04" + b"\x00" * 100, UnknownContent),
        (b"\x00" * 1000, UnknownContent),
        (proofs.picture("GIF"), UnknownContent),
        (proofs.picture("TIFF"), UnknownContent),
        (b"\n" + proofs.pdf(), UnknownContent),
        (proofs.png_bomb(), PictureTooLarge),
        (proofs.pdf(pages=51), TooManyPages),
        (proofs.pdf(password="secret"), EncryptedPDF),
        (proofs.pdf_with_javascript(), ActivePDF),
        (proofs.pdf_with_attachment(), ActivePDF),
        (proofs.pdf_of_a_form(), ActivePDF),
        (proofs.pdf_with_page_loop(), BrokenFile),
        (proofs.pdf_with_action("Launch"), ActivePDF),
        (proofs.pdf_with_action("Launch", place="page"), ActivePDF),
        (proofs.pdf_with_action("SubmitForm", place="page"), ActivePDF),
        (proofs.pdf_with_action("ImportData", hidden=True), ActivePDF),
    ],
)
def test_what_is_refused(content, error):
    with pytest.raises(error) as caught:
        media_type_of(content, LIMIT)
    assert isinstance(caught.value, RefusedFile)
    assert caught.value.problems["file"]


def test_an_action_whose_name_is_written_in_hexadecimal():
    hidden = proofs.pdf_with_action("Launch").replace(b"/Launch", b"/#4caunch")
    with pytest.raises(ActivePDF):
        media_type_of(hidden, LIMIT)


def test_a_link_within_the_document_is_no_program():
    assert media_type_of(proofs.pdf_with_action("GoTo"), LIMIT) == "application/pdf"


@pytest.mark.parametrize(
    "content", [proofs.picture("JPEG"), proofs.picture("JPEG", (900, 700)), proofs.picture("PNG"), proofs.pdf(3)]
)
@pytest.mark.parametrize("part", [0.01, 0.3, 0.7, 0.97, 0.995])
@pytest.mark.parametrize("is_lenient", [False, True])
def test_truncated_files(content, part, is_lenient, monkeypatch):
    """Whatever other parts of the process told Pillow: WeasyPrint has it load truncated pictures."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", is_lenient)
    with pytest.raises(BrokenFile):
        media_type_of(content[: int(len(content) * part)], LIMIT)


def test_whole_pictures_pass_also_then(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for size in ((1, 1), (320, 200), (1500, 1000)):
        for format_name in ("JPEG", "PNG"):
            content = proofs.picture(format_name, size)
            assert media_type_of(content, LIMIT) == f"image/{format_name.lower()}"
            assert media_type_of(content + b"a camera's trailer" * 100, LIMIT) == f"image/{format_name.lower()}"


def test_a_picture_with_a_flipped_bit():
    broken = bytearray(proofs.picture("PNG"))
    broken[len(broken) // 2] ^= 0x40
    with pytest.raises(BrokenFile):
        media_type_of(bytes(broken), LIMIT)


def test_a_name_that_lies_does_not_matter_and_content_that_lies_is_refused():
    with pytest.raises(BrokenFile):
        media_type_of(b"\xff\xd8\xff\xe0" + proofs.pdf(), LIMIT)


def test_the_size_limit_is_inclusive():
    content = proofs.pdf()
    assert media_type_of(content, len(content)) == "application/pdf"
    with pytest.raises(FileTooLarge):
        media_type_of(content, len(content) - 1)


def test_a_document_of_very_many_objects_is_refused(monkeypatch):
    monkeypatch.setattr(contents, "MAX_PDF_OBJECTS", 3)
    with pytest.raises(BrokenFile):
        media_type_of(proofs.pdf(), LIMIT)


def test_random_bytes_behind_a_signature_are_refused_quietly():
    noise = zlib.compress(bytes(range(256)) * 50)
    for signature in (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"%PDF-1.4\n"):
        with pytest.raises(BrokenFile):
            media_type_of(signature + noise + b"\n%%EOF", LIMIT)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("passport.jpg", "passport.jpg"),
        ("Scan 1.PDF", "Scan 1.jpg"),
        ("C:\\Users\\me\\passport.jpeg", "passport.jpg"),
        ("../../etc/passwd", "passwd.jpg"),
        ("جواز السفر.jpg", "جواز السفر.jpg"),
        ("a\x00b\r\nc.jpg", "a b c.jpg"),
        ("gpj.\u202eexe.jpg", "gpj. exe.jpg"),
        ("", "document.jpg"),
        ("...", "document.jpg"),
        (".jpg", "document.jpg"),
        ("x" * 300 + ".jpg", "x" * 96 + ".jpg"),
        ("<img src=x>.jpg", "<img src=x>.jpg"),
    ],
)
def test_file_names_are_for_display_only(given, shown):
    assert shown_name(given, "image/jpeg") == shown
