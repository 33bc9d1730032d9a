"""P9: the chain of seals (app/ledger/sql/50_seals.sql) recomputes, from the transactions as they stand now."""

from __future__ import annotations

from sqlalchemy import exists, select, text
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.uow import unit_of_work
from app.ledger.proofs.proof import Proof, compare
from app.models.ledger import Seal

NAME = "P9 the chain of seals recomputes to its head"

#: A transaction belongs to the first seal of its time (see after_seq) whose through_xact reaches its own. Times and ids make
#: one number, so that each transaction finds its seal by a binary search.
_BROKEN = """
    WITH sealed AS (
        SELECT s.*, s.through_xact::text::bigint AS xact,
               coalesce(lag(s.hash) OVER (ORDER BY s.id), ''::bytea) AS previous,
               dense_rank() OVER (ORDER BY s.after_seq) * (1::bigint << 50) + s.through_xact::text::bigint AS place
          FROM ledger.seal s
    ), found AS (
        SELECT (SELECT array_agg(s.id ORDER BY s.place) FROM sealed s)[
                   width_bucket(d.place - 1, (SELECT array_agg(s.place ORDER BY s.place) FROM sealed s)) + 1] AS id,
               count(*) AS txns, sum(d.entries)::bigint AS entries,
               sha256(string_agg(d.digest, ''::bytea ORDER BY d.xact, d.seq)) AS content
          FROM (SELECT digests.*,
                       width_bucket(seq - 1, (SELECT array_agg(DISTINCT s.after_seq ORDER BY s.after_seq) FROM sealed s))
                           * (1::bigint << 50) + xact AS place
                  FROM ledger.digests(-1, 9223372036854775807, -1, 9223372036854775807) AS digests) AS d
         GROUP BY 1
    )
    SELECT format('seal %s, made %s UTC over %s transactions with %s entries: does not recompute from %s with %s', s.id,
                  to_char(timezone('UTC', s.sealed_at), 'YYYY-MM-DD HH24:MI:SS'), s.txns, s.entries,
                  coalesce(f.txns, 0), coalesce(f.entries, 0)) AS words
      FROM sealed s LEFT JOIN found f ON f.id = s.id
     WHERE s.hash IS DISTINCT FROM
           ledger.seal_hash(s.previous, s.xact, s.through_seq, s.after_seq, s.txns, s.entries, f.content)
        OR (s.txns, s.entries) IS DISTINCT FROM (f.txns, f.entries)
"""


def prove_one(session: Session, kept_head: bytes | None = None) -> Proof:
    """Recompute every seal. With the head that somebody kept outside: it must be in the chain still."""
    proof = compare(session, NAME, compared="SELECT coalesce(sum(txns), 0) FROM ledger.seal", broken=_BROKEN)
    if kept_head is not None and not session.scalar(select(exists().where(Seal.hash == kept_head))):
        proof = proof.with_breaks(f"head {kept_head.hex()}: kept outside, and no seal has it any more")
    return proof


def seal(session: Session) -> int:
    """Seal what is committed since the last seal. Returns how many transactions that were; safe when several do it at once."""
    with unit_of_work(session, Actor.system("seal_ledger")):
        return int(session.execute(text("SELECT ledger.seal()")).scalar_one())


def head(session: Session) -> str:
    """The newest hash of the chain, to be kept outside; empty while nothing is sealed."""
    newest = session.scalar(select(Seal.hash).order_by(Seal.id.desc()).limit(1))
    return newest.hex() if newest else ""
