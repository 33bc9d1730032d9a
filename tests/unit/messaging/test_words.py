"""The words of every mail, in every language: subject, text and HTML say the same, escaped once where they must be."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from flask import Flask
from flask_babel import Babel

from app import LANGUAGES, translations
from app.messaging.mail import LINKS
from app.surfaces import formats
from app.surfaces.mails import FlaskRenderer

TEMPLATES = sorted(path.stem for path in (translations.ROOT / "app/templates/mail").glob("*.html"))
VALUES = {
    "name": 'Layla <b> "O\'Neil" & 100% %s {{ 7*7 }}',
    "base_url": "http://127.0.0.1:8000",
    "link": "http://127.0.0.1:8000/portal/verify/aB3_-x&y",
    "link_hours": 24,
    "amount_minor": 123_456,
    "currency": "USD",
    "kind": "identity",
    "reason": "Too <dark> & 40% blurred\nPage 2 is missing",
    "subject": "Why 7 & not <b>8</b>?",
    "text": "Because of <b>this</b> & that.\nSee the line.",
    "ticket_id": 7,
    "version": "2026-11",
    "accept_by": "2026-12-31",
    "holds_payouts": True,
}


@pytest.fixture(scope="module")
def renderer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("translations")
    for path in translations.catalogues():
        target = folder / path.relative_to(translations.FOLDER)
        target.parent.mkdir(parents=True)
        target.write_bytes(path.read_bytes())
    translations.compile_all(folder)
    app = Flask("app", root_path=str(translations.ROOT / "app"))
    app.config.update(APP_NAME="Lotwise", BABEL_TRANSLATION_DIRECTORIES=str(folder))
    Babel(app)
    formats.init_app(app)
    return FlaskRenderer(app)


class Page(HTMLParser):
    """What a reader of the HTML sees and can press."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words, self.links, self.direction, self._hidden = "", [], "", False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag == "a":
            self.links.append(values["href"])
        if tag == "html":
            self.direction = values["dir"]
        self._hidden = tag in ("style", "title")

    def handle_endtag(self, tag):
        self._hidden = False

    def handle_data(self, data):
        if not self._hidden:
            self.words += data


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("template", TEMPLATES)
def test_text_and_html_say_the_same(renderer, template, language):
    subject, text, html = renderer.render(template, language, VALUES)
    page = Page(html)
    assert subject
    assert subject == subject.strip()
    assert "\n" not in subject
    assert VALUES["name"] in text
    assert VALUES["name"] in page.words
    assert "<b>" not in html.replace("<body>", "")
    assert "&amp;" not in text + subject
    links = re.findall(r"^http\S+$", text, re.MULTILINE)
    assert links
    assert set(page.links) == set(links)
    assert all(link.startswith("http://127.0.0.1:8000/portal/") for link in links)
    assert page.direction == ("rtl" if language == "ar" else "ltr")


@pytest.mark.parametrize("template", TEMPLATES)
def test_nothing_stays_english_in_arabic(renderer, template):
    subject, text, _ = renderer.render(
        template, "ar", VALUES | {"name": "ليلى", "reason": "سبب", "subject": "لماذا؟", "text": "لأن"}
    )
    left = re.sub(r"http\S+|Lotwise|USD|^--$", "", f"{subject}\n{text}", flags=re.MULTILINE)
    assert not re.search("[A-Za-z]", left)


@pytest.mark.parametrize("template", sorted(LINKS))
def test_links_that_prove_something_stand_in_the_mail(renderer, template):
    _, text, html = renderer.render(template, "en", VALUES)
    assert VALUES["link"] in text
    assert VALUES["link"] in Page(html).links
    assert "24 hours" in text


def test_the_reason_is_quoted_line_by_line(renderer):
    _, text, html = renderer.render("document_rejected", "en", VALUES)
    assert "> Too <dark> & 40% blurred\n> Page 2 is missing\n" in text
    assert "Too &lt;dark&gt; &amp; 40% blurred" in html


def test_amounts_are_written_out(renderer):
    assert renderer.render("deposit_settled", "en", VALUES).subject == "Your deposit of 1,234.56 USD has arrived"
    assert "1,235" in renderer.render("deposit_settled", "en", VALUES | {"amount_minor": 1235, "currency": "JPY"}).subject


def test_a_language_nobody_translated_is_answered_in_english(renderer):
    assert renderer.render("client_approved", "tlh", VALUES) == renderer.render("client_approved", "en", VALUES)
