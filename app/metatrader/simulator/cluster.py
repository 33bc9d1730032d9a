"""Several trade servers side by side: which numbers each of them gives out, so that no two ever give out the same."""

from __future__ import annotations

from dataclasses import dataclass

#: How many logins, and how many deals and orders, a server can give out before the next one's begin.
LOGINS_EACH = 1_000_000
SERVERS_MAX = 100
TICKETS_EACH = 1_000_000_000


@dataclass(frozen=True)
class Cluster:
    """One trade server of a cluster by its number, 1 or more."""

    number: int = 1

    @property
    def first_login(self) -> int:
        return 100_001 + (self.number - 1) * LOGINS_EACH

    @property
    def last_login(self) -> int:
        return 100_000 + self.number * LOGINS_EACH

    @property
    def first_deal(self) -> int:
        return 500_001 + (self.number - 1) * TICKETS_EACH

    @property
    def first_order(self) -> int:
        """Positions have the tickets of the orders that opened them."""
        return 700_001 + (self.number - 1) * TICKETS_EACH
