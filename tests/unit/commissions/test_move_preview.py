"""Who gains and who loses by a move, from sums alone."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest

from app.commissions.engine import Upline, compute
from app.commissions.move_preview import Amounts, Effect, kept_below, summed, weigh
from app.commissions.plans import PlanSnapshot, parse_rules
from app.models.partner_moves import PartnerMove
from tests.unit.commissions.test_commission_examples import PAGE, facts, rows

TEN, FOUR, ZERO = Decimal(10), Decimal(4), Decimal(0)


def test_the_old_upline_loses_what_the_new_one_gains_and_who_stands_above_both_keeps_the_clients() -> None:
    got = {(1, "USD"): TEN, (9, "USD"): FOUR}
    would = {(2, "USD"): TEN, (9, "USD"): FOUR}

    effects, house = weigh(got, would, [1, 9], [2, 9], 3)

    assert effects == (
        Effect(1, -3, (Amounts("USD", TEN, ZERO),)),
        Effect(9, 0, (Amounts("USD", FOUR, FOUR),)),
        Effect(2, 3, (Amounts("USD", ZERO, TEN),)),
    )
    assert house == (Amounts("USD", TEN + FOUR, TEN + FOUR),)
    assert [effect.amounts[0].difference for effect in effects] == [-TEN, ZERO, TEN]


def test_sub_ibs_whose_pay_changes_are_told_and_those_whose_does_not_are_left_out() -> None:
    got = {(5, "USD"): TEN, (6, "USD"): FOUR, (None, "USD"): FOUR}
    would = {(5, "USD"): FOUR, (5, "EUR"): FOUR, (6, "USD"): FOUR, (None, "USD"): ZERO}

    effects, house = weigh(got, would, [1], [], 2)

    assert effects == (
        Effect(1, -2, ()),
        Effect(5, 0, (Amounts("EUR", ZERO, FOUR), Amounts("USD", TEN, FOUR))),
    )
    assert house == (Amounts("EUR", ZERO, FOUR), Amounts("USD", TEN + FOUR + FOUR, FOUR + FOUR))


def test_the_ib_that_moves_stands_first_also_when_its_pay_stays() -> None:
    same = {(5, "USD"): TEN, (6, "USD"): FOUR}

    effects, _ = weigh(same, same, [1], [2], 4, moved=5)

    assert effects == (Effect(5, 0, (Amounts("USD", TEN, TEN),)), Effect(1, -4, ()), Effect(2, 4, ()))


def test_the_page_s_example_is_what_the_engine_gives() -> None:
    table = re.search(r"^\| moved: .+\n(?:\|.+\n)+", PAGE.read_text(), re.MULTILINE)
    assert table is not None
    shown = list(rows(table[0]))
    head = re.search(r"(?P<lots>[0-9.]+) lots; .+ (?P<old>[0-9.]+) a lot, .+ (?P<new>[0-9.]+)", table[0].partition("\n")[0])
    assert head is not None
    sums = [
        summed([compute(facts({"lots": head["lots"]}), plan(head[rate]), [Upline(1, ib_id)])])
        for rate, ib_id in (("old", 1), ("new", 2))
    ]

    (old, new), (house,) = weigh(*sums, [1], [2], 1)

    said = [(one["got"], one["would have got"], one["change"]) for one in shown]
    assert said == [
        words(old.amounts[0], "gains", "loses"),
        words(new.amounts[0], "gains", "loses"),
        words(house, "more", "less"),
    ]


def plan(rate: str) -> PlanSnapshot:
    return PlanSnapshot(1, parse_rules([{"key": "example", "component": "per_lot", "rate": rate}], "USD"))


def words(amounts: Amounts, more: str, less: str) -> tuple[str, str, str]:
    change = f"{more if amounts.difference > 0 else less} {abs(amounts.difference):.2f} USD"
    return f"{amounts.got:.2f} USD", f"{amounts.would:.2f} USD", change


@pytest.mark.parametrize(
    ("move", "present", "kept"),
    [
        (PartnerMove(kind="client", client_id=7, from_id=1), [1, 2], []),
        (PartnerMove(kind="client", client_id=7, from_id=1), [3, 1], None),
        (PartnerMove(kind="client", client_id=7, from_id=None), [], []),
        (PartnerMove(kind="client", client_id=7, from_id=None), [1], None),
        (PartnerMove(kind="clients", from_id=1), [1], []),
        (PartnerMove(kind="clients", from_id=1), [], None),
        (PartnerMove(kind="ib", ib_id=5, from_id=1), [6, 5, 1, 2], [6, 5]),
        (PartnerMove(kind="ib", ib_id=5, from_id=None), [6, 5], [6, 5]),
        (PartnerMove(kind="ib", ib_id=5, from_id=None), [6, 5, 1], None),
        (PartnerMove(kind="ib", ib_id=5, from_id=1), [6, 1], None),
    ],
)
def test_only_deals_of_the_present_place_count(move: PartnerMove, present: list[int], kept: list[int] | None) -> None:
    assert kept_below(present, move) == kept
