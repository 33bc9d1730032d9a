"""`run.py simulator`: one trading server as a process, for the demo, for load, or for a history to measure with."""

from __future__ import annotations

import logging
import signal
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app.metatrader.servertime import UnknownZone
from app.metatrader.simulator.cluster import SERVERS_MAX
from app.metatrader.simulator.crowd import gather
from app.metatrader.simulator.faults import FaultPlan, parse_event_faults
from app.metatrader.simulator.filling import fill
from app.metatrader.simulator.load import Meter
from app.metatrader.simulator.machine import SERVER_CODE, TIME_ZONE, Simulator
from app.metatrader.simulator.outputs import FileSink, KafkaOutput, KafkaSink, WebRequestOutput
from app.metatrader.simulator.publisher import Output
from config import StartError

if TYPE_CHECKING:
    from config import ServerSecrets, Settings

log = logging.getLogger("lotwise.simulator")


@dataclass(frozen=True)
class Options:
    """What the command line may ask for; the defaults are the demo's server.

    `deals_per_second`, `seed` and `port` None: as the settings say. `seconds` 0: until it is told to stop. `fill_deals`
    trades over `fill_days` days are written first, once: a server that has deals already is left as it is.

    With `is_silent` the event stream is told nothing. `export_url`: a PostgreSQL database that gets the SQL export.
    `kafka_prefix`: topics of the Kafka that MT_SECRETS has for the server's code; `kafka_folder`: files in their stead.
    `web_requests_url` gets those, with the secret of MT_SECRETS.
    """

    code: str = SERVER_CODE
    number: int = 1
    port: int | None = None
    time_zone: str = TIME_ZONE
    keeps_hours: bool = False
    accounts: int = 0
    deals_per_second: float | None = None
    seed: int | None = None
    faults: str = ""
    seconds: float = 0.0
    fill_deals: int = 0
    fill_days: int = 30
    is_silent: bool = False
    export_url: str = ""
    export_by_year: bool = False
    kafka_prefix: str = ""
    kafka_folder: str = ""
    web_requests_url: str = ""


def run(settings: Settings, options: Options | None = None) -> None:
    """Serve until SIGTERM or SIGINT, or for the wished time. Raises StartError in one line when it cannot."""
    options = options or Options()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    simulator = _make(settings, options)
    seed = settings.simulator_seed if options.seed is None else options.seed
    if options.accounts or options.fill_deals:
        _populate(simulator, options, seed)
    try:
        simulator.start()
    except OSError as error:
        port = settings.port + 1 if options.port is None else options.port
        raise SystemExit(f"The MT5 simulator cannot listen on port {port}: {error.strerror}.") from None
    meter = Meter(simulator.store)
    try:
        _watch(meter, stop, options)
    finally:
        simulator.stop()


def _make(settings: Settings, options: Options) -> Simulator:
    try:
        faults: FaultPlan = parse_event_faults(options.faults)
    except ValueError as error:
        raise StartError(f"--faults: {error}.") from None
    if not 1 <= options.number <= SERVERS_MAX:
        raise StartError(f"--number is from 1 to {SERVERS_MAX}.")
    folder = "simulator" if options.code == SERVER_CODE else f"simulator-{options.code}"
    deals_per_minute = settings.simulator_deals_per_minute
    if options.deals_per_second is not None:
        deals_per_minute = round(60 * options.deals_per_second)
    try:
        return Simulator(
            state_dir=settings.var_dir / folder,
            password=settings.mt5_password,
            port=settings.port + 1 if options.port is None else options.port,
            redis_url="" if options.is_silent else settings.redis_url,
            code=options.code,
            number=options.number,
            time_zone=options.time_zone,
            keeps_hours=options.keeps_hours,
            seed=settings.simulator_seed if options.seed is None else options.seed,
            deals_per_minute=deals_per_minute,
            faults=faults,
            outputs=_outputs(settings.server_secrets(options.code), options),
            export_url=options.export_url,
            export_by_year=options.export_by_year,
        )
    except UnknownZone as error:
        raise StartError(f"--time-zone: {error}.") from None


def _outputs(secrets: ServerSecrets, options: Options) -> list[Output]:
    """What the server tells beside the stream. Raises StartError for one whose secrets are missing."""
    outputs: list[Output] = []
    if options.kafka_prefix:
        if not secrets.kafka:
            raise StartError(f"--kafka-prefix: MT_SECRETS has no kafka for the server {options.code}.")
        sink = KafkaSink(dict(secrets.kafka))
        outputs.append(KafkaOutput(sink, options.kafka_prefix, flush=sink.flush))
    if options.kafka_folder:
        outputs.append(KafkaOutput(FileSink(Path(options.kafka_folder)), options.kafka_prefix or "mt5."))
    if options.web_requests_url:
        if not secrets.webhook_secret:
            raise StartError(f"--web-requests: MT_SECRETS has no webhook_secret for the server {options.code}.")
        outputs.append(WebRequestOutput(options.code, options.web_requests_url, secrets.webhook_secret))
    return outputs


def _populate(simulator: Simulator, options: Options, seed: int) -> None:
    """Open what is missing of the wished accounts; give them a history, or money."""
    exchange, wants_history = simulator.exchange, options.fill_deals and not simulator.store.number("deal")
    logins = gather(simulator.control.users, exchange, max(options.accounts, 1), seed=seed, is_funded=not wants_history)
    log.info("the simulator has %d accounts", len(logins))
    if wants_history:
        fill(exchange, logins, options.fill_deals, options.fill_days, seed=seed, tell=lambda done: log.info("%d deals", done))


def _watch(meter: Meter, stop: threading.Event, options: Options) -> None:
    """Wait for the end; with a load, tell now and then what it costs, and at the end what it cost in all."""
    has_load = options.deals_per_second is not None
    while not stop.wait(0.5) and not (options.seconds and meter.age_s() >= options.seconds):
        if has_load and meter.is_due():
            log.info("%s", meter.read())
    if has_load:
        log.info("in all: %s", meter.total())
