"""What clients pay in and how many of them trade, for tiers: as of a day's beginning, so that a replay finds the same."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.commissions.deals import EXACT
from app.commissions.engine import cut
from app.commissions.plans import Rule
from app.core.money import Money
from app.ledger import rates as fx

_BROUGHT = text(
    """
    WITH RECURSIVE branch (ib_id) AS (
        SELECT CAST(:owner AS bigint)
        UNION
        SELECT p.ib_id FROM branch
        JOIN ib_parent p ON p.parent_id = branch.ib_id AND tstzrange(p.valid_from, p.valid_to) @> CAST(:at AS timestamptz)
    )
    SELECT a.client_id FROM attribution a
    WHERE a.ib_id IN (SELECT ib_id FROM branch) AND tstzrange(a.valid_from, a.valid_to) @> CAST(:at AS timestamptz)
    """
)
_NET_DEPOSITS = text(
    """
    SELECT currency, CAST(sum(amount) AS bigint) AS amount_minor FROM (
        SELECT currency, settled_minor AS amount FROM deposit
        WHERE client_id = ANY(:clients) AND settled_at >= :since AND settled_at < :until
          -- What was withdrawn since, and refunded to the payment, is counted below, at its own moment.
          AND state IN ('settled', 'refunded_part', 'refunded')
        UNION ALL
        SELECT currency, -amount_minor FROM withdrawal
        WHERE client_id = ANY(:clients) AND state = 'paid' AND finished_at >= :since AND finished_at < :until
    ) moved GROUP BY currency ORDER BY currency
    """
)
_ACTIVE_CLIENTS = text(
    """
    SELECT count(*) FROM unnest(CAST(:clients AS bigint[])) AS brought (client_id) WHERE EXISTS (
        SELECT FROM trading_account t
        JOIN product p ON p.id = t.product_id AND NOT p.is_demo
        JOIN deal d ON d.trading_account_id = t.id
        WHERE t.client_id = brought.client_id AND d.done_at >= :since AND d.done_at < :until
          AND d.action IN (0, 1) AND d.entry IN (1, 2, 3) AND d.is_current AND NOT d.is_void
    )
    """
)


class Measures:
    """What the branch of an IB reached from one beginning of a day to another; each question is asked once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._found: dict[tuple[int, str, str, datetime, datetime], Decimal | None] = {}

    def known(self, owner_id: int, rule: Rule, since: datetime, until: datetime) -> Decimal | None:
        """Net deposits in the rule's currency, or active clients; None where a currency had no rate when `until` began.

        The branch is that of the moment `until`: the IB, all IBs below it, and their clients.
        """
        if rule.tiers is None or since >= until:
            return Decimal(0)
        key = (owner_id, rule.tiers.measure, rule.currency, since, until)
        if key not in self._found:
            clients = list(self._session.scalars(_BROUGHT, {"owner": owner_id, "at": until}))
            asked = {"clients": clients, "since": since, "until": until}
            if rule.tiers.measure == "active_clients":
                self._found[key] = Decimal(self._session.scalar(_ACTIVE_CLIENTS, asked) or 0)
            else:
                moved = self._session.execute(_NET_DEPOSITS, asked).all()
                amounts = [Money(row.amount_minor, row.currency) for row in moved]
                self._found[key] = self._sum(amounts, rule.currency, until)
        return self._found[key]

    def _sum(self, amounts: list[Money], currency: str, at: datetime) -> Decimal | None:
        """In one currency at the rates known at a moment; None where one is missing."""
        total = Decimal(0)
        foreign = [amount for amount in amounts if amount.currency != currency]
        rates = fx.known(self._session, at) if foreign else None
        for amount in amounts:
            found = rates.find(amount.currency, currency) if rates and amount.currency != currency else None
            if found is None and amount.currency != currency:
                return None
            total = EXACT.add(total, EXACT.multiply(amount.decimal, found.rate if found else Decimal(1)))
        return cut(total)
