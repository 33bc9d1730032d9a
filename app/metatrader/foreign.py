"""Balance operations at a server that are not ours: written down as they come, classed by what they say, reviewed by people.

The mirror posts them against suspense (docs/decisions/0003-trading-account-mirror.md). What a class means here is a first
guess; only a person decides, and what the decision moves in the ledger is an adjustment that another person approves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import case, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.core.uow import UnitOfWork
from app.metatrader.codes import DealAction, DealReason
from app.metatrader.platform import Deal as ReportedDeal
from app.models.metatrader import Product, Server, TradingAccount
from app.models.trading_desk import ForeignOperation

#: What people and other programs do to accounts. Daily commission, interest and the like (8 to 12) are the server's own.
ACTIONS = frozenset((*range(2, 8), *range(15, 21)))

CLASSES = (
    *("deposit", "withdrawal", "transfer", "rebate", "bonus", "credit", "correction", "charge", "dividend", "compensation"),
    *("demo", "opening", "unknown"),
)

#: What the action alone says. BALANCE says nothing, a commission (7) may be paid or taken.
_BY_ACTION: dict[int, str] = {
    DealAction.CREDIT: "credit",
    DealAction.CHARGE: "charge",
    DealAction.CORRECTION: "correction",
    DealAction.BONUS: "bonus",
    DealAction.DIVIDEND: "dividend",
    DealAction.DIVIDEND_FRANKED: "dividend",
    DealAction.TAX: "charge",
    DealAction.AGENT: "rebate",
    DealAction.SO_COMPENSATION: "compensation",
    DealAction.SO_COMPENSATION_CREDIT: "compensation",
}

#: What comments say, the first that fits; case does not matter. A server's options may put patterns of its own before
#: these: {"comment_classes": [["^PSP-", "deposit"]]}.
COMMENT_CLASSES: tuple[tuple[str, str], ...] = (
    (r"negative.?bal|\bnbp\b|stop.?out|^so:|compensat|write.?off", "compensation"),
    (r"migrat|opening|import|initial|carried", "opening"),
    (r"transfer|\btrf\b|\binternal\b|\bint\.|^(from|to) #?\d+", "transfer"),
    (r"rebate|commission|cash.?back|\bib\b|affiliate|partner", "rebate"),
    (r"bonus|promo|contest|prize|voucher", "bonus"),
    (r"dividend|\bdiv\b", "dividend"),
    (r"adjust|correct|\bcorr\b|\bfix\b|mistake|wrong|refund|revers", "correction"),
    (r"\bfee\b|charge|inactiv|\btax\b|swap|interest", "charge"),
    (r"withdraw|\bw/?d\b|payout|cash.?out", "withdrawal"),
    (r"deposit|\bdep\b|fund|top.?up|bank|wire|card|crypto|usdt", "deposit"),
)

#: Two of these on two logins, the one taking what the other gets, within so many seconds: a transfer.
PAIR_WITHIN_S = 120


def classify(deal: ReportedDeal, *, is_demo: bool = False, patterns: Iterable[tuple[str, str]] = COMMENT_CLASSES) -> str:
    """The first guess about a balance deal that is not ours: by account, action, reason, comment and sign."""
    if is_demo:
        return "demo"
    if deal.reason == DealReason.MIGRATION:
        return "opening"
    if deal.action in _BY_ACTION:
        return _BY_ACTION[deal.action]
    if deal.action == DealAction.COMMISSION:
        return "rebate" if deal.result > 0 else "charge"
    found = next((class_ for pattern, class_ in patterns if re.search(pattern, deal.comment, re.IGNORECASE)), "unknown")
    # A "withdrawal" that puts money in is somebody's correction of one, and the other way round.
    wrong_way = {"deposit": deal.result < 0, "withdrawal": deal.result > 0}
    return "correction" if wrong_way.get(found) else found


def note(unit: UnitOfWork, server_id: int, deals: Iterable[tuple[ReportedDeal, datetime]]) -> None:
    """Write down balance deals that are not ours, each with its moment in UTC; others among them are left out.

    One that is known is brought up to date, as long as nobody has reviewed it. Statements per batch, not per deal.
    """
    newest = {deal.ticket: (deal, done_at) for deal, done_at in deals if deal.action in ACTIONS}
    if not newest:
        return
    session = unit.session
    owners = _owners(session, server_id, {deal.login for deal, _ in newest.values()})
    patterns = patterns_of(session, server_id)
    rows = []
    for deal, done_at in newest.values():
        account_id, currency, is_demo = owners.get(deal.login, (None, "", False))
        rows.append(
            {
                "server_id": server_id,
                "deal_ticket": deal.ticket,
                "login": deal.login,
                "trading_account_id": account_id,
                "action": deal.action,
                "amount": deal.result,
                "currency": currency,
                "comment": deal.comment,
                "classed_as": classify(deal, is_demo=is_demo, patterns=patterns),
                "done_at": done_at,
            }
        )
    new = insert(ForeignOperation)
    session.execute(
        new.on_conflict_do_update(
            index_elements=["server_id", "deal_ticket"],
            set_={
                **{name: new.excluded[name] for name in ("action", "amount", "comment", "done_at")},
                # What was told by its counterpart, or by an earlier comment, is not forgotten for a riddle.
                "class": case((new.excluded["class"] == "unknown", ForeignOperation.classed_as), else_=new.excluded["class"]),
            },
            where=ForeignOperation.reviewed_at.is_(None),
        ),
        rows,
    )
    if any(row["classed_as"] == "unknown" for row in rows):
        _pair(session, server_id, list(newest))


def patterns_of(session: Session, server_id: int) -> tuple[tuple[str, str], ...]:
    """What comments mean at this server: its own patterns first. One that cannot be read is left out."""
    own = (session.scalar(select(Server.options).where(Server.id == server_id)) or {}).get("comment_classes", [])
    return (*_readable(own), *COMMENT_CLASSES)


def _readable(own: Any) -> Iterable[tuple[str, str]]:
    for item in own if isinstance(own, list) else ():
        match item:
            case [str(pattern), str(class_)] if class_ in CLASSES:
                try:
                    re.compile(pattern)
                except re.error:
                    continue
                yield pattern, class_


def _owners(session: Session, server_id: int, logins: set[int]) -> dict[int, tuple[int, str, bool]]:
    """By login: trading account, currency, whether it is play money."""
    rows = session.execute(
        select(TradingAccount.login, TradingAccount.id, TradingAccount.currency, Product.is_demo)
        .join(Product, Product.id == TradingAccount.product_id)
        .where(TradingAccount.server_id == server_id, TradingAccount.login.in_(logins))
    )
    return {row.login: (row.id, row.currency, row.is_demo) for row in rows if row.login is not None}


_PAIR = text("""
    UPDATE foreign_operation AS one SET class = 'transfer'
      FROM foreign_operation AS other
     WHERE one.server_id = :server_id AND other.server_id = :server_id
       AND (one.deal_ticket = ANY(:tickets) OR other.deal_ticket = ANY(:tickets))
       AND one.class = 'unknown' AND other.class IN ('unknown', 'transfer')
       AND one.reviewed_at IS NULL AND other.reviewed_at IS NULL
       AND one.login <> other.login AND one.currency = other.currency AND one.amount = -other.amount AND one.amount <> 0
       AND abs(extract(epoch FROM one.done_at - other.done_at)) <= :seconds
""")


def _pair(session: Session, server_id: int, tickets: list[int]) -> None:
    """What goes out of one login and, the same amount at about the same time, into another one is a transfer."""
    session.execute(_PAIR, {"server_id": server_id, "tickets": tickets, "seconds": PAIR_WITHIN_S})
