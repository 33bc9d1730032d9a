"""Products beside what their trading server has: whether a product's group is there, and is what the product says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.core.errors import N_
from app.core.money import exponent
from app.metatrader.codes import MarginMode
from app.metatrader.errors import NotKnown
from app.metatrader.platform import Group, TradingPlatform
from app.models.metatrader import Product


@dataclass(frozen=True)
class Finding:
    """What does not fit: a message id with the values that it names."""

    product: str
    message: str
    data: dict[str, str]


def check_products(platform: TradingPlatform, products: Sequence[Product]) -> list[Finding]:
    """Read the server's groups and compare. The products are all of this server. Raises a PlatformError when it is silent."""
    findings: list[Finding] = []
    for product in products:
        group = _group(platform, product.group)
        findings += [Finding(product.name, message, data) for message, data in _differences(product, group)]
    return findings


def _group(platform: TradingPlatform, name: str) -> Group | None:
    try:
        return next((group for group in platform.groups(name) if group.name == name), None)
    except NotKnown:
        return None


def _differences(product: Product, group: Group | None) -> Iterable[tuple[str, dict[str, str]]]:
    if group is None:
        yield N_("The server has no group %(group)s. Nobody can open this product."), {"group": product.group}
        return
    if group.currency != product.currency:
        yield (
            N_("The group's currency is %(there)s, the product says %(here)s."),
            {"there": group.currency, "here": product.currency},
        )
    if group.currency_digits != exponent(product.currency):
        yield (
            N_("The group counts its currency with %(there)s decimals, our books with %(here)s. Results could not be booked."),
            {"there": str(group.currency_digits), "here": str(exponent(product.currency))},
        )
    there = "hedging" if group.margin_mode == MarginMode.RETAIL_HEDGED else "netting"
    if there != product.margin_mode:
        yield (
            N_("The group holds positions by %(there)s, the product says %(here)s."),
            {"there": there, "here": product.margin_mode},
        )
    if product.group.lower().startswith("demo") != product.is_demo:
        yield (
            N_("By its name the group is one for practice, the product is not.")
            if not product.is_demo
            else N_("The product is one for practice; by its name the group is not."),
            {},
        )
