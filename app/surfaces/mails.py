"""The words of mails: Jinja templates in app/templates/mail, in the reader's language.

Each mail is one template with a subject and a body. It is rendered three times, on top of another layout each time: as the
subject line, as plain text and as HTML. All three escape alike, so that one template serves them; the subject and the text
are then unescaped once, because nobody reads them as HTML.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import unescape
from typing import Any

from flask import Flask
from flask_babel import force_locale

from app import LANGUAGES
from app.messaging.smtp import Rendered


class FlaskRenderer:
    """Renders with the application's filters and translations; works in jobs, where there is no request."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._templates = app.jinja_env.overlay(autoescape=True, trim_blocks=True, lstrip_blocks=True)

    def render(self, template: str, language: str, values: Mapping[str, Any]) -> Rendered:
        """Subject, text and HTML of one mail. A language we do not speak is answered in English."""
        with self._app.app_context(), force_locale(language if language in LANGUAGES else "en"):
            subject = self._layered(template, "subject.txt", "text_parts.txt", values)
            text = self._layered(template, "text.txt", "text_parts.txt", values)
            html = self._layered(template, "html.html", "html_parts.html", values)
        return Rendered(unescape(subject).strip(), _flush_left(unescape(text)), html)

    def _layered(self, template: str, layout: str, parts: str, values: Mapping[str, Any]) -> str:
        return self._templates.get_template(f"mail/{template}.html").render(
            {
                **values,
                "layout": self._templates.get_template(f"mail/layout/{layout}"),
                "part": self._templates.get_template(f"mail/layout/{parts}").module,
                "broker": self._app.config["APP_NAME"],
            }
        )


def _flush_left(text: str) -> str:
    """The text without the templates' indentation."""
    return "\n".join(line.strip() for line in text.strip().splitlines()) + "\n"
