"""Statement files: what is read from them, and that everything wrong with one is named at once."""

from __future__ import annotations

import inspect
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from app.core.money import Money
from app.ledger.external_formats import FORMATS, MAX_BYTES, MAX_LINES, MAX_PROBLEMS, Movement, latest_day

VECTORS = Path(__file__).parents[2] / "vectors" / "statements"
TODAY = date(2026, 3, 31)
HEAD = b"date,reference,amount,currency\n"


def decode(name, kind="csv"):
    return FORMATS[kind].decode((VECTORS / name).read_bytes(), TODAY)


def sentences(decoded):
    return [(problem.line, problem.message % problem.data) for problem in decoded.problems]


def test_plain_csv_is_read_in_its_order():
    read = decode("plain.csv")
    assert read.problem_count == 0
    assert read.movements == (
        Movement(date(2026, 3, 2), "pi_0001", Money(100_000, "USD"), "Card payment"),
        Movement(date(2026, 3, 2), "pi_0001", Money(-1_450, "USD"), "Fee"),
        Movement(date(2026, 3, 3), "po_77", Money(-50_000, "USD"), "Payout to bank, ref 77"),
        Movement(date(2026, 3, 4), "WIRE-9", Money(12_500, "JPY"), ""),
    )


def test_semicolons_a_byte_order_mark_other_columns_and_any_order_are_read():
    read = decode("semicolon_bom_any_order.csv")
    assert read.movements == (
        Movement(date(2026, 3, 2), "TRF 1", Money(250_005, "KWD"), 'Ahmed "Wire" & Sons'),
        Movement(date(2026, 3, 2), "0xabc", Money(-1, "BTC"), ""),
    )


def test_a_cell_may_have_several_lines_and_the_next_problem_has_its_own_line():
    read = decode("quoted_newline.csv")
    assert read.movements == ()
    assert [line for line, _ in sentences(read)] == [5]
    assert "“bad” is not a plain amount" in sentences(read)[0][1]


def test_every_problem_of_a_file_is_named_with_its_line():
    read = decode("nasty.csv")
    found = dict(sentences(read))
    assert read.movements == ()
    assert read.problem_count == len(read.problems) == 23
    assert sorted(found) == list(range(3, 26))
    expected = {
        3: "is not a date",
        4: "“31/03/2026” is not a date such as 2026-03-31.",
        5: "2999-01-01 is in the future.",
        6: "too long ago",
        7: "The reference is empty.",
        8: "The reference is empty.",
        9: "The amount is zero.",
        10: "The amount is zero.",
        11: "“NaN” is not a plain amount",
        12: "“Infinity” is not a plain amount",
        13: "too large",
        14: "“1e3” is not a plain amount",
        15: "USD has 2 decimals at most.",
        16: "JPY has 0 decimals at most.",
        17: "Unknown currency QQQ.",
        18: "The currency is empty.",
        19: "“1,000.00” is not a plain amount",
        20: "6 columns stand here, and 5 in the first line.",
        21: "3 columns stand here, and 5 in the first line.",
        22: "cannot be shown",
        23: "longer than 200 characters",
        24: "longer than 1000 characters",
        25: "too large",
    }
    for line, words in expected.items():
        assert words in found[line], (line, found[line])


@pytest.mark.parametrize(
    ("name", "line", "words"),
    [
        ("latin1.csv", 3, "not UTF-8"),
        ("utf16.csv", 1, "not UTF-8"),
        ("open_quote.csv", 3, "quotation mark"),
        ("columns_missing.csv", 1, "names no column reference, currency."),
        ("columns_twice.csv", 1, "names a column twice: amount."),
        ("only_head.csv", 1, "no lines after the first"),
        ("empty.csv", 1, "names no column"),
    ],
)
def test_what_is_no_statement_at_all_is_said_in_one_sentence(name, line, words):
    read = decode(name)
    assert read.movements == ()
    assert read.problem_count == 1
    assert read.problems[0].line == line
    assert words in sentences(read)[0][1]


def test_stripe_fees_are_movements_of_their_own():
    read = decode("stripe_balance.csv", "stripe_balance")
    assert read.problem_count == 0
    assert [(one.reference, str(one.amount), one.booked_on.day) for one in read.movements] == [
        ("pi_1", "1000.00 USD", 2),
        ("pi_1", "-29.30 USD", 2),
        ("re_1", "-200.00 USD", 3),
        ("txn_3", "-2.00 USD", 4),
        ("pi_2", "5000 JPY", 5),
        ("pi_2", "-180 JPY", 5),
    ]
    assert [one.description for one in read.movements][:2] == ["charge Deposit", "fee charge Deposit"]


def test_stripe_amounts_must_add_up():
    assert [words for _, words in sentences(decode("stripe_wrong.csv", "stripe_balance"))] == [
        "Gross less fee is not net.",
        "“yesterday” is not a date such as 2026-03-31.",
    ]


def test_a_file_in_another_format_is_refused_by_its_first_line():
    assert decode("plain.csv", "stripe_balance").problem_count == 1
    assert decode("stripe_balance.csv").problem_count == 1


def test_size_and_number_of_lines_are_limited():
    line = b"2026-03-02,r,1,USD\n"
    most = FORMATS["csv"].decode(HEAD + line * MAX_LINES, TODAY)
    assert len(most.movements) == MAX_LINES
    more = FORMATS["csv"].decode(HEAD + line * (MAX_LINES + 1), TODAY)
    assert (more.movements, more.problem_count) == ((), 1)
    assert "more than 50000 lines" in sentences(more)[0][1]
    blank = FORMATS["csv"].decode(HEAD + b"\n" * (MAX_LINES + 1), TODAY)
    assert "more than 50000 lines" in sentences(blank)[0][1]
    large = FORMATS["csv"].decode(HEAD + b"x" * MAX_BYTES, TODAY)
    assert "larger than 5 MB" in sentences(large)[0][1]


def test_of_very_many_problems_the_first_are_kept_and_all_are_counted():
    read = FORMATS["csv"].decode(HEAD + b"2026-03-02,r,0,USD\n" * 2_000, TODAY)
    assert len(read.problems) == MAX_PROBLEMS
    assert read.problem_count == 2_000


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    "content",
    [b"\x00" * 1_000, b"\xff\xfe\x00", b'"', b",,,,\n,,,,", b"\xef\xbb\xbf", b"a" * 200_000 + b",b\n1,2", "١,٢\n".encode()],
)
def test_garbage_is_a_problem_never_a_crash(kind, content):
    read = FORMATS[kind].decode(content, TODAY)
    assert read.movements == ()
    assert read.problem_count == 1


def test_each_format_takes_bytes_and_a_day():
    for kind in FORMATS.values():
        assert list(inspect.signature(kind.decode).parameters) == ["content", "today"]
        assert kind.label
        assert kind.columns


def test_the_latest_day_has_begun_somewhere_on_earth():
    assert latest_day(datetime(2026, 3, 31, 9, 59, tzinfo=UTC)) == date(2026, 3, 31)
    assert latest_day(datetime(2026, 3, 31, 10, tzinfo=UTC)) == date(2026, 4, 1)
