#!/usr/bin/env python
"""The one command line of Lotwise, and its WSGI entry (`run:application`).

Every command imports what it needs when it is called, so that a fault in one part leaves the others usable.
"""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from config import StartError

try:
    import click
except ModuleNotFoundError:
    sys.exit(
        "The packages are not installed for this Python: `make run` installs and starts everything, then use .venv/bin/python."
    )

from app.parts import PARTS, run_part

if TYPE_CHECKING:
    from flask import Flask


class CommandLine(click.Group):
    """Tells what stops a command in one line, with exit code 1, instead of a trace."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except StartError as error:
            raise click.ClickException(str(error)) from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=CommandLine)
def cli() -> None:
    """Lotwise, an open forex CRM. `up` starts everything; the other commands do one thing each."""
    signal.signal(signal.SIGTERM, end_in_order)


def end_in_order(_number: int, _frame: FrameType | None) -> NoReturn:
    """SIGTERM unwinds like an exception, so that private servers are stopped by the command that started them."""
    raise SystemExit(128 + signal.SIGTERM)


@cli.command()
def up() -> None:
    """Start the whole brokerage and keep it running until Ctrl-C."""
    from app import up as everything

    everything.run()


def add_part(name: str) -> None:
    @cli.command(name, help=PARTS[name].summary)
    def command() -> None:
        from app import startup

        if PARTS[name].databases:
            with startup.opened() as house:
                run_part(name, house.settings)
        else:
            run_part(name, startup.draft_settings())


for _name in PARTS:
    if _name not in ("simulator", "mt4-simulator"):  # have options of their own, below
        add_part(_name)


@cli.command(help=PARTS["simulator"].summary)
@click.option("--code", default="sim", show_default=True, help="What it is called in streams; another code, another server.")
@click.option("--number", default=1, show_default=True, help="Which trade server of a cluster: ranges of logins and tickets.")
@click.option("--port", type=click.IntRange(0, 65535), help="Where it listens; PORT + 1 when not given.")
@click.option("--time-zone", default="GMT+2/EU", show_default=True, help="Its clock, such as GMT+2/US or Europe/Athens.")
@click.option("--hours", "keeps_hours", is_flag=True, help="Keep trading hours: sessions, weekends, wide spreads around them.")
@click.option(
    "--accounts", type=click.IntRange(0, 1_000_000), default=0, help="Open and fund accounts until there are so many."
)
@click.option("--deals-per-second", type=click.FloatRange(0, 5_000), help="How many deals people make; tells what that costs.")
@click.option("--seed", type=click.IntRange(0, 2**31), help="What its prices, people and faults come from.")
@click.option("--faults", default="", help="Such as duplicates=5%,reorder=5s,gap=30s; docs/metatrader.md lists them.")
@click.option("--seconds", type=click.FloatRange(0), default=0.0, help="Stop after so long.")
@click.option(
    "--fill", "fill_deals", type=click.IntRange(0), default=0, help="Begin a new server with so many trades of the past,"
)
@click.option("--days", "fill_days", type=click.IntRange(1, 3_650), default=30, show_default=True, help="over so many days.")
@click.option(
    "--export", "export_url", default="", metavar="URL", help="Keep the SQL export's tables in this PostgreSQL database."
)
@click.option("--by-year", "export_by_year", is_flag=True, help="A table of deals per year in the SQL export.")
@click.option("--kafka-prefix", default="", metavar="PREFIX", help="Tell Kafka; MT_SECRETS says which, for the server's code.")
@click.option("--kafka-folder", default="", metavar="FOLDER", help="Write what Kafka would get to files, one per topic.")
@click.option(
    "--web-requests", "web_requests_url", default="", metavar="URL", help="Post web requests, with MT_SECRETS' secret."
)
def simulator(**options: Any) -> None:
    from app import startup
    from app.parts import set_up_logging

    with startup.opened() as house:
        from app.metatrader import simulator as server

        if house.settings.is_production:
            raise StartError("The part simulator is for development; with LOTWISE_ENV=production it does not run.")
        set_up_logging()
        server.run(house.settings, server.Options(**options))


@cli.command("mt4-simulator", help=PARTS["mt4-simulator"].summary)
@click.option("--code", default="sim4", show_default=True, help="What it is called in streams; another code, another server.")
@click.option("--port", type=click.IntRange(0, 65535), help="Where it listens; PORT + 5 when not given.")
@click.option("--time-zone", default="GMT+2/EU", show_default=True, help="Its clock, such as GMT+2/US or Europe/Athens.")
@click.option("--accounts", type=click.IntRange(0, 10_000), default=0, help="Open and fund accounts until there are so many.")
@click.option("--deals-per-minute", type=click.IntRange(0, 60_000), help="How often people open and close trades.")
@click.option("--seed", type=click.IntRange(0, 2**31), help="What its prices, people and faults come from.")
@click.option("--faults", default="", help="Such as duplicates=5%,reorder=5s,gap=30s; docs/metatrader.md lists them.")
@click.option("--seconds", type=click.FloatRange(0), default=0.0, help="Stop after so long.")
@click.option(
    "--report", "report_url", default="", metavar="URL", help="Keep a report database there: PostgreSQL, MySQL, MariaDB."
)
@click.option("--report-schema", default="mt4", show_default=True, help="The schema of the report's tables.")
def mt4_simulator(**options: Any) -> None:
    from app import startup
    from app.parts import set_up_logging

    with startup.opened() as house:
        from app.metatrader.simulator import mt4 as server

        if house.settings.is_production:
            raise StartError("The part mt4-simulator is for development; with LOTWISE_ENV=production it does not run.")
        set_up_logging()
        server.run(house.settings, server.Options(**options))


@cli.command()
def migrate() -> None:
    """Bring the database to the newest revision."""
    from app import startup

    with startup.opened() as house:
        from app import migrate as migrations

        migrations.upgrade(house.settings)
        click.echo(f"The database is at revision {migrations.revisions(house.settings)[0]}.")


@cli.command()
def permissions() -> None:
    """Create the permissions of all screens and set the built-in roles to what the code says."""
    from app import create_app, startup

    with startup.opened() as house:
        from app.security import permissions as rights

        for role, count in rights.sync(create_app(house.settings)).items():
            click.echo(f"{role}: {count} permissions")


@cli.command()
@click.argument("name")
def task(name: str) -> None:
    """Run one planned job now, such as settle_commissions; a wrong NAME lists them all."""
    from app import create_app, startup

    with startup.opened() as house:
        from app.core.errors import AppError
        from app.jobs.schedule import PLAN

        functions = {planned.name: planned.function for planned in PLAN}
        if name not in functions:
            raise click.BadParameter(f"{name} is no planned job; there are {', '.join(functions)}.", param_hint="NAME")
        app = create_app(house.settings)
        with app.app_context():
            from app.extensions import db

            try:
                functions[name](db.session(), house.settings)
            except AppError as error:
                raise click.ClickException(f"{name}: {error}") from error
    click.echo(f"{name} is done.")


@cli.command()
@click.argument("name")
@click.option("--small", is_flag=True, help="Short and small: shows that it works, its figures mean little.")
@click.option("--size", type=click.IntRange(min=1), help="So many deals in place of its own number; commissions only.")
@click.option(
    "--json", "json_path", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Write the figures there."
)
def bench(name: str, *, small: bool, size: int | None, json_path: Path | None) -> None:
    """Measure NAME on a private server, beside its limit; a wrong NAME lists all."""
    from benchmarks import form

    if name not in form.NAMES:
        raise click.BadParameter(f"{name} is no benchmark; there are {', '.join(form.NAMES)}.", param_hint="NAME")
    if size and name not in form.SIZED:
        raise click.BadParameter(
            f"{name} has one size; there are others of {', '.join(sorted(form.SIZED))}.", param_hint="--size"
        )
    run = form.measure(name, small=small, size=size, tell=lambda words: click.echo(words, err=True))
    click.echo(form.table(run.results))
    if json_path:
        form.write(run, json_path)


@cli.command()
@click.option(
    "--config",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The bridge's settings, a TOML file.",
)
@click.option("--module", default="", help="A stand-in for MetaQuotes' package, for tests on any system.")
@click.option("--second-of", default="", hidden=True, help="The first process's boot, when it starts the second.")
def bridge(config: Path, *, module: str, second_of: str) -> None:
    """The MT5 bridge: runs on a Windows host beside the trading server and sends its events here."""
    from app.metatrader.bridge import program

    program.run(config, module_name=module, second_of=second_of)


@cli.command()
def demo() -> None:
    """Load the demo brokerage, once. The database must be migrated."""
    from app import startup

    with startup.opened() as house, progress("Loading the demo brokerage") as report:
        from app import demo as brokerage

        loaded = brokerage.load(house.settings, report)
    click.echo("The demo brokerage is loaded." if loaded else "The demo brokerage is there already; nothing was changed.")


@cli.group()
def translations() -> None:
    """Collect, merge and compile the translations."""


@translations.command("compile")
def compile_translations() -> None:
    """Compile what has changed; the application reads the compiled form."""
    from app import translations as languages

    for path in languages.compile_all():
        click.echo(f"{path} written")


@translations.command("update")
def update_translations() -> None:
    """Merge the messages of the code into every language."""
    from app import translations as languages

    for language, untranslated in languages.update().items():
        click.echo(f"{language}: {untranslated} messages are not translated")


@translations.command("extract")
@click.argument("target", type=click.Path(dir_okay=False, writable=True))
def extract_translations(target: str) -> None:
    """Write all messages of the code to TARGET, a .pot file that a new language begins with."""
    from app import translations as languages

    click.echo(f"{languages.write_template(target)} messages written to {target}")


@cli.command()
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Write what was found to FILE."
)
@click.option(
    "--head", metavar="HASH", help="A head of the chain of seals that was kept outside: it must be in the chain still."
)
def prove(json_file: Path | None, head: str | None) -> None:
    """Prove the ledger from its tables: P1 to P9. Exit code 1 on a break, 2 when a proof could not be run."""
    from app import startup

    if head is not None and not re.fullmatch("[0-9a-fA-F]{64}", head):
        raise click.BadParameter("a head has 64 hexadecimal digits.", param_hint="--head")
    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise click.BadParameter(f"there is no folder {json_file.absolute().parent}.", param_hint="--json")
    try:
        with startup.opened() as house:
            from app import prove as proving

            code = proving.run(house.settings, json_file=json_file, kept_head=bytes.fromhex(head) if head else None)
    except StartError as error:
        click.echo(f"Error: {error}", err=True)
        code = 2
    raise SystemExit(code)


@cli.command()
def doctor() -> None:
    """Check this machine and this checkout; say what is wrong and how to mend it."""
    from app import doctor as checks

    if not checks.run():
        raise SystemExit(1)


@contextmanager
def progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar with the time left, moved by (steps done, steps in all)."""
    with click.progressbar(length=1, label=label, show_eta=True) as bar:

        def report(done: int, total: int) -> None:
            bar.length = total
            bar.update(done - bar.pos)

        yield report


@cache
def make_application() -> Flask:
    """The WSGI application for servers of another make; databases come from the environment."""
    from app import create_app
    from config import load_settings

    return create_app(load_settings())


def __getattr__(name: str) -> Any:
    """`run:application` is made when it is first asked for: importing this file starts nothing."""
    if name == "application":
        return make_application()
    raise AttributeError(name)


if __name__ == "__main__":
    cli()
