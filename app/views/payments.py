"""Payments desk: the withdrawal queue, and read-only lists of deposits, withdrawals, transfers and callbacks."""

from __future__ import annotations

from flask import abort, current_app, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_appbuilder import AppBuilder, expose, has_access, permission_name
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from sqlalchemy import select

from app.core.errors import AppError
from app.core.money import Money
from app.core.uow import retried
from app.extensions import db
from app.ledger import chart, queries
from app.models.payments import Callback, Deposit, Transfer, Withdrawal
from app.payments import funding, withdrawals
from app.surfaces.errors import sentence
from app.views.columns import client_link, formatters, identifier, transaction_link
from app.views.guarded import AuditedInterface, DeskPage, ReadOnlyView, staff_actor


class WithdrawalQueue(DeskPage):
    """The withdrawal queue: what waits for a decision, with what an officer needs to decide."""

    class_permission_name = "Withdrawals"
    route_base = "/withdrawals"

    @expose("/")
    @has_access
    @permission_name("list")
    def index(self) -> ResponseReturnValue:
        waiting = db.session.scalars(select(Withdrawal).where(Withdrawal.state == "requested").order_by(Withdrawal.id)).all()
        recent = db.session.scalars(
            select(Withdrawal).where(Withdrawal.state != "requested").order_by(Withdrawal.id.desc()).limit(25)
        ).all()
        return self.render_template(
            "office/withdrawals.html", waiting=waiting, recent=recent, funded=funding.preview(db.session(), waiting)
        )

    @expose("/<int:withdrawal_id>")
    @has_access
    @permission_name("list")
    def show(self, withdrawal_id: int) -> ResponseReturnValue:
        withdrawal = db.session.get(Withdrawal, withdrawal_id)
        if withdrawal is None:
            abort(404)
        session, currency = db.session(), withdrawal.currency
        wallet = queries.balance(session, chart.client_wallet(withdrawal.client_id, currency))
        waits = withdrawal.state == "requested"
        own = queries.find_balance(session, funding.accounts(_client_bank(), currency)[1])
        return self.render_template(
            "office/withdrawal.html",
            withdrawal=withdrawal,
            amount=Money(withdrawal.amount_minor, withdrawal.currency),
            wallet=wallet,
            client=withdrawal.client,
            deposit=withdrawal.deposit,
            reason=request.args.get("reason", ""),
            funded=funding.of_withdrawal(session, withdrawal) if waits else funding.recorded(session, withdrawal),
            own=own.available if own else Money.zero(currency),
        )

    @expose("/<int:withdrawal_id>/approve", methods=["POST"])
    @has_access
    @permission_name("decide")
    def approve(self, withdrawal_id: int) -> ResponseReturnValue:
        try:
            done = retried(
                lambda: withdrawals.approve_withdrawal(db.session(), withdrawal_id, staff_actor(), client_bank=_client_bank())
            )
            flash(
                gettext(
                    "Approved: %(amount)s are on their way to the client.", amount=str(Money(done.amount_minor, done.currency))
                ),
                "success",
            )
        except AppError as error:
            flash(sentence(error), "warning")
        return redirect(url_for("WithdrawalQueue.show", withdrawal_id=withdrawal_id))

    @expose("/<int:withdrawal_id>/reject", methods=["POST"])
    @has_access
    @permission_name("decide")
    def reject(self, withdrawal_id: int) -> ResponseReturnValue:
        reason = request.form.get("reason", "")
        try:
            withdrawals.reject_withdrawal(db.session(), withdrawal_id, reason, staff_actor())
            flash(gettext("Rejected. The money is free in the client's wallet again."), "success")
        except AppError as error:
            flash(sentence(error), "warning")
        return redirect(url_for("WithdrawalQueue.show", withdrawal_id=withdrawal_id))


def _client_bank() -> str:
    name: str = current_app.extensions["settings"].client_bank
    return name


def direction(value: str) -> str:
    """Where a transfer went."""
    return gettext("To the account") if value == "to_account" else gettext("To the wallet")


class DepositView(ReadOnlyView):
    class_permission_name = "Deposits"
    datamodel = AuditedInterface(Deposit)
    list_title, show_title = _l("Deposits"), _l("Deposit")
    list_columns = ["id", "client", "connector", "amount", "state", "created_at", "settled_at"]
    show_columns = [
        *list_columns[:5],
        "failure",
        "provider_reference",
        "payment_reference",
        "asks",
        "created_at",
        "settled_at",
        "ledger_txn_id",
    ]
    search_columns = ["id", "client", "connector", "currency", "state", "provider_reference", "created_at"]
    formatters_columns = formatters(client=client_link, ledger_txn_id=transaction_link)
    label_columns = {"created_at": _l("Started"), "asks": _l("Times the provider was asked")}


class WithdrawalView(ReadOnlyView):
    class_permission_name = "All withdrawals"
    datamodel = AuditedInterface(Withdrawal)
    list_title, show_title = _l("All withdrawals"), _l("Withdrawal")
    list_columns = ["id", "client", "amount", "state", "approved_by", "created_at", "finished_at"]
    show_columns = [
        *list_columns[:4],
        "reason",
        "requested_by",
        "approved_by",
        "approved_at",
        "connector",
        "provider_reference",
        "asks",
        "created_at",
        "finished_at",
        "hold_id",
        "capture_txn_id",
        "final_txn_id",
    ]
    search_columns = ["id", "client", "currency", "state", "provider_reference", "created_at"]
    formatters_columns = formatters(
        client=client_link,
        hold_id=identifier,
        **dict.fromkeys(("capture_txn_id", "final_txn_id"), transaction_link),
    )
    label_columns = {"asks": _l("Times the provider was asked")}


class TransferView(ReadOnlyView):
    class_permission_name = "Transfers"
    datamodel = AuditedInterface(Transfer)
    list_title, show_title = _l("Transfers"), _l("Transfer")
    list_columns = ["id", "client", "trading_account", "direction", "amount", "state", "created_at"]
    show_columns = [*list_columns, "failure", "finished_at", "idempotency_key", "hold_id", "ledger_txn_id"]
    search_columns = ["id", "client", "trading_account", "direction", "state", "created_at"]
    formatters_columns = formatters(
        client=client_link,
        direction=direction,
        trading_account=identifier,
        hold_id=identifier,
        ledger_txn_id=transaction_link,
    )


class CallbackView(ReadOnlyView):
    class_permission_name = "Callbacks"
    datamodel = AuditedInterface(Callback)
    list_title, show_title = _l("Provider callbacks"), _l("Provider callback")
    list_columns = ["id", "connector", "event_id", "type", "is_ignored", "received_at", "processed_at"]
    show_columns = ["id", "connector", "event_id", "type", "is_ignored", "address", "received_at", "processed_at"]
    search_columns = ["connector", "event_id", "type", "is_ignored", "received_at"]
    formatters_columns = formatters(event_id=identifier)


def register(appbuilder: AppBuilder) -> None:
    desk = {"category": "Payments desk", "category_label": _l("Payments")}
    appbuilder.add_view(WithdrawalQueue, "Withdrawals", label=_l("Withdrawal queue"), icon="cash", **desk)
    appbuilder.add_view(WithdrawalView, "All withdrawals", label=_l("All withdrawals"), icon="transfer-out", **desk)
    appbuilder.add_view(DepositView, "Deposits", label=_l("Deposits"), icon="transfer-in", **desk)
    appbuilder.add_view(TransferView, "Transfers", label=_l("Transfers"), icon="arrows-exchange", **desk)
    appbuilder.add_view(CallbackView, "Callbacks", label=_l("Callbacks"), icon="receipt", **desk)
