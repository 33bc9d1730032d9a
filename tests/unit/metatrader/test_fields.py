"""Strict reading of records: what servers send, old and new, and what must be refused."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given

from app.metatrader.fields import (
    FieldError,
    read_account,
    read_deal,
    read_position,
    write_account,
    write_deal,
    write_position,
)
from app.metatrader.platform import exact_text
from tests.unit.metatrader import samples

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "mt5_deals.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("vector", VECTORS["deals"], ids=lambda vector: vector["name"])
def test_deals_as_servers_send_them(vector):
    deal = read_deal(vector["fields"])
    for name, expected in vector["expect"].items():
        value = getattr(deal, name)
        assert value == (Decimal(expected) if isinstance(value, Decimal) else expected), name
    if "fingerprint" in vector:
        assert deal.fingerprint().hex() == vector["fingerprint"]


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda vector: vector["reason"])
def test_impossible_deals_are_refused(vector):
    fields = {**VECTORS["deals"][0]["fields"], **vector["change"]}
    with pytest.raises(FieldError, match=vector["reason"]):
        read_deal({name: value for name, value in fields.items() if value is not None})


@given(samples.deals)
def test_deals_survive_writing_and_reading(deal):
    fields = write_deal(deal)
    assert read_deal(fields) == deal
    assert all(isinstance(value, str) for value in fields.values())
    assert fields["Volume"] == str(deal.volume // 10_000)


@given(samples.positions)
def test_positions_survive_writing_and_reading(position):
    assert read_position(write_position(position)) == position


@given(samples.accounts)
def test_accounts_survive_writing_and_reading(account):
    assert read_account(write_account(account)) == account


def test_the_fingerprint_sees_edits_and_nothing_else():
    deal = samples.DEAL
    assert deal.fingerprint() == replace(deal, price=Decimal("1.0855"), external_id="x").fingerprint()
    for change in ({"price": Decimal("1.08551")}, {"profit": Decimal("118.74")}, {"action": 14}, {"modification_flags": 2}):
        assert deal.fingerprint() != replace(deal, **change).fingerprint()


@pytest.mark.parametrize(
    ("value", "text"), [("1.500", "1.5"), ("100", "100"), ("-0.00", "0"), ("1E+2", "100"), ("0.00000001", "0.00000001")]
)
def test_exact_text(value, text):
    assert exact_text(Decimal(value)) == text


def test_rights_are_read():
    assert samples.ACCOUNT.may_trade
    assert not replace(samples.ACCOUNT, rights=355 | 0x4).may_trade
    assert not replace(samples.ACCOUNT, rights=354).is_enabled
