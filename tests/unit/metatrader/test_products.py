"""Products beside the groups of their server: what does not fit is said."""

from __future__ import annotations

from decimal import Decimal

import pytest

from app.metatrader.platform import Group
from app.metatrader.products import check_products
from app.models.metatrader import Product


class Groups:
    """A server of which only the groups are asked."""

    def __init__(self, *groups: Group) -> None:
        self._groups = groups

    def groups(self, mask: str) -> list[Group]:
        return [group for group in self._groups if group.name == mask]


def product(**changes):
    fields = {"name": "Standard", "group": "std-usd", "currency": "USD", "margin_mode": "hedging", "is_demo": False}
    return Product(**fields | changes)


def group(**changes):
    fields = {"name": "std-usd", "currency": "USD", "currency_digits": 2, "margin_mode": 2, "margin_stop_out": Decimal(50)}
    return Group(**fields | changes)


def test_what_fits():
    assert check_products(Groups(group()), [product()]) == []


@pytest.mark.parametrize(
    ("wanted", "there", "words"),
    [
        ({"group": "std-eur"}, {}, "no group"),
        ({"currency": "EUR"}, {}, "currency is"),
        ({"currency": "JPY"}, {"currency": "JPY"}, "decimals"),
        ({"margin_mode": "netting"}, {}, "holds positions"),
        ({"is_demo": True}, {}, "one for practice; by its name"),
        ({"group": "demo-usd"}, {"name": "demo-usd"}, "the product is not"),
    ],
)
def test_what_does_not_fit_is_said(wanted, there, words):
    (finding,) = check_products(Groups(group(**there)), [product(**wanted)])
    assert words in finding.message
    assert finding.message % finding.data
