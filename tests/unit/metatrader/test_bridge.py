"""The bridge's pure parts: records out of floats, requests as fields, the settings file, the outbox."""

from __future__ import annotations

import re
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.metatrader.bridge import records, settings
from app.metatrader.bridge.manager import explain
from app.metatrader.bridge.outbox import Outbox
from app.metatrader.bridge.records import Unreadable
from app.metatrader.bridge.requests import MalformedRequest, Request, read_request, write_request
from app.metatrader.fields import read_deal, read_order, read_position, write_deal, write_order, write_position
from config import ConfigError
from tests.contracts.bridge.house import mt_deal, mt_order, mt_position


def deal_of(**values):
    return records.deal(records.copied(mt_deal(1, **values), records.DEAL_FIELDS))


# Records


@pytest.mark.parametrize(
    ("value", "digits", "exact"),
    [
        (0.1 + 0.2, 2, "0.30"),
        (-0.1 - 0.2, 2, "-0.30"),
        (2.675, 2, "2.67"),  # the float lies below it
        (1e-7, 2, "0.00"),
        (-0.0001, 2, "0.00"),
        (123456789012.34, 2, "123456789012.34"),
        (1.08435, 5, "1.08435"),
        (1.1 * 3, 5, "3.30000"),
        (5e15, 0, "5000000000000000"),
    ],
)
def test_money_is_the_floats_shortest_text_at_the_objects_digits(value, digits, exact):
    assert str(deal_of(Profit=value, DigitsCurrency=digits).profit) == exact


def test_a_rate_keeps_its_own_digits():
    deal = deal_of(RateProfit=0.00674309, ContractSize=100000.0, PricePosition=1.0843512)
    assert (str(deal.rate_profit), str(deal.contract_size), str(deal.price_position)) == ("0.00674309", "100000", "1.0843512")
    assert str(deal_of(ContractSize=0.0).contract_size) == "0"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_unreadable(value):
    with pytest.raises(Unreadable):
        deal_of(Price=value)


def test_digits_beyond_reason_are_unreadable():
    with pytest.raises(Unreadable):
        deal_of(Digits=400)


def test_volumes_of_old_servers():
    assert deal_of(Volume=5000, VolumeExt=0).volume == 50_000_000
    assert deal_of(Volume=5000, VolumeExt=50_000_001).volume == 50_000_001
    assert deal_of(Volume=0, VolumeExt=0).volume == 0


def test_text_that_no_store_can_hold_is_mended():
    assert deal_of(Comment="a\ud83db\x00c").comment == "a\ufffdb\ufffdc"
    assert deal_of(Comment="😀 ok").comment == "😀 ok"


def test_records_survive_the_stream():
    position = records.position(records.copied(mt_position(2), records.POSITION_FIELDS))
    order = records.order(records.copied(mt_order(3, TimeExpiration=1_900_000_000), records.ORDER_FIELDS))
    deal = deal_of()
    assert read_deal(write_deal(deal)) == deal
    assert read_position(write_position(position)) == position
    assert read_order(write_order(order)) == order


def test_refusals_are_explained():
    assert "password must be changed" in explain(1026)
    assert explain(4321) == "refused [retcode 4321]"


# Requests

ASKED = Request(
    "r-1", "deals", "events", datetime(2026, 11, 27, 3, 0, tzinfo=UTC), groups="real\\*,!real\\test*", from_s=1_795_000_000,
    to_s=1_795_003_600,
)  # fmt: skip


def fields_of(request, **changes):
    return {name.encode(): value.encode() for name, value in {**write_request(request), **changes}.items()}


@pytest.mark.parametrize(
    "request_",
    [
        ASKED,
        replace(ASKED, groups="", logins=(100001, 100002)),
        Request("t", "deals", "answer", ASKED.asked_at, tickets=(7, 8)),
        Request("o", "orders", "answer", ASKED.asked_at, tickets=(9,)),
        Request("p", "positions", "answer", ASKED.asked_at, groups="*"),
    ],
)
def test_a_request_survives_the_stream(request_):
    assert read_request(fields_of(request_)) == request_


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"v": "2"}, "unknown version '2'"),
        ({"id": "a b"}, "id is not a name: 'a b'"),
        ({"what": "passwords"}, "unknown what 'passwords'"),
        ({"into": "mail"}, "unknown into 'mail'"),
        ({"asked_utc": "yesterday"}, "asked_utc is not a moment"),
        ({"groups": ""}, "groups, logins or tickets must be given, one of the three"),
        ({"logins": "1"}, "groups, logins or tickets must be given, one of the three"),
        ({"groups": "", "logins": "1", "tickets": "2"}, "groups, logins or tickets must be given, one of the three"),
        ({"groups": "", "tickets": ",".join("1" * 101)}, "more than 100 tickets"),
        ({"groups": "", "tickets": "1", "what": "positions"}, "positions cannot be asked for by ticket"),
        ({"groups": "", "logins": "1,x"}, "logins is not a whole number from 1 to 9223372036854775807: 'x'"),
        ({"groups": "", "logins": ",".join("1" * 1001)}, "more than 1000 logins"),
        ({"to_s": "1794999999"}, "to_s lies before from_s"),
        ({"from_s": "-1"}, "from_s is not a whole number from 946684800 to 4102444799: '-1'"),
        ({"from_s": "1.5"}, "from_s is not a whole number from 946684800 to 4102444799: '1.5'"),
        ({"valid_s": "0"}, "valid_s is not a whole number from 1 to 86400: '0'"),
    ],
)
def test_a_malformed_request_is_named_and_explained(changes, reason):
    with pytest.raises(MalformedRequest) as refused:
        read_request(fields_of(ASKED, **changes))
    assert refused.value.reason == reason
    assert refused.value.id == ("" if "id" in changes else "r-1")


def test_a_request_goes_stale():
    assert not ASKED.is_stale(ASKED.asked_at + timedelta(seconds=900))
    assert ASKED.is_stale(ASKED.asked_at + timedelta(seconds=901))


# The settings file

FILE = """
[server]
code = "live1"
address = "mt5.broker.example:443"
manager_login = 1005
time_zone = "EET"

[redis]
url = "rediss://bridge@redis.broker.example:6380/0"
ca_file = "redis-ca.pem"

[files]
folder = "state"
"""
PASSWORDS = {"MT5_MANAGER_PASSWORD": "m", "BRIDGE_REDIS_PASSWORD": "r"}


@pytest.fixture
def load(tmp_path):
    (tmp_path / "redis-ca.pem").write_text("-----BEGIN CERTIFICATE-----")

    def load(old="", new="", env=PASSWORDS):
        assert old in FILE
        path = tmp_path / "bridge.toml"
        path.write_text(FILE.replace(old, new, 1) if old else FILE)
        return settings.load(path, env)

    return load


def test_settings_of_a_bridge(load, tmp_path):
    loaded = load()
    assert (loaded.code, loaded.manager_login, loaded.shards, loaded.groups) == ("live1", 1005, 1, "*")
    assert loaded.folder == tmp_path / "state"
    assert loaded.redis.ca_file == str(tmp_path / "redis-ca.pem")
    assert (loaded.password, loaded.redis.password) == ("m", "r")
    assert loaded.answers_requests
    assert loaded.asks_after_gap
    for text in (repr(loaded), str(loaded)):
        assert "'m'" not in text
        assert "'r'" not in text


def test_passwords_may_lie_in_files(load, tmp_path):
    (tmp_path / "manager.txt").write_text("Pä ss \r\n", encoding="utf-8-sig")
    loaded = load("manager_login = 1005", 'manager_login = 1005\npassword_file = "manager.txt"', {"BRIDGE_REDIS_PASSWORD": "r"})
    assert loaded.password == "Pä ss "


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('code = "live1"\n', "", "server.code is missing."),
        ('"live1"', '"live 1"', "server.code is 'live 1'"),
        ("1005", '"1005"', "server.manager_login is '1005'; it must be of type int."),
        ("1005", "true", "server.manager_login is True; it must be of type int."),
        ("EET", "Mars/Olympus", "server.time_zone: "),
        ("manager_login", "manager_logins", "server.manager_logins is no setting"),
        ("manager_login = 1005", 'manager_login = 1005\npassword = "x"', "server.password: no password in this file"),
        ("[files]", "[file]", "[file] is no part of bridge.toml"),
        ("rediss://", "redis://", "redis.url must begin with rediss://"),
        ("bridge@redis", "bridge:secret@redis", "redis.url holds a password"),
        ("redis-ca.pem", "other.pem", "redis.ca_file: there is no file"),
        ('ca_file = "redis-ca.pem"\n', "", "redis.ca_file is missing"),
        ("[server]", "[server", "is not a TOML file"),
    ],
)
def test_a_wrong_setting_is_named(load, old, new, reason):
    with pytest.raises(ConfigError, match=re.escape(reason)):
        load(old, new)


@pytest.mark.parametrize("missing", sorted(PASSWORDS))
def test_a_missing_password_is_named(load, missing):
    with pytest.raises(ConfigError, match=f"{missing} is not set"):
        load(env={name: value for name, value in PASSWORDS.items() if name != missing})


def test_this_machine_itself_needs_no_tls(load):
    loaded = load("rediss://bridge@redis.broker.example:6380/0", "redis://127.0.0.1:6379/0", {"MT5_MANAGER_PASSWORD": "m"})
    assert loaded.redis.password == ""


# The outbox


@pytest.fixture
def outbox(tmp_path):
    made = Outbox(tmp_path / "outbox.sqlite3")
    yield made
    made.close()


def rows(count, stream="mt:live1:0"):
    return [(stream, lambda seq: {"seq": str(seq)}) for _ in range(count)]


def test_numbers_have_no_gap_over_transactions_and_handles(outbox, tmp_path):
    outbox.write(rows(3))
    other = Outbox(tmp_path / "outbox.sqlite3")
    other.write(rows(2) + rows(1, "mt:live1:1"))
    outbox.write(rows(1))
    other.close()
    told = [(stream, fields["seq"]) for _, stream, fields in outbox.oldest(10)]
    assert told == [("mt:live1:0", str(number)) for number in range(1, 6)] + [("mt:live1:1", "1"), ("mt:live1:0", "6")]


def test_a_batch_is_written_whole_or_not_at_all(outbox):
    def broken(seq):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        outbox.write([*rows(2), ("mt:live1:0", broken)], alive_ms=5)
    assert (outbox.size(), outbox.number("alive_ms")) == (0, 0)
    outbox.write(rows(1))
    assert outbox.oldest(5)[0][2] == {"seq": "1"}


def test_sent_rows_go_and_later_ones_stay(outbox):
    outbox.write(rows(5))
    third = outbox.oldest(3)[-1][0]
    outbox.remove(third)
    assert [fields["seq"] for _, _, fields in outbox.oldest(10)] == ["4", "5"]
    assert outbox.size() == 2
    outbox.remove(outbox.oldest(10)[-1][0])
    assert outbox.size() == 0


def test_the_outbox_outlives_its_process(outbox, tmp_path):
    outbox.write(rows(2), is_connected=1)
    outbox.leave_note("requests", "ready")
    outbox.close()
    again = Outbox(tmp_path / "outbox.sqlite3")
    assert (again.size(), again.number("is_connected"), again.note("requests"), again.was_broken) == (2, 1, "ready", False)
    again.write(rows(1))
    assert again.oldest(9)[-1][2] == {"seq": "3"}
    again.close()


def test_a_locked_outbox_is_not_taken_for_a_broken_one(outbox, tmp_path, monkeypatch):
    def locked(_self):
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(Outbox, "_opened", locked)
    with pytest.raises(sqlite3.OperationalError):
        Outbox(tmp_path / "outbox.sqlite3")
    assert list(tmp_path.glob("*.broken-*")) == []
