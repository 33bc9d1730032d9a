"""What an uploaded file really is, found by decoding it: a JPEG, a PNG or a PDF, whole, and without a program inside.

Neither its name nor what the browser calls it counts. Touches no database and no disk.
"""

from __future__ import annotations

import re
import threading
from io import BytesIO
from itertools import islice

from PIL import Image
from pypdf import PdfReader
from pypdf.generic import ArrayObject, DictionaryObject, IndirectObject, NameObject, PdfObject

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

MAX_MEGAPIXELS = 60
MAX_PAGES = 50
MAX_PDF_OBJECTS = 20_000

_PICTURES = {b"\xff\xd8\xff": ("JPEG", "image/jpeg"), b"\x89PNG\r\n\x1a\n": ("PNG", "image/png")}
_PDF = b"%PDF-"

#: Names in PDF 2.0 (ISO 32000-2, 7.11.4 and 12.6) that run something or carry another file.
_ACTIVE = frozenset({
    "/JS", "/JavaScript", "/Launch", "/ImportData", "/SubmitForm", "/GoToE", "/XFA",
    "/Rendition", "/RichMedia", "/RichMediaContent", "/RichMediaExecute", "/EmbeddedFile", "/EmbeddedFiles", "/EF",
})  # fmt: skip

# What another reader could find if it repaired the file in another way than ours.
_ACTIVE_BYTES = re.compile(rb"/(?:JavaScript|Launch|EmbeddedFiles?|RichMedia)\b")

# Decoding takes up to 200 MB for a moment; many uploads at once must not take it times the number of web threads.
_turnstile = threading.BoundedSemaphore(2)


def media_type_of(content: bytes, max_bytes: int) -> str:
    """The media type of the content, after decoding all of it. Raises a RefusedFile that says what is wrong."""
    if not content:
        raise EmptyFile()
    if len(content) > max_bytes:
        raise FileTooLarge(limit_mb=max_bytes // 1_000_000)
    for signature, (format_name, media_type) in _PICTURES.items():
        if content.startswith(signature):
            with _turnstile:
                _decode_picture(content, format_name)
            return media_type
    if content.startswith(_PDF):
        with _turnstile:
            _parse_pdf(content)
        return "application/pdf"
    raise UnknownContent()


def _decode_picture(content: bytes, format_name: str) -> None:
    """Decode every pixel, after a look at how many there are."""
    limit = PictureTooLarge(limit_megapixels=MAX_MEGAPIXELS)
    try:
        with Image.open(BytesIO(content), formats=[format_name]) as picture:
            if picture.width * picture.height > MAX_MEGAPIXELS * 1_000_000:
                raise limit
            picture.verify()
        source = _Source(content)
        with Image.open(source, formats=[format_name]) as picture:
            picture.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise limit from None
    except RefusedFile:
        raise
    except Exception as error:  # the decoders raise whatever the broken bytes lead them to
        raise BrokenFile() from error
    if source.ran_out:
        raise BrokenFile()


class _Source(BytesIO):
    """Remembers that a decoder asked for more than there is.

    Pillow refuses truncated pictures unless a flag of the whole process says otherwise, and WeasyPrint sets that flag.
    """

    ran_out = False

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        self.ran_out = self.ran_out or (not found and size != 0)
        return found


def _parse_pdf(content: bytes) -> None:
    """Read every object. Encrypted files, programs, attachments and endless documents are refused."""
    if b"%%EOF" not in content[-1024:]:
        raise BrokenFile()
    if _ACTIVE_BYTES.search(content):
        raise ActivePDF()
    try:
        reader = PdfReader(BytesIO(content))
        if reader.is_encrypted:
            raise EncryptedPDF()
        for number, generation in _object_numbers(reader):
            _refuse_active(IndirectObject(number, generation, reader).get_object())
        pages = sum(1 for page in islice(reader.pages, MAX_PAGES + 1) if page.mediabox)
    except RefusedFile:
        raise
    except Exception as error:  # the parser raises whatever the broken bytes lead it to
        raise BrokenFile() from error
    if pages == 0:
        raise BrokenFile()
    if pages > MAX_PAGES:
        raise TooManyPages(limit=MAX_PAGES)


def _object_numbers(reader: PdfReader) -> list[tuple[int, int]]:
    """(number, generation) of every object in the file's cross-reference tables and object streams."""
    plain = [(number, generation) for generation, numbers in reader.xref.items() for number in numbers]
    packed = [(number, 0) for number in reader.xref_objStm]
    if len(plain) + len(packed) > MAX_PDF_OBJECTS:
        raise BrokenFile()
    return plain + packed


def _refuse_active(value: PdfObject | None) -> None:
    """Look through one object and what lies directly in it; what it refers to is looked through on its own."""
    waiting: list[object] = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, NameObject):
            if found in _ACTIVE:
                raise ActivePDF()
        elif isinstance(found, DictionaryObject):
            if not _ACTIVE.isdisjoint(found):
                raise ActivePDF()
            waiting.extend(dict.values(found))
        elif isinstance(found, ArrayObject):
            waiting.extend(list.__iter__(found))
