"""Trading desk: servers (editable), deals, positions, operations, dead letters (read-only)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from flask import current_app
from flask_appbuilder import AppBuilder
from flask_appbuilder.fieldwidgets import BS3TextAreaFieldWidget, BS3TextFieldWidget, Select2Widget
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from wtforms import IntegerField, SelectField, StringField, TextAreaField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import InputRequired, NumberRange, Regexp

from app.core.errors import N_, InvalidInput
from app.core.money import MAX_AMOUNT_MINOR
from app.metatrader import server_setup
from app.metatrader.platforms import PLATFORMS
from app.metatrader.servertime import UnknownZone, server_zone
from app.models.metatrader import BACKFILLS, EVENT_SOURCES, BalanceOperation, DeadLetter, Deal, Position, Server
from app.surfaces import formats
from app.views.columns import (
    action,
    data,
    decimals,
    entry,
    exact,
    formatters,
    identifier,
    lots,
    moment,
    person,
    transaction_link,
)
from app.views.guarded import AuditedInterface, BackOfficeView, ReadOnlyView
from app.views.ledger_request_forms import Needed

PLATFORM_WORDS = {
    "mt5_web": _l("MetaTrader 5, by its Web API"),
    "mt4_bridge": _l("MetaTrader 4, by its bridge"),
}
EVENT_WORDS = {
    "stream": _l("A bridge publishes them"),
    "kafka": _l("Kafka streaming of the server"),
    "webhook": _l("Web requests of the server"),
    "sql": _l("The server's SQL export"),
    "poll": _l("We ask in short turns"),
    "mt4_report": _l("The MT4 report database"),
}
BACKFILL_WORDS = {
    "platform": _l("The server's own interface"),
    "bridge": _l("The bridge"),
    "sql": _l("The server's SQL export"),
    "mt4_report": _l("The MT4 report database"),
}


class OptionsField(TextAreaField):
    """A JSON object, such as {"sessions": 2}."""

    data: Any

    def _value(self) -> str:
        return self.data if isinstance(self.data, str) else json.dumps(self.data or {}, indent=2, ensure_ascii=False)

    def process_formdata(self, valuelist: list[str]) -> None:
        self.data = valuelist[0].strip() if valuelist else ""
        try:
            options = json.loads(self.data or "{}")
        except ValueError:
            options = None
        if isinstance(options, dict):
            self.data = options
        else:
            raise ValueError(gettext('Please give settings as a JSON object, such as {"sessions": 2}.'))  # noqa: TRY004


def _choices(values: Iterable[str], words: Mapping[str, Any]) -> list[SelectChoice]:
    return [SelectChoice(value, words.get(value, value)) for value in values]


class ServerView(BackOfficeView):
    class_permission_name = "Servers"
    datamodel = AuditedInterface(Server)
    list_title, add_title, edit_title, show_title = _l("Trading servers"), _l("New server"), _l("Server"), _l("Server")
    list_columns = ["code", "name", "platform", "url", "time_zone", "is_active"]
    edit_columns = [
        *("name", "url", "manager_login", "time_zone", "events", "backfill", "shards", "resend_limit_minor", "options"),
        "is_active",
    ]
    add_columns = ["code", "name", "platform", *edit_columns[1:]]
    search_columns = ["code", "name", "platform", "events", "is_active"]
    show_columns = add_columns
    label_columns = {
        "events": _l("Events come from"),
        "backfill": _l("Sweeps read from"),
        "shards": _l("Event streams"),
        "resend_limit_minor": _l("Limit for sending again"),
        "options": _l("Settings"),
    }
    description_columns = {
        "time_zone": _l("The zone of the server's clock, such as EET or GMT+2/EU."),
        "url": _l("Begins with https://."),
        "shards": _l("1 to 64. Change it only while nothing is published."),
        "resend_limit_minor": _l("In minor units: above it only a person may send a lost balance operation again."),
        "options": _l("Of the interface and the source of events, as JSON. No passwords: those stand in the environment."),
    }
    formatters_columns = formatters(
        platform=lambda value: PLATFORM_WORDS.get(value, value),
        events=lambda value: EVENT_WORDS.get(value, value),
        backfill=lambda value: BACKFILL_WORDS.get(value, value),
        options=data,
    )
    add_form_extra_fields = {
        "url": StringField(
            _l("Address"),
            description=description_columns["url"],
            validators=[InputRequired(), Regexp(r"^https://", message=_l("The address must begin with https://."))],
            widget=BS3TextFieldWidget(),
        ),
        "platform": SelectField(
            _l("Platform"),
            choices=_choices(sorted(PLATFORMS), PLATFORM_WORDS),
            default="mt5_web",
            validators=[Needed()],
            widget=Select2Widget(),
        ),
        "events": SelectField(
            label_columns["events"],
            choices=_choices(EVENT_SOURCES, EVENT_WORDS),
            default="stream",
            validators=[Needed()],
            widget=Select2Widget(),
        ),
        "backfill": SelectField(
            label_columns["backfill"],
            choices=_choices(BACKFILLS, BACKFILL_WORDS),
            default="platform",
            validators=[Needed()],
            widget=Select2Widget(),
        ),
        "shards": IntegerField(
            label_columns["shards"],
            description=description_columns["shards"],
            default=1,
            validators=[NumberRange(1, 64)],
            widget=BS3TextFieldWidget(),
        ),
        "resend_limit_minor": IntegerField(
            label_columns["resend_limit_minor"],
            description=description_columns["resend_limit_minor"],
            default=1_000_000,
            validators=[NumberRange(0, MAX_AMOUNT_MINOR)],
            widget=BS3TextFieldWidget(),
        ),
        "options": OptionsField(
            label_columns["options"], description=description_columns["options"], widget=BS3TextAreaFieldWidget()
        ),
    }
    edit_form_extra_fields = add_form_extra_fields

    def check(self, item: Any) -> None:
        """A server that is switched off may be without its secrets."""
        secrets = current_app.extensions["settings"].server_secrets(item.code) if item.is_active else None
        problems = server_setup.problems(
            platform=item.platform, events=item.events, backfill=item.backfill, options=item.options, secrets=secrets
        )
        try:
            server_zone(item.time_zone)
        except UnknownZone:
            problems["time_zone"] = N_("This time zone is not known.")
        if problems:
            raise InvalidInput(problems)


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
    list_columns = ["received_at", "reason", "server", "login", "replayed_at", "dismissed_at"]
    show_columns = [
        *("reason", "server", "login", "received_at", "replayed_at", "dismissed_at", "decided_by"),
        *("stream", "entry_id", "fields"),
    ]
    search_columns = ["server", "login", "reason", "received_at", "replayed_at", "dismissed_at"]
    formatters_columns = formatters(stream=identifier, entry_id=identifier, dismissed_at=moment, decided_by=person)
    label_columns = {
        "entry_id": _l("Stream entry"),
        "fields": _l("What came"),
    }


def register(appbuilder: AppBuilder) -> None:
    desk = {"category": "Trading desk", "category_label": _l("Trading")}
    appbuilder.add_view(DealView, "Deals", label=_l("Deals"), icon="chart-candle", **desk)
    appbuilder.add_view(PositionView, "Positions", label=_l("Open positions"), icon="activity", **desk)
    appbuilder.add_view(OperationView, "Unknown operations", label=_l("Balance operations"), icon="arrows-exchange", **desk)
    appbuilder.add_view(DeadLetterView, "Dead letters", label=_l("Dead letters"), icon="alert-triangle", **desk)
    appbuilder.add_view(ServerView, "Servers", label=_l("Servers"), icon="server-2", **desk)
