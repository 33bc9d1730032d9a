"""Every language says everything the code says, with the same values in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from babel import Locale
from babel.messages.catalog import Catalog, Message
from babel.messages.checkers import python_format
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import Translations

from app import LANGUAGES, translations

PLACEHOLDER = re.compile(r"%\(\w+\)[#0 +-]*[\d.]*[a-z]|%%")
MARKUP = re.compile(r"</?[a-zA-Z][^>]*>")
DIGITS = re.compile(r"\d")
TRANSLATED = sorted(set(LANGUAGES) - {"en"})


def file_of(language: str) -> Path:
    return translations.FOLDER / language / "LC_MESSAGES" / "messages.po"


@pytest.fixture(scope="module")
def catalogue(request: pytest.FixtureRequest) -> Catalog:
    with file_of(request.param).open("rb") as file:
        return read_po(file, locale=request.param, abort_invalid=True)


@pytest.fixture(scope="module")
def code() -> Catalog:
    return translations.extract()


every_language = pytest.mark.parametrize("catalogue", TRANSLATED, indirect=True)


def messages(catalogue: Catalog) -> Iterator[Message]:
    """All messages but the header."""
    return (message for message in catalogue if message.id)


def forms(text: Any) -> list[str]:
    """The forms of a message by number, or its only one."""
    return list(text) if isinstance(text, (tuple, list)) else [text]


def keys(catalogue: Catalog) -> set[Any]:
    """What a message is looked up by."""
    return {(message.context, forms(message.id)[0]) for message in messages(catalogue)}


def test_every_language_on_offer_has_a_catalogue() -> None:
    assert [path.parent.parent.name for path in translations.catalogues()] == TRANSLATED


@every_language
def test_the_catalogue_matches_the_code(catalogue: Catalog, code: Catalog) -> None:
    assert keys(code) - keys(catalogue) == set(), "run `python run.py translations update` and translate these"
    assert keys(catalogue) - keys(code) == set(), "the code no longer says these; run `python run.py translations update`"


@every_language
def test_nothing_is_untranslated_or_doubtful(catalogue: Catalog) -> None:
    empty = [message.id for message in messages(catalogue) if not all(part.strip() for part in forms(message.string))]
    assert empty == []
    assert [message.id for message in messages(catalogue) if message.fuzzy] == []


@every_language
def test_plurals_have_every_form_of_the_language(catalogue: Catalog) -> None:
    wrong = [m.id for m in messages(catalogue) if m.pluralizable and len(forms(m.string)) != catalogue.num_plurals]
    assert wrong == []


@every_language
def test_values_stand_in_the_translation_as_in_the_source(catalogue: Catalog) -> None:
    """A form for one certain number ("two records") may say the number in words; no form may name another value."""
    wrong = []
    for message in messages(catalogue):
        python_format(None, message)
        wanted = sorted(PLACEHOLDER.findall(forms(message.id)[-1]))
        found = [sorted(PLACEHOLDER.findall(form)) for form in forms(message.string)]
        matches = all(set(one) <= set(wanted) for one in found) if message.pluralizable else found == [wanted]
        if not matches or wanted not in found:
            wrong.append((message.id, message.string))
    assert wrong == []


@every_language
def test_markup_and_numbers_stand_in_the_translation_as_in_the_source(catalogue: Catalog) -> None:
    """Numbers are compared by their digits: grouping and decimal marks are the language's own."""
    wrong = [
        (message.id, message.string)
        for message in messages(catalogue)
        for pattern in (MARKUP, DIGITS)
        if not message.pluralizable and sorted(pattern.findall(message.id)) != sorted(pattern.findall(message.string))
    ]
    assert wrong == []


@every_language
def test_amounts_keep_their_order_between_words_from_right_to_left(catalogue: Catalog) -> None:
    """The invisible mark U+200E before an amount shows "300.00 USD" that way round, as tables do."""
    if Locale.parse(catalogue.locale_identifier).text_direction == "ltr":
        pytest.skip("written from left to right")
    bare = re.compile(r"(?<!\u200e)%\((?:amount|minimum|maximum)\)s")
    assert [message.string for message in messages(catalogue) if any(map(bare.search, forms(message.string)))] == []


@every_language
def test_the_catalogue_compiles(catalogue: Catalog) -> None:
    compiled = BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    spoken = Translations(compiled)
    for message in messages(catalogue):
        if message.pluralizable:
            assert spoken.ungettext(*message.id, 25) in message.string
        else:
            assert spoken.ugettext(message.id) == message.string
