"""See a report with its sample data, and renew the text its test expects:

python -m app.reporting.sample statement --language ar --out statement.pdf
python -m app.reporting.sample statement --renew

Reading the text back needs `pdftotext` (Debian: poppler-utils).
"""

from __future__ import annotations

import json
import subprocess
import unicodedata
from datetime import UTC, datetime
from gettext import NullTranslations
from pathlib import Path

import click

from app.core.errors import AppError
from app.reporting.rendering import REPORTS, render_pdf

#: The moment printed on samples, so that their text stays the same.
MADE_AT = datetime(2026, 11, 2, 9, 15, tzinfo=UTC)


def render_sample(report: str, language: str, catalogue: NullTranslations | None = None) -> bytes:
    """The report with the values of its sample.json. Raises UnknownReport."""
    path = REPORTS / report / "sample.json"
    values = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return render_pdf(report, values, language, catalogue, at=MADE_AT)


def text_of(pdf: bytes) -> str:
    """What a reader sees, line by line; runs of spaces as one, without empty lines and invisible direction marks."""
    found = subprocess.run(["pdftotext", "-layout", "-", "-"], input=pdf, capture_output=True, check=True)
    text = "".join(sign for sign in found.stdout.decode() if unicodedata.category(sign) != "Cf")
    return "".join(f"{line}\n" for line in (" ".join(row.split()) for row in text.splitlines()) if line)


@click.command()
@click.argument("report")
@click.option("--language", default="en", show_default=True, help="Language of the reader.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the PDF here.")
@click.option("--renew", is_flag=True, help="Write the English text into the report's expected.txt.")
def main(report: str, language: str, out: Path | None, *, renew: bool) -> None:
    """Render REPORT with its sample data."""
    try:
        pdf = render_sample(report, language)
        if out:
            out.write_bytes(pdf)
        if renew:
            (REPORTS / report / "expected.txt").write_text(text_of(render_sample(report, "en")), encoding="utf-8")
        if not (out or renew):
            click.echo(text_of(pdf), nl=False)
    except (AppError, OSError) as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
