"""What the law of a client's country wants of trading accounts: rules with dates, of which the strictest holds.

A rule names countries (none: everybody), the highest leverage of a live account and whether a balance below zero is
restored. Rules are data that staff change; the ones that are known to us stand in known_rules.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from sqlalchemy import Select, func, or_, select
from sqlalchemy.orm import Session, contains_eager

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import N_, Conflict, InvalidInput, NotFound
from app.core.uow import unit_of_work
from app.models.clients import Client
from app.models.metatrader import Product, TradingAccount, TradingRule

MOST_LEVERAGE = 5000


class RuleChanged(Conflict):
    code = "trading_rules.changed"
    message = N_("This rule was changed by somebody else in the meantime. Nothing was saved; please look at it again.")


@dataclass(frozen=True)
class Draft:
    """A rule as it would be saved. `valid_until` is the first day on which it does not hold any more."""

    name: str
    countries: tuple[str, ...]
    max_leverage: int | None
    protects_negative_balance: bool
    valid_from: date
    valid_until: date | None = None


def rules_of(session: Session, client: Client, on: date) -> list[TradingRule]:
    """The rules that hold for this client on a day."""
    in_force = session.scalars(
        select(TradingRule)
        .where(TradingRule.valid_from <= on, or_(TradingRule.valid_until.is_(None), TradingRule.valid_until > on))
        .order_by(TradingRule.id)
    )
    return [rule for rule in in_force if not rule.countries or client.country in rule.countries]


def max_leverage(session: Session, client: Client, on: date) -> int | None:
    """The highest leverage that a live account of this client may have on a day; None where no rule caps it."""
    return _lowest_cap(rules_of(session, client, on))


def protects_negative_balance(session: Session, client: Client, on: date) -> bool:
    """Whether a live account of this client that fell below zero is restored to zero."""
    return any(rule.protects_negative_balance for rule in rules_of(session, client, on))


@dataclass(frozen=True)
class Offer:
    """The leverages of a product that a client may have, and those that the rules keep from them: `cap` by `rule`."""

    leverages: tuple[int, ...]
    withheld: tuple[int, ...] = ()
    cap: int | None = None
    rule: str = ""


def offer_of(session: Session, product: Product, client: Client, on: date) -> Offer:
    """What this client is offered of a product. Practice accounts are not capped."""
    choices = tuple(sorted(product.leverages))
    if product.is_demo:
        return Offer(choices)
    applying = rules_of(session, client, on)
    cap = _lowest_cap(applying)
    if cap is None:
        return Offer(choices)
    name = next(rule.name for rule in applying if rule.max_leverage == cap)
    return Offer(
        tuple(choice for choice in choices if choice <= cap), tuple(choice for choice in choices if choice > cap), cap, name
    )


def offered_leverages(session: Session, product: Product, client: Client, on: date) -> tuple[int, ...]:
    """The leverages of a product that this client may choose, ascending; none where the rules allow none of them."""
    return offer_of(session, product, client, on).leverages


def _lowest_cap(applying: Sequence[TradingRule]) -> int | None:
    return min((rule.max_leverage for rule in applying if rule.max_leverage is not None), default=None)


def affected(session: Session, draft: Draft, *, limit: int = 200) -> tuple[int, list[TradingAccount]]:
    """Live accounts that have more leverage than this rule would allow, while it holds now or later: how many, and the first.

    Saving a rule changes no account; these are the ones that somebody has to look after.
    """
    if draft.max_leverage is None or (draft.valid_until is not None and draft.valid_until <= now().date()):
        return 0, []
    above = (
        TradingAccount.status.in_(("requested", "opening", "unknown", "active", "disabled")),
        TradingAccount.leverage > draft.max_leverage,
        Product.is_demo.is_(False),
        *([Client.country.in_(draft.countries)] if draft.countries else []),
    )

    def joined(statement: Select[Any]) -> Select[Any]:
        return statement.join(TradingAccount.client).join(TradingAccount.product).where(*above)

    count = session.scalar(joined(select(func.count(TradingAccount.id)))) or 0
    first = joined(select(TradingAccount)).options(
        contains_eager(TradingAccount.client), contains_eager(TradingAccount.product)
    )
    return count, list(session.scalars(first.order_by(TradingAccount.leverage.desc(), TradingAccount.id).limit(limit)))


def save_rule(
    session: Session, draft: Draft, *, actor: Actor, reason: str, rule_id: int | None = None, seen: Draft | None = None
) -> TradingRule:
    """Write a new rule down, or change one. `seen` is what the person had before them when they changed it.

    Raises InvalidInput with everything that is wrong, NotFound, RuleChanged when somebody else was faster.
    """
    draft = checked(draft, reason)
    with unit_of_work(session, actor) as unit:
        if rule_id is None:
            rule, before = TradingRule(), None
            session.add(rule)
        else:
            found = session.get(TradingRule, rule_id, with_for_update=True)
            if found is None:
                raise NotFound()
            rule, before = found, _plain(draft_of(found))
            if seen is not None and draft_of(rule) != seen:
                raise RuleChanged()
        rule.name, rule.countries, rule.max_leverage = draft.name, list(draft.countries), draft.max_leverage
        rule.protects_negative_balance = draft.protects_negative_balance
        rule.valid_from, rule.valid_until = draft.valid_from, draft.valid_until
        session.flush()
        verb = "add" if before is None else "edit"
        unit.audit(f"trading_rule.{verb}", f"trading_rule:{rule.id}", before=before, after=_plain(draft), reason=reason.strip())
        unit.emit("trading_rule.saved", subject_id=rule.id)
        return rule


def checked(draft: Draft, reason: str) -> Draft:
    """The draft tidied up. Raises InvalidInput with all that is wrong."""
    draft = replace(draft, name=draft.name.strip(), countries=tuple(sorted({code.upper() for code in draft.countries})))
    problems = {}
    if not 1 <= len(draft.name) <= 100:
        problems["name"] = N_("Please give the rule a name of at most 100 characters.")
    if any(len(code) != 2 or not code.isascii() or not code.isalpha() for code in draft.countries):
        problems["countries"] = N_("Please give two-letter country codes with commas between, such as DE, FR.")
    if draft.max_leverage is not None and not 1 <= draft.max_leverage <= MOST_LEVERAGE:
        problems["max_leverage"] = N_("The highest leverage must lie between 1 and 5000.")
    if draft.max_leverage is None and not draft.protects_negative_balance:
        problems["max_leverage"] = N_("A rule must cap the leverage, protect from negative balances, or both.")
    if draft.valid_until is not None and draft.valid_until <= draft.valid_from:
        problems["valid_until"] = N_("A rule must end after the day on which it begins.")
    if not reason.strip():
        problems["reason"] = N_("Please say why.")
    if problems:
        raise InvalidInput(problems)
    return draft


def draft_of(rule: TradingRule) -> Draft:
    """A saved rule as a draft, to be changed or compared."""
    return Draft(
        rule.name,
        tuple(rule.countries),
        rule.max_leverage,
        rule.protects_negative_balance,
        rule.valid_from,
        rule.valid_until,
    )


def _plain(draft: Draft) -> dict[str, Any]:
    return {
        "name": draft.name,
        "countries": list(draft.countries),
        "max_leverage": draft.max_leverage,
        "protects_negative_balance": draft.protects_negative_balance,
        "valid_from": draft.valid_from.isoformat(),
        "valid_until": draft.valid_until.isoformat() if draft.valid_until else None,
    }
