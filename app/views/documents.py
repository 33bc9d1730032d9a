"""Document review: the queue, and the page where a reviewer sees proof and client side by side and decides."""

from __future__ import annotations

from flask import Response, abort, current_app, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_appbuilder import AppBuilder, expose, has_access, permission_name
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from sqlalchemy import select

from app.compliance import review
from app.compliance.storage import document_storage
from app.core.errors import AppError
from app.extensions import db
from app.models.clients import Client
from app.models.compliance import Document
from app.surfaces.errors import sentence
from app.views.guarded import DeskPage, staff_actor


class DocumentQueue(DeskPage):
    """The approval queue for clients' documents."""

    class_permission_name = "Documents"
    route_base = "/documents"

    @expose("/")
    @has_access
    @permission_name("list")
    def index(self) -> ResponseReturnValue:
        waiting = db.session.scalars(
            select(Document)
            .join(Client, Client.id == Document.client_id)
            .where(Document.status == "pending")
            .order_by(Document.uploaded_at)
        ).all()
        decided = db.session.scalars(
            select(Document).where(Document.reviewed_at.is_not(None)).order_by(Document.reviewed_at.desc()).limit(20)
        ).all()
        return self.render_template("office/documents.html", waiting=waiting, decided=decided)

    @expose("/<int:document_id>")
    @has_access
    @permission_name("review")
    def show(self, document_id: int) -> ResponseReturnValue:
        document = db.session.get(Document, document_id)
        if document is None:
            abort(404)
        others = db.session.scalars(
            select(Document)
            .where(Document.client_id == document.client_id, Document.id != document.id)
            .order_by(Document.id.desc())
        ).all()
        return self.render_template("office/document.html", document=document, client=document.client, others=others)

    @expose("/<int:document_id>/content")
    @has_access
    @permission_name("review")
    def content(self, document_id: int) -> ResponseReturnValue:
        """The decrypted bytes, sandboxed; every look stands in the audit trail."""
        storage = document_storage(current_app.extensions["settings"])
        opened = review.open_document(db.session(), storage, document_id, staff_actor())
        response = Response(opened.content, mimetype=opened.media_type)
        if opened.media_type != "application/pdf":
            response.headers["Content-Security-Policy"] = "default-src 'none'; img-src 'self'; sandbox; frame-ancestors 'self'"
        response.headers["Content-Disposition"] = "inline"
        return response

    @expose("/<int:document_id>/approve", methods=["POST"])
    @has_access
    @permission_name("review")
    def approve(self, document_id: int) -> ResponseReturnValue:
        try:
            review.approve_document(db.session(), document_id, staff_actor())
            flash(gettext("Approved. The client can see it now."), "success")
        except AppError as error:
            flash(sentence(error), "warning")
        return redirect(url_for("DocumentQueue.index"))

    @expose("/<int:document_id>/reject", methods=["POST"])
    @has_access
    @permission_name("review")
    def reject(self, document_id: int) -> ResponseReturnValue:
        reason = request.form.get("reason", "")
        try:
            review.reject_document(db.session(), document_id, reason, staff_actor())
            flash(gettext("Rejected. The client reads your reason and can send another one."), "success")
        except AppError as error:
            flash(sentence(error), "warning")
            if getattr(error, "problems", None):
                return redirect(url_for("DocumentQueue.show", document_id=document_id, reason=reason[:500]))
        return redirect(url_for("DocumentQueue.index"))


def register(appbuilder: AppBuilder) -> None:
    appbuilder.add_view(
        DocumentQueue,
        "Documents",
        label=_l("Document review"),
        icon="id",
        category="Compliance desk",
        category_label=_l("Compliance"),
    )
