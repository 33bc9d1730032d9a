"""Proofs: nine statements about the ledger that must be true, checked from what stands in the tables.

Each proof says how many rows it compared and names each break. A proof never mends anything: a break is for people to look
at, and until the proofs hold again nothing is paid out of the house by the clock. docs/ledger.md says what each one shows.
"""

from __future__ import annotations

from sqlalchemy.orm import Session

from app.ledger.proofs import books, seals
from app.ledger.proofs.proof import Proof
from app.ledger.proofs.runs import ALL, is_running, request_run, require_sound, run
from app.ledger.proofs.seals import head, seal
from app.ledger.proofs.segregation import ClientMoney, CurrencyLine, client_money

__all__ = [
    "NAMES",
    "ClientMoney",
    "CurrencyLine",
    "Proof",
    "client_money",
    "head",
    "is_running",
    "prove",
    "request_run",
    "require_sound",
    "run",
    "seal",
]

#: P1 to P9 → what each proves, in words.
NAMES: dict[str, str] = {name.partition(" ")[0]: name.partition(" ")[2] for name in ALL}


def prove(session: Session) -> list[Proof]:
    """The proofs about the books alone, P1 to P5 and P9. Reads every entry several times: meant for the end of a test."""
    return [*(books.prove_one(session, name) for name in books.NAMES), seals.prove_one(session)]
