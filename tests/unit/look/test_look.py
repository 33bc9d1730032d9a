"""The look keeps its promises: readable contrast, nothing inline, mirrored layout, icons that exist, escaped values."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import jinja2
import pytest
from werkzeug.datastructures import MultiDict
from wtforms import Form, StringField
from wtforms.validators import InputRequired

APP = Path(__file__).resolve().parents[3] / "app"
STYLES = APP / "static" / "css"
TEMPLATES = APP / "templates"
SPRITE = APP / "static" / "vendor" / "tabler-icons" / "icons.svg"

GROUNDS = ("ground", "surface", "sunken")
KINDS = ("success", "warning", "danger", "info", "neutral")
#: Text on ground and its least contrast (WCAG 2.2 AA: text 4.5, edges of controls and the focus ring 3).
PAIRS = [
    *((text, ground, 4.5) for text in ("ink", "ink-2", "ink-3", "accent-text") for ground in GROUNDS),
    *((f"{kind}-text", ground, 4.5) for kind in KINDS for ground in (f"{kind}-ground", *GROUNDS)),
    *(("ink", f"{kind}-ground", 4.5) for kind in KINDS),
    ("on-accent", "accent", 4.5),
    ("on-accent", "accent-hover", 4.5),
    ("on-danger", "danger-solid", 4.5),
    ("on-danger", "danger-solid-hover", 4.5),
    *((edge, ground, 3.0) for edge in ("control", "focus", "accent") for ground in GROUNDS),
    *((f"series-{number}", "surface", 3.0) for number in range(1, 5)),
]
#: Rules that would not mirror with dir=rtl.
PHYSICAL = re.compile(
    r"(?<![-\w])(?:margin|padding|border)-(?:left|right)\b|(?<![-\w])(?:left|right)\s*:|(?:text-align|float):\s*(?:left|right)"
)


def colours() -> Iterator[tuple[str, str, str]]:
    """(name, light, dark) of every solid colour in tokens.css."""
    css = (STYLES / "tokens.css").read_text(encoding="utf-8")
    for name, light, dark in re.findall(r"--lw-([\w-]+): light-dark\((#\w{6}), (#\w{6})\);", css):
        yield name, light, dark
    for name, both in re.findall(r"--lw-([\w-]+): (#\w{6});", css):
        yield name, both, both


COLOURS = {name: (light, dark) for name, light, dark in colours()}


def luminance(colour: str) -> float:
    """Relative luminance by WCAG 2.2."""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("text", "ground", "least"), PAIRS)
def test_contrast(text: str, ground: str, least: float, theme: int) -> None:
    assert contrast(COLOURS[text][theme], COLOURS[ground][theme]) >= least


def templates() -> list[Path]:
    """All pages; mails carry their styles in themselves."""
    return sorted(path for path in TEMPLATES.rglob("*.html") if "mail" not in path.relative_to(TEMPLATES).parts)


@pytest.mark.parametrize("path", templates(), ids=lambda path: str(path.relative_to(TEMPLATES)))
def test_no_inline_script_or_style(path: Path) -> None:
    """The portal's policy allows neither; the back office allows scripts with a nonce."""
    html = path.read_text(encoding="utf-8")
    assert not re.search(r"<[^>{]*\son\w+\s*=", html), "an inline event handler"
    assert not re.search(r"\sstyle\s*=", html), "an inline style"
    assert "<style" not in html
    for script in re.findall(r"<script[^>]*>", html):
        assert "src=" in script or "nonce=" in script


@pytest.mark.parametrize("path", sorted(STYLES.glob("*.css")), ids=lambda path: path.name)
def test_styles_mirror(path: Path) -> None:
    assert not PHYSICAL.findall(path.read_text(encoding="utf-8"))


def test_icons_exist() -> None:
    drawn = set(re.findall(r'<symbol id="([\w-]+)"', SPRITE.read_text(encoding="utf-8")))
    sources = [path.read_text(encoding="utf-8") for path in (*templates(), *(APP / "views").glob("*.py"))]
    named = {name for text in sources for name in re.findall(r"""(?:\bicon\(|\bicon=|"icon": )["']([a-z0-9-]+)["']""", text)}
    aliases = set(re.findall(r'"([\w-]+)": "', (TEMPLATES / "components" / "icon.html").read_text(encoding="utf-8")))
    assert named - drawn - aliases == set()


def test_templates_translate_only_texts_of_their_own() -> None:
    """`_` takes its text for markup and for a pattern with %; what a value holds goes through `translated`, which does not."""
    for path in (*templates(), *(APP.parent / "reports").rglob("*.html")):
        assert re.findall(r"""(?<![\w.])_\((?!\s*["'])[^)]*\)""", path.read_text(encoding="utf-8")) == [], path


@pytest.fixture(scope="module")
def environment() -> jinja2.Environment:
    made = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, extensions=["jinja2.ext.i18n"])
    made.install_null_translations(newstyle=True)  # type: ignore[attr-defined]  # the extension adds it
    made.globals.update(url_for=lambda endpoint, filename: f"/static/{filename}", csrf_token=lambda: "token")
    made.filters.update(
        dict.fromkeys(("money", "minor", "lots", "exact", "when", "ago", "iso", "translated"), str)
    )  # the macros name them
    return made


def test_every_import_of_a_component_exists() -> None:
    for path in templates():
        for source, names in re.findall(r'{% from "(components/[\w.]+)" import ([^%]+?) ?%}', path.read_text(encoding="utf-8")):
            defined = (TEMPLATES / source).read_text(encoding="utf-8")
            for name in (part.split(" as ")[0].strip() for part in names.removesuffix("with context").split(",")):
                assert re.search(rf"{{%-? (?:macro|set) {name}\b", defined), f"{path.name}: {source} has no {name}"


CALLS = {
    "components/button.html": ["button(evil, href=evil, data_dialog=evil)", "icon_button(evil, 'x')", "copy(evil)"],
    "components/figures.html": [
        "detail_list([(evil, evil)])",
        "key_figure(evil, evil, note=evil, href=evil)",
        "number(evil)",
        "arithmetic([{'operator': evil, 'label': evil, 'value': evil, 'unit': evil}], evil)",
    ],
    "components/page.html": ["page_head(evil, evil, back=evil)", "tabs([{'label': evil, 'href': evil}])"],
    "components/progress.html": ["steps([{'label': evil, 'state': 'done', 'text': evil, 'href': evil}])"],
    "components/status.html": [
        "badge(evil)",
        "badge('new', label=evil)",
        "banner(evil, title=evil)",
        "toast(evil)",
        "empty(evil)",
    ],
    "components/table.html": ["select_cell(evil, evil, evil)", "pager(newer=evil, shown=evil)"],
}


@pytest.mark.parametrize(("source", "call"), [(source, call) for source, calls in CALLS.items() for call in calls])
def test_values_are_escaped(environment: jinja2.Environment, source: str, call: str) -> None:
    html = environment.from_string(f'{{% import "{source}" as it %}}{{{{ it.{call} }}}}').render(evil='"><script>')
    assert "<script" not in html
    assert "&#34;&gt;&lt;script&gt;" in html


def test_a_field_names_its_hint_and_error(environment: jinja2.Environment) -> None:
    class Address(Form):
        city = StringField("City", [InputRequired("Please name the city.")], description="As on the document")

    form = Address(MultiDict())
    form.validate()
    html = environment.from_string(
        '{% from "components/form.html" import field, form_summary %}{{ form_summary(form) }}{{ field(form.city) }}'
    ).render(form=form)
    assert 'aria-describedby="city-hint city-error"' in html
    assert 'aria-invalid="true"' in html
    assert 'id="city-hint"' in html
    assert 'id="city-error"' in html
    assert '<a href="#city">City</a>: Please name the city.' in html
    assert "optional" not in html
