"""`run.py up`: the whole brokerage in one terminal, from an empty folder to a served page."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from importlib import import_module
from typing import TYPE_CHECKING

import click

from app import processes, startup, translations
from app.parts import PARTS, run_part, set_up_logging
from app.supervisor import APPLICATION, HELPERS, SERVERS, Console, Part, Supervisor
from config import StartError

if TYPE_CHECKING:
    from config import Settings

#: Say what is missing when the house is not ready by then, and again after each further wait.
PATIENCE_S = 20.0


def run() -> None:
    """Start everything, say where it is, keep it running until SIGINT or SIGTERM, stop everything. Raises StartError."""
    began = time.monotonic()
    startup.check_ports(startup.draft_settings())
    translations.compile_all()
    with startup.opened(exclusive=True) as house:
        supervisor = Supervisor(Console())
        try:
            supervisor.listen()
            for server in house.servers.servers if house.servers else []:
                supervisor.start(Part(server.name, server.launch, SERVERS, server.stop_signal, process=server.process))
            if start_all(supervisor, house.settings) and wait_until_ready(supervisor, house.settings):
                supervisor.console.write(welcome(house.settings, time.monotonic() - began))
                supervisor.run()
            supervisor.console.write("\nStopping …\n")
        finally:
            supervisor.stop()
    supervisor.console.write("Stopped.\n")


def start_all(supervisor: Supervisor, settings: Settings) -> bool:
    """Start every part in order; False when a stop was wished meanwhile.

    The parts are forked from this process after it has imported what most of them need: on two cores that import, once in
    each part, would take most of the time until the first page.
    """
    helpers = [name for name, part in PARTS.items() if part.helper and not settings.is_production]
    for name in helpers:
        supervisor.start(forked(name, settings, HELPERS))
    import_early()
    if not finished(supervisor, "migrate", partial(migrate, settings)):
        return False
    for name, part in PARTS.items():
        if not part.helper:
            supervisor.start(forked(name, settings, APPLICATION))
    return finished(supervisor, "prepare", partial(prepare, settings))


def forked(name: str, settings: Settings, stage: int) -> Part:
    return Part(name, partial(processes.fork, name, partial(run_part, name, settings)), stage)


def import_early() -> None:
    """Import the parts' modules. One that cannot be imported shows its error in its own part, where it is looked for."""
    for part in PARTS.values():
        if not part.helper:
            with suppress(Exception):
                import_module(part.target.partition(":")[0])
    with suppress(Exception):
        for module in ("app.views", "app.portal", "app.api", "app.demo"):
            import_module(module)


def finished(supervisor: Supervisor, name: str, work: processes.Work) -> bool:
    """Do one piece of work in a child. False when a stop was wished meanwhile; raises StartError when it failed."""
    code = supervisor.once(Part(name, partial(processes.fork, name, work)))
    if code:
        raise StartError(f"The step {name} failed ({processes.how_it_ended(code)}); its messages stand above.")
    return code == 0


def migrate(settings: Settings) -> None:
    from app import migrate

    set_up_logging()
    migrate.upgrade(settings)


def prepare(settings: Settings) -> None:
    """Permissions and, in development, the demo brokerage; both leave alone what is there."""
    from app import create_app, demo
    from app.security import permissions

    set_up_logging()
    permissions.sync(create_app(settings))
    if settings.environment == "development" and demo.load(settings):
        click.echo("the demo brokerage is loaded")


def wait_until_ready(supervisor: Supervisor, settings: Settings) -> bool:
    """Wait for /healthz to answer 200; False when a stop was wished first."""
    complain_at = time.monotonic() + PATIENCE_S

    def ready() -> bool:
        nonlocal complain_at
        state = health(settings)
        if state and time.monotonic() > complain_at:
            supervisor.console.line("lotwise", f"not ready yet: {state}")
            complain_at += PATIENCE_S
        return not state

    return supervisor.run(until=ready)


def health(settings: Settings) -> str:
    """What /healthz complains about; empty when all is well."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104  compared, not bound
    connection = HTTPConnection(host, settings.port, timeout=2)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        if answer.status == HTTPStatus.OK:
            return ""
        parts = json.loads(answer.read())["parts"]
        return ", ".join(f"{name}: {state}" for name, state in parts.items() if state != "up")
    except (OSError, HTTPException) as error:
        return f"the web part does not answer ({error})"
    except (ValueError, LookupError, TypeError):
        return f"/healthz answers {answer.status}"
    finally:
        connection.close()


def welcome(settings: Settings, took_s: float) -> str:
    """The table that a newcomer reads: addresses, demo sign-ins, where mails land."""
    base = settings.base_url
    lines = ["", f"Lotwise is ready after {took_s:.1f} s.", ""]
    places = [("Portal", f"{base}/portal/"), ("Back office", f"{base}/")]
    if not settings.is_production:
        places += [
            ("Mailbox", f"{settings.mailbox_url}/"),
            ("Stripe sandbox", f"{settings.stripe_sandbox_url}/"),
            ("MT5 simulator", f"{settings.simulator_url}/"),
            ("MT4 simulator", f"{settings.mt4_simulator_url}/"),
        ]
    lines += [f"  {name:<20} {address}" for name, address in places]
    if settings.environment == "development":
        from app.demo import SIGN_INS

        lines += ["", "  Sign in as           at                  user                          password"]
        lines += [f"  {role:<20} {address:<19} {user:<29} {password}" for role, address, user, password in SIGN_INS]
        lines += ["", "  Every mail lands in the mailbox; none leaves this machine."]
    lines += ["  Ctrl-C stops everything; the data stays.", "", ""]
    return "\n".join(lines)
