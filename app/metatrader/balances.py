"""What a server says of its logins beside what we hold of them: balances, credit, and who is there at all.

The balance of a live account is compared with the ledger's mirror together with what is not mirrored yet. Credit stays
outside the ledger; it is compared with the credit operations that we know of accounts that were opened through us.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.arrays import in_parts
from app.core.clock import now
from app.core.uow import unit_of_work
from app.metatrader import booking, sync
from app.metatrader.backfill import BackfillSource, Witness, asked_now, witness_of
from app.metatrader.codes import UserRight
from app.metatrader.errors import NotKnown, PlatformError
from app.metatrader.findings import Finding
from app.metatrader.platform import AccountState, TradingPlatform, exact_text
from app.metatrader.servertime import ServerZone
from app.models.metatrader import BalanceOperation, TradingAccount
from app.models.trading_desk import ServerBreak

#: Money moves while we look. What differs is looked at again, and only what differs by the same amount each time does.
LOOKS = 3
PAUSE_S = 3.0
#: So many logins are asked for one by one; of more than that the whole list is read again.
MOST_ASKED = 100
RECENT = timedelta(hours=1)
#: A login that moved to a group which we did not look into did so since the last check.
MOVED_WITHIN = timedelta(days=2)
STATES_PER_UNIT = 1_000

#: What a deal does to the balance, as the mirror counts it.
_RESULT = "CASE WHEN {0}.is_void OR {0}.action IN (3, 20) THEN 0 ELSE {0}.profit + {0}.swap + {0}.commission + {0}.fee END"
_HERE = text(f"""
    WITH told AS (
        SELECT * FROM unnest(CAST(:logins AS bigint[]), CAST(:balances AS numeric[]), CAST(:credits AS numeric[]))
            AS told (login, balance, credit)
    ), pending AS (
        SELECT deal.trading_account_id AS id,
               sum(CASE WHEN earlier.amount IS NOT NULL THEN {_RESULT.format("deal")} - earlier.amount
                        WHEN account.origin <> 'opened' AND deal.done_at <= account.opened_at THEN 0
                        ELSE {_RESULT.format("deal")} - coalesce(moved.amount, 0) END) AS amount
          FROM deal
          JOIN trading_account AS account ON account.id = deal.trading_account_id
          LEFT JOIN LATERAL (
              SELECT {_RESULT.format("before")} AS amount FROM deal AS before
               WHERE deal.revision > 1 AND before.server_id = deal.server_id AND before.ticket = deal.ticket
                 AND before.filed_at = deal.filed_at AND before.ledger_txn_id IS NOT NULL
               ORDER BY before.revision DESC LIMIT 1
          ) AS earlier ON true
          LEFT JOIN LATERAL (
              SELECT operation.amount_minor / power(10::numeric, currency.exponent) AS amount
                FROM balance_operation AS operation
                JOIN transfer ON transfer.operation_id = operation.id AND transfer.ledger_txn_id IS NOT NULL
                JOIN ledger.currency ON currency.code = operation.currency
               WHERE deal.is_ours AND operation.server_id = deal.server_id AND operation.deal_ticket = deal.ticket
          ) AS moved ON true
         WHERE deal.server_id = :server_id AND deal.ledger_txn_id IS NULL AND deal.is_current
         GROUP BY deal.trading_account_id
    ), credited AS (
        SELECT operation.login, sum(operation.amount) AS amount
          FROM foreign_operation AS operation
          JOIN deal_head AS head ON head.server_id = operation.server_id AND head.ticket = operation.deal_ticket
          JOIN deal ON deal.server_id = head.server_id AND deal.ticket = head.ticket AND deal.revision = head.revision
                   AND deal.filed_at = head.filed_at
         WHERE operation.server_id = :server_id AND operation.action IN (3, 20) AND NOT deal.is_void
         GROUP BY operation.login
    )
    SELECT told.login, account.currency, told.balance AS balance_there, told.credit AS credit_there,
           coalesce((mirror.credits - mirror.debits) / power(10::numeric, currency.exponent), 0)
               + coalesce(pending.amount, 0) AS balance_here,
           CASE WHEN account.origin = 'opened' THEN coalesce(credited.amount, 0) END AS credit_here
      FROM told
      JOIN trading_account AS account ON account.server_id = :server_id AND account.login = told.login
      JOIN product ON product.id = account.product_id AND NOT product.is_demo
      JOIN mt_server AS server ON server.id = :server_id
      LEFT JOIN ledger.account AS mirror
             ON mirror.code = concat_ws(':', 'mt', server.code, told.login, 'balance', account.currency)
      LEFT JOIN ledger.currency ON currency.code = account.currency
      LEFT JOIN pending ON pending.id = account.id
      LEFT JOIN credited ON credited.login = told.login
     WHERE account.status IN ('active', 'disabled')
""")  # noqa: S608  texts of our own


@dataclass(frozen=True)
class Beside:
    """One live account: the server's figures and ours. `credit_here` is None where we cannot know it."""

    login: int
    currency: str
    balance_there: Decimal
    credit_there: Decimal
    balance_here: Decimal
    credit_here: Decimal | None

    @property
    def off(self) -> dict[str, Decimal]:
        """By how much the server has more, of what differs."""
        found = {"balance": self.balance_there - self.balance_here}
        if self.credit_here is not None:
            found["credit"] = self.credit_there - self.credit_here
        return {kind: amount for kind, amount in found.items() if amount}


def beside(session: Session, server_id: int, states: Iterable[AccountState]) -> list[Beside]:
    """The live accounts among these states, beside what we hold."""
    found: list[Beside] = []
    for part in in_parts(states, STATES_PER_UNIT * 10):
        rows = session.execute(
            _HERE,
            {
                "server_id": server_id,
                "logins": [state.login for state in part],
                "balances": [state.balance for state in part],
                "credits": [state.credit for state in part],
            },
        )
        found += [Beside(*row) for row in rows]
    session.rollback()
    return found


@dataclass(frozen=True)
class Look:
    """How balances are looked at: what is asked, and with what patience."""

    session: Session
    platform: TradingPlatform
    source: BackfillSource
    server_id: int
    zone: ServerZone
    actor: Actor
    pause: Callable[[float], None] = time.sleep

    @property
    def witness(self) -> Witness:
        """Whom to ask for single things."""
        return witness_of(self.source, self.platform)

    def again(self, logins: set[int]) -> list[AccountState]:
        """The states of these logins now, after their newest deals were booked."""
        if len(logins) > MOST_ASKED:
            return [state for state in self.source.accounts() if state.login in logins]
        states = []
        for login in sorted(logins):
            asked_at = now()
            try:
                self.read_deals(login, asked_at - RECENT)
                states.append(self.witness.get_account(login))
            except NotKnown:
                continue
        return states

    def read_deals(self, login: int, since: datetime) -> int:
        """Book what the server says of a login's deals since a moment. Returns how many were new or changed."""
        asked_at = now()
        deals = self.witness.deals(login, since, asked_at)
        return sync.book(self.session, self.server_id, deals, self.zone, not_before=since, actor=self.actor, asked_at=asked_at)


def mismatches(look: Look, states: Sequence[AccountState]) -> list[Finding]:
    """Accounts whose balance or credit differs, and by the same amount however often one looks."""
    found = _off(beside(look.session, look.server_id, states))
    for _ in range(LOOKS - 1):
        if not found:
            return []
        look.pause(PAUSE_S)
        logins = {login for login, _ in found}
        later = _off(beside(look.session, look.server_id, look.again(logins)))
        found = {key: one for key, one in later.items() if key in found and one.off[key[1]] == found[key].off[key[1]]}
    return [_finding(look, kind, one) for (_, kind), one in sorted(found.items())]


def keep_current(look: Look, states: Sequence[AccountState], asked_at: datetime) -> None:
    """Store what the server says of our logins, for display. Nothing of a copy: the stream may have told something newer."""
    if asked_now(look.source) is None:
        return
    for part in in_parts(states, STATES_PER_UNIT):
        with unit_of_work(look.session, look.actor):
            booking.lock_server(look.session, look.server_id)
            booking.book_accounts(look.session, look.server_id, [(state, asked_at) for state in part])


def logins(look: Look, states: Sequence[AccountState], groups: Sequence[str]) -> list[Finding]:
    """Logins that only one side has. The server's own machinery is left out."""
    known = select(TradingAccount.login, TradingAccount.status).where(
        TradingAccount.server_id == look.server_id, TradingAccount.login.is_not(None)
    )
    ours = {row.login: row.status for row in look.session.execute(known)}
    look.session.rollback()
    there = {state.login: state for state in states}
    findings = [
        Finding("unknown_login", str(login), login, there=f"{state.group} {exact_text(state.balance)}", cause="not_imported")
        for login, state in there.items()
        if login not in ours and not state.rights & UserRight.TECHNICAL
    ]
    absent = [login for login, status in ours.items() if login not in there and status in ("active", "disabled")]
    if not absent:
        return findings
    archived = {state.login for group in groups for state in look.platform.archived(group)}
    for login in absent:
        if login not in archived and len(absent) <= MOST_ASKED and _follow(look, login):
            continue
        cause = "archived_login" if login in archived else ""
        findings.append(Finding("login_vanished", str(login), login, here=str(ours[login]), cause=cause))
    return findings


def _follow(look: Look, login: int) -> bool:
    """Whether the login is there after all, in a group that we did not look into: then it is one of ours from now on, and
    what it did meanwhile is booked.
    """
    asked_at = now()
    try:
        state = look.witness.get_account(login)
    except NotKnown:
        return False
    with unit_of_work(look.session, look.actor):
        booking.lock_server(look.session, look.server_id)
        booking.book_account(look.session, look.server_id, state, asked_at)
    look.read_deals(login, asked_at - MOVED_WITHIN)
    return True


def _off(compared: Iterable[Beside]) -> dict[tuple[int, str], Beside]:
    return {(one.login, kind): one for one in compared for kind in one.off}


def _finding(look: Look, kind: str, one: Beside) -> Finding:
    here = one.balance_here if kind == "balance" else one.credit_here or Decimal(0)
    there = one.balance_there if kind == "balance" else one.credit_there
    return Finding(
        kind,
        str(one.login),
        one.login,
        here=f"{exact_text(here)} {one.currency}",
        there=f"{exact_text(there)} {one.currency}",
        cause=_cause(look, one.login),
        difference=exact_text(one.off[kind]),
    )


def _cause(look: Look, login: int) -> str:
    """Why a balance may differ, as far as it can be told."""
    session, server_id = look.session, look.server_id
    in_flight = select(BalanceOperation.id).where(
        BalanceOperation.server_id == server_id,
        BalanceOperation.login == login,
        BalanceOperation.status.in_(("sending", "unknown")),
    )
    of_deals = select(ServerBreak.id).where(
        ServerBreak.server_id == server_id,
        ServerBreak.login == login,
        ServerBreak.closed_at.is_(None),
        ServerBreak.kind.in_(("deal_vanished", "deal_differs", "deal_count")),
    )
    origin = select(TradingAccount.origin).where(TradingAccount.server_id == server_id, TradingAccount.login == login)
    if session.scalars(in_flight).first() is not None:
        cause = "in_flight"
    elif session.scalars(of_deals).first() is not None:
        cause = "deals_differ"
    elif session.scalar(origin) != "opened":
        cause = "taken_over"
    else:
        cause = ""
    session.rollback()
    if cause in ("", "taken_over"):
        try:
            return cause if look.platform.check_balance(login).agrees else "server_drift"
        except PlatformError:  # it is only a hint
            return cause
    return cause
