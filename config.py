"""Settings: read from the environment once, typed, checked at start.

`load_settings()` is the only place that reads environment variables. Every variable is listed in docs/configuration.md.
Outside development nothing secret has a default; in development the missing secrets are drawn at random once and
kept in var/secrets.json (mode 0600).
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from app.core.money import ExtraCurrency

ROOT = Path(__file__).resolve().parent
ENVIRONMENTS = ("development", "test", "production")
DATABASE_SCHEMES = ("postgresql", "postgresql+psycopg")
SHORTEST_SECRET_KEY = 32
#: The code of the MT4 simulator's server in development: it has MT5_PASSWORD as its secret, and an authority of its own.
MT4_SIMULATOR = "sim4"
ECB_DAILY = "https://www.ecb.europa.eu/stats/eurofxref/eurofxref-daily.xml"


class StartError(Exception):
    """A command cannot start. The text is one line that says why and how to mend it."""


class ConfigError(StartError):
    """A setting is missing or malformed; the text names the variable."""


@dataclass(frozen=True)
class ServerSecrets:
    """What lets us in to one trading server, its export database and Kafka topics, and proves its web requests to us."""

    password: str
    ca_file: str
    database_url: str = ""
    kafka: tuple[tuple[str, str], ...] = ()
    webhook_secret: str = ""

    def __repr__(self) -> str:
        return "ServerSecrets(…)"


@dataclass(frozen=True)
class Settings:
    """All settings of one process. Ports of the development helpers follow PORT, so two checkouts can run side by side."""

    environment: str
    host: str
    port: int
    base_url: str
    var_dir: Path
    database_url: str
    database_owner_url: str
    redis_url: str
    secret_key: str
    document_key: str
    documents_dir: Path
    upload_max_bytes: int
    smtp_host: str
    smtp_port: int
    mail_from: str
    stripe_secret_key: str
    stripe_webhook_secret: str
    stripe_api_base: str
    mt5_password: str
    mt5_ca_file: str
    mt_secrets: tuple[tuple[str, ServerSecrets], ...]
    reporting_currency: str
    client_bank: str
    extra_currencies: tuple[ExtraCurrency, ...]
    ecb_url: str
    web_threads: int
    workers: int
    ingest_processes: int
    trusted_proxies: int
    simulator_seed: int
    simulator_deals_per_minute: int
    simulator_url: str
    stripe_sandbox_url: str
    mailbox_url: str

    @property
    def is_production(self) -> bool:
        return self.environment == "production"

    def server_secrets(self, code: str) -> ServerSecrets:
        """The secrets of a trading server: MT_SECRETS has them by its code, MT5_PASSWORD and MT5_CA_FILE for all others."""
        return dict(self.mt_secrets).get(code) or ServerSecrets(self.mt5_password, self.mt5_ca_file)

    @property
    def mt4_simulator_port(self) -> int:
        return self.port + 5

    @property
    def mt4_simulator_url(self) -> str:
        return f"https://127.0.0.1:{self.mt4_simulator_port}"

    @property
    def rate_limit_url(self) -> str:
        """`redis_url` as Flask-Limiter spells it: a Unix socket is redis+unix:// there."""
        return self.redis_url.replace("unix://", "redis+unix://", 1) if self.redis_url.startswith("unix:") else self.redis_url

    @property
    def secure_cookies(self) -> bool:
        """Cookies carry the Secure attribute when the public address is https."""
        return urlsplit(self.base_url).scheme == "https"


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read and check all settings.

    Raises ConfigError with one line for the first variable that is missing or malformed.
    """
    env = os.environ if environ is None else environ
    environment = env.get("LOTWISE_ENV", "development")
    if environment not in ENVIRONMENTS:
        raise ConfigError(f"LOTWISE_ENV is {environment!r}; it must be one of {', '.join(ENVIRONMENTS)}.")
    port = _integer(env, "PORT", 8000, 1, 65_500)
    var_dir = Path(env.get("LOTWISE_VAR") or ROOT / "var").expanduser().absolute()
    known = _development_secrets(var_dir) if environment == "development" else {}

    def secret(name: str) -> str:
        value = env.get(name) or known.get(name, "")
        if not value:
            raise ConfigError(f"{name} is not set; outside development it has no default.")
        return value

    def by_environment(name: str, development_default: str) -> str:
        value = env.get(name, "")
        if not value and environment == "production":
            raise ConfigError(f"{name} is not set; in production it has no default.")
        return value or development_default

    local = "127.0.0.1"
    database_url = _url(env, "DATABASE_URL", DATABASE_SCHEMES)
    owner_url = _url(env, "DATABASE_OWNER_URL", DATABASE_SCHEMES) if env.get("DATABASE_OWNER_URL") else database_url
    base_url = by_environment("BASE_URL", f"http://{local}:{port}").rstrip("/")
    _check_scheme("BASE_URL", base_url, ("http", "https"))
    extra_currencies, reporting_currency = _currencies(env)
    ecb_url = env.get("ECB_URL", ECB_DAILY if environment == "production" else "")
    if ecb_url:
        _check_scheme("ECB_URL", ecb_url, ("http", "https"))
    document_key = secret("DOCUMENT_KEY")
    if not re.fullmatch(r"[0-9a-fA-F]{64}", document_key):
        raise ConfigError("DOCUMENT_KEY must be 64 hexadecimal digits (32 bytes): `openssl rand -hex 32` makes one.")
    secret_key = secret("SECRET_KEY")
    if len(secret_key) < SHORTEST_SECRET_KEY:
        raise ConfigError(f"SECRET_KEY must have at least {SHORTEST_SECRET_KEY} characters: `openssl rand -hex 32` makes one.")
    mt5_password = secret("MT5_PASSWORD")
    simulated = ServerSecrets(mt5_password, str(var_dir / "mt4-simulator" / "ca.pem"))
    return Settings(
        environment=environment,
        host=env.get("HOST") or local,
        port=port,
        base_url=base_url,
        var_dir=var_dir,
        database_url=_psycopg(database_url),
        database_owner_url=_psycopg(owner_url),
        redis_url=_url(env, "REDIS_URL", ("redis", "rediss", "unix")),
        secret_key=secret_key,
        document_key=document_key,
        documents_dir=Path(env.get("DOCUMENTS_DIR") or var_dir / "documents").expanduser().absolute(),
        upload_max_bytes=_integer(env, "UPLOAD_MAX_BYTES", 10_000_000, 100_000, 100_000_000),
        smtp_host=by_environment("SMTP_HOST", local),
        smtp_port=_integer(env, "SMTP_PORT", port + 4, 1, 65_535),
        mail_from=by_environment("MAIL_FROM", "Lotwise Demo <no-reply@demo.lotwise.example>"),
        stripe_secret_key=secret("STRIPE_SECRET_KEY"),
        stripe_webhook_secret=secret("STRIPE_WEBHOOK_SECRET"),
        stripe_api_base=env.get("STRIPE_API_BASE", "" if environment == "production" else f"http://{local}:{port + 2}"),
        mt5_password=mt5_password,
        mt5_ca_file=env.get("MT5_CA_FILE", "") or str(var_dir / "simulator" / "ca.pem"),
        mt_secrets=(*([] if environment == "production" else [(MT4_SIMULATOR, simulated)]), *_server_secrets(env)),
        reporting_currency=reporting_currency,
        client_bank=_account_name(env, "CLIENT_BANK", "house"),
        extra_currencies=extra_currencies,
        ecb_url=ecb_url,
        web_threads=_integer(env, "WEB_THREADS", 32, 2, 512),
        workers=_integer(env, "WORKERS", 2, 1, 64),
        ingest_processes=_integer(env, "INGEST_PROCESSES", 1, 1, 16),
        trusted_proxies=_integer(env, "TRUSTED_PROXIES", 0, 0, 8),
        simulator_seed=_integer(env, "SIMULATOR_SEED", 7, 0, 2**31),
        simulator_deals_per_minute=_integer(env, "SIMULATOR_DEALS_PER_MINUTE", 6, 0, 60_000),
        simulator_url=f"https://{local}:{port + 1}",
        stripe_sandbox_url=f"http://{local}:{port + 2}",
        mailbox_url=f"http://{local}:{port + 3}",
    )


def _integer(env: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = env.get(name, "")
    if not text:
        return default
    try:
        value = int(text)
    except ValueError:
        raise ConfigError(f"{name} is {text!r}; it must be a whole number.") from None
    if not low <= value <= high:
        raise ConfigError(f"{name} is {value}; it must lie between {low} and {high}.")
    return value


def _server_secrets(env: Mapping[str, str]) -> tuple[tuple[str, ServerSecrets], ...]:
    """MT_SECRETS: JSON, by server code an object with password, ca_file, database_url, kafka (an object), webhook_secret."""
    text = env.get("MT_SECRETS", "")
    if not text:
        return ()
    try:
        by_code = json.loads(text)
        return tuple(
            (
                str(code),
                ServerSecrets(
                    password=str(given["password"]),
                    ca_file=str(given.get("ca_file", "")),
                    database_url=str(given.get("database_url", "")),
                    kafka=tuple(sorted((str(name), str(value)) for name, value in given.get("kafka", {}).items())),
                    webhook_secret=str(given.get("webhook_secret", "")),
                ),
            )
            for code, given in by_code.items()
        )
    except (ValueError, KeyError, AttributeError, TypeError):
        raise ConfigError("MT_SECRETS is malformed; docs/configuration.md shows its JSON.") from None


def _currencies(env: Mapping[str, str]) -> tuple[tuple[ExtraCurrency, ...], str]:
    """The units beside ISO 4217's, and the currency of reports, which must be one that has a value of its own."""
    from app.core import money

    try:
        extra = money.parse_extra_currencies(env.get("EXTRA_CURRENCIES") or money.DEFAULT_EXTRA_CURRENCIES)
    except ValueError as error:
        raise ConfigError(f"EXTRA_CURRENCIES: {error}.") from None
    reporting = env.get("REPORTING_CURRENCY") or money.DEFAULT_REPORTING_CURRENCY
    if not money.has_own_value(reporting, extra):
        raise ConfigError(f"REPORTING_CURRENCY is {reporting!r}; it must be a code of ISO 4217, such as USD.")
    return extra, reporting


def _account_name(env: Mapping[str, str], name: str, default: str) -> str:
    value = env.get(name) or default
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}", value):
        raise ConfigError(f"{name} is {value!r}; it must be a short word as account codes hold it, such as {default}.")
    return value


def _url(env: Mapping[str, str], name: str, schemes: tuple[str, ...]) -> str:
    value = env.get(name, "")
    if not value:
        raise ConfigError(f"{name} is not set; only in development does a private server take its place.")
    _check_scheme(name, value, schemes)
    return value


def _check_scheme(name: str, value: str, schemes: tuple[str, ...]) -> None:
    try:
        scheme = urlsplit(value).scheme
    except ValueError:
        raise ConfigError(f"{name} is not a well-formed address.") from None
    if scheme not in schemes:
        raise ConfigError(f"{name} must begin with {' or '.join(known + '://' for known in schemes)}.")


def _psycopg(url: str) -> str:
    """The address with SQLAlchemy's name of the psycopg 3 driver."""
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


def _development_secrets(var_dir: Path) -> dict[str, str]:
    """Random secrets of this checkout, made once. Only `load_settings` in development asks for them."""
    path = var_dir / "secrets.json"
    try:
        var_dir.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _make_secrets(path)
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"{error.filename} cannot be used ({error.strerror}); LOTWISE_VAR names another folder.") from error
    except ValueError as error:
        raise ConfigError(
            f"{path} is damaged ({error}); put a copy back, or remove it together with the demo's data."
        ) from error


def _make_secrets(path: Path) -> None:
    """Write new secrets whole or not at all; when another process was quicker, its secrets stay."""
    made = {
        "SECRET_KEY": secrets.token_urlsafe(48),
        "DOCUMENT_KEY": secrets.token_hex(32),
        "STRIPE_SECRET_KEY": "sk_test_" + secrets.token_hex(16),
        "STRIPE_WEBHOOK_SECRET": "whsec_" + secrets.token_hex(16),
        "MT5_PASSWORD": "Mt5#" + secrets.token_urlsafe(9),
    }
    part = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(made, file)
    with suppress(FileExistsError):
        os.link(part, path)
    part.unlink()
