"""Marketing material for introducing brokers: banners, texts and pages of ours, each in one language."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit
from uuid import UUID, uuid4

from PIL import Image
from sqlalchemy import ColumnExpressionArgument, select
from sqlalchemy.orm import Session, undefer

from app.compliance.contents import media_type_of
from app.compliance.errors import RefusedFile, UnknownContent
from app.core.actor import Actor
from app.core.errors import N_, InvalidInput, NotFound
from app.core.uow import unit_of_work
from app.models.marketing import MATERIAL_KINDS, MarketingMaterial

#: That material is never changed; repeatable, run after migrations.
SQL = Path(__file__).parent / "sql" / "material.sql"

MAX_BYTES = 2_000_000
MAX_PIXELS = 4_000
LONGEST_TITLE = 100
LONGEST_WORDS = 2_000
LANGUAGES = ("en", "ar")

#: In a text, where the IB's own link goes.
LINK = "{link}"


def add_material(
    session: Session, *, kind: str, language: str, title: str, words: str, content: bytes, actor: Actor
) -> MarketingMaterial:
    """Put material in front of all IBs: a banner's bytes as `content`, otherwise `words`. Emits material.added.

    Raises InvalidInput with all problems, or the RefusedFile that says what is wrong with a picture.
    """
    title, words = " ".join(title.split()), words.strip()
    problems: dict[str, str] = {}
    if not title or len(title) > LONGEST_TITLE or not title.isprintable():
        problems["title"] = N_("A title has 1 to 100 characters.")
    if kind not in MATERIAL_KINDS:
        problems["kind"] = N_("Please choose one of the list.")
    if language not in LANGUAGES:
        problems["language"] = N_("Please choose one of the list.")
    if kind == "image" and not content:
        problems["file"] = N_("Please choose a picture.")
    if kind == "text" and (LINK not in words or len(words) > LONGEST_WORDS or "\x00" in words):
        problems["words"] = N_("The text needs {link} where the partner's link goes, and has 2,000 characters at most.")
    if kind == "link" and not _is_page(words):
        problems["words"] = N_("Please give an address that begins with https://.")
    if problems:
        raise InvalidInput(problems)
    row = MarketingMaterial(
        public_id=uuid4(),
        kind=kind,
        language=language,
        title=title,
        words="" if kind == "image" else words,
        added_by=str(actor),
    )
    if kind == "image":
        row.content, row.media_type, (row.width, row.height) = _picture(content)
    with unit_of_work(session, actor) as unit:
        session.add(row)
        session.flush()
        unit.audit("material.added", f"marketing_material:{row.id}", after={"kind": kind, "language": language, "title": title})
        unit.emit("material.added", subject_id=row.id)
    return row


def switch_material(session: Session, material_id: int, *, is_active: bool, actor: Actor) -> None:
    """Show it to IBs, or not any more; a banner that is off is not served either. Raises NotFound."""
    with unit_of_work(session, actor) as unit:
        row = session.get(MarketingMaterial, material_id, with_for_update=True)
        if row is None:
            raise NotFound
        before, row.is_active = row.is_active, is_active
        unit.audit(
            "material.switched",
            f"marketing_material:{row.id}",
            before={"is_active": before},
            after={"is_active": is_active},
        )


def material(session: Session, *, language: str = "", kind: str = "", only_active: bool = True) -> list[MarketingMaterial]:
    """Material without its bytes, the newest first."""
    query = select(MarketingMaterial).order_by(MarketingMaterial.id.desc()).limit(200)
    if only_active:
        query = query.where(MarketingMaterial.is_active)
    if language:
        query = query.where(MarketingMaterial.language == language)
    if kind:
        query = query.where(MarketingMaterial.kind == kind)
    return list(session.scalars(query))


def banner(session: Session, public_id: UUID) -> MarketingMaterial:
    """A banner with its bytes. Raises NotFound for one that is not shown."""
    return _with_bytes(session, MarketingMaterial.public_id == public_id, MarketingMaterial.is_active)


def picture(session: Session, material_id: int) -> MarketingMaterial:
    """A banner with its bytes, for staff: also one that is not shown. Raises NotFound for what is no banner."""
    return _with_bytes(session, MarketingMaterial.id == material_id)


def _with_bytes(session: Session, *wanted: ColumnExpressionArgument[bool]) -> MarketingMaterial:
    row = session.scalar(select(MarketingMaterial).options(undefer(MarketingMaterial.content)).where(*wanted))
    if row is None or row.content is None:
        raise NotFound
    return row


def page_with_code(address: str, code: str) -> str:
    """The address of one of our pages with the code of an IB's link in it."""
    parts = urlsplit(address)
    asked = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name != "ib"]
    return urlunsplit(parts._replace(query=urlencode([*asked, ("ib", code)])))


def _picture(content: bytes) -> tuple[bytes, str, tuple[int, int]]:
    """A picture written anew, so that it carries nothing but its pixels; its media type and size."""
    media_type = media_type_of(content, MAX_BYTES)
    if not media_type.startswith("image/"):
        raise UnknownContent
    with Image.open(BytesIO(content)) as picture:
        if max(picture.size) > MAX_PIXELS:
            raise InvalidInput({"file": N_("A banner is at most 4,000 pixels wide and high.")})
        anew = BytesIO()
        # What came along with the pixels would go along otherwise: Pillow keeps remarks and colour profiles.
        bare = {"comment": "", "quality": 92} if picture.format == "JPEG" else {"icc_profile": None, "optimize": True}
        picture.save(anew, picture.format, **bare)
        return anew.getvalue(), media_type, picture.size


def _is_page(address: str) -> bool:
    """Whether it is an https address without a name and password in it."""
    if not address.isprintable() or " " in address or len(address) > LONGEST_WORDS:
        return False
    try:
        parts = urlsplit(address)
        return parts.scheme == "https" and bool(parts.hostname) and "@" not in parts.netloc and (parts.port or 443) > 0
    except ValueError:
        return False


__all__ = [
    "LANGUAGES", "LINK", "MAX_BYTES", "RefusedFile", "add_material", "banner", "material", "page_with_code", "picture",
    "switch_material",
]  # fmt: skip
