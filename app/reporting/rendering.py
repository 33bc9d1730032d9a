"""Reports as PDF: a folder under reports/ with HTML and CSS, values as plain JSON, and WeasyPrint.

The templates run in a sandbox: they see the values, translations and the filters below, nothing else. What they load (CSS,
fonts, pictures) comes from files under reports/; the network is never asked. The same values make the same text. How to add
a report stands in docs/reports.md.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from gettext import NullTranslations
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_datetime
from babel.numbers import format_decimal
from babel.support import Translations
from jinja2 import FileSystemLoader, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from weasyprint import HTML
from weasyprint.logger import LOGGER
from weasyprint.text.fonts import FontConfiguration
from weasyprint.urls import FatalURLFetchingError, URLFetcher, URLFetcherResponse

from app.core.clock import now
from app.core.money import exponent
from app.reporting.errors import ForbiddenResource, UnknownReport
from app.reporting.statement import Statement, as_values

ROOT = Path(__file__).resolve().parents[2]
REPORTS = ROOT / "reports"
TRANSLATIONS = ROOT / "translations"
SOURCE_LANGUAGE = "en"
LOT_UNITS = Decimal(100_000_000)

log = logging.getLogger("lotwise.reports")

#: What a report may load, by file name.
MEDIA_TYPES = {".css": "text/css", ".ttf": "font/ttf", ".svg": "image/svg+xml", ".png": "image/png"}


def render_statement(statement: Statement, language: str, *, broker: str = "Lotwise", at: datetime | None = None) -> bytes:
    """A client's statement as PDF, in the reader's language."""
    return render_pdf("statement", as_values(statement), language, broker=broker, at=at)


def render_pdf(
    report: str,
    values: Mapping[str, Any],
    language: str,
    catalogue: NullTranslations | None = None,
    *,
    broker: str = "Lotwise",
    at: datetime | None = None,
) -> bytes:
    """One report as PDF. `values` are plain JSON; `at` is the moment printed as the time of making.

    Words come from `catalogue`, or from the installed translations of `language`; what they lack stays in English.
    Raises UnknownReport, and ForbiddenResource when the report asks for anything outside reports/.
    """
    html = render_html(report, values, language, catalogue, broker=broker, at=at)
    fetcher = ReportFiles()
    try:
        document = HTML(string=html, base_url=_folder(report).as_uri() + "/", url_fetcher=fetcher)
        pdf: bytes = document.write_pdf(font_config=FontConfiguration(), pdf_tags=True)
    except FatalURLFetchingError as error:
        raise ForbiddenResource(str(error)) from None
    return pdf


def render_html(
    report: str,
    values: Mapping[str, Any],
    language: str,
    catalogue: NullTranslations | None = None,
    *,
    broker: str = "Lotwise",
    at: datetime | None = None,
) -> str:
    """The report's page as WeasyPrint gets it; with `content_hash`, the SHA-256 of the values, for the reader to quote."""
    _folder(report)
    locale = locale_of(language)
    templates = ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(REPORTS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    messages = catalogue or load_catalogue(locale)
    templates.install_gettext_translations(messages, newstyle=True)  # type: ignore[attr-defined]  # added by the extension
    templates.filters.update(filters(locale), translated=messages.gettext)
    return templates.get_template(f"{report}/report.html").render(
        {
            **values,
            "broker": broker,
            "generated_at": (at or now()).isoformat(),
            "content_hash": content_hash(values),
            "language": str(locale).replace("_", "-"),
            "direction": locale.text_direction,
        }
    )


def content_hash(values: Mapping[str, Any]) -> str:
    """SHA-256 of the values in one fixed spelling: whoever makes the report again from the same figures gets the same."""
    spelling = json.dumps(values, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(spelling.encode()).hexdigest()


def load_catalogue(locale: Locale) -> NullTranslations:
    """The installed translations of a language; with none, messages stay as they are written."""
    return Translations.load(TRANSLATIONS, [str(locale)])


def locale_of(language: str) -> Locale:
    """The locale of a language tag such as "ar" or "pt-BR"; English for a tag that says nothing."""
    try:
        return Locale.parse(language.replace("-", "_"))
    except (ValueError, UnknownLocaleError):
        return Locale(SOURCE_LANGUAGE)


def filters(locale: Locale) -> dict[str, Any]:
    """How reports write what JSON carries: amounts, prices, lots, moments, days, countries. Always in Latin digits."""

    def number(value: Decimal, digits: int) -> str:
        pattern = "#,##0." + "0" * digits if digits else "#,##0"
        return str(format_decimal(value, format=pattern, locale=locale, numbering_system="latn", decimal_quantization=False))

    def figure(amount: Mapping[str, Any]) -> str:
        """The amount without its currency, for columns that name it in their head."""
        digits = exponent(amount["currency"])
        return number(Decimal(amount["amount_minor"]).scaleb(-digits), digits)

    def money(amount: Mapping[str, Any]) -> str:
        return f"{figure(amount)} {amount['currency']}"

    def price(value: str) -> str:
        decimal = Decimal(value)
        return number(decimal, max(0, -int(decimal.as_tuple().exponent)))

    def lots(volume: int) -> str:
        return number(Decimal(volume) / LOT_UNITS, 2)

    def day(value: str) -> str:
        return str(format_date(date.fromisoformat(value), "d MMMM y", locale))

    def moment(value: str) -> str:
        return str(format_datetime(datetime.fromisoformat(value).astimezone(UTC), "y-MM-dd HH:mm:ss", locale=locale))

    def country(code: str) -> str:
        return str(locale.territories.get(code, code))

    functions = (figure, money, price, lots, day, moment, country)
    return {function.__name__: function for function in functions}


def _without_names(record: logging.LogRecord) -> bool:
    """Let WeasyPrint's own complaints through, but not those that quote a person's name."""
    if ".notdef" in str(record.msg):
        log.warning("a letter has no glyph in the fonts of the reports nor in those of this machine")
        return False
    return True


LOGGER.addFilter(_without_names)


class ReportFiles(URLFetcher):
    """Gives WeasyPrint files under reports/ and stops it at anything else, the network above all."""

    def __init__(self) -> None:
        super().__init__(allowed_protocols=("file",), allow_redirects=False, fail_on_errors=True)

    def fetch(self, url: str, headers: Any = None) -> URLFetcherResponse:
        """One file. Raises FatalURLFetchingError, which ends the rendering."""
        parts = urlsplit(url)
        path = Path(url2pathname(parts.path)).resolve()
        media_type = MEDIA_TYPES.get(path.suffix)
        if parts.scheme != "file" or parts.netloc or media_type is None or not path.is_relative_to(REPORTS):
            raise FatalURLFetchingError(f"a report may not load {url[:200]}")
        try:
            body = path.read_bytes()
        except OSError as error:
            raise FatalURLFetchingError(f"a report cannot load {path.name}: {error.strerror}") from None
        return URLFetcherResponse(url, body, {"Content-Type": media_type})


def _folder(report: str) -> Path:
    folder = REPORTS / report
    if not report.isidentifier() or not (folder / "report.html").is_file():
        raise UnknownReport()
    return folder
