"""Money desk: accounts, transactions and entries of the ledger, read-only by design."""

from __future__ import annotations

from flask_appbuilder import AppBuilder
from flask_babel import lazy_gettext as _l

from app.models.ledger import Account, Entry, Transaction
from app.views.columns import formatters, identifier
from app.views.guarded import AuditedInterface, ReadOnlyView


class LedgerAccountView(ReadOnlyView):
    class_permission_name = "Ledger accounts"
    datamodel = AuditedInterface(Account)
    list_title, show_title = _l("Ledger accounts"), _l("Ledger account")
    list_columns = ["code", "kind", "posted", "set_aside", "version"]
    search_columns = ["code", "kind", "currency"]
    base_order = ("code", "asc")
    show_columns = ["code", "kind", "posted", "set_aside", "version", "may_go_negative", "client_id", "opened_at", "closed_at"]
    formatters_columns = formatters(code=identifier)
    label_columns = {"posted": _l("Balance"), "set_aside": _l("Held"), "version": _l("Entries")}


class LedgerTransactionView(ReadOnlyView):
    class_permission_name = "Ledger transactions"
    datamodel = AuditedInterface(Transaction)
    list_title, show_title = _l("Transactions"), _l("Transaction")
    show_columns = ["id", "seq", "kind", "idempotency_key", "effective_at", "posted_at", "actor", "details"]
    list_columns = ["seq", "kind", "idempotency_key", "actor", "posted_at"]
    search_columns = ["kind", "idempotency_key", "actor", "posted_at"]
    base_order = ("id", "desc")
    formatters_columns = formatters(id=identifier)


class LedgerEntryView(ReadOnlyView):
    class_permission_name = "Ledger entries"
    datamodel = AuditedInterface(Entry)
    list_title = _l("Entries")
    base_permissions = ["can_list"]
    base_order = None
    list_columns = ["account", "account_version", "debited", "credited", "txn_id", "effective_at"]
    search_columns = ["account_id", "currency", "effective_at"]
    formatters_columns = formatters(account=identifier, txn_id=identifier)


def register(appbuilder: AppBuilder) -> None:
    desk = {"category": "Money desk", "category_label": _l("Money")}
    appbuilder.add_view(LedgerAccountView, "Ledger accounts", label=_l("Accounts"), icon="scale", **desk)
    appbuilder.add_view(LedgerTransactionView, "Ledger transactions", label=_l("Transactions"), icon="arrows-exchange", **desk)
    appbuilder.add_view(LedgerEntryView, "Ledger entries", label=_l("Entries"), icon="list", **desk)
