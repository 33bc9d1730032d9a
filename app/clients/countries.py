"""Countries a client can live in: ISO 3166-1 alpha-2 codes with their names in the reader's language."""

from __future__ import annotations

from functools import cache

from babel import Locale

#: Two-letter codes in Babel's list that are no country of residence: groupings, test codes, exceptional reservations.
_NO_COUNTRY = frozenset({"AC", "CP", "CQ", "DG", "EA", "EU", "EZ", "IC", "QO", "TA", "UN", "XA", "XB", "ZZ"})

COUNTRIES = frozenset(code for code in map(str, Locale("en").territories) if len(code) == 2 and code.isalpha()) - _NO_COUNTRY


@cache
def country_names(language: str) -> list[tuple[str, str]]:
    """(code, name) of every country, by name, in a language such as "ar"."""
    names = Locale.parse(language, sep="-").territories
    return sorted(((code, str(names.get(code, code))) for code in COUNTRIES), key=lambda pair: pair[1])
