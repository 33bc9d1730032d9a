"""Proofs: the running counters are trusted only because these show, from the entries themselves, that they are right.

Each proof is one statement and so sees one moment, however busy the ledger is. It says how many rows it compared and names
each break. A proof never mends anything: a break is for people to look at.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

from sqlalchemy import text
from sqlalchemy.orm import Session


@dataclass(frozen=True)
class Proof:
    """What one proof found: rows compared, one text with ids per break, seconds it took."""

    name: str
    compared: int
    breaks: tuple[str, ...]
    seconds: float

    @property
    def holds(self) -> bool:
        return not self.breaks


#: Every statement returns one row: how many rows were compared, and the breaks among them as texts.
_STATEMENTS = {
    "P1 each currency's debits equal its credits": """
        SELECT coalesce(sum(entries), 0),
               array_agg(format('currency %s: debits %s, credits %s', currency, debits, credits) ORDER BY currency)
                   FILTER (WHERE debits <> credits)
          FROM (SELECT currency, count(*) AS entries, sum(debit) AS debits, sum(credit) AS credits
                  FROM ledger.entry GROUP BY currency) AS totals
    """,
    "P2 each account's counters equal the sums of its entries": """
        SELECT count(*),
               array_agg(format('account %s: counters %s/%s at version %s, entries %s/%s, %s of them up to version %s',
                                a.code, a.debits, a.credits, a.version, e.debits, e.credits, e.entries, e.version)
                         ORDER BY a.id)
                   FILTER (WHERE (a.debits, a.credits, a.version, a.version)
                                 IS DISTINCT FROM (coalesce(e.debits, 0), coalesce(e.credits, 0),
                                                   coalesce(e.entries, 0), coalesce(e.version, 0)))
          FROM ledger.account a
          LEFT JOIN (SELECT account_id, sum(debit) AS debits, sum(credit) AS credits, count(*) AS entries,
                            max(account_version) AS version
                       FROM ledger.entry GROUP BY account_id) AS e ON e.account_id = a.id
    """,
    "P3 each transaction balances in each currency": """
        SELECT count(*),
               array_agg(format('transaction %s: %s legs, %s', t.id, coalesce(e.legs, 0),
                                CASE WHEN e.balanced THEN 'balanced' ELSE 'not balanced' END
                                || CASE WHEN e.dated THEN '' ELSE ', an entry has another date' END) ORDER BY t.id)
                   FILTER (WHERE NOT coalesce(e.legs >= 2 AND e.balanced AND e.dated, false))
          FROM ledger.txn t
          LEFT JOIN (SELECT c.txn_id, sum(c.legs) AS legs, bool_and(c.debits = c.credits) AS balanced,
                            bool_and(c.dated) AS dated
                       FROM (SELECT e.txn_id, e.currency, count(*) AS legs, sum(e.debit) AS debits, sum(e.credit) AS credits,
                                    bool_and(e.effective_at = t.effective_at) AS dated
                               FROM ledger.entry e JOIN ledger.txn t ON t.id = e.txn_id
                              GROUP BY e.txn_id, e.currency) AS c
                      GROUP BY c.txn_id) AS e ON e.txn_id = t.id
    """,
    "P4 each entry continues the one before it": """
        SELECT count(*),
               array_agg(format('account %s, version %s: counters %s/%s do not follow from version %s',
                                account_id, account_version, debits_after, credits_after, version_before)
                         ORDER BY account_id, account_version)
                   FILTER (WHERE account_version <> version_before + 1
                              OR debits_after <> debits_before + debit OR credits_after <> credits_before + credit)
          FROM (SELECT e.*, lag(account_version, 1, 0::bigint) OVER chain AS version_before,
                       lag(debits_after, 1, 0::bigint) OVER chain AS debits_before,
                       lag(credits_after, 1, 0::bigint) OVER chain AS credits_before
                  FROM ledger.entry e
                WINDOW chain AS (PARTITION BY account_id ORDER BY account_version)) AS chained
    """,
    "P5 each account's held amount equals its open holds": """
        WITH open_hold AS (
            SELECT h.account_id, sum(h.amount) AS amount
              FROM ledger.hold h LEFT JOIN ledger.hold_resolution r ON r.hold_id = h.id
             WHERE r.hold_id IS NULL GROUP BY h.account_id
        ), compared AS (
            SELECT a.held IS DISTINCT FROM coalesce(o.amount, 0) AS is_broken,
                   format('account %s: held %s, open holds %s', a.code, a.held, coalesce(o.amount, 0)) AS words
              FROM ledger.account a LEFT JOIN open_hold o ON o.account_id = a.id
             UNION ALL
            SELECT NOT coalesce(CASE WHEN a.kind IN ('asset', 'expense') THEN e.credit ELSE e.debit END
                                BETWEEN 1 AND h.amount, false),
                   format('hold %s: captured by transaction %s, which does not take up to %s', h.id, r.txn_id, h.amount)
              FROM ledger.hold_resolution r JOIN ledger.hold h ON h.id = r.hold_id
              JOIN ledger.account a ON a.id = h.account_id
              LEFT JOIN ledger.entry e ON e.txn_id = r.txn_id AND e.account_id = h.account_id
             WHERE r.outcome = 'captured'
        )
        SELECT count(*), array_agg(words ORDER BY words) FILTER (WHERE is_broken) FROM compared
    """,
}


def prove(session: Session) -> list[Proof]:
    """Run all proofs. Reads every entry several times: meant for the night, and for the end of a test."""
    return [_run(session, name, statement) for name, statement in _STATEMENTS.items()]


def _run(session: Session, name: str, statement: str) -> Proof:
    started = perf_counter()
    compared, breaks = session.execute(text(statement)).one()
    return Proof(name, int(compared), tuple(breaks or ()), perf_counter() - started)
