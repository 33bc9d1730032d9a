"""Trading desk: servers and products (editable), accounts, deals, positions, operations, dead letters (read-only)."""

from __future__ import annotations

from typing import Any
from zoneinfo import available_timezones

from flask_appbuilder import AppBuilder
from flask_appbuilder.fieldwidgets import BS3TextAreaFieldWidget, BS3TextFieldWidget
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from wtforms import Field, StringField, TextAreaField
from wtforms.validators import DataRequired, InputRequired, Optional, Regexp

from app.core.errors import N_, AppError, InvalidInput
from app.core.money import exponent
from app.models.metatrader import BalanceOperation, DeadLetter, Deal, Position, Product, Server, TradingAccount
from app.surfaces import formats
from app.views.columns import (
    action,
    client_link,
    decimals,
    entry,
    exact,
    formatters,
    identifier,
    lots,
    moment,
    transaction_link,
)
from app.views.guarded import AuditedInterface, BackOfficeView, ReadOnlyView


class ServerView(BackOfficeView):
    class_permission_name = "Servers"
    datamodel = AuditedInterface(Server)
    list_title, add_title, edit_title, show_title = _l("Trading servers"), _l("New server"), _l("Server"), _l("Server")
    list_columns = ["code", "name", "platform", "url", "time_zone", "is_active"]
    edit_columns = ["name", "url", "manager_login", "time_zone", "is_active"]
    add_columns = ["code", "name", "platform", "url", "manager_login", "time_zone", "is_active"]
    search_columns = ["code", "name", "platform", "is_active"]
    show_columns = ["code", "name", "platform", "url", "manager_login", "time_zone", "is_active"]
    description_columns = {"time_zone": _l("The zone of the server's clock, such as EET."), "url": _l("Begins with https://.")}
    add_form_extra_fields = {
        "url": StringField(
            _l("Address"),
            description=description_columns["url"],
            validators=[InputRequired(), Regexp(r"^https://", message=_l("The address must begin with https://."))],
            widget=BS3TextFieldWidget(),
        )
    }
    edit_form_extra_fields = add_form_extra_fields

    def check(self, item: Any) -> None:
        if item.time_zone not in available_timezones():
            raise InvalidInput({"time_zone": N_("This time zone is not known.")})


class LeveragesField(Field):
    """Whole numbers with commas between, such as "30, 100, 200"."""

    widget = BS3TextFieldWidget()

    data: list[int] | str | None

    def _value(self) -> str:
        return ", ".join(map(str, self.data)) if isinstance(self.data, list) else self.data or ""

    def process_formdata(self, valuelist: list[str]) -> None:
        text = valuelist[0] if valuelist else ""
        try:
            self.data = sorted({int(part) for part in text.split(",")})
        except ValueError:
            self.data = text
            raise ValueError(gettext("Please give whole numbers with commas between, such as 30, 100, 200.")) from None


class ProductView(BackOfficeView):
    class_permission_name = "Products"
    datamodel = AuditedInterface(Product)
    list_title, add_title, edit_title, show_title = _l("Products"), _l("New product"), _l("Product"), _l("Product")
    list_columns = ["code", "name", "server", "group", "currency", "is_demo", "is_open"]
    add_columns = ["code", "name", "description", "server", "group", "currency", "leverages", "is_demo", "is_open"]
    edit_columns = ["name", "description", "group", "leverages", "is_open"]
    show_columns = ["code", "name", "description", "server", "group", "currency", "leverages", "is_demo", "is_open"]
    search_columns = ["code", "name", "server", "currency", "is_demo", "is_open"]
    formatters_columns = {"leverages": lambda values: ", ".join(map(str, values))}
    description_columns = {
        "group": _l("The group on the trading server, such as real\\standard\\usd."),
        "leverages": _l("Choices for the client, such as 30, 100, 200."),
        "is_open": _l("Offered to clients now."),
    }
    add_form_extra_fields = {
        "leverages": LeveragesField(_l("Leverages"), description=description_columns["leverages"], validators=[DataRequired()]),
        "description": TextAreaField(_l("Description"), validators=[Optional()], widget=BS3TextAreaFieldWidget()),
    }
    edit_form_extra_fields = add_form_extra_fields

    def check(self, item: Any) -> None:
        problems = {}
        try:
            exponent(item.currency)
        except AppError:
            problems["currency"] = N_("This currency is not known.")
        if not item.leverages or not all(1 <= leverage <= 5000 for leverage in item.leverages):
            problems["leverages"] = N_("Each leverage must lie between 1 and 5000.")
        if problems:
            raise InvalidInput(problems)


class TradingAccountView(ReadOnlyView):
    class_permission_name = "Trading accounts"
    datamodel = AuditedInterface(TradingAccount)
    list_title, show_title = _l("Trading accounts"), _l("Trading account")
    list_columns = ["login", "client", "product", "currency", "leverage", "balance", "equity", "status", "opened_at"]
    show_columns = [
        "id",
        "login",
        "client",
        "product",
        "server",
        "currency",
        "leverage",
        "status",
        "balance",
        "credit",
        "equity",
        "state_at",
        "token",
        "error",
        "requested_at",
        "opened_at",
    ]
    search_columns = ["login", "client", "product", "server", "status", "currency"]
    formatters_columns = formatters(client=client_link, balance=decimals, credit=decimals, equity=decimals, requested_at=moment)


class DealView(ReadOnlyView):
    class_permission_name = "Deals"
    datamodel = AuditedInterface(Deal)
    list_title, show_title = _l("Deals"), _l("Deal")
    list_columns = [
        "ticket",
        "login",
        "symbol",
        "action",
        "entry",
        "volume",
        "price",
        "profit",
        "swap",
        "commission",
        "done_at",
    ]
    show_columns = [
        "ticket",
        "revision",
        "is_current",
        "is_void",
        "login",
        "trading_account",
        "action",
        "entry",
        "symbol",
        "volume",
        "volume_closed",
        "price",
        "market_bid",
        "market_ask",
        "contract_size",
        "profit",
        "swap",
        "commission",
        "fee",
        "rate_profit",
        "order_ticket",
        "position_ticket",
        "comment",
        "done_at",
        "server_time_ms",
        "utc_offset_min",
        "booked_at",
        "is_ours",
        "ledger_txn_id",
    ]
    search_columns = ["ticket", "login", "symbol", "action", "entry", "done_at", "is_void", "is_current"]
    formatters_columns = formatters(
        ticket=identifier,
        action=action,
        entry=entry,
        volume=lots,
        volume_closed=lots,
        **dict.fromkeys(("price", "market_bid", "market_ask", "contract_size", "rate_profit"), exact),
        **dict.fromkeys(("profit", "swap", "commission", "fee"), decimals),
        done_at=formats.when,
        booked_at=moment,
        ledger_txn_id=transaction_link,
    )
    label_columns = {"action": _l("Type"), "done_at": _l("Done (UTC)")}


class PositionView(ReadOnlyView):
    class_permission_name = "Positions"
    datamodel = AuditedInterface(Position)
    list_title, show_title = _l("Open positions"), _l("Open position")
    list_columns = ["ticket", "login", "symbol", "action", "volume", "price_open", "price_current", "profit", "opened_at"]
    search_columns = ["ticket", "login", "symbol"]
    show_columns = [*list_columns[:-1], "swap", "opened_at"]
    formatters_columns = formatters(
        ticket=identifier,
        action=action,
        volume=lots,
        price_open=exact,
        price_current=exact,
        profit=decimals,
        swap=decimals,
    )
    label_columns = {"action": _l("Type")}


class OperationView(ReadOnlyView):
    class_permission_name = "Unknown operations"
    datamodel = AuditedInterface(BalanceOperation)
    list_title, show_title = _l("Balance operations"), _l("Balance operation")
    list_columns = ["id", "server", "login", "token", "amount", "status", "deal_ticket", "created_at"]
    show_columns = [
        "id",
        "server",
        "login",
        "token",
        "amount",
        "status",
        "deal_ticket",
        "error",
        "sends",
        "looks",
        "created_at",
        "sent_at",
        "looked_at",
        "finished_at",
    ]
    search_columns = ["login", "token", "status", "deal_ticket", "created_at"]
    formatters_columns = formatters(deal_ticket=identifier, created_at=moment)
    label_columns = {"sends": _l("Times sent"), "looks": _l("Times looked for")}


class DeadLetterView(ReadOnlyView):
    class_permission_name = "Dead letters"
    datamodel = AuditedInterface(DeadLetter)
    list_title, show_title = _l("Dead letters"), _l("Dead letter")
    list_columns = ["received_at", "reason", "stream", "entry_id", "replayed_at"]
    show_columns = ["reason", "received_at", "replayed_at", "stream", "entry_id", "fields"]
    search_columns = ["stream", "reason", "received_at"]
    formatters_columns = formatters(stream=identifier, entry_id=identifier)
    label_columns = {"entry_id": _l("Stream entry"), "fields": _l("What came")}


def register(appbuilder: AppBuilder) -> None:
    desk = {"category": "Trading desk", "category_label": _l("Trading")}
    appbuilder.add_view(TradingAccountView, "Trading accounts", label=_l("Trading accounts"), icon="chart", **desk)
    appbuilder.add_view(DealView, "Deals", label=_l("Deals"), icon="chart-candle", **desk)
    appbuilder.add_view(PositionView, "Positions", label=_l("Open positions"), icon="activity", **desk)
    appbuilder.add_view(OperationView, "Unknown operations", label=_l("Balance operations"), icon="arrows-exchange", **desk)
    appbuilder.add_view(DeadLetterView, "Dead letters", label=_l("Dead letters"), icon="alert-triangle", **desk)
    appbuilder.add_view(ProductView, "Products", label=_l("Products"), icon="tag", **desk)
    appbuilder.add_view(ServerView, "Servers", label=_l("Servers"), icon="server-2", **desk)
