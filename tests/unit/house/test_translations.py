"""Collecting and compiling translations."""

from __future__ import annotations

import gettext
import os
from pathlib import Path

from babel.messages.pofile import read_po

from app import translations

PO = """
msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\\n"

msgid "Deposit"
msgstr "إيداع"
"""


def test_a_language_is_compiled_when_it_has_changed(tmp_path: Path) -> None:
    source = tmp_path / "ar" / "LC_MESSAGES" / "messages.po"
    source.parent.mkdir(parents=True)
    source.write_text(PO, encoding="utf-8")
    (written,) = translations.compile_all(tmp_path)
    assert gettext.translation("messages", str(tmp_path), ["ar"]).gettext("Deposit") == "إيداع"
    assert translations.compile_all(tmp_path) == []
    os.utime(source, (written.stat().st_mtime + 5,) * 2)
    assert translations.compile_all(tmp_path) == [written]


def test_messages_of_code_and_templates_are_collected(tmp_path: Path) -> None:
    target = tmp_path / "messages.pot"
    count = translations.write_template(target)
    with target.open("rb") as file:
        catalogue = read_po(file)
    assert count == len(catalogue) > 100
    places = {filename for message in catalogue for filename, _ in message.locations}
    assert any(place.startswith("app/core/") for place in places)  # N_("…") in a package that does not translate
    assert any(place.startswith("app/templates/") for place in places)
