"""One command as it came in, and the strict reading of its parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from app.metatrader.fields import is_storable
from app.metatrader.simulator.exchange import Exchange, Refused
from app.metatrader.simulator.groups import matches
from app.metatrader.simulator.habits import Habits
from app.metatrader.simulator.holdings import Account
from app.metatrader.simulator.users import Users

PAGE_MAX = 100


@dataclass(frozen=True)
class Partial:
    """An answer that is not whole, with the return code that says so."""

    answer: object
    retcode: int = 14


@dataclass(frozen=True)
class Call:
    """Query parameters and the fields of the JSON body, all text."""

    exchange: Exchange
    users: Users
    habits: Habits
    query: Mapping[str, str]
    body: Mapping[str, str] = field(default_factory=dict)

    def text(self, name: str, default: str | None = None) -> str:
        """A query parameter. Refused(3) when it is missing and has no default, or holds what is no text."""
        value = self.query.get(name, default)
        if value is None or not is_storable(value):
            raise Refused(3)
        return value

    def whole(self, name: str, default: int | None = None, high: int = 2**63 - 1) -> int:
        """A whole query parameter from 0 to `high`. Refused(3)."""
        return whole(self.query.get(name), default, high)

    def numbers(self, name: str) -> list[int]:
        """A comma-separated list of whole numbers. Refused(3)."""
        return [whole(part.strip(), None) for part in self.text(name).split(",")]

    def decimal(self, name: str) -> Decimal:
        """A decimal query parameter without exponent. Refused(3)."""
        text = self.text(name)
        digits = text.removeprefix("-").replace(".", "", 1)
        if len(text) > 32 or not digits.isascii() or not digits.isdigit():
            raise Refused(3)
        return Decimal(text)

    def of_body(self, name: str) -> str:
        """A field of the body. Refused(3) when it is missing."""
        value = self.body.get(name)
        if value is None:
            raise Refused(3)
        return value

    def one_of(self, *names: str) -> str:
        """Which of these parameters is given. Refused(3) unless it is exactly one."""
        given = [name for name in names if name in self.query]
        if len(given) != 1:
            raise Refused(3)
        return given[0]

    def page(self) -> tuple[int, int]:
        """Offset and how many, a hundred at most. Refused(3)."""
        return self.whole("offset", 0), self.whole("total", high=PAGE_MAX)

    def range_ms(self) -> tuple[int, int]:
        """`from` and `to` are seconds of the server's clock, both included. Refused(3)."""
        high = 2**40
        return self.whole("from", high=high) * 1000, self.whole("to", high=high) * 1000 + 999

    def selected(self) -> list[Account]:
        """The logins of a list or of group masks: exactly one of the two. Refused: 3, 13 for a login that is none."""
        if self.one_of("login", "group") == "login":
            return [self.exchange.account(login) for login in self.numbers("login")]
        return self.users.by_mask(self.text("group"))

    def total(self, count: int, usual: str = "Total") -> dict[str, str]:
        """A number of things, under the name that this server gives it."""
        return {self.habits.total_name or usual: str(count)}


def masked(mask: str, accounts: list[Account]) -> list[Account]:
    """The accounts whose groups a mask selects."""
    return [account for account in accounts if matches(mask, account.group_name)]


#: An answer is a JSON value; None for commands that answer with their return code alone.
Command = Callable[[Call], object]


def whole(text: str | None, default: int | None, high: int = 2**63 - 1) -> int:
    """A whole number in text. Refused(3)."""
    if text is None and default is not None:
        return default
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 19 or int(text) > high:
        raise Refused(3)
    return int(text)
