"""Translations by Babel: collect messages from the code, merge them into each language, compile what the application reads."""

from __future__ import annotations

from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from app import ROOT

FOLDER = ROOT / "translations"
#: Where messages are, and how they are read there.
SOURCES = {
    "app": [("**.py", "python"), ("**/templates/**.*", "jinja2"), ("templates/**.*", "jinja2")],
    "reports": [("**.html", "jinja2")],
}
#: N_ marks a message in a package that does not translate by itself; the others are Flask-Babel's.
KEYWORDS = {
    **DEFAULT_KEYWORDS,
    "N_": None,
    "_l": None,
    "lazy_gettext": None,
    "lazy_ngettext": (1, 2),
    "lazy_pgettext": ((1, "c"), 2),
}


def catalogues(folder: Path = FOLDER) -> list[Path]:
    """The message file of each language."""
    return sorted(folder.glob("*/LC_MESSAGES/messages.po"))


def extract() -> Catalog:
    """All messages of the code, untranslated."""
    catalogue = Catalog(project="Lotwise", charset="utf-8")
    for folder, methods in SOURCES.items():
        found = extract_from_dir(ROOT / folder, methods, keywords=KEYWORDS, comment_tags=("Translators:",))
        for filename, line, message, comments, context in found:
            catalogue.add(message, None, [(f"{folder}/{filename}", line)], auto_comments=comments, context=context)
    return catalogue


def write_template(target: Path | str) -> int:
    """Write all messages to a .pot file. Returns how many."""
    catalogue = extract()
    with Path(target).open("wb") as file:
        write_po(file, catalogue, width=100, include_lineno=False)
    return len(catalogue)


def update() -> dict[str, int]:
    """Merge the messages of the code into every language. Returns how many are untranslated, by language."""
    template = extract()
    untranslated = {}
    for path in catalogues():
        with path.open("rb") as file:
            catalogue = read_po(file, locale=path.parent.parent.name)
        catalogue.update(template, no_fuzzy_matching=True, update_creation_date=False)
        with path.open("wb") as file:
            write_po(file, catalogue, width=100, ignore_obsolete=True, include_lineno=False)
        untranslated[path.parent.parent.name] = sum(1 for message in catalogue if message.id and not message.string)
    return untranslated


def compile_all(folder: Path = FOLDER) -> list[Path]:
    """Compile the languages whose messages are newer than their compiled form. Returns what was written."""
    written = []
    for path in catalogues(folder):
        target = path.with_suffix(".mo")
        if target.exists() and target.stat().st_mtime >= path.stat().st_mtime:
            continue
        with path.open("rb") as file:
            catalogue = read_po(file, locale=path.parent.parent.name)
        part = target.with_suffix(".mo.new")
        with part.open("wb") as file:
            write_mo(file, catalogue)
        part.replace(target)
        written.append(target)
    return written
