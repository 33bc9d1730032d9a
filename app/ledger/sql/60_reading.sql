-- Reading by effective moment, at the same cost however long an account's history is.
--
-- Entries keep the counters as they stood after them, in the order in which they were posted. Most are also in the order of
-- their effective moments (lateness 0): the newest of these before a moment holds the sum of all that came before it. What is
-- missing there are entries posted later and effective earlier. They are late by up to five minutes (lateness 1) and stand
-- close to the moment in the index by moments, or by more (lateness 2) and are few and have an index of their own.

-- The debits and credits of an account's entries that are effective before a moment: one row. A plan for all moments cannot
-- know which of two indexes leads to few rows, and the wrong one reads half of the history: adding nothing to a column keeps
-- its index out.
CREATE OR REPLACE FUNCTION ledger.counters_before(p_account bigint, p_moment timestamptz)
RETURNS TABLE (debits bigint, credits bigint)
LANGUAGE sql STABLE AS $$
    SELECT (coalesce(i.debits_after, 0) + coalesce(l.debits, 0))::bigint,
           (coalesce(i.credits_after, 0) + coalesce(l.credits, 0))::bigint
      FROM (SELECT) AS always
      LEFT JOIN LATERAL (
            SELECT e.account_version, e.effective_at, e.debits_after, e.credits_after FROM ledger.entry e
             WHERE e.account_id = p_account AND e.effective_at < p_moment AND e.lateness = 0
             ORDER BY e.effective_at DESC, e.account_version DESC LIMIT 1) AS i ON true
     CROSS JOIN LATERAL (
            SELECT sum(e.debit) AS debits, sum(e.credit) AS credits
              FROM (SELECT e.debit, e.credit FROM ledger.entry e
                     WHERE e.account_id = p_account AND e.lateness = 1 AND e.effective_at < p_moment
                       AND e.effective_at >= coalesce(i.effective_at, p_moment) - interval '5 minutes'
                       AND e.account_version + 0 > coalesce(i.account_version, 0)
                     UNION ALL
                    SELECT e.debit, e.credit FROM ledger.entry e
                     WHERE e.account_id = p_account AND e.lateness = 2 AND e.effective_at + interval '0' < p_moment
                       AND e.account_version > coalesce(i.account_version, 0)) AS e) AS l
$$;
