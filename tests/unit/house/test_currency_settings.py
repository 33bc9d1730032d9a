"""Settings of currencies and rates: checked at start, known to the process that reads them."""

from __future__ import annotations

import pytest

from app import startup
from app.core import money
from config import ECB_DAILY, ConfigError, load_settings

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
PRODUCTION = GOOD | {"LOTWISE_ENV": "production", "BASE_URL": "https://x.example", "SMTP_HOST": "m", "MAIL_FROM": "a@x.example"}


@pytest.fixture(autouse=True)
def as_before():
    yield
    money.configure(money.parse_extra_currencies(money.DEFAULT_EXTRA_CURRENCIES))


def test_defaults():
    settings = load_settings(GOOD)
    assert settings.reporting_currency == "USD"
    assert settings.extra_currencies == money.parse_extra_currencies(money.DEFAULT_EXTRA_CURRENCIES)
    assert settings.ecb_url == ""
    assert load_settings(PRODUCTION).ecb_url == ECB_DAILY
    assert load_settings(PRODUCTION | {"ECB_URL": ""}).ecb_url == ""
    hash(settings)  # adapters are kept by their settings


def test_given():
    settings = load_settings(
        GOOD | {"REPORTING_CURRENCY": "BTC", "EXTRA_CURRENCIES": "BTC:8,GBX:2=GBP/100", "ECB_URL": "http://127.0.0.1:1/x.xml"}
    )
    assert settings.reporting_currency == "BTC"
    assert [currency.code for currency in settings.extra_currencies] == ["BTC", "GBX"]
    assert settings.ecb_url == "http://127.0.0.1:1/x.xml"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"EXTRA_CURRENCIES": "BTC:9"}, "EXTRA_CURRENCIES: BTC has 9 decimals; 8 is the most."),
        ({"EXTRA_CURRENCIES": "USC:2=USD/7"}, "EXTRA_CURRENCIES: 'USC:2=USD/7' is not like"),
        ({"REPORTING_CURRENCY": "usd"}, "REPORTING_CURRENCY is 'usd'; it must be a code of ISO 4217, such as USD."),
        ({"REPORTING_CURRENCY": "USC"}, "REPORTING_CURRENCY is 'USC'"),
        ({"ECB_URL": "ftp://ecb.example/x"}, "ECB_URL must begin with http:// or https://."),
    ],
)
def test_one_line_for_what_is_wrong(wrong, message):
    with pytest.raises(ConfigError) as caught:
        load_settings(GOOD | wrong)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_command_makes_them_known_to_its_process():
    startup.draft_settings(GOOD | {"EXTRA_CURRENCIES": "DOGE:8", "REPORTING_CURRENCY": "EUR"})
    assert (money.exponent("DOGE"), money.reporting_currency()) == (8, "EUR")
