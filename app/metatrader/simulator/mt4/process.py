"""`run.py mt4-simulator`: the MT4 double as a process, for the demo and for trying things out."""

from __future__ import annotations

import logging
import signal
import threading
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from app.metatrader.mt4 import Cmd
from app.metatrader.servertime import UnknownZone
from app.metatrader.simulator.mt4.engine import MT4Engine
from app.metatrader.simulator.mt4.faults import parse_faults
from app.metatrader.simulator.mt4.machine import SERVER_CODE, TIME_ZONE, MT4Simulator
from config import StartError

if TYPE_CHECKING:
    from config import Settings

log = logging.getLogger("lotwise.simulator")

#: Of a crowd: one password for all of them, they are nobody's; their groups in turn; what each gets.
MAIN_PASSWORD, INVESTOR_PASSWORD = "Crowd12345", "Watch12345"
CROWD_GROUPS = ("std-usd", "std-usd", "ecn-usd", "std-eur")
DEPOSIT = Decimal(10_000)


@dataclass(frozen=True)
class Options:
    """What the command line may ask for; the defaults are the demo's server.

    `deals_per_minute`, `seed` and `port` None: as the settings say. `accounts`: open and fund logins until there are so many.
    `seconds` 0: until it is told to stop. `report_url`: a PostgreSQL, MySQL or MariaDB database that gets the report's tables.
    """

    code: str = SERVER_CODE
    port: int | None = None
    time_zone: str = TIME_ZONE
    accounts: int = 0
    deals_per_minute: int | None = None
    seed: int | None = None
    faults: str = ""
    seconds: float = 0.0
    report_url: str = ""
    report_schema: str = "mt4"


def run(settings: Settings, options: Options | None = None) -> None:
    """Serve until SIGTERM or SIGINT, or for the wished time. Raises StartError in one line when it cannot."""
    options = options or Options()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    port = settings.mt4_simulator_port if options.port is None else options.port
    simulator = _make(settings, options, port)
    gather(simulator.engine, options.accounts)
    try:
        simulator.start()
    except OSError as error:
        raise StartError(f"The MT4 simulator cannot listen on port {port}: {error.strerror}.") from None
    try:
        stop.wait(options.seconds or None)
    finally:
        simulator.stop()


def gather(engine: MT4Engine, count: int) -> None:
    """Open and fund logins until there are so many."""
    for done in range(len(engine.store.logins()), count):
        with engine.store.transaction():
            group, name = CROWD_GROUPS[done % len(CROWD_GROUPS)], f"Trader {done + 1}"
            login = engine.users.add(group, 100, MAIN_PASSWORD, INVESTOR_PASSWORD, name=name, country="Cyprus")
            engine.balance_operation(login.login, Cmd.BALANCE, DEPOSIT, "deposit")


def _make(settings: Settings, options: Options, port: int) -> MT4Simulator:
    try:
        faults = parse_faults(options.faults)
    except ValueError as error:
        raise StartError(f"--faults: {error}.") from None
    is_demo = options.code == SERVER_CODE
    pace = settings.simulator_deals_per_minute if options.deals_per_minute is None else options.deals_per_minute
    try:
        return MT4Simulator(
            state_dir=settings.var_dir / ("mt4-simulator" if is_demo else f"mt4-simulator-{options.code}"),
            password=settings.server_secrets(options.code).password,
            port=port,
            redis_url=settings.redis_url,
            code=options.code,
            seed=settings.simulator_seed if options.seed is None else options.seed,
            deals_per_minute=pace,
            time_zone=options.time_zone,
            faults=faults,
            report_url=options.report_url,
            report_schema=options.report_schema,
        )
    except UnknownZone as error:
        raise StartError(f"--time-zone: {error}.") from None
