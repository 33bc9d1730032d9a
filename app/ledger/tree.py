"""The chart of accounts as a tree: kind → group → name → account, with sums per currency, now or as of a moment.

Which group an account belongs to follows from its code and kind alone (`place`), so the tree is made from one statement
that sums over *families* of accounts: codes without the number of their owner and without currency, such as
`client:*:wallet` or `mt:demo:*:balance`. Sums have the sign that is natural for the kind (docs/ledger.md).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, Subquery, and_, func, not_, or_, select, true, union_all
from sqlalchemy.orm import Session

from app.core.errors import N_
from app.core.money import Money
from app.ledger.errors import UnknownAccount
from app.models.clients import Client
from app.models.ledger import DEBIT_KINDS, Account

#: The kinds in the order of a balance sheet and a profit and loss account.
KINDS = {
    "asset": N_("Assets"),
    "liability": N_("Liabilities"),
    "equity": N_("Equity"),
    "income": N_("Income"),
    "expense": N_("Expenses"),
}
OTHER = N_("Other")


@dataclass(frozen=True)
class Group:
    """Accounts of one purpose. `<name>` in the family stands for a provider, bank, server or source: one child each."""

    key: str
    kind: str
    label: str
    family: str

    @property
    def has_names(self) -> bool:
        return "<name>" in self.family

    @property
    def pattern(self) -> str:
        """The family as a regular expression that Python and PostgreSQL read alike; a name is its group."""
        return f"^{re.escape(self.family).replace('<name>', '([^:]+)')}$"


GROUPS = (
    Group("psp_clearing", "asset", N_("PSP clearing"), "psp:<name>:clearing"),
    Group("bank_client_money", "asset", N_("Banks, clients' money"), "bank:<name>:client_money"),
    Group("bank_own_money", "asset", N_("Banks, own money"), "bank:<name>:own_money"),
    Group("client_receivables", "asset", N_("Client receivables"), "client:*:receivable"),
    Group("client_wallets", "liability", N_("Client wallets"), "client:*:wallet"),
    Group("client_bonuses", "liability", N_("Client bonuses"), "client:*:bonus"),
    Group("trading_balances", "liability", N_("Trading balances"), "mt:<name>:*:balance"),
    Group("ib_commission", "liability", N_("IB commission payable"), "ib:*:commission"),
    Group("payouts", "liability", N_("Payouts in flight"), "psp:<name>:payouts"),
    Group("suspense", "liability", N_("Suspense"), "suspense:<name>"),
    Group("fx_position", "equity", N_("FX position"), "fx:position"),
    Group("fx_revaluation", "equity", N_("FX revaluation"), "fx:revaluation"),
    Group("migration_opening", "equity", N_("Opening balances of the migration"), "migration:opening"),
    Group("trading_result", "income", N_("Trading result"), "income:trading:<name>"),
    Group("fx_spread", "income", N_("FX spread"), "income:fx_spread"),
    Group("fx_result", "income", N_("FX result"), "income:fx_result"),
    Group("fees", "income", N_("Fees from clients"), "income:fees"),
    Group("commission_expense", "expense", N_("IB commission"), "expense:commission"),
    Group("psp_fees", "expense", N_("PSP fees"), "expense:psp_fees:<name>"),
    Group("bonus_expense", "expense", N_("Bonuses"), "expense:bonus"),
    Group("negative_balance", "expense", N_("Negative balances written off"), "expense:negative_balance"),
)
_GROUPS = {group.key: group for group in GROUPS}
_MATCHERS = [(group, re.compile(group.pattern)) for group in GROUPS]


@dataclass(frozen=True)
class Place:
    """Where a family stands: the group's key, and the name below it if the group has names."""

    kind: str
    group: str
    name: str = ""

    @property
    def key(self) -> str:
        return f"{self.group}:{self.name}" if self.name else self.group


@dataclass(frozen=True)
class FamilySum:
    """What the accounts of one family, kind and currency hold together, in minor units."""

    kind: str
    family: str
    currency: str
    accounts: int
    debits: int
    credits: int


@dataclass(frozen=True)
class Node:
    """A line of the tree. `label` is a message id unless `is_name`; `sums` has each currency once, by code."""

    key: str
    label: str
    is_name: bool
    accounts: int
    sums: tuple[Money, ...]
    children: tuple[Node, ...] = ()


@dataclass(frozen=True)
class CurrencyTotal:
    """One currency over the whole ledger, by kind. Assets and expenses equal the other three, or the books are wrong."""

    currency: str
    by_kind: dict[str, int]

    @property
    def debit_side(self) -> int:
        return sum(self.by_kind.get(kind, 0) for kind in DEBIT_KINDS)

    @property
    def credit_side(self) -> int:
        return sum(amount for kind, amount in self.by_kind.items() if kind not in DEBIT_KINDS)

    @property
    def difference(self) -> int:
        return self.debit_side - self.credit_side


@dataclass(frozen=True)
class Chart:
    """The whole tree: the five kinds, and the totals per currency."""

    nodes: tuple[Node, ...]
    totals: tuple[CurrencyTotal, ...]

    def find(self, key: str) -> Node | None:
        """The node with this key, at whatever depth."""
        waiting = list(self.nodes)
        while waiting:
            node = waiting.pop()
            if node.key == key:
                return node
            waiting.extend(node.children)
        return None


@dataclass(frozen=True)
class AccountLine:
    """One account of a group, with the balance at the moment asked for."""

    id: int
    code: str
    balance: Money
    client_id: int | None
    client_name: str
    is_closed: bool


def family_of(code: str) -> str:
    """The code without its owner's number and its currency; what `_family_column` says in SQL."""
    return re.sub(r"^(client|ib|mt:[^:]+):[^:]+:", r"\1:*:", re.sub(r":[^:]+$", "", code))


def place(kind: str, family: str) -> Place:
    """Where the accounts of a family stand. Total: what no group expects stands under Other of its kind, by its family."""
    for group, matcher in _MATCHERS:
        found = matcher.match(family) if group.kind == kind else None
        if found:
            return Place(kind, group.key, found.group(1) if group.has_names else "")
    return Place(kind, f"other_{kind}", family)


def build(rows: Iterable[FamilySum]) -> Chart:
    """The tree over these sums. Groups that have no account are left out; the kinds are always there."""
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    accounts: Counter[str] = Counter()
    names: dict[str, set[str]] = defaultdict(set)
    totals: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        stands = place(row.kind, row.family)
        balance = row.debits - row.credits if row.kind in DEBIT_KINDS else row.credits - row.debits
        if stands.name:
            names[stands.group].add(stands.name)
        for key in {stands.kind, stands.group, stands.key}:
            sums[key][row.currency] += balance
            accounts[key] += row.accounts
        totals[row.currency][row.kind] += balance

    def node(key: str, label: str, *children: Node, is_name: bool = False) -> Node:
        amounts = tuple(Money(amount, currency) for currency, amount in sorted(sums[key].items()))
        return Node(key, label, is_name, accounts[key], amounts, children)

    def group_node(key: str, label: str) -> Node:
        below = (node(f"{key}:{name}", name, is_name=True) for name in sorted(names[key]))
        return node(key, label, *below)

    kinds = []
    for kind, label in KINDS.items():
        groups = [(group.key, group.label) for group in GROUPS if group.kind == kind]
        present = [group_node(key, words) for key, words in [*groups, (f"other_{kind}", OTHER)] if accounts[key]]
        kinds.append(node(kind, label, *present))
    return Chart(tuple(kinds), tuple(CurrencyTotal(currency, dict(totals[currency])) for currency in sorted(totals)))


_family_column = func.regexp_replace(
    func.regexp_replace(Account.code, ":[^:]+$", ""), r"^(client|ib|mt:[^:]+):[^:]+:", r"\1:*:"
)


def chart(session: Session, moment: datetime | None = None) -> Chart:
    """All accounts in one statement: as they stand now, or by what is effective before a moment."""
    inner = _all_accounts(moment)
    rows = session.execute(
        select(
            inner.c.kind,
            inner.c.family,
            inner.c.currency,
            func.count().label("accounts"),
            func.sum(inner.c.debits).label("debits"),
            func.sum(inner.c.credits).label("credits"),
        ).group_by(inner.c.kind, inner.c.family, inner.c.currency)
    )
    return build(FamilySum(row.kind, row.family, row.currency, row.accounts, int(row.debits), int(row.credits)) for row in rows)


def accounts_of(
    session: Session, key: str, *, moment: datetime | None = None, search: str = "", after: str = "", limit: int = 50
) -> list[AccountLine]:
    """A page of the accounts below a node, by code; for the next page pass the last code as `after`.

    `search` finds parts of the code and of the client's name. Raises UnknownAccount for a key that no node can have.
    """
    rows = session.execute(account_rows(key, moment=moment, search=search, after=after, limit=limit))
    return [account_line(row) for row in rows]


def account_rows(
    key: str, *, moment: datetime | None = None, search: str = "", after: str = "", limit: int | None = None
) -> Select[*tuple[Any, ...]]:
    """The same as a query, for exports; `account_line` reads its rows. Raises UnknownAccount."""
    name = func.concat_ws(" ", Client.first_name, Client.last_name)
    query = (
        select(Account, func.coalesce(name, "").label("client_name"))
        .outerjoin(Client, Client.id == Account.client_id)
        .where(_below(key))
        .order_by(Account.code)
        .limit(limit)
    )
    if search:
        in_name = and_(Client.id.is_not(None), name.icontains(search, autoescape=True))
        query = query.where(or_(Account.code.icontains(search, autoescape=True), in_name))
    if after:
        query = query.where(Account.code > after)
    # The page is chosen first: what the accounts held at a moment is asked for these alone.
    page = query.subquery("page")
    columns = [page.c[name] for name in ("id", "code", "kind", "currency", "client_id", "client_name", "closed_at")]
    if moment is None:
        return select(*columns, page.c.debits, page.c.credits).order_by(page.c.code)
    before = _counters_before(page.c.id, moment)
    return select(*columns, before.c.debits, before.c.credits).join(before, true()).order_by(page.c.code)


def account_line(row: Any) -> AccountLine:
    difference = row.debits - row.credits if row.kind in DEBIT_KINDS else row.credits - row.debits
    balance = Money(int(difference), row.currency)
    return AccountLine(row.id, row.code, balance, row.client_id, row.client_name, row.closed_at is not None)


def _counters_before(account_id: Any, moment: datetime) -> Any:
    """What an account's counters were by what is effective before a moment (sql/60_reading.sql), to be joined."""
    return func.ledger.counters_before(account_id, moment).table_valued("debits", "credits").lateral("before")


def _all_accounts(moment: datetime | None) -> Subquery:
    """All accounts with their counters, or with what those were before the moment.

    An account with nothing effective from the moment on has the same counters then as now: no entry of it is read.
    """
    columns = (Account.kind, Account.currency, _family_column.label("family"))
    now = select(*columns, Account.debits, Account.credits)
    if moment is None:
        return now.subquery("counted")
    before = _counters_before(Account.id, moment)
    then = select(*columns, before.c.debits, before.c.credits).join(before, true())
    return union_all(now.where(Account.effective_through < moment), then.where(Account.effective_through >= moment)).subquery(
        "counted"
    )


def _below(key: str) -> ColumnElement[bool]:
    """Which accounts stand below the node with this key."""
    group_key, _, name = key.partition(":")
    if group_key in KINDS and not name:
        return Account.kind == group_key
    group = _GROUPS.get(group_key)
    if group is not None and (not name or group.has_names):
        family = group.family.replace("<name>", name)
        matches = _family_column == family if name or not group.has_names else _family_column.regexp_match(group.pattern)
        # Codes that begin otherwise need no look at their family.
        begins = Account.code.startswith(re.split(r"<|\*", family if name else group.family)[0], autoescape=True)
        return and_(Account.kind == group.kind, begins, matches)
    kind = group_key.removeprefix("other_")
    if kind in KINDS and group_key != kind:
        known = or_(*(_family_column.regexp_match(group.pattern) for group in GROUPS if group.kind == kind))
        return and_(Account.kind == kind, _family_column == name if name else not_(known))
    raise UnknownAccount()
