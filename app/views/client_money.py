"""Client money: what is held for clients beside what is owed to them, per currency, and what the house has to add."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

from flask import current_app, url_for
from flask.typing import ResponseReturnValue
from flask_appbuilder import AppBuilder, expose, has_access, permission_name
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from sqlalchemy.orm import Session

from app.core.money import Money, exponent
from app.extensions import db
from app.payments import client_money, funding
from app.payments.client_money import REASONS, Position
from app.surfaces.csv_files import Cell, csv_file
from app.surfaces.filters import Filters
from app.views.columns import transaction_link
from app.views.guarded import DeskPage

#: What is held and what is owed, by the names of proof P6.
HELD = {"bank": _l("At banks"), "clearing": _l("With payment providers")}
OWED = {
    "wallets": _l("Wallets"),
    "trading": _l("Trading accounts"),
    "commission": _l("Pay of introducing brokers"),
    "payouts": _l("Payouts under way"),
    "suspense": _l("Receipts not yet explained"),
}


class ClientMoneyPage(DeskPage):
    """One page, now or as of the end of a day; the same as a file."""

    class_permission_name = "Client money"
    route_base = "/client-money"
    extra_args = {**DeskPage.extra_args, "transaction_link": transaction_link}

    @expose("/")
    @has_access
    @permission_name("list")
    def index(self) -> ResponseReturnValue:
        filters = Filters()
        day, moment = filters.as_of("at")
        if filters.problems:
            return self.render_template("office/client_money.html", filters=filters, day=None, report=None), 422
        # All figures are of one moment, also those of several statements.
        with Session(db.engine.execution_options(isolation_level="REPEATABLE READ")) as snapshot:
            report = client_money.report(snapshot, moment)
            paid = [] if day else client_money.paid_by_house(snapshot)
        state = report.state
        if filters.wants_csv:
            return csv_file(f"client-money-{day or state.at:%Y-%m-%d}", _head(), _rows(report))
        return self.render_template(
            "office/client_money.html",
            filters=filters,
            day=day,
            report=report,
            paid=paid,
            parts={"held": HELD, "owed": OWED},
            reasons=REASONS,
            digits=exponent(state.reporting_currency),
            valuer={
                "currency": state.reporting_currency,
                "at": state.at,
                "rates": [(one.currency, one.valued) for one in state.lines if one.currency != state.reporting_currency],
            },
            request_of=None if day else _request_of,
        )


def _request_of(position: Position) -> str:
    """The form for an adjustment that moves own money to the clients' account, or what is too much there back; filled in."""
    surplus = position.line.surplus
    clients, own = funding.accounts(current_app.extensions["settings"].client_bank, surplus.currency)
    debited, credited = (clients, own) if position.shortage else (own, clients)
    values: dict[str, Any] = {}
    for number, (side, account) in enumerate((("debit", debited), ("credit", credited))):
        values[f"legs-{number}-account"] = account.code
        values[f"legs-{number}-side"] = side
        values[f"legs-{number}-amount"] = f"{abs(surplus).decimal:f}"
    return url_for("LedgerRequestPage.adjustment", **values)


def _head() -> list[str]:
    return [
        gettext("As of"),
        gettext("Currency"),
        gettext("Part"),
        gettext("Of it"),
        gettext("Amount"),
        gettext("Reporting currency"),
        gettext("Value"),
        gettext("Rate"),
        gettext("Source"),
        gettext("Observed"),
    ]


def _rows(report: client_money.Report) -> Iterator[list[Cell]]:
    """One row for each figure of the page."""
    for position in report.positions:
        line = position.line
        reasons = [(gettext(REASONS[name][0]), Money(minor, line.currency)) for name, minor in position.reasons.items()]
        for part, figures in (
            (gettext("At hand"), [(str(label), getattr(line, name)) for name, label in HELD.items()]),
            (gettext("At hand"), [("", line.resources)]),
            (gettext("Owed"), [(str(label), getattr(line, name)) for name, label in OWED.items()]),
            (gettext("Owed"), [("", line.requirement)]),
            (gettext("Surplus"), [("", line.surplus)]),
            (gettext("Where it comes from"), reasons),
            (gettext("Own money"), [("", position.own)]),
        ):
            for of_it, amount in figures:
                yield [report.state.at, line.currency, part, of_it, amount, *_value(report, position, amount)]


def _value(report: client_money.Report, position: Position, amount: Money) -> list[str | Decimal | datetime | None]:
    """The worth in the reporting currency and where it comes from; empty, not zero, where there is no rate."""
    valued = position.line.valued
    worth = None if valued.rate is None else amount.decimal * valued.rate
    if position.line.currency == report.state.reporting_currency:
        worth = amount.decimal
    return [report.state.reporting_currency, worth, valued.rate, valued.source, valued.observed_at]


def register(appbuilder: AppBuilder) -> None:
    appbuilder.add_view(
        ClientMoneyPage,
        "Client money",
        label=_l("Client money"),
        icon="wallet",
        category="Money desk",
        category_label=_l("Money"),
    )
