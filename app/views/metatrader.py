"""Trading desk: servers and products (editable), accounts, deals, positions, operations, dead letters (read-only)."""

from __future__ import annotations

from typing import Any

from flask_appbuilder import AppBuilder
from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from wtforms import Field
from wtforms.validators import DataRequired

from app.core.errors import N_, AppError, InvalidInput
from app.core.money import exponent
from app.models.metatrader import BalanceOperation, DeadLetter, Deal, Position, Product, Server, TradingAccount
from app.surfaces import formats
from app.views.columns import client_link, formatters, identifier
from app.views.guarded import AuditedInterface, BackOfficeView, ReadOnlyView


class ServerView(BackOfficeView):
    class_permission_name = "Servers"
    datamodel = AuditedInterface(Server)
    list_title = _l("Trading servers")
    list_columns = ["code", "name", "platform", "url", "time_zone", "is_active"]
    edit_columns = ["name", "url", "manager_login", "time_zone", "is_active"]
    add_columns = ["code", "name", "platform", "url", "manager_login", "time_zone", "is_active"]
    search_columns = ["code", "name", "platform", "is_active"]
    description_columns = {"time_zone": _l("The zone of the server's clock, such as EET."), "url": _l("Begins with https://.")}


class LeveragesField(Field):
    """Whole numbers with commas between, such as "30, 100, 200"."""

    widget = BS3TextFieldWidget()

    def _value(self) -> str:
        return ", ".join(str(value) for value in self.data) if isinstance(self.data, list) else str(self.data or "")

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
    list_title = _l("Products")
    list_columns = ["code", "name", "server", "group", "currency", "is_demo", "is_open"]
    add_columns = ["code", "name", "description", "server", "group", "currency", "leverages", "is_demo", "is_open"]
    edit_columns = ["name", "description", "group", "leverages", "is_open"]
    search_columns = ["code", "name", "server", "currency", "is_demo", "is_open"]
    add_form_extra_fields = {"leverages": LeveragesField(_l("Leverages"), validators=[DataRequired()])}
    edit_form_extra_fields = add_form_extra_fields
    description_columns = {
        "leverages": _l("Choices for the client, such as 30, 100, 200."),
        "is_open": _l("Offered to clients now."),
    }

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
    list_title = _l("Trading accounts")
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
    formatters_columns = formatters(login=identifier, client=client_link, balance=formats.decimals, equity=formats.decimals)


class DealView(ReadOnlyView):
    class_permission_name = "Deals"
    datamodel = AuditedInterface(Deal)
    list_title = _l("Deals")
    list_columns = [
        "ticket",
        "revision",
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
    show_exclude_columns = ["fingerprint"]
    search_columns = ["ticket", "login", "symbol", "action", "entry", "done_at", "is_void", "is_current"]
    formatters_columns = formatters(
        ticket=identifier,
        login=identifier,
        volume=formats.lots,
        price=formats.exact,
        profit=formats.decimals,
        swap=formats.decimals,
        commission=formats.decimals,
    )
    label_columns = {"volume": _l("Lots")}


class PositionView(ReadOnlyView):
    class_permission_name = "Positions"
    datamodel = AuditedInterface(Position)
    list_title = _l("Open positions")
    list_columns = ["ticket", "login", "symbol", "action", "volume", "price_open", "price_current", "profit", "opened_at"]
    search_columns = ["ticket", "login", "symbol"]
    formatters_columns = formatters(
        ticket=identifier, volume=formats.lots, profit=formats.decimals, price_open=formats.exact, price_current=formats.exact
    )
    label_columns = {"volume": _l("Lots")}


class OperationView(ReadOnlyView):
    class_permission_name = "Unknown operations"
    datamodel = AuditedInterface(BalanceOperation)
    list_title = _l("Balance operations")
    list_columns = ["id", "server", "login", "token", "amount", "status", "deal_ticket", "created_at"]
    search_columns = ["login", "token", "status", "deal_ticket", "created_at"]
    formatters_columns = formatters(token=identifier, login=identifier)


class DeadLetterView(ReadOnlyView):
    class_permission_name = "Dead letters"
    datamodel = AuditedInterface(DeadLetter)
    list_title = _l("Dead letters")
    list_columns = ["id", "stream", "entry_id", "reason", "received_at", "replayed_at"]
    search_columns = ["stream", "reason", "received_at"]
    formatters_columns = formatters()


def register(appbuilder: AppBuilder) -> None:
    desk = {"category": "Trading desk", "category_label": _l("Trading")}
    appbuilder.add_view(TradingAccountView, "Trading accounts", label=_l("Trading accounts"), icon="chart", **desk)
    appbuilder.add_view(DealView, "Deals", label=_l("Deals"), icon="chart-candle", **desk)
    appbuilder.add_view(PositionView, "Positions", label=_l("Open positions"), icon="activity", **desk)
    appbuilder.add_view(OperationView, "Unknown operations", label=_l("Balance operations"), icon="arrows-exchange", **desk)
    appbuilder.add_view(DeadLetterView, "Dead letters", label=_l("Dead letters"), icon="alert-triangle", **desk)
    appbuilder.add_view(ProductView, "Products", label=_l("Products"), icon="tag", **desk)
    appbuilder.add_view(ServerView, "Servers", label=_l("Servers"), icon="server-2", **desk)
