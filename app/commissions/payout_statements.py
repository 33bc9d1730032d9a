"""The statement of a payout: how the money came about since the payout before, frozen with it.

It covers the entries of the commission account after those of the statement before, up to that of this payout, so that
statements follow each other without a gap: each one opens with what the one before closed with. It is plain JSON, written in
the transaction that moves the money, and never again; the PDF is made of it once (reports/payout).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import func, null, select
from sqlalchemy.orm import Session

from app.commissions.deals import EXACT
from app.core.errors import N_, NotFound
from app.core.money import Money
from app.ledger import chart
from app.models.clients import Client
from app.models.commissions import Accrual, AccrualSum, Plan, PlanVersion, Settlement
from app.models.ledger import Account, Entry, Transaction
from app.models.metatrader import Deal, TradingAccount
from app.models.occasions import Occasion
from app.models.payouts import Payout, PayoutStatement
from app.partners.privacy import current_privacy

#: What of payouts and statements may be changed; repeatable, run after migrations.
SQL = Path(__file__).parent / "sql" / "payouts.sql"

#: Lines per rule and client; of what is more, a statement has the sums per rule. About ten milliseconds of layout each.
MOST_LINES = 2_000

#: What an entry of the commission account was, by the kind of its transaction, as message ids.
WORDS = {
    "commission_settlement": N_("Commission settled"),
    "commission_payout": N_("Payout"),
    "adjustment": N_("Adjustment"),
}
#: The same of what was taken back.
TAKEN_BACK = {"commission_payout": N_("Payout taken back"), "commission_settlement": N_("Settlement taken back")}
OTHER = N_("Other movement")


@dataclass(frozen=True)
class Document:
    """A statement as it was frozen. `pdf` is None until its job has made it."""

    payout_id: int
    language: str
    content: Mapping[str, Any]
    content_sha256: str
    frozen_at: datetime
    pdf: bytes | None


def freeze(session: Session, payout: Payout) -> None:
    """Write the statement of a payout whose entry was posted in this transaction; its account is locked by that."""
    account = session.scalars(
        select(Account).where(Account.code == chart.ib_commission(payout.ib_id, payout.currency).code)
    ).one()
    session.refresh(account)
    before = _before(session, payout)
    after_version = before.last_version if before else 0
    content = _content(session, payout, account, before, after_version)
    session.add(
        PayoutStatement(
            payout_id=payout.id,
            last_version=account.version,
            language=payout.client.language,
            content=content,
            content_sha256=sha256_of(content),
        )
    )
    session.flush()


def document(session: Session, payout_id: int) -> Document:
    """The frozen statement of a payout. Raises NotFound before the money moved, ValueError where it was tampered with."""
    found = session.get(PayoutStatement, payout_id)
    if found is None:
        raise NotFound
    if sha256_of(found.content) != found.content_sha256:
        raise ValueError(f"the content of statement {payout_id} is not what was frozen")
    if found.pdf is not None and hashlib.sha256(found.pdf).hexdigest() != found.pdf_sha256:
        raise ValueError(f"the file of statement {payout_id} is not what was made")
    return Document(payout_id, found.language, found.content, found.content_sha256, found.frozen_at, found.pdf)


def is_made(session: Session, payout_id: int) -> bool:
    """Whether there is a file of this payout's statement to be had."""
    query = select(PayoutStatement.payout_id).where(PayoutStatement.payout_id == payout_id, PayoutStatement.pdf.is_not(None))
    return session.scalar(query) is not None


def keep_pdf(session: Session, payout_id: int, pdf: bytes) -> None:
    """Keep the file that was made of a statement; the first one stays, whoever makes another."""
    found = session.get(PayoutStatement, payout_id, with_for_update=True)
    if found is None:
        raise NotFound
    if found.pdf is None:
        found.pdf, found.pdf_sha256 = pdf, hashlib.sha256(pdf).hexdigest()
        session.flush()


def sha256_of(content: Mapping[str, Any]) -> str:
    """SHA-256 of the content in one fixed spelling, the one that reports print."""
    spelling = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(spelling.encode()).hexdigest()


def _before(session: Session, payout: Payout) -> PayoutStatement | None:
    """The statement before this one on the same commission account."""
    query = (
        select(PayoutStatement)
        .join(Payout, Payout.id == PayoutStatement.payout_id)
        .where(Payout.ib_id == payout.ib_id, Payout.currency == payout.currency)
        .order_by(PayoutStatement.last_version.desc())
        .limit(1)
    )
    return session.scalars(query).one_or_none()


def _content(
    session: Session, payout: Payout, account: Account, before: PayoutStatement | None, after_version: int
) -> dict[str, Any]:
    currency, client = payout.currency, payout.client
    entries = _entries(session, account, after_version)
    settlements = _settlements(session, payout, before.content["last_settlement_id"] if before else 0)
    net = sum(change for *_, change in entries)
    assert payout.moved_at is not None
    return {
        "payout_id": payout.id,
        "run_id": payout.run_id,
        "ib_id": payout.ib_id,
        "name": client.full_name,
        "address": client.address,
        "country": client.country,
        "currency": currency,
        "first": _iso(before.frozen_at) if before else (_iso(entries[0][2]) if entries else None),
        "until": _iso(payout.moved_at),
        "opening": _money(account.balance - net, currency),
        "closing": _money(account.balance, currency),
        "payout": _money(payout.amount_minor, currency),
        "destination": payout.destination,
        "login": payout.trading_account.login if payout.trading_account else None,
        "movements": _movements(entries, currency),
        "settled": _settled(settlements, currency),
        "last_settlement_id": settlements[-1].id if settlements else (before.content["last_settlement_id"] if before else 0),
        **_lines(session, payout.ib_id, [one.id for one in settlements]),
    }


def _entries(session: Session, account: Account, after_version: int) -> list[tuple[str, str, datetime, int]]:
    """Of each entry after a version, in the order they were posted: its kind, what it takes back, moment and change."""
    query = (
        select(
            Transaction.kind,
            func.coalesce(Transaction.details["of"].astext, ""),
            Entry.effective_at,
            Entry.credit - Entry.debit,
        )
        .join(Transaction, Transaction.id == Entry.txn_id)
        .where(Entry.account_id == account.id, Entry.account_version > after_version)
        .order_by(Entry.account_version)
    )
    return [(kind, of, at, change) for kind, of, at, change in session.execute(query)]


def _movements(entries: Sequence[tuple[str, str, datetime, int]], currency: str) -> list[dict[str, Any]]:
    """Settlements of a day as one; everything else by itself."""
    told: list[dict[str, Any]] = []
    for kind, of, at, change in entries:
        day, last = at.astimezone(UTC).date().isoformat(), told[-1] if told else None
        if last and kind == last["kind"] == "commission_settlement" and last["day"] == day:
            last["times"] += 1
            last["change"]["amount_minor"] += change
            continue
        what = (TAKEN_BACK if kind == "reversal" else WORDS).get(of if kind == "reversal" else kind, OTHER)
        told.append({"kind": kind, "what": what, "day": day, "times": 1, "change": _money(change, currency)})
    return told


def _settlements(session: Session, payout: Payout, after_id: int) -> Sequence[Settlement]:
    query = (
        select(Settlement)
        .where(Settlement.ib_id == payout.ib_id, Settlement.paid_currency == payout.currency, Settlement.id > after_id)
        .order_by(Settlement.id)
    )
    return session.scalars(query).all()


def _settled(settlements: Sequence[Settlement], currency: str) -> dict[str, Any]:
    """Carried in + all that was converted = posted + carried out, exactly; per currency of the accruals.

    Carried in is the remainder of the settlement before, and what went into another currency of pay and came back from there.
    """
    carried_in = sum((one.carried_in for one in settlements), Decimal(0))
    carried_on = sum((one.carried_out for one in settlements[:-1]), Decimal(0))
    sums: dict[str, list[Decimal]] = {}
    for one in settlements:
        accrued, converted = sums.get(one.currency, [Decimal(0), Decimal(0)])
        sums[one.currency] = [EXACT.add(accrued, one.accrued), EXACT.add(converted, one.converted)]
    return {
        "carried_in": _text(EXACT.subtract(carried_in, carried_on)),
        "sums": [
            {"currency": code, "accrued": _text(accrued), "converted": _text(converted)}
            for code, (accrued, converted) in sorted(sums.items())
        ],
        "posted": _money(sum(one.amount_minor for one in settlements), currency),
        "carried_out": _text(settlements[-1].carried_out if settlements else Decimal(0)),
    }


def _lines(session: Session, ib_id: int, settlement_ids: Sequence[int]) -> dict[str, Any]:
    """What the settlements were made of, exact: per plan, rule, client and currency; or without the clients, if too many."""
    by_client = _line_rows(session, ib_id, settlement_ids, with_clients=True)
    is_short = len(by_client) <= MOST_LINES
    rows = by_client if is_short else _line_rows(session, ib_id, settlement_ids, with_clients=False)
    names = _names(
        session, [row.client_id for row in rows if row.client_id], own={row.client_id for row in rows if row.level <= 1}
    )
    return {
        "has_clients": is_short,
        "lines": [
            {
                "plan": row.name,
                "rule": row.rule,
                "client": names.get(row.client_id, ""),
                "currency": row.currency,
                "count": row.count,
                "lots": _text(row.lots),
                "amount": _text(row.amount),
            }
            for row in rows
        ],
    }


def _line_rows(session: Session, ib_id: int, settlement_ids: Sequence[int], *, with_clients: bool) -> Sequence[Any]:
    traded = func.coalesce(TradingAccount.client_id, Occasion.client_id)
    client_id = traded if with_clients else null()
    keys = (Plan.name, Accrual.rule, Accrual.currency, *((traded,) if with_clients else ()))
    query = (
        select(
            Plan.name,
            Accrual.rule,
            client_id.label("client_id"),
            Accrual.currency,
            func.min(Accrual.level).label("level"),
            func.count().label("count"),
            func.sum(Accrual.lots).label("lots"),
            func.sum(Accrual.amount).label("amount"),
        )
        .join(Accrual.sum)
        .join(PlanVersion, PlanVersion.id == Accrual.plan_version_id)
        .join(Plan, Plan.id == PlanVersion.plan_id)
        .outerjoin(Deal, Deal.id == Accrual.deal_id)
        .outerjoin(TradingAccount, TradingAccount.id == Deal.trading_account_id)
        .outerjoin(Occasion, Occasion.id == Accrual.occasion_id)
        .where(Accrual.ib_id == ib_id, AccrualSum.settlement_id.in_(settlement_ids))
        .group_by(*keys)
        .order_by(*keys)
    )
    return session.execute(query).all()


def _names(session: Session, client_ids: Sequence[int], own: Container[int]) -> dict[int | None, str]:
    """As the policy of privacy lets the IB read them, or else the number; `own`: brought by the IB itself, not by one below."""
    privacy = current_privacy(session)
    clients = session.scalars(select(Client).where(Client.id.in_(client_ids)))
    return {client.id: privacy.name(client, is_own=client.id in own) or f"#{client.id}" for client in clients}


def _money(amount_minor: int, currency: str) -> dict[str, Any]:
    money = Money(amount_minor, currency)
    return {"amount_minor": money.amount_minor, "currency": money.currency}


def _text(value: Decimal) -> str:
    return f"{value.normalize():f}"


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat()
