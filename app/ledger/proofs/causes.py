"""P7: every row that must have its transaction has it, and every transaction has the row that caused it.

Both ways follow the lines of app/ledger/sources.py, in one statement. A kind that is not listed there is a break.
"""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import (
    ARRAY,
    CTE,
    ColumnElement,
    Select,
    Text,
    all_,
    and_,
    any_,
    case,
    cast,
    false,
    func,
    literal,
    null,
    or_,
    select,
    union_all,
)
from sqlalchemy.dialects.postgresql import UUID as PGUUID
from sqlalchemy.orm import Session

from app.ledger.proofs.proof import Proof, compare
from app.ledger.sources import SOURCES, Moved, Rows, all_rows
from app.models.ledger import Account, Entry, Transaction

NAME = "P7 each movement has its transaction, each transaction its cause"

#: What rows name whose movement needed no transaction.
_NOTHING_POSTED = UUID(int=0)


def prove_one(session: Session) -> Proof:
    named = all_rows()
    link = union_all(*(_links(rows, kinds) for rows, kinds in named.items())).cte("link")
    broken = union_all(
        _broken_links(link),
        _broken_transactions(link),
        *(_moved_otherwise(rows, moved) for rows in named for moved in rows.moved),
    ).subquery("found")
    compared = select(func.count()).select_from(link).scalar_subquery() + select(func.count(Transaction.id)).scalar_subquery()
    return compare(session, NAME, compared=compared, broken=select(broken.c.words))


def _links(rows: Rows, kinds: tuple[str, ...]) -> Select[tuple[object, ...]]:
    """The rows that have or must have a transaction, each with what it names and what was found.

    Where a transaction carries many rows, the first of them stands for all.
    """
    key = rows.model.__table__.c.id
    named = func.nullif(rows.txn, _NOTHING_POSTED) if rows.txn is not None else cast(null(), PGUUID)
    due = func.coalesce(rows.due, false()) if rows.due is not None else false()
    found = Transaction.id == named if rows.txn is not None else Transaction.idempotency_key == rows.key_of_row()
    row_id, must = (func.min(key), func.bool_or(due)) if rows.shared else (key, due)
    query = (
        select(
            literal(rows.subject, Text).label("subject"),
            row_id.label("row_id"),
            named.label("named"),
            must.label("is_due"),
            literal(rows.due is None).label("is_free"),
            Transaction.id.label("txn_id"),
            Transaction.kind.label("kind"),
            cast(list(kinds), ARRAY(Text)).label("kinds"),
            cast([kind for kind in kinds if kind not in rows.also], ARRAY(Text)).label("caused"),
        )
        .select_from(rows.model)
        .outerjoin(Transaction, found)
        .where(or_(due, named.is_not(None), Transaction.id.is_not(None)))
    )
    if rows.only is not None:
        query = query.where(rows.only)
    return query.group_by(named, Transaction.id, Transaction.kind) if rows.shared else query


def _broken_links(link: CTE) -> Select[tuple[str]]:
    """Rows without their transaction, with one that is not theirs, or with one too early."""
    row = func.concat(link.c.subject, " ", link.c.row_id)
    is_other = link.c.kind != all_(link.c.kinds)
    words = case(
        (is_other, func.format("%s: its transaction %s is a %s", row, link.c.txn_id, link.c.kind)),
        (link.c.txn_id.is_not(None), func.format("%s: has transaction %s, and should have none", row, link.c.txn_id)),
        (link.c.named.is_not(None), func.format("%s: its transaction %s does not exist", row, link.c.named)),
        else_=func.format("%s: has no transaction", row),
    )
    return select(words.label("words")).where(or_(link.c.txn_id.is_(None), is_other, and_(~link.c.is_due, ~link.c.is_free)))


def _broken_transactions(link: CTE) -> Select[tuple[str]]:
    """Transactions without a row that caused them, with several, or of a kind that nobody knows."""
    causes = (
        select(
            link.c.txn_id,
            func.count().label("count"),
            func.string_agg(func.concat(link.c.subject, " ", link.c.row_id), " and ").label("rows"),
        )
        .where(link.c.kind == any_(link.c.caused))
        .group_by(link.c.txn_id)
        .subquery("causes")
    )
    is_known = Transaction.kind.in_(list(SOURCES))
    name = func.format("transaction %s (%s)", Transaction.id, Transaction.kind)
    words = case(
        (~is_known, func.concat(name, ": a kind that is not known")),
        (causes.c.count > 1, func.concat(name, ": caused by ", causes.c.rows)),
        else_=func.concat(name, ": nothing caused it"),
    )
    return (
        select(words.label("words"))
        .outerjoin(causes, causes.c.txn_id == Transaction.id)
        .where(or_(~is_known, causes.c.count.is_(None), causes.c.count > 1))
    )


def _moved_otherwise(rows: Rows, moved: Moved) -> Select[tuple[str]]:
    """Rows whose transaction did something else to the account than the row says."""
    key = rows.model.__table__.c.id
    did: ColumnElement[int] = func.coalesce(Entry.credit - Entry.debit, 0)
    words = func.format(
        "%s %s: its transaction %s moved %s on %s, not %s",
        literal(rows.subject, Text),
        key,
        Transaction.id,
        did,
        moved.account,
        moved.credit_minor,
    )
    return (
        select(words.label("words"))
        .select_from(rows.model)
        .join(Transaction, Transaction.id == rows.txn)
        .outerjoin(Account, Account.code == moved.account)
        .outerjoin(Entry, and_(Entry.txn_id == Transaction.id, Entry.account_id == Account.id))
        .where(did != moved.credit_minor)
    )
