"""Partners desk: introducing brokers, their links and clients, plans, accruals and settlements (read-only lists)."""

from __future__ import annotations

from flask_appbuilder import AppBuilder
from flask_babel import lazy_gettext as _l

from app.models.commissions import Accrual, PlanVersion, Settlement
from app.models.partners import Attribution, IBLink, IntroducingBroker
from app.surfaces import formats
from app.views.columns import client_link, formatters, identifier
from app.views.guarded import AuditedInterface, ReadOnlyView


class IBView(ReadOnlyView):
    class_permission_name = "Introducing brokers"
    datamodel = AuditedInterface(IntroducingBroker)
    list_title = _l("Introducing brokers")
    list_columns = ["id", "client", "currency", "is_active", "created_at"]
    search_columns = ["client", "currency", "is_active"]
    formatters_columns = formatters(client=client_link)


class IBLinkView(ReadOnlyView):
    class_permission_name = "IB links"
    datamodel = AuditedInterface(IBLink)
    list_title = _l("IB links")
    list_columns = ["code", "ib", "name", "visits", "is_active", "created_at"]
    search_columns = ["code", "ib", "is_active"]
    formatters_columns = formatters(code=identifier)


class AttributionView(ReadOnlyView):
    class_permission_name = "Attributions"
    datamodel = AuditedInterface(Attribution)
    list_title = _l("Whose client is whose")
    list_columns = ["client", "ib", "source", "valid_from", "valid_to"]
    search_columns = ["client", "ib", "source", "valid_from"]
    formatters_columns = formatters(client=client_link, valid_from=formats.when, valid_to=formats.when)


class PlanVersionView(ReadOnlyView):
    class_permission_name = "Plans"
    datamodel = AuditedInterface(PlanVersion)
    list_title = _l("Commission plans")
    list_columns = ["plan", "version", "valid_from", "created_at"]
    search_columns = ["plan", "version", "valid_from"]
    formatters_columns = formatters(valid_from=formats.when)


class AccrualView(ReadOnlyView):
    class_permission_name = "Accruals"
    datamodel = AuditedInterface(Accrual)
    list_title = _l("Accruals")
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
    search_columns = ["ib", "deal_id", "rule", "kind", "accrued_at"]
    formatters_columns = formatters(amount=formats.exact, lots=formats.exact, rate=formats.exact)


class SettlementView(ReadOnlyView):
    class_permission_name = "Settlements"
    datamodel = AuditedInterface(Settlement)
    list_title = _l("Settlements")
    list_columns = ["id", "ib", "period", "accrued", "carried_in", "posted", "carried_out", "settled_at"]
    search_columns = ["ib", "period", "currency", "settled_at"]
    formatters_columns = formatters(accrued=formats.exact, carried_in=formats.exact, carried_out=formats.exact)


def register(appbuilder: AppBuilder) -> None:
    desk = {"category": "Partners desk", "category_label": _l("Partners")}
    appbuilder.add_view(IBView, "Introducing brokers", label=_l("Introducing brokers"), icon="users", **desk)
    appbuilder.add_view(IBLinkView, "IB links", label=_l("Links"), icon="link", **desk)
    appbuilder.add_view(AttributionView, "Attributions", label=_l("Attributions"), icon="arrows-exchange", **desk)
    appbuilder.add_view(PlanVersionView, "Plans", label=_l("Plans"), icon="percentage", **desk)
    appbuilder.add_view(AccrualView, "Accruals", label=_l("Accruals"), icon="coins", **desk)
    appbuilder.add_view(SettlementView, "Settlements", label=_l("Settlements"), icon="receipt", **desk)
