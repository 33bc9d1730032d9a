"""MT4's rows and what they are in our records: the vectors that writers of bridges use, and what holds for every row."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.metatrader import fields, mt4
from app.metatrader.codes import DEFAULT_RIGHTS, DealEntry, UserRight
from app.metatrader.fields import FieldError

FOLDER = Path(__file__).parents[2] / "vectors" / "mt4"
TRADES = json.loads((FOLDER / "trades.json").read_text(encoding="utf-8"))
USERS = json.loads((FOLDER / "users.json").read_text(encoding="utf-8"))["rows"]
CATALOGUE = json.loads((FOLDER / "catalogue.json").read_text(encoding="utf-8"))
ROWS = TRADES["rows"]
SIZE = Decimal(100_000)
OPEN = ROWS[0]["row"]


def size_of(symbol):
    return Decimal(TRADES["contract_sizes"].get(symbol, "0"))


def written(write, record):
    return write(record) if record else None


@pytest.mark.parametrize("case", ROWS, ids=lambda case: case["name"])
def test_a_row_is_these_deals_this_position_and_this_order(case):
    trade = mt4.read_trade(case["row"])
    size = size_of(trade.symbol)
    assert [fields.write_deal(deal) for deal in mt4.deals_of(trade, size)] == case["deals"]
    assert written(fields.write_position, mt4.position_of(trade, size)) == case["position"]
    assert written(fields.write_order, mt4.order_of(trade, size)) == case["order"]
    assert trade.is_deleted == case.get("void", False)


@pytest.mark.parametrize("case", ROWS, ids=lambda case: case["name"])
def test_what_a_row_is_can_be_read_from_an_event_stream(case):
    """No record of a row breaks the rules of the stream."""
    size = size_of(case["row"]["symbol"])
    trade = mt4.read_trade(case["row"])
    assert [fields.read_deal(raw) for raw in case["deals"]] == list(mt4.deals_of(trade, size))
    if case["position"]:
        assert fields.read_position(case["position"]) == mt4.position_of(trade, size)
    if case["order"]:
        assert fields.read_order(case["order"]) == mt4.order_of(trade, size)


@pytest.mark.parametrize(("number", "reason"), TRADES["reasons"].items())
def test_who_caused_it(number, reason):
    (deal,) = mt4.deals_of(mt4.read_trade({**OPEN, "reason": number}), SIZE)
    assert deal.reason == int(reason)


def test_a_reason_of_a_newer_server_is_the_client():
    (deal,) = mt4.deals_of(mt4.read_trade({**OPEN, "reason": "9"}), SIZE)
    assert deal.reason == 0


@pytest.mark.parametrize("case", USERS, ids=lambda case: case["name"])
def test_a_user_record_is_this_account(case):
    login = mt4.read_login(case["row"])
    assert fields.write_account(mt4.account_of(login)) == case["account"]
    user = mt4.user_of(login)
    assert (str(user.login), user.name, user.email, user.country, user.comment, user.mark) == tuple(
        case["row"][name] for name in ("login", "name", "email", "country", "comment", "id")
    )
    assert (str(user.rights), user.registered_ms) == (case["account"]["Rights"], 1000 * int(case["row"]["regdate"]))
    assert not user.is_technical


@pytest.mark.parametrize("case", CATALOGUE["groups"])
def test_a_group(case):
    expected = case["record"] | {"margin_stop_out": Decimal(case["record"]["margin_stop_out"])}
    assert vars(mt4.read_group(case["row"])) == expected


@pytest.mark.parametrize("case", CATALOGUE["symbols"])
def test_a_symbol(case):
    expected = case["record"] | {"contract_size": Decimal(case["record"]["contract_size"])}
    assert vars(mt4.read_symbol(case["row"])) == expected


def test_a_closed_part_leaves_the_money_where_it_was():
    """The opening deal shrinks, which is a revision of it; the rest's stands beside it, at the same time and price."""
    first, rest = (mt4.read_trade(case["row"]) for case in ROWS if case["row"]["order"] in ("7010", "7011"))
    whole = replace(first, volume=80, close_time=0, state=0, comment="")
    before = next(mt4.deals_of(whole, SIZE))
    opening, closing = mt4.deals_of(first, SIZE)
    (other,) = mt4.deals_of(rest, SIZE)
    assert opening.ticket == before.ticket
    assert opening.fingerprint() != before.fingerprint()
    assert opening.volume + other.volume == before.volume
    assert (opening.server_time_ms, opening.price) == (other.server_time_ms, other.price)
    assert opening.result == other.result == 0
    assert closing.result == first.profit + first.storage + first.commission


def test_what_is_left_of_a_hedge_without_volume_gives_no_deals():
    row = next(mt4.read_trade(case["row"]) for case in ROWS if case["row"]["order"] == "7010")
    assert len(list(mt4.deals_of(row, SIZE))) == 2
    assert list(mt4.deals_of(replace(row, volume=0, comment="close hedge by #7011"), SIZE)) == []


MONEY = st.decimals("-99999", "99999", places=2)
ROW = st.builds(
    mt4.Trade,
    order=st.integers(1, 2**31 - 1), login=st.integers(1, 2**31 - 1), cmd=st.sampled_from(mt4.Cmd),
    symbol=st.sampled_from(["EURUSD", "USDJPY.m"]), digits=st.integers(0, 8), volume=st.integers(1, 2**31 - 1),
    open_time=st.integers(946_684_800, 2**31 - 1), close_time=st.one_of(st.just(0), st.integers(946_684_800, 2**31 - 1)),
    state=st.integers(0, 5), open_price=st.decimals("0", "9999", places=5), close_price=st.decimals("0", "9999", places=5),
    sl=st.just(Decimal(0)), tp=st.just(Decimal(0)), expiration=st.just(0), reason=st.integers(0, 255),
    conv_rate_open=st.just(Decimal(1)), conv_rate_close=st.just(Decimal(1)), margin_rate=st.just(Decimal(1)),
    commission=MONEY, storage=MONEY, profit=MONEY, taxes=MONEY,
    comment=st.text(st.characters(codec="cp1252", exclude_categories=["Cs", "Cc"]), max_size=31),
    timestamp=st.integers(0, 2**31 - 1),
)  # fmt: skip


@given(ROW)
def test_rows_survive_being_written(trade):
    assert mt4.read_trade(mt4.write_trade(trade)) == trade


@given(ROW)
def test_what_holds_for_every_row(trade):
    """Money moves once: when a trade closes, or at once. Tickets lead back to the row; every deal keeps the stream's rules."""
    deals = list(mt4.deals_of(trade, SIZE))
    for deal in deals:
        assert mt4.order_of_ticket(deal.ticket) == trade.order
        assert deal.login == trade.login
        assert fields.read_deal(fields.write_deal(deal)) == deal
    moved = sum((deal.result for deal in deals), Decimal(0))
    if trade.is_money:
        assert moved == trade.profit
    elif trade.is_trade and trade.close_time:
        assert moved == trade.profit + trade.storage + trade.commission + trade.taxes
    else:
        assert moved == 0
    assert (
        len({deal.ticket for deal in deals})
        == len(deals)
        == (0 if trade.is_pending else 1 + trade.is_trade * bool(trade.close_time))
    )
    assert sum(deal.entry == DealEntry.OUT for deal in deals) <= 1
    position = mt4.position_of(trade, SIZE)
    assert (position is not None) == (trade.is_trade and not trade.close_time)
    order = mt4.order_of(trade, SIZE)
    assert (order is None) == trade.is_money
    assert (mt4.pending_of(trade, SIZE) is None) == (not trade.is_pending)
    if order:
        assert fields.read_order(fields.write_order(order)) == order


@given(st.integers(0, 0x3FFFF))
def test_switches_keep_the_rights_that_mt4_knows(rights):
    known = UserRight.ENABLED | UserRight.PASSWORD | UserRight.TRADE_DISABLED
    switches = {name: int(text) for name, text in mt4.switches_of(rights).items()}
    login = replace(mt4.read_login(USERS[0]["row"]), **switches)
    assert mt4.rights_of(login) == rights & known | DEFAULT_RIGHTS & ~known


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("order", "0"), ("order", None), ("order", 7), ("cmd", "8"), ("state", "7"), ("volume", "-1"), ("open_time", "0"),
        ("open_time", "99999999999"), ("profit", "1e5"), ("profit", "NaN"), ("comment", "x" * 32), ("symbol", "A\0"),
    ],
)  # fmt: skip
def test_rows_that_no_server_can_have_meant(field, value):
    with pytest.raises(FieldError, match=field):
        mt4.read_trade({**OPEN, field: value})


@pytest.mark.parametrize(
    ("mask", "group", "is_in"),
    [
        ("*", "std-usd", True), ("std-*", "std-usd", True), ("std-*", "ecn-usd", False), ("std-usd", "std-usd", True),
        ("std-usd", "std-usd2", False), ("*,!std-*", "std-eur", False), ("std-*,!std-eur", "std-usd", True),
        ("*,!*", "std-usd", False), ("", "std-usd", False), ("!std-eur", "std-usd", False), ("*-usd, ecn-*", "ecn-eur", True),
        ("std.usd", "std-usd", False),
    ],
)  # fmt: skip
def test_masks(mask, group, is_in):
    assert mt4.is_selected(mask, group) is is_in
