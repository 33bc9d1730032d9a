"""Money desk: accounts, transactions and entries of the ledger, read-only by design."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import abort
from flask.typing import ResponseReturnValue
from flask_appbuilder import AppBuilder, expose, has_access, permission_name
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from sqlalchemy import Select

from app.core.money import MAX_AMOUNT_MINOR
from app.extensions import db
from app.ledger import queries, search, tree
from app.ledger.search import AccountSearch, EntrySearch, SearchTooWide, TransactionSearch
from app.models.ledger import Account, Transaction
from app.surfaces.errors import sentence
from app.surfaces.facts import TRANSACTION_KINDS, transaction_kind
from app.surfaces.filters import Filters
from app.views import ledger_files, ledger_links
from app.views.columns import account_link, moment, person, staff_called, transaction_link
from app.views.guarded import DeskPage

PAGE_SIZE = 50


class LedgerPage(DeskPage):
    """What the pages of the ledger share: words for kinds, links, and lists whose searches end in time."""

    default_view = "list"
    extra_args = {
        "person": person,
        "moment": moment,
        "account_link": account_link,
        "transaction_link": transaction_link,
        "transaction_kind": transaction_kind,
        "account_kinds": tree.KINDS,
        "transaction_kinds": TRANSACTION_KINDS,
        "row_link": ledger_links.row_link,
    }

    def found(self, filters: Filters, query: Select[*tuple[Any, ...]]) -> list[Any]:
        """The rows of one page and one more; none, and the reason among the problems, when it takes too long."""
        if filters.problems:
            return []
        try:
            with search.bounded(db.session()):
                return [*db.session.execute(query.limit(PAGE_SIZE + 1))]
        except SearchTooWide as error:
            filters.problems[""] = sentence(error)
            return []

    def answer(self, template: str, filters: Filters, **values: Any) -> ResponseReturnValue:
        page = self.render_template(template, filters=filters, **values)
        return page, 422 if filters.problems else 200


class LedgerAccountView(LedgerPage):
    """The accounts, and one page per account with its figures, holds and entries."""

    class_permission_name = "Ledger accounts"

    @expose("/list/")
    @has_access
    @permission_name("list")
    def list(self) -> ResponseReturnValue:
        filters = Filters()
        wanted = AccountSearch(
            code=filters.text("code"),
            kind=filters.choice("kind", tree.KINDS),
            currency=filters.currency("currency"),
            client_id=filters.whole("client"),
            closed={"yes": True, "no": False}.get(filters.choice("closed", ("yes", "no"))),
        )
        query = search.accounts(wanted, after=filters.after("after"))
        if filters.wants_csv and not filters.problems:
            return ledger_files.accounts(query)
        found = [row.Account for row in self.found(filters, query)]
        is_more = len(found) > PAGE_SIZE
        shown = found[:PAGE_SIZE]
        return self.answer(
            "office/ledger_accounts.html", filters, accounts=shown, next_after=shown[-1].code if is_more else None
        )

    @expose("/show/<pk>")
    @has_access
    @permission_name("show")
    def show(self, pk: str) -> ResponseReturnValue:
        """By number or by code. With dates: what is effective then, in that order; else as posted, newest first."""
        session, account, filters = db.session(), _account(pk), Filters()
        start, end = filters.days("from", "to")
        before = filters.after_number("before")
        if filters.wants_csv and not filters.problems:
            return ledger_files.account_entries(account, start, end)
        by_date = bool(start or end)
        lines: list[queries.Line] = []
        if by_date:
            lines = search.effective_lines(session, account, start=start, end=end, before=before, limit=PAGE_SIZE + 1)
        elif not filters.problems:
            lines = queries.entries(session, account.code, before=before, limit=PAGE_SIZE + 1)
        is_more = len(lines) > PAGE_SIZE
        return self.answer(
            "office/ledger_account.html",
            filters,
            account=account,
            balance=queries.balance(session, account.code),
            opening=queries.balance_as_of(session, account.code, start) if start else None,
            closing=queries.balance_as_of(session, account.code, end) if end else None,
            by_date=by_date,
            lines=lines[:PAGE_SIZE],
            next_before=lines[PAGE_SIZE - 1].version if is_more else None,
            holds=ledger_links.holds(session, account),
            links=ledger_links.about_account(session, account),
        )


class LedgerTransactionView(LedgerPage):
    """The transactions, and one page per transaction with its legs, its cause and its correction."""

    class_permission_name = "Ledger transactions"

    @expose("/list/")
    @has_access
    @permission_name("list")
    def list(self) -> ResponseReturnValue:
        filters = Filters()
        start, end = filters.days("from", "to")
        currency, who = filters.currency("currency"), filters.text("actor")
        wanted = TransactionSearch(
            kind=filters.text("kind", 60),
            key=filters.text("key", 200),
            actors=actors_called(who),
            posted_from=start,
            posted_before=end,
            currency=currency,
            least_minor=filters.amount_minor("least", currency),
            most_minor=filters.amount_minor("most", currency),
        )
        before = filters.after_txn("before")
        if who and not wanted.actors:
            filters.problems["actor"] = gettext("Nobody here has this name.")
        query = search.transactions(wanted, before=before)
        if filters.wants_csv and not filters.problems:
            return ledger_files.transactions(query)
        found: list[Transaction] = [row.Transaction for row in self.found(filters, query)]
        shown = found[:PAGE_SIZE]
        return self.answer(
            "office/ledger_transactions.html",
            filters,
            transactions=shown,
            moved=search.volumes(db.session(), [txn.id for txn in shown]),
            next_before=shown[-1].id if len(found) > PAGE_SIZE else None,
        )

    @expose("/show/<pk>")
    @has_access
    @permission_name("show")
    def show(self, pk: str) -> ResponseReturnValue:
        session, filters = db.session(), Filters()
        txn = session.get(Transaction, _uuid(pk))
        if txn is None:
            abort(404)
        after = filters.after_number("deal")
        return self.answer(
            "office/ledger_transaction.html",
            filters,
            txn=txn,
            legs=search.legs_of(session, txn.id),
            moved=search.volumes(session, [txn.id])[txn.id],
            cause=ledger_links.cause(session, txn),
            deals=ledger_links.deals(session, txn.id, after=after, limit=PAGE_SIZE + 1),
            page_size=PAGE_SIZE,
            reversal=search.reversal_of(session, txn.id),
            details=ledger_links.details(txn),
        )


class LedgerEntryView(LedgerPage):
    """The entries of all accounts, newest transaction first; each leads to its transaction and its account."""

    class_permission_name = "Ledger entries"

    @expose("/list/")
    @has_access
    @permission_name("list")
    def list(self) -> ResponseReturnValue:
        filters = Filters()
        start, end = filters.days("from", "to")
        wanted = EntrySearch(
            code=filters.text("code"),
            kind=filters.text("kind", 60),
            currency=filters.currency("currency"),
            posted_from=start,
            posted_before=end,
        )
        txn_id, account_id = filters.after_txn("before"), filters.after_number("account")
        before = (txn_id, account_id) if txn_id and account_id is not None else None
        query = search.entries(wanted, before=before)
        if filters.wants_csv and not filters.problems:
            return ledger_files.entries(query)
        found = self.found(filters, query)
        shown = found[:PAGE_SIZE]
        return self.answer(
            "office/ledger_entries.html",
            filters,
            rows=[
                (row.Entry, row.Transaction, row.Account, search.balance_after(row.Entry, row.Account.kind)) for row in shown
            ],
            next_row=shown[-1].Entry if len(found) > PAGE_SIZE else None,
        )


def actors_called(text: str) -> list[str]:
    """The actors that somebody means by a name: staff by theirs, clients by number, jobs; or an actor as it is written."""
    if ":" in text or not text:
        return [text] if text else []
    word, _, rest = text.partition(" ")
    if word.casefold() in {"client", gettext("Client").casefold()} and rest.isdecimal():
        return [f"client:{int(rest)}"]
    return [*staff_called(text), f"system:{text.lower().replace(' ', '_')}"]


def _account(pk: str) -> Account:
    """The account with this number or code; 404 when there is none."""
    is_number = pk.isascii() and pk.isdecimal()
    if not pk.isprintable() or (is_number and (len(pk) > 19 or int(pk) > MAX_AMOUNT_MINOR)):
        abort(404)
    account = search.account(db.session(), int(pk) if is_number else pk)
    if account is None:
        abort(404)
    return account


def _uuid(pk: str) -> UUID:
    try:
        return UUID(pk)
    except ValueError:
        abort(404)


def register(appbuilder: AppBuilder) -> None:
    desk = {"category": "Money desk", "category_label": _l("Money")}
    appbuilder.add_view(LedgerAccountView, "Ledger accounts", label=_l("Accounts"), icon="scale", **desk)
    appbuilder.add_view(LedgerTransactionView, "Ledger transactions", label=_l("Transactions"), icon="arrows-exchange", **desk)
    appbuilder.add_view(LedgerEntryView, "Ledger entries", label=_l("Entries"), icon="list", **desk)
