"""P1 to P5: the running counters are trusted only because these show, from the entries themselves, that they are right.

Each statement selects the breaks as texts. They read every entry, some of them several times, and are made of aggregates
and one window each, so that their time grows with the number of entries and no faster.
"""

from __future__ import annotations

from sqlalchemy.orm import Session

from app.ledger.proofs.proof import Proof, compare

_CURRENCIES_BALANCE = """
SELECT format('currency %s: debits %s, credits %s', currency, sum(debit), sum(credit)) AS words
  FROM ledger.entry GROUP BY currency HAVING sum(debit) <> sum(credit)
"""

_COUNTERS = """
SELECT format('account %s: %s', code, concat_ws('; ',
           CASE WHEN NOT counted THEN format('counters %s/%s at version %s, entries %s/%s, %s of them up to version %s',
                                             debits, credits, version, sum_debits, sum_credits, entries, last_version) END,
           CASE WHEN NOT dated THEN 'its latest moment is not that of its entries' END,
           CASE WHEN NOT sided THEN 'its side is not that of its kind' END,
           CASE WHEN NOT free THEN 'available is not the balance less what is held' END)) AS words
  FROM (SELECT a.code, a.debits, a.credits, a.version,
               e.debits AS sum_debits, e.credits AS sum_credits, e.entries, e.version AS last_version,
               (a.debits, a.credits, a.version, a.version) IS NOT DISTINCT FROM
                   (coalesce(e.debits, 0), coalesce(e.credits, 0), coalesce(e.entries, 0), coalesce(e.version, 0)) AS counted,
               a.effective_through = greatest(e.latest, timestamptz '1900-01-01 00:00+00') AS dated,
               a.side = CASE WHEN a.kind IN ('asset', 'expense') THEN -1 ELSE 1 END AS sided,
               CASE WHEN a.may_go_negative THEN a.available IS NULL
                    ELSE a.available IS NOT DISTINCT FROM (a.credits - a.debits) * a.side - a.held END AS free
          FROM ledger.account a
          LEFT JOIN (SELECT account_id, sum(debit) AS debits, sum(credit) AS credits, count(*) AS entries,
                            max(account_version) AS version, max(effective_at) AS latest
                       FROM ledger.entry GROUP BY account_id) AS e ON e.account_id = a.id) AS checked
 WHERE NOT (counted AND dated AND sided AND free)
"""

_TRANSACTIONS_BALANCE = """
SELECT format('transaction %s: %s', coalesce(t.id, e.txn_id), concat_ws(', ',
           CASE WHEN t.id IS NULL THEN 'its header is missing' END,
           CASE WHEN coalesce(e.legs, 0) < 2 THEN coalesce(e.legs, 0) || ' legs' END,
           CASE WHEN NOT e.balanced THEN 'not balanced' END,
           CASE WHEN t.effective_at NOT BETWEEN e.latest AND e.earliest THEN 'an entry has another date' END)) AS words
  FROM ledger.txn t
  FULL JOIN (SELECT txn_id, sum(legs) AS legs, bool_and(debits = credits) AS balanced,
                    min(earliest) AS earliest, max(latest) AS latest
               FROM (SELECT txn_id, currency, count(*) AS legs, sum(debit) AS debits, sum(credit) AS credits,
                            min(effective_at) AS earliest, max(effective_at) AS latest
                       FROM ledger.entry GROUP BY txn_id, currency) AS of_currency
              GROUP BY txn_id) AS e ON e.txn_id = t.id
 WHERE t.id IS NULL OR NOT coalesce(e.legs >= 2 AND e.balanced AND t.effective_at BETWEEN e.latest AND e.earliest, false)
 UNION ALL
SELECT DISTINCT format('transaction %s: does not mirror %s, which it reverses', id, reverses)
  FROM (SELECT t.id, t.reverses, e.account_id, e.debit, e.credit
          FROM ledger.txn t JOIN ledger.entry e ON e.txn_id = t.id WHERE t.reverses IS NOT NULL) AS mine
  FULL JOIN (SELECT t.id, t.reverses, e.account_id, e.credit AS debit, e.debit AS credit
               FROM ledger.txn t JOIN ledger.entry e ON e.txn_id = t.reverses WHERE t.reverses IS NOT NULL) AS mirrored
       USING (id, reverses, account_id, debit, credit)
 WHERE mine IS NULL OR mirrored IS NULL
"""

_ENTRIES_FOLLOW = """
SELECT format('account %s, version %s: %s', coalesce(a.code, e.account_id::text), e.account_version, concat_ws('; ',
           CASE WHEN NOT e.follows THEN format('counters %s/%s do not follow from version %s',
                                               e.debits_after, e.credits_after, e.version_before) END,
           CASE WHEN NOT e.one_sided THEN 'neither a debit nor a credit' END,
           CASE WHEN a.currency IS DISTINCT FROM e.currency
                THEN format('in %s, its account in %s', e.currency, coalesce(a.currency, 'none')) END,
           CASE WHEN e.lateness <> e.late THEN format('lateness %s instead of %s', e.lateness, e.late) END)) AS words
  FROM (SELECT chained.*,
               account_version = version_before + 1 AND debits_after = debits_before + debit
                   AND credits_after = credits_before + credit AS follows,
               debit >= 0 AND credit >= 0 AND (debit = 0) <> (credit = 0) AS one_sided,
               CASE WHEN effective_at >= latest THEN 0
                    WHEN effective_at >= latest - interval '5 minutes' THEN 1 ELSE 2 END AS late
          FROM (SELECT entry.*, lag(account_version, 1, 0::bigint) OVER chain AS version_before,
                       lag(debits_after, 1, 0::bigint) OVER chain AS debits_before,
                       lag(credits_after, 1, 0::bigint) OVER chain AS credits_before,
                       greatest(max(effective_at) OVER (chain ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING),
                                timestamptz '1900-01-01 00:00+00') AS latest
                  FROM ledger.entry
                WINDOW chain AS (PARTITION BY account_id ORDER BY account_version)) AS chained) AS e
  LEFT JOIN ledger.account a ON a.id = e.account_id
 WHERE NOT (e.follows AND e.one_sided) OR a.currency IS DISTINCT FROM e.currency OR e.lateness <> e.late
"""

_HOLDS = """
SELECT format('account %s: held %s, open holds %s', a.code, a.held, coalesce(o.amount, 0)) AS words
  FROM ledger.account a
  LEFT JOIN (SELECT h.account_id, sum(h.amount) AS amount
               FROM ledger.hold h LEFT JOIN ledger.hold_resolution r ON r.hold_id = h.id
              WHERE r.hold_id IS NULL GROUP BY h.account_id) AS o ON o.account_id = a.id
 WHERE a.held IS DISTINCT FROM coalesce(o.amount, 0)
 UNION ALL
SELECT format('hold %s: captured by transaction %s, which does not take up to %s', r.hold_id, r.txn_id, h.amount)
  FROM ledger.hold_resolution r
  LEFT JOIN ledger.hold h ON h.id = r.hold_id
  LEFT JOIN ledger.account a ON a.id = h.account_id
  LEFT JOIN ledger.entry e ON e.txn_id = r.txn_id AND e.account_id = h.account_id
 WHERE r.outcome = 'captured'
   AND NOT coalesce((e.debit - e.credit) * CASE WHEN a.kind IN ('asset', 'expense') THEN -1 ELSE 1 END
                    BETWEEN 1 AND h.amount, false)
"""

_ENTRIES = "SELECT count(*) FROM ledger.entry"
_ACCOUNTS = "SELECT count(*) FROM ledger.account"
_CAPTURED = "SELECT count(*) FROM ledger.hold_resolution WHERE outcome = 'captured'"

#: name → how many rows are compared, and the breaks among them.
_STATEMENTS = {
    "P1 each currency's debits equal its credits": (_ENTRIES, _CURRENCIES_BALANCE),
    "P2 each account's counters equal the sums of its entries": (_ACCOUNTS, _COUNTERS),
    "P3 each transaction balances in each currency": ("SELECT count(*) FROM ledger.txn", _TRANSACTIONS_BALANCE),
    "P4 each entry continues the one before it": (_ENTRIES, _ENTRIES_FOLLOW),
    "P5 each account's held amount equals its open holds": (f"SELECT ({_ACCOUNTS}) + ({_CAPTURED})", _HOLDS),
}

NAMES = tuple(_STATEMENTS)


def prove_one(session: Session, name: str) -> Proof:
    """One of NAMES."""
    compared, broken = _STATEMENTS[name]
    return compare(session, name, compared=compared, broken=broken)
