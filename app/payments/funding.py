"""The house pays for what it owes: the funding leg of a withdrawal (docs/decisions/0005-funding.md).

What a client wins, earns as a broker or gets as a bonus is owed by the house; the segregated money did not grow by it. So a
withdrawal that takes more than the client ever brought from outside carries one more pair of legs: the house's own bank
account gives the rest to the clients' bank account, in the transaction that takes the money out of the wallet. Given back,
both are given back.

What a client brought is told from the ledger alone, per currency, from all transactions on the client's own accounts:
money that came in at a provider or bank, less what went out there, what conversions moved between currencies, and what the
house has paid before. Callers hold the client's row locked, so that two withdrawals of one client cannot both count on it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select
from sqlalchemy.orm import Session, aliased

from app.core.money import Money
from app.ledger import chart, posting
from app.models.ledger import Account, Entry, Transaction
from app.models.payments import Withdrawal

#: Where the house keeps its money when the setting CLIENT_BANK names no other bank.
BANK = "house"


@dataclass(frozen=True)
class Funding:
    """Who pays for a withdrawal of `amount`, and why. All in minor units of its currency.

    `paid_in_minor` came from outside, `paid_out_minor` went there (payouts in flight included, those given back not),
    `converted_minor` was brought by conversions (negative: taken), `funded_minor` the house has paid before.
    """

    amount: Money
    paid_in_minor: int = 0
    paid_out_minor: int = 0
    converted_minor: int = 0
    funded_minor: int = 0

    @property
    def brought(self) -> Money:
        """What is left of the money that the client brought. Below zero after a chargeback of money that was paid out."""
        return Money(self.paid_in_minor - self.paid_out_minor + self.converted_minor + self.funded_minor, self.amount.currency)

    @property
    def of_house(self) -> Money:
        """The part that the house pays with its own money; zero for who takes out no more than is left."""
        return Money(max(0, self.amount.amount_minor - max(0, self.brought.amount_minor)), self.amount.currency)

    def legs(self, bank: str) -> list[posting.Leg]:
        """From the house's own money to the clients', at this bank; none when the house pays nothing."""
        if not self.of_house:
            return []
        clients, own = accounts(bank, self.amount.currency)
        return [posting.debit(clients, self.of_house), posting.credit(own, self.of_house)]

    def explained(self) -> dict[str, int]:
        """For the transaction's metadata, also when the house pays nothing: a zero has its reason, too."""
        return {
            "house_minor": self.of_house.amount_minor,
            "paid_in_minor": self.paid_in_minor,
            "paid_out_minor": self.paid_out_minor,
            "converted_minor": self.converted_minor,
            "funded_before_minor": self.funded_minor,
        }


def accounts(bank: str, currency: str) -> tuple[chart.AccountSpec, chart.AccountSpec]:
    """The clients' and the house's own account at the bank."""
    return chart.bank_client_money(bank, currency), chart.bank_own_money(bank, currency)


def of_withdrawal(session: Session, withdrawal: Withdrawal) -> Funding:
    """Who would pay for this withdrawal if it were approved now. To act on it, hold the client's row locked."""
    return preview(session, [withdrawal])[withdrawal.id]


def preview(session: Session, withdrawals: Sequence[Withdrawal]) -> dict[int, Funding]:
    """By withdrawal id: who would pay if it were approved now, before the others. One query for all of them."""
    histories = _histories(session, {withdrawal.client_id for withdrawal in withdrawals})
    return {
        withdrawal.id: _funding(withdrawal.amount, histories[withdrawal.client_id][withdrawal.currency])
        for withdrawal in withdrawals
    }


def recorded(session: Session, withdrawal: Withdrawal) -> Funding | None:
    """Who paid, as it was found when the withdrawal was approved. None before that."""
    details = session.scalar(select(Transaction.details).where(Transaction.id == withdrawal.capture_txn_id))
    kept = (details or {}).get("funding")
    if kept is None:
        return None
    return Funding(
        withdrawal.amount,
        kept["paid_in_minor"],
        kept["paid_out_minor"],
        kept["converted_minor"],
        kept["funded_before_minor"],
    )


#: What one transaction, or all so far, did for one client in one currency: the last four fields of Funding.
_Sums = Counter[str]


def _funding(amount: Money, sums: _Sums) -> Funding:
    return Funding(amount, sums["paid_in"], sums["paid_out"], sums["converted"], sums["funded"])


def _left(sums: _Sums) -> int:
    """What is left of the money that was brought, never below zero."""
    return max(0, sums["paid_in"] - sums["paid_out"] + sums["converted"] + sums["funded"])


def _histories(session: Session, client_ids: Iterable[int]) -> Mapping[int, Mapping[str, _Sums]]:
    """By client and currency: everything so far, transaction by transaction in the order of posting."""
    histories: dict[int, dict[str, _Sums]] = defaultdict(lambda: defaultdict(Counter))
    rows = session.execute(_movements(client_ids)).all()
    effects: dict[tuple[int, UUID], dict[str, _Sums]] = {}
    for (client_id, txn_id), legs in groupby(rows, key=lambda row: (row.client_id, row.txn_id)):
        history, movement = histories[client_id], list(legs)
        original = effects.get((client_id, movement[0].reverses))
        effect = _effect(client_id, movement, history) if original is None else _undone(original)
        effects[client_id, txn_id] = effect
        for currency, sums in effect.items():
            history[currency].update(sums)
    return histories


def _movements(client_ids: Iterable[int]) -> Any:
    """All legs of all transactions on these clients' own accounts, a row each, with the client whose account led to it."""
    own, its = aliased(Account), aliased(Entry)
    touched = (
        select(own.client_id, its.txn_id)
        .join(its, its.account_id == own.id)
        .where(own.client_id.in_(sorted(client_ids)), own.code.startswith("client:"))
        .distinct()
        .cte("touched")
    )
    return (
        select(
            touched.c.client_id,
            touched.c.txn_id,
            Transaction.reverses,
            Account.code,
            Account.client_id.label("owner"),
            Entry.currency,
            (Entry.credit - Entry.debit).label("credited"),
        )
        .join(Transaction, Transaction.id == touched.c.txn_id)
        .join(Entry, Entry.txn_id == touched.c.txn_id)
        .join(Account, Account.id == Entry.account_id)
        .order_by(touched.c.client_id, Transaction.seq, Account.code)
    )


def _effect(client_id: int, movement: Sequence[Row[Any]], history: Mapping[str, _Sums]) -> dict[str, _Sums]:
    """What one transaction that reverses none means for one client."""
    own: Counter[str] = Counter()  # by currency: what the client's own accounts gained
    outside: Counter[str] = Counter()  # what came in from outside, the house's own money included
    house: Counter[str] = Counter()  # what the house's own money gave
    is_conversion = False
    for leg in movement:
        match leg.code.split(":"):
            case ["client", *_] if leg.owner == client_id:
                own[leg.currency] += leg.credited
            case ["bank", _, "own_money", _]:
                house[leg.currency] += leg.credited
            case ["bank", _, "client_money", _] | ["psp", _, "clearing" | "payouts", _] | ["migration", "opening", _]:
                outside[leg.currency] -= leg.credited
            case ["suspense", source, _] if not source.startswith("mt-"):  # received earlier, and now known whose it is
                outside[leg.currency] -= leg.credited
            case ["fx", "position", _]:
                is_conversion = True
    if is_conversion:
        return _converted(own, history)
    return {currency: _moved(gained, outside[currency], house[currency]) for currency, gained in own.items()}


def _undone(effect: Mapping[str, _Sums]) -> dict[str, _Sums]:
    """What the reversal of a transaction means: exactly the opposite, whatever has happened since."""
    return {currency: Counter({name: -amount for name, amount in sums.items()}) for currency, sums in effect.items()}


def _moved(gained: int, outside: int, house: int) -> _Sums:
    """Money from or to the outside. Of a transaction for several clients, no more than this one's accounts gained or lost."""
    low, high = min(0, gained), max(0, gained)
    moved = max(low, min(high, outside - house))
    funded = max(low, min(high, outside)) - moved
    return Counter(paid_in=max(0, moved), paid_out=max(0, -moved), funded=funded)


def _converted(own: Counter[str], history: Mapping[str, _Sums]) -> dict[str, _Sums]:
    """A conversion takes what the client brought first, and carries it over in proportion, rounded down.

    Carrying over the whole would turn a profit in one currency into money brought in another one.
    """
    sold = next((currency for currency, gained in own.items() if gained < 0), None)
    bought = next((currency for currency, gained in own.items() if gained > 0), None)
    if sold is None or bought is None:
        return {}
    carried = min(_left(history.get(sold, Counter())), -own[sold])
    return {sold: Counter(converted=-carried), bought: Counter(converted=own[bought] * carried // -own[sold])}
