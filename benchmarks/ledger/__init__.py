"""The ledger's speed and size: `posting` beside a plain ledger, and `books` of growing length: storage, proofs, reading."""

from __future__ import annotations

from benchmarks.form import Run
from benchmarks.ledger import books, posting


def measure(run: Run) -> None:
    """Both parts; each is a benchmark of its own, too."""
    posting.measure(run)
    books.measure(run)
