"""Settings: typed, checked, documented, and no secret outside development has a default."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from config import ConfigError, Settings, load_settings

ROOT = Path(__file__).resolve().parents[3]

GOOD = {
    "LOTWISE_ENV": "test",
    "DATABASE_URL": "postgresql://app@localhost/lotwise",
    "REDIS_URL": "redis://localhost",
    "SECRET_KEY": "s" * 32,
    "DOCUMENT_KEY": "ab" * 32,
    "STRIPE_SECRET_KEY": "sk_test_x",
    "STRIPE_WEBHOOK_SECRET": "whsec_x",
    "MT5_PASSWORD": "Mt5#x",
}
PRODUCTION = GOOD | {
    "LOTWISE_ENV": "production",
    "BASE_URL": "https://crm.example.com/",
    "SMTP_HOST": "mail.example.com",
    "MAIL_FROM": "Desk <desk@example.com>",
}


class Recorder(dict[str, str]):
    """An environment that remembers what was asked for."""

    def __init__(self, values: dict[str, str]) -> None:
        super().__init__(values)
        self.asked: set[str] = set()

    def get(self, key: str, default: str | None = None) -> str | None:  # type: ignore[override]
        self.asked.add(key)
        return super().get(key, default)


def test_every_variable_is_documented_and_every_documented_one_is_read() -> None:
    environ = Recorder(PRODUCTION | {"DATABASE_OWNER_URL": "postgresql://owner@localhost/lotwise"})
    load_settings(environ)
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `([A-Z][A-Z0-9_]+)`", page, re.MULTILINE)
    assert sorted(documented) == sorted(environ.asked)


def test_only_the_settings_read_the_environment() -> None:
    # The bridge runs on another host, with settings of its own (docs/metatrader-bridge.md).
    allowed = {"app/startup.py", "app/embedded.py", "app/up.py", "app/metatrader/bridge/settings.py"}
    readers = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "app").rglob("*.py")
        if re.search(r"os\.(environ|getenv)", path.read_text(encoding="utf-8"))
    }
    assert readers <= allowed


def test_the_addresses_get_the_driver_and_the_owner_defaults_to_the_application() -> None:
    settings = load_settings(GOOD)
    assert settings.database_url == settings.database_owner_url == "postgresql+psycopg://app@localhost/lotwise"
    assert load_settings(GOOD | {"DATABASE_OWNER_URL": "postgresql://o@h/d"}).database_owner_url == "postgresql+psycopg://o@h/d"


def test_helpers_listen_behind_the_web_part() -> None:
    settings = load_settings(GOOD | {"PORT": "9000"})
    assert settings.simulator_url == "https://127.0.0.1:9001"
    assert settings.stripe_api_base == settings.stripe_sandbox_url == "http://127.0.0.1:9002"
    assert settings.mailbox_url == "http://127.0.0.1:9003"
    assert settings.smtp_port == 9004
    assert settings.mt4_simulator_url == "https://127.0.0.1:9005"


def test_the_mt4_simulator_has_an_authority_of_its_own_outside_production() -> None:
    secrets = load_settings(GOOD).server_secrets("sim4")
    assert secrets.ca_file.endswith("/mt4-simulator/ca.pem")
    assert load_settings(GOOD | {"MT_SECRETS": '{"sim4": {"password": "x"}}'}).server_secrets("sim4").password == "x"
    assert load_settings(PRODUCTION).mt_secrets == ()


def test_production_has_no_development_defaults() -> None:
    settings = load_settings(PRODUCTION)
    assert settings.stripe_api_base == ""
    assert settings.base_url == "https://crm.example.com"
    assert settings.secure_cookies
    assert not load_settings(GOOD).secure_cookies


@pytest.mark.parametrize("name", sorted(set(PRODUCTION) - {"LOTWISE_ENV"}))
def test_production_names_what_is_missing(name: str, tmp_path: Path) -> None:
    environ = {key: value for key, value in PRODUCTION.items() if key != name}
    with pytest.raises(ConfigError, match=f"^{name} is not set; .*") as caught:
        load_settings(environ | {"LOTWISE_VAR": str(tmp_path)})
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("LOTWISE_ENV", "staging", "must be one of development, test, production"),
        ("PORT", "http", "must be a whole number"),
        ("PORT", "0", "between 1 and 65500"),
        ("PORT", "70000", "between 1 and 65500"),
        ("WORKERS", "1000", "between 1 and 64"),
        ("DATABASE_URL", "mysql://localhost/x", "must begin with postgresql://"),
        ("DATABASE_URL", "postgresql://[::1", "not a well-formed address"),
        ("DATABASE_OWNER_URL", "sqlite:///x", "must begin with postgresql://"),
        ("REDIS_URL", "localhost:6379", "must begin with redis://"),
        ("BASE_URL", "crm.example.com", "must begin with http://"),
        ("DOCUMENT_KEY", "secret", "64 hexadecimal digits"),
        ("SECRET_KEY", "short", "at least 32 characters"),
        ("CLIENT_BANK", "first:second", "short word"),
    ],
)
def test_a_malformed_value_is_named_in_one_line(name: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_settings(GOOD | {name: value})
    assert str(caught.value).startswith(name)
    assert "\n" not in str(caught.value)


def test_a_refused_secret_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(GOOD | {"DOCUMENT_KEY": "my-very-own-key"})
    assert "my-very-own-key" not in str(caught.value)


def test_development_draws_its_secrets_once(tmp_path: Path) -> None:
    environ = {
        "LOTWISE_VAR": str(tmp_path / "new" / "var"),
        "DATABASE_URL": GOOD["DATABASE_URL"],
        "REDIS_URL": GOOD["REDIS_URL"],
    }
    first, second = load_settings(environ), load_settings(environ)
    assert first == second
    path = first.var_dir / "secrets.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in first.var_dir.iterdir()] == ["secrets.json"]
    other = load_settings(environ | {"LOTWISE_VAR": str(tmp_path / "other")})
    assert other.secret_key != first.secret_key


@pytest.mark.parametrize("spoil", [lambda path: path.write_text("{"), lambda path: (path.unlink(), path.mkdir())])
def test_damaged_secrets_are_not_replaced_in_silence(spoil: Callable[[Path], object], tmp_path: Path) -> None:
    environ = {"LOTWISE_VAR": str(tmp_path), "DATABASE_URL": GOOD["DATABASE_URL"], "REDIS_URL": GOOD["REDIS_URL"]}
    load_settings(environ)
    spoil(tmp_path / "secrets.json")
    with pytest.raises(ConfigError, match=re.escape(str(tmp_path / "secrets.json"))):
        load_settings(environ)


@pytest.mark.parametrize(
    ("url", "limits"),
    [
        ("unix:///run/v.sock", "redis+unix:///run/v.sock"),
        ("redis://host/1", "redis://host/1"),
        ("rediss://host", "rediss://host"),
    ],
)
def test_the_rate_limiter_gets_its_own_spelling(url: str, limits: str) -> None:
    assert load_settings(GOOD | {"REDIS_URL": url}).rate_limit_url == limits


def test_settings_are_frozen() -> None:
    settings = load_settings(GOOD)
    with pytest.raises(AttributeError):
        settings.port = 1  # type: ignore[misc]
    assert isinstance(settings, Settings)
