"""The sandbox's test cards, and the checks a card form makes. Pure."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True)
class Verdict:
    """What the issuer says: "approved", "delayed" (decided later), or "declined" with Stripe's codes and words."""

    result: str
    code: str = ""
    decline_code: str = ""
    message: str = ""


#: number -> (verdict, words on the checkout page)
TEST_CARDS = {
    "4242424242424242": (Verdict("approved"), "succeeds"),
    "4000000000003220": (Verdict("delayed"), "pending at first, succeeds a moment later"),
    "4000000000000002": (
        Verdict("declined", "card_declined", "generic_decline", "Your card was declined. Please try another card."),
        "declined",
    ),
    "4000000000009995": (
        Verdict("declined", "card_declined", "insufficient_funds", "Your card has insufficient funds. Try another card."),
        "insufficient funds",
    ),
}


def digits(text: str) -> str:
    """A card number without the spaces people type."""
    return re.sub(r"[\s-]", "", text)


def check(number: str, expiry: str, cvc: str, today: date) -> dict[str, str]:
    """What is wrong with the form, by field; empty when all is well."""
    problems = {}
    number = digits(number)
    if not re.fullmatch(r"[0-9]{12,19}", number) or not _luhn(number):
        problems["number"] = "Your card number is not valid."
    elif number not in TEST_CARDS:
        problems["number"] = "This is a sandbox: please use one of the test cards listed below."
    match = re.fullmatch(r"\s*(0[1-9]|1[0-2])\s*/?\s*([0-9]{2}|20[0-9]{2})\s*", expiry, re.ASCII)
    if not match:
        problems["expiry"] = "Please write month and year, such as 12 / 34."
    elif (2000 + int(match[2][-2:]), int(match[1])) < (today.year, today.month):
        problems["expiry"] = "Your card has expired."
    if not re.fullmatch(r"[0-9]{3,4}", cvc.strip()):
        problems["cvc"] = "The security code has 3 digits."
    return problems


def fingerprint(number: str) -> str:
    """What tells one card from another without its number: 16 letters and digits, the same for the same card."""
    return base64.b32encode(hashlib.sha256(f"sandbox card {number}".encode()).digest()[:10]).decode()


def grouped(number: str) -> str:
    """A card number in groups of four, as it is printed on the card."""
    return " ".join(re.findall(r".{1,4}", number))


def _luhn(number: str) -> bool:
    """ISO/IEC 7812 check digit."""
    total = 0
    for place, digit in enumerate(reversed(number)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0
