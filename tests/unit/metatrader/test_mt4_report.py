"""Settings of the MT4 report database: what is refused, and where contract sizes come from."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace

import pytest

from app.metatrader.errors import Unreachable
from app.metatrader.platform import Symbol
from app.metatrader.servertime import server_zone
from app.metatrader.sources import Place, SourceError
from app.metatrader.sources.mt4_report import ContractSizes
from app.metatrader.sources.mt4_report_events import MT4ReportSource
from config import ServerSecrets

GOLD = Symbol("XAUUSD", 2, "XAU", "USD", Decimal(100), 1, 1, 1)


class Bridge:
    """A platform that knows gold, or nothing at all."""

    def __init__(self, *, answers: bool = True) -> None:
        self.answers, self.asked, self.is_closed = answers, 0, False

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.is_closed = True

    def symbols(self):
        self.asked += 1
        if not self.answers:
            raise Unreachable
        return [GOLD]


def source(url="postgresql://host/mt4", bridge=None, **options) -> MT4ReportSource:
    return MT4ReportSource(
        Place(
            code="mt4",
            zone=server_zone("EET"),
            options=options,
            secrets=ServerSecrets("", "", database_url=url),
            groups=[],
            cursors={},
            held=SimpleNamespace(),
            connect=lambda: bridge,
            remember=lambda hints: None,
        )
    )


@pytest.mark.parametrize(
    ("url", "options", "reason"),
    [
        ("", {}, "must be the MT4 report's address: postgresql://… or mysql://…"),
        ("mssql://host/mt4", {}, "must be the MT4 report's address"),
        ("mysql://host:port/mt4", {}, "not a well-formed address"),
        ("mysql://host/mt4", {"every_s": 900}, "option every_s must be a number between 0.1 and 60"),
        ("mysql://host/mt4", {"look_back_s": "5"}, "option look_back_s must be a number"),
        ("mysql://host/mt4", {"groups": "std-*"}, "option groups must be a list of texts"),
        ("mysql://host/mt4", {"contract_size": 0}, "option contract_size must be a number above 0"),
        ("mysql://host/mt4", {"contract_sizes": {"XAUUSD": "100"}}, "option contract_sizes.XAUUSD must be a number"),
        ("mysql://host/mt4", {"contract_sizes": {"XAUUSD": True}}, "option contract_sizes.XAUUSD must be a number"),
        ("mysql://host/mt4", {"contract_sizes": ["XAUUSD"]}, "option contract_sizes must be an object"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(url, options, reason):
    with pytest.raises(SourceError, match=reason) as caught:
        source(url, **options)
    assert "\n" not in str(caught.value)


def test_contract_sizes_that_are_given_are_taken_and_nobody_is_asked():
    bridge = Bridge()
    sizes = ContractSizes({"contract_sizes": {"XAUUSD": 100, "US500": 0.5}}, bridge.symbols)
    assert [sizes.of(symbol) for symbol in ("XAUUSD", "US500", "EURUSD")] == [100, Decimal("0.5"), 100_000]
    assert bridge.asked == 0


def test_the_bridge_is_asked_once_and_its_session_ended():
    bridge = Bridge()
    reading = source(bridge=bridge, contract_sizes="bridge")
    sizes = [reading._report.contract_size(symbol) for symbol in ("XAUUSD", "EURUSD", "XAUUSD")]
    assert (sizes, bridge.asked, bridge.is_closed) == ([100, 0, 100], 1, True)


def test_a_bridge_that_does_not_answer_holds_up_nothing_and_is_asked_again(monkeypatch, caplog):
    bridge = Bridge(answers=False)
    sizes = ContractSizes({"contract_sizes": "bridge", "contract_size": 1_000}, bridge.symbols)
    assert [sizes.of("XAUUSD") for _ in range(3)] == [1_000, 1_000, 1_000]
    assert (bridge.asked, "platform.unreachable" in caplog.text) == (1, True)
    monkeypatch.setattr(ContractSizes, "ASK_EVERY_S", 0.0)
    sizes = ContractSizes({"contract_sizes": "bridge"}, bridge.symbols)
    assert sizes.of("XAUUSD") == 0
    bridge.answers = True
    assert sizes.of("XAUUSD") == 100
    bridge.answers = False
    assert sizes.of("XAUUSD") == 100  # what is known stays
