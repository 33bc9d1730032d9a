"""Partners desk: introducing brokers, their links and clients, accruals and settlements (read-only lists)."""

from __future__ import annotations

from flask_appbuilder import AppBuilder
from flask_babel import lazy_gettext as _l

from app.models.commissions import Accrual, Settlement
from app.models.partners import Attribution, IBLink, IntroducingBroker
from app.models.plan_tiers import PlanPeriod
from app.views.columns import ago, client_link, exact, formatters, identifier, transaction_link
from app.views.guarded import AuditedInterface, ReadOnlyView


class IBView(ReadOnlyView):
    class_permission_name = "Introducing brokers"
    datamodel = AuditedInterface(IntroducingBroker)
    list_title, show_title = _l("Introducing brokers"), _l("Introducing broker")
    list_columns = ["id", "client", "currency", "is_active", "created_at"]
    show_columns = list_columns
    search_columns = ["client", "currency", "is_active"]
    formatters_columns = formatters(client=client_link)


class IBLinkView(ReadOnlyView):
    class_permission_name = "IB links"
    datamodel = AuditedInterface(IBLink)
    list_title, show_title = _l("IB links"), _l("IB link")
    list_columns = ["code", "ib", "name", "visits", "is_active", "created_at"]
    search_columns = ["code", "ib", "is_active"]
    formatters_columns = formatters(code=identifier)


class AttributionView(ReadOnlyView):
    class_permission_name = "Attributions"
    datamodel = AuditedInterface(Attribution)
    list_title, show_title = _l("Whose client is whose"), _l("Attribution")
    list_columns = ["client", "ib", "source", "move_id", "valid_from", "valid_to"]
    search_columns = ["client", "ib", "source", "move_id", "valid_from"]
    formatters_columns = formatters(client=client_link)


class AccrualView(ReadOnlyView):
    class_permission_name = "Accruals"
    datamodel = AuditedInterface(Accrual)
    list_title, show_title = _l("Accruals"), _l("Accrual")
    list_columns = [
        "id",
        "ib",
        "deal_id",
        "rule",
        "level",
        "kind",
        "lots",
        "rate",
        "amount",
        "currency",
        "settlement_id",
        "accrued_at",
    ]
    show_columns = [
        *(name for name in list_columns if name != "id"),
        *("unit_id", "client_id", "base", "base_currency", "fx_rate", "fx_source", "fx_observed_at", "uncapped"),
        *("tier_position", "cap_paid"),
    ]
    search_columns = ["ib", "deal_id", "rule", "kind", "accrued_at"]
    formatters_columns = formatters(
        amount=exact,
        lots=exact,
        rate=exact,
        accrued_at=ago,
        base=exact,
        fx_rate=exact,
        uncapped=exact,
        tier_position=exact,
        cap_paid=exact,
    )


class PlanPeriodView(ReadOnlyView):
    class_permission_name = "Plan periods"
    datamodel = AuditedInterface(PlanPeriod)
    list_title, show_title = _l("Periods of tiers and caps"), _l("Period of tiers and caps")
    list_columns = ["plan", "owner", "span", "starts_on", "ends_on", "dirty_why", "dirty_at", "true_ups", "closed_at"]
    search_columns = ["plan", "owner", "starts_on", "dirty_why"]
    formatters_columns = formatters(dirty_at=ago, closed_at=ago)


class SettlementView(ReadOnlyView):
    class_permission_name = "Settlements"
    datamodel = AuditedInterface(Settlement)
    list_title, show_title = _l("Settlements"), _l("Settlement")
    list_columns = ["id", "ib", "period", "accrued", "carried_in", "posted", "carried_out", "settled_at"]
    show_columns = [
        *("ib", "client_id", "period", "accrued", "currency", "fx_rate", "fx_source", "fx_observed_at", "converted"),
        *("carried_in", "posted", "carried_out", "settled_at", "ledger_txn_id"),
    ]
    search_columns = ["ib", "period", "currency", "settled_at"]
    formatters_columns = formatters(
        accrued=exact, fx_rate=exact, converted=exact, carried_in=exact, carried_out=exact, ledger_txn_id=transaction_link
    )


def register(appbuilder: AppBuilder) -> None:
    desk = {"category": "Partners desk", "category_label": _l("Partners")}
    appbuilder.add_view(IBView, "Introducing brokers", label=_l("Introducing brokers"), icon="users", **desk)
    appbuilder.add_view(IBLinkView, "IB links", label=_l("Links"), icon="link", **desk)
    appbuilder.add_view(AttributionView, "Attributions", label=_l("Attributions"), icon="arrows-exchange", **desk)
    appbuilder.add_view(AccrualView, "Accruals", label=_l("Accruals"), icon="coins", **desk)
    appbuilder.add_view(PlanPeriodView, "Plan periods", label=_l("Periods of tiers and caps"), icon="calendar", **desk)
    appbuilder.add_view(SettlementView, "Settlements", label=_l("Settlements"), icon="receipt", **desk)
