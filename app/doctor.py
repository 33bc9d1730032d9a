"""`run.py doctor`: everything this machine and this checkout need, one line each: ok, or what is wrong and how to mend it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from app import ROOT, startup, up
from config import StartError

if TYPE_CHECKING:
    from config import Settings

#: A check returns what it found, or raises StartError with what is wrong and how to mend it.
Check = Callable[[], str]

CHROMIUM = ("chromium", "chromium-browser")
FONTS = ("NotoSans-Regular.ttf", "NotoNaskhArabic-Regular.ttf")


class Absent(Exception):
    """Something that only tests need is not here; worth a line, not an error."""


def run() -> bool:
    """Print one line for each check. Returns whether all is well."""
    settings: list[Settings] = []

    def read_settings() -> str:
        settings.append(startup.draft_settings())
        return f"environment {settings[0].environment}, port {settings[0].port}"

    checks: list[tuple[str, Check]] = [("Python", python), ("Pango", pango), ("Fonts", fonts), ("Chromium", chromium)]
    verdicts = [report(name, check) for name, check in (*checks, ("Settings", read_settings))]
    if settings:
        verdicts.append(report("Folders", lambda: folders(settings[0])))
        verdicts.append(report("Ports", lambda: ports(settings[0])))
        verdicts.append(report("Databases", databases))
    return all(verdicts)


def report(name: str, check: Check) -> bool:
    """Print what a check found; False when it found something wrong."""
    try:
        found, word, colour = check(), "ok", "green"
    except Absent as note:
        found, word, colour = str(note), "absent", "yellow"
    except StartError as error:
        found, word, colour = str(error), "WRONG", "red"
    click.echo(f"{click.style(f'{word:<7}', fg=colour)} {name:<10} {found}")
    return word != "WRONG"


def python() -> str:
    startup.check_python()
    return sys.version.split()[0]


def pango() -> str:
    startup.check_pango()
    return "found"


def fonts() -> str:
    """Statements bring their own fonts, so that Arabic names print on any machine."""
    missing = [name for name in FONTS if not (ROOT / "reports" / "fonts" / name).exists()]
    if missing:
        raise StartError(f"reports/fonts/{missing[0]} is missing: `git checkout -- reports/fonts`.")
    return "Latin and Arabic"


def chromium() -> str:
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if found is None:
        raise Absent("the browser tests are skipped; `apt-get install chromium` brings it")
    return found


def folders(settings: Settings) -> str:
    startup.check_folders(settings)
    return f"{settings.var_dir} can be written"


def ports(settings: Settings) -> str:
    last = settings.port if settings.is_production else settings.port + max(startup.HELPER_PORTS)
    state = up.health(settings)
    if not state:
        return f"{settings.port} to {last} are used by a Lotwise that is up; a second one takes another PORT"
    try:
        startup.check_ports(settings)
    except StartError:
        if ": " in state:  # /healthz answered, with what is missing
            raise StartError(f"Lotwise itself uses them, and is not well: {state}.") from None
        raise
    return f"{settings.port} to {last} are free"


def databases() -> str:
    """Both answer, and the schema is the code's. Private servers that do not run are started for the moment."""
    with startup.opened() as house:
        from app import migrate

        where = "private servers" if house.servers else "DATABASE_URL and REDIS_URL"
        present, newest = migrate.revisions(house.settings)
        if present is None:
            return f"{where} answer; the database is empty, `make run` fills it"
        if present != newest:
            raise StartError(f"The database is at revision {present}, the code at {newest}: `python run.py migrate`.")
        return f"{where} answer; the database is at revision {present}"
