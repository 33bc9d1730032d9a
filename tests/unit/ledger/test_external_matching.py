"""Which line is which entry: certain pairs, proposals, and what is neither."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import count, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.money import Money
from app.ledger.external_matching import MOST, WINDOW, Candidate, Line, match, proposals, references

DAY = date(2026, 3, 10)
_numbers = count(1)


def line(amount=10_000, reference="pi_0001", day=0, currency="USD", number=None):
    return Line(number or next(_numbers), DAY + timedelta(days=day), reference, Money(amount, currency))


def entry(amount=10_000, names=("pi_0001",), day=0, currency="USD", version=None, account=1):
    known = frozenset(name.casefold() for name in names)
    return Candidate(account, version or next(_numbers), Money(amount, currency), DAY + timedelta(days=day), known)


def pairs(lines, entries):
    return [(found.id, one.version) for found, one in match(lines, entries)]


def test_reference_amount_direction_and_day_make_a_pair():
    one, same = line(), entry()
    assert pairs([one], [same]) == [(one.id, same.version)]


@pytest.mark.parametrize(
    "other",
    [
        {"amount": 10_001},
        {"amount": -10_000},
        {"currency": "EUR"},
        {"names": ("pi_0002",)},
        {"names": ()},
        {"names": ("pi_00011",)},
        {"day": 4},
        {"day": -4},
    ],
)
def test_anything_that_differs_leaves_both_open(other):
    assert pairs([line()], [entry(**other)]) == []


@pytest.mark.parametrize("day", [-3, -1, 0, 3])
def test_days_may_differ_by_a_weekend(day):
    assert WINDOW.days == 3
    assert len(pairs([line()], [entry(day=day)])) == 1


def test_banks_write_references_in_capitals():
    assert len(pairs([line(reference="PI_0001")], [entry()])) == 1


def test_what_was_reported_twice_or_booked_twice_stays_open_once():
    first, second = line(), line()
    assert pairs([first, second], [same := entry()]) == [(first.id, same.version)]
    assert len(pairs([line()], [entry(), entry()])) == 1


def test_as_many_pairs_as_there_can_be_whatever_the_order():
    lines = [line(day=0, number=1), line(day=5, number=2)]
    entries = [entry(day=3, version=1), entry(day=-2, version=2)]
    for some in permutations(lines):
        for others in permutations(entries):
            assert sorted(pairs(some, others)) == [(1, 2), (2, 1)]


def test_one_entry_under_two_names_is_taken_once():
    same = entry(names=("pi_0001", "cs_0001"))
    assert len(pairs([line(), line(reference="cs_0001")], [same])) == 1


def test_thousands_of_equal_lines_are_paired_quickly():
    lines, entries = [line(reference="FEE") for _ in range(20_000)], [entry(names=("fee",)) for _ in range(20_000)]
    assert len(match(lines, entries)) == 20_000
    assert len(proposals(lines[:100], lines, entries)) == 100


@given(
    st.lists(st.tuples(st.sampled_from([1, 2, -1]), st.sampled_from("ab"), st.integers(-6, 6)), max_size=12),
    st.lists(st.tuples(st.sampled_from([1, 2, -1]), st.sampled_from("ab"), st.integers(-6, 6)), max_size=12),
)
def test_no_line_and_no_entry_is_used_twice_and_every_pair_is_certain(some, others):
    lines = [line(amount, name, day, number=number) for number, (amount, name, day) in enumerate(some, 1)]
    entries = [entry(amount, (name,), day, version=number) for number, (amount, name, day) in enumerate(others, 1)]
    found = match(lines, entries)
    assert len({one.id for one, _ in found}) == len({one.key for _, one in found}) == len(found)
    for one, same in found:
        assert one.amount == same.amount
        assert one.reference in same.references
        assert abs(one.booked_on - same.booked_on) <= WINDOW
    left_lines = [one for one in lines if one.id not in {matched.id for matched, _ in found}]
    left_entries = [one for one in entries if one.key not in {matched.key for _, matched in found}]
    assert match(left_lines, left_entries) == []
    assert match(lines[::-1], entries[::-1]) == found


def test_amount_and_day_alone_are_proposed_not_matched():
    one, same = line(reference="SEPA 123"), entry()
    assert pairs([one], [same]) == []
    (found,) = proposals([one], [one], [same])[one.id]
    assert found.entry is same
    assert found.is_only


def test_a_proposal_is_the_only_one_when_neither_side_has_another():
    one, rival = line(reference="a"), line(reference="b", day=2)
    near, nearer = entry(day=2), entry(day=1)
    assert [(found.entry, found.is_only) for found in proposals([one], [one], [near, nearer])[one.id]] == [
        (nearer, False),
        (near, False),
    ]
    assert [found.is_only for found in proposals([one], [one, rival], [near])[one.id]] == [False]
    assert proposals([one], [one], [entry(amount=-10_000), entry(day=9)]) == {}
    assert len(proposals([one], [one], [entry() for _ in range(30)])[one.id]) == MOST


def test_names_of_a_transaction():
    found = references(
        "deposit:stripe:6b1f-PUBLIC-1",
        {"deposit_id": 7, "provider_reference": "cs_1", "reference": " R-9 ", "note": "x", "of_reference": None},
        ["pi_1", None, ""],
    )
    assert found == {"deposit:stripe:6b1f-public-1", "6b1f-public-1", "cs_1", "r-9", "pi_1"}


def test_words_and_short_numbers_of_a_key_name_nothing():
    assert references("commission-settlement:12:USD:2026-03-01T10:00", {}) == {
        "commission-settlement:12:usd:2026-03-01t10:00",
        "2026-03-01t10",
    }
