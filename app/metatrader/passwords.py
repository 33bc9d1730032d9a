"""Passwords of trading accounts: made by us, or chosen by the client and checked before they are sent."""

from __future__ import annotations

import secrets
import string

from app.core.errors import N_

#: What every MetaTrader takes, whatever a group asks for beyond it: 4 has room for 15 characters, 5 for 16.
SHORTEST, LONGEST = 8, 15


def make_password() -> str:
    """Twelve characters with lower and upper case, a digit and a sign: what the strictest servers ask for."""
    kinds = (string.ascii_lowercase, string.ascii_uppercase, string.digits, "#!%+-")
    characters = [secrets.choice(kind) for kind in kinds] + [
        secrets.choice(string.ascii_letters + string.digits) for _ in range(8)
    ]
    secrets.SystemRandom().shuffle(characters)
    return "".join(characters)


def password_problem(password: str) -> str | None:
    """What the strictest trading servers would not like about this password, as a message id; None when they take it."""
    if not SHORTEST <= len(password) <= LONGEST:
        return N_("Please choose a password of 8 to 15 characters.")
    if not all("!" <= character <= "~" for character in password):
        return N_("Please use English letters, digits and signs only, and no spaces.")
    kinds = (str.islower, str.isupper, str.isdigit, lambda character: not character.isalnum())
    if not all(any(is_kind(character) for character in password) for is_kind in kinds):
        return N_("Please mix small and capital letters, a digit and a sign such as # or !.")
    return None
