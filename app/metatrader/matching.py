"""Whose a login is that exists at a server: by mail address, and by hints that a person has to confirm. Pure.

A mail address belongs to one client. The same name in the same country, or a client number in the server's record, is a
hint: the client it points at is proposed, and a person decides.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from app.metatrader.platform import User

#: "client 17", "CRM#17", "id:17" in a record's comment or ID.
_NUMBER = re.compile(r"\b(?:client|customer|crm|cid|id|uid)\s*[#:=-]?\s*(\d{1,12})\b", re.IGNORECASE)


@dataclass(frozen=True)
class KnownClient:
    id: int
    email: str
    name: str
    country: str


@dataclass(frozen=True)
class Match:
    """What became of a login: an outcome of login_import_row, the client it is, or may be, and why (a code of NOTES)."""

    outcome: str
    client_id: int | None
    note: str


@dataclass
class Clients:
    """All clients, ready to be looked through."""

    by_email: dict[str, int] = field(default_factory=dict)
    by_name: dict[tuple[str, str], list[int]] = field(default_factory=lambda: defaultdict(list))
    ids: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, clients: Iterable[KnownClient]) -> Clients:
        made = cls()
        for client in clients:
            made.ids.add(client.id)
            made.by_email[client.email.strip().lower()] = client.id
            made.by_name[(plain(client.name), client.country)].append(client.id)
        return made

    def match(self, user: User, countries: Mapping[str, str]) -> Match:
        """The client of a login. `countries`: names of countries, as servers write them, in small letters → their codes."""
        email = user.email.strip().lower()
        if email and email in self.by_email:
            return Match("matched", self.by_email[email], "email")
        named = _NUMBER.search(user.comment) or _NUMBER.search(user.mark)
        if named and int(named[1]) in self.ids:
            return Match("ambiguous", int(named[1]), "number")
        country = country_code(user.country, countries)
        same_name = self.by_name.get((plain(user.name), country), []) if plain(user.name) and country else []
        if len(same_name) == 1:
            return Match("ambiguous", same_name[0], "name")
        if same_name:
            return Match("ambiguous", None, "names")
        return Match("unmatched", None, "nobody")


def differences(user: User, client: KnownClient, countries: Mapping[str, str]) -> tuple[str, ...]:
    """Which of "name", "email" and "country" the server has otherwise than we. What it does not have does not differ, nor do
    the words of a name in another order, nor a country that nobody can read.
    """
    name, email, country = plain(user.name), user.email.strip().lower(), country_code(user.country, countries)
    found = {
        "name": bool(name) and sorted(name.split()) != sorted(plain(client.name).split()),
        "email": bool(email) and email != client.email.strip().lower(),
        "country": bool(country) and country != client.country,
    }
    return tuple(which for which, differs in found.items() if differs)


def plain(name: str) -> str:
    """A name as it is compared: small letters, single spaces."""
    return " ".join(name.casefold().split())


def country_code(text: str, countries: Mapping[str, str]) -> str:
    """The two-letter code of a country that a server names by its code or by its English name; empty for neither."""
    given = text.strip()
    if len(given) == 2 and given.isascii() and given.isalpha():
        return given.upper()
    return countries.get(given.lower(), "")
