"""Every report under reports/, rendered with its sample data: its text, its letters, and what it may not do."""

from __future__ import annotations

import io
import json
import re
import shutil
import socket
from datetime import UTC, datetime

import pypdf
import pytest
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import Translations
from jinja2.exceptions import SecurityError, UndefinedError

from app import translations
from app.reporting import rendering
from app.reporting.errors import ForbiddenResource, UnknownReport
from app.reporting.rendering import REPORTS, content_hash, locale_of, render_html, render_pdf
from app.reporting.sample import MADE_AT, render_sample, text_of

NAMES = sorted(path.parent.name for path in REPORTS.glob("*/report.html"))

needs_pdftotext = pytest.mark.skipif(shutil.which("pdftotext") is None, reason="pdftotext (poppler-utils) is not installed")


def sample(report: str = "statement") -> dict:
    return json.loads((REPORTS / report / "sample.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def arabic() -> Translations:
    with (translations.FOLDER / "ar/LC_MESSAGES/messages.po").open("rb") as file:
        catalogue = read_po(file, locale="ar")
    compiled = io.BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    return Translations(compiled)


def letters(text: str) -> str:
    """Only what must not get lost: letters and digits, without the gaps that a PDF puts between glyphs."""
    return "".join(sign for sign in text if sign.isalnum())


def pages(pdf: bytes) -> list[pypdf.PageObject]:
    return list(pypdf.PdfReader(io.BytesIO(pdf)).pages)


def fonts(pdf: bytes) -> set[str]:
    names = set()
    for page in pages(pdf):
        for font in page["/Resources"]["/Font"].values():
            names.add(str(font.get_object()["/BaseFont"]).partition("+")[2])
    return names


@needs_pdftotext
@pytest.mark.parametrize("report", NAMES)
def test_the_text_is_the_expected_one(report):
    assert text_of(render_sample(report, "en")) == (REPORTS / report / "expected.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("report", NAMES)
def test_every_letter_has_a_glyph_of_our_fonts(report, arabic, caplog):
    for pdf in (render_sample(report, "en"), render_sample(report, "ar", arabic)):
        assert all(name.startswith("Report") for name in fonts(pdf))
    assert any("Arabic" in name for name in fonts(render_sample(report, "en")))
    assert caplog.text == ""


def test_a_letter_without_a_glyph_is_told_of_and_not_quoted(caplog):
    render_pdf("statement", sample() | {"name": "Layla\U0010fffd"}, "en")
    assert "a letter has no glyph" in caplog.text
    assert "\U0010fffd" not in caplog.text


@needs_pdftotext
def test_the_arabic_statement_is_arabic_and_complete(arabic):
    pdf = render_sample("statement", "ar", arabic)
    found = letters(text_of(pdf))
    values = sample()
    for message in ("Statement of account", "Opening balance", "Closing balance", "Deposit", "Withdrawal given back"):
        translated = arabic.gettext(message)
        assert translated != message
        assert letters(translated) in found or letters("".join(reversed(translated.split(" ")))) in found, translated
    assert "حداد" in found
    for line in values["accounts"][0]["lines"]:
        assert str(line["ticket"]) in found
    html = render_html("statement", values, "ar", arabic, at=MADE_AT)
    assert '<html lang="ar" dir="rtl">' in html


def test_copied_arabic_is_the_arabic_that_was_written():
    name = "عبدالرحمن القحطاني فتحي زينب"
    text = pages(render_pdf("statement", sample() | {"name": name}, "en"))[0].extract_text()
    assert letters(name) in letters(text)


def test_what_a_person_typed_is_text():
    evil = '<script>x</script><img src="http://198.51.100.1/x.png">{{ 7*7 }} & co'
    html = render_html("statement", sample() | {"name": evil, "address": evil}, "en")
    assert "<script" not in html
    assert "<img" not in html
    assert "{{ 7*7 }} &amp; co" in html
    assert render_pdf("statement", sample() | {"name": evil, "address": evil}, "en")[:5] == b"%PDF-"


def test_the_hash_stands_for_the_content():
    values = sample()
    again = json.loads(json.dumps(values))
    assert content_hash(values) == content_hash(dict(reversed(again.items())))
    again["wallets"][0]["closing"]["amount_minor"] += 1
    assert content_hash(again) != content_hash(values)
    assert content_hash(values) in render_html("statement", values, "en")
    early, late = (render_html("statement", values, "en", at=datetime(2026, 11, day, tzinfo=UTC)) for day in (1, 2))
    assert early != late


def test_a_difference_from_the_ledger_is_shown_in_full():
    amount = {"amount_minor": -123_456, "currency": "USD"}
    values = sample() | {
        "differences": [{"where": "5100234", "stated": amount, "ledger": {"amount_minor": 5, "currency": "USD"}}]
    }
    html = re.sub(r"<[^>]*>", "", render_html("statement", values, "en"))
    assert "do not agree with our ledger" in html
    assert "5100234: this statement says -1,234.56 USD, the ledger says 0.05 USD." in html
    assert "do not agree" not in render_html("statement", sample(), "en")


def test_an_empty_statement_says_so():
    html = render_html("statement", sample() | {"wallets": [], "accounts": [], "is_complete": False}, "en")
    assert "You had no wallet and no trading account with us in this period." in html
    assert "not over yet" in html


@pytest.mark.parametrize(
    ("language", "expected"),
    [("pt-BR", "pt_BR"), ("zh-Hant", "zh_Hant"), ("", "en"), ("../../etc", "en"), ("xx", "en"), ("ar", "ar")],
)
def test_language_tags(language, expected):
    assert str(locale_of(language)) == expected


@pytest.mark.parametrize("report", ["nothing", "../reports/statement", "fonts", "", "statement/", "/etc"])
def test_a_report_that_is_not_there(report):
    with pytest.raises(UnknownReport):
        render_pdf(report, sample(), "en")


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Write a report of one's own, and render it."""
    monkeypatch.setattr(rendering, "REPORTS", tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path.parent / "secret.png").write_bytes(b"secret")

    def render(html: str, **values: object) -> bytes:
        (tmp_path / "mine" / "report.html").write_text(html, encoding="utf-8")
        return render_pdf("mine", values, "en")

    return render


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:{port}/x.png",
        "https://127.0.0.1:{port}/x.css",
        "//127.0.0.1:{port}/x.png",
        "ftp://127.0.0.1:{port}/x.png",
        "file:///etc/passwd",
        "file://127.0.0.1/x.png",
        "../../secret.png",
        "..%2f..%2fsecret.png",
        "data:image/png;base64,AAAA",
        "report.html",
        "missing.png",
    ],
)
def test_a_report_loads_nothing_from_outside(own, address):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.05)
        with pytest.raises(ForbiddenResource):
            own(f'<img src="{address.format(port=listening.getsockname()[1])}">')
        with pytest.raises(TimeoutError):
            listening.accept()


def test_a_link_out_of_reports_is_not_followed(own, tmp_path):
    (tmp_path / "mine" / "x.png").symlink_to(tmp_path.parent / "secret.png")
    with pytest.raises(ForbiddenResource):
        own('<img src="x.png">')


@pytest.mark.parametrize("expression", ["''.__class__.__mro__", "values.update({'a': 1})", "cycler.__init__.__globals__"])
def test_a_report_runs_in_a_sandbox(own, expression):
    with pytest.raises((SecurityError, UndefinedError)):
        own("{{ " + expression + " }}", values={})


def test_a_value_that_is_missing_is_an_error_and_not_a_gap(own):
    with pytest.raises(UndefinedError):
        own("{{ balance }}")
