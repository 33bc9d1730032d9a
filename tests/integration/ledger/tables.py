"""All that a refused operation must leave as it was."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.orm import Session

#: Beside everything in the ledger's schema: what the use cases around it write.
BESIDE = ("public.fx_rate", "public.fx_quote", "public.ledger_request", "public.event", "public.audit_entry")

_NAMES = text("SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = 'ledger' ORDER BY 1")


def dump(session: Session) -> dict[str, tuple[int, str]]:
    """Each table's number of rows and a hash over all of them, every column of every row."""
    names = [*session.scalars(_NAMES), *BESIDE]
    one = "SELECT count(*), md5(coalesce(string_agg(t::text, E'\\n' ORDER BY t::text), '')) FROM {} AS t"
    return {name: tuple(session.execute(text(one.format(name))).one()) for name in names}
