"""System desk: events, the audit trail, mails, failed jobs. Users and roles are Flask-AppBuilder's own screens."""

from __future__ import annotations

from flask_appbuilder import AppBuilder
from flask_babel import lazy_gettext as _l

from app.core.tables import AuditEntry, Event, JobFailure
from app.models.messaging import Mail
from app.views.columns import formatters, identifier, moment
from app.views.guarded import AuditedInterface, ReadOnlyView


class EventView(ReadOnlyView):
    class_permission_name = "Events"
    datamodel = AuditedInterface(Event)
    list_title, show_title = _l("Events"), _l("Event")
    list_columns = ["id", "type", "subject_id", "client_id", "actor", "occurred_at"]
    show_columns = ["id", "type", "subject_id", "client_id", "actor", "payload", "occurred_at"]
    search_columns = ["type", "subject_id", "client_id", "actor", "occurred_at"]
    formatters_columns = formatters(type=identifier, occurred_at=moment)


class AuditView(ReadOnlyView):
    class_permission_name = "Audit trail"
    datamodel = AuditedInterface(AuditEntry)
    list_title, show_title = _l("Audit trail"), _l("Audit entry")
    list_columns = ["id", "at", "actor", "address", "action", "target", "reason"]
    show_columns = ["id", "at", "actor", "address", "action", "target", "reason", "before", "after"]
    search_columns = ["actor", "action", "target", "at"]
    formatters_columns = formatters(action=identifier, target=identifier, at=moment)


class MailView(ReadOnlyView):
    class_permission_name = "Mails"
    datamodel = AuditedInterface(Mail)
    list_title, show_title = _l("Mails"), _l("Mail")
    list_columns = ["id", "client_id", "template", "language", "status", "created_at", "sent_at"]
    show_columns = [*list_columns, "attempts", "error", "values"]
    search_columns = ["client_id", "template", "status", "created_at"]
    formatters_columns = formatters(template=identifier)


class JobFailureView(ReadOnlyView):
    class_permission_name = "Failed jobs"
    datamodel = AuditedInterface(JobFailure)
    list_title, show_title = _l("Failed jobs"), _l("Failed job")
    list_columns = ["failed_at", "function", "error", "queue", "retried_at"]
    show_columns = ["function", "error", "arguments", "queue", "job_id", "failed_at", "retried_at"]
    search_columns = ["queue", "function", "error", "failed_at"]
    formatters_columns = formatters(function=identifier, job_id=identifier)


def register(appbuilder: AppBuilder) -> None:
    desk = {"category": "System desk", "category_label": _l("System")}
    appbuilder.add_view(EventView, "Events", label=_l("Events"), icon="history", **desk)
    appbuilder.add_view(AuditView, "Audit trail", label=_l("Audit trail"), icon="shield-check", **desk)
    appbuilder.add_view(MailView, "Mails", label=_l("Mails"), icon="mail", **desk)
    appbuilder.add_view(JobFailureView, "Failed jobs", label=_l("Failed jobs"), icon="alert-triangle", **desk)
