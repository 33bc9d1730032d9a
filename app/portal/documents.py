"""Documents in the portal: what is missing, what was said about it, and sending a file."""

from __future__ import annotations

from flask import Response, abort, current_app, flash, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext

from app.compliance import documents as compliance
from app.compliance.storage import document_storage
from app.core.errors import AppError
from app.extensions import db, limiter
from app.models.compliance import DOCUMENT_KINDS, Document
from app.portal import guards
from app.portal.forms import UploadForm, show_problems
from app.portal.guards import client_required, portal

ACCEPT = "image/jpeg,image/png,application/pdf"


@portal.get("/documents")
@client_required
def documents() -> ResponseReturnValue:
    return _page({})


@portal.post("/documents/<kind>")
@client_required
@limiter.limit("40 per hour", key_func=guards.by_client)
def send_document(kind: str) -> ResponseReturnValue:
    """Take the file; a refused one leaves what was there before."""
    if kind not in DOCUMENT_KINDS:
        abort(404)
    settings = current_app.extensions["settings"]
    form = UploadForm(prefix=kind)
    status = 422
    if form.validate_on_submit():
        try:
            compliance.upload_document(
                db.session(),
                document_storage(settings),
                client_id=g.client.id,
                kind=kind,
                file_name=form.file.data.filename or "",
                content=form.file.data.stream.read(settings.upload_max_bytes + 1),
                max_bytes=settings.upload_max_bytes,
                actor=guards.client_actor(),
            )
            flash(gettext("We have your document. A person looks at it, usually within a working day."), "success")
            return redirect(url_for("portal.documents"))
        except AppError as error:
            for problem in show_problems(form, error):
                form.file.errors = [problem]
            status = error.http_status
    return _page({kind: form}, status)


@portal.get("/documents/<kind>/card")
@client_required
def document_card(kind: str) -> ResponseReturnValue:
    """One proof's card for live updates; 204 while the page shows the present state, so that a chosen file stays chosen."""
    if kind not in DOCUMENT_KINDS:
        abort(404)
    proofs = compliance.documents_of(db.session(), g.client.id)
    if request.args.get("shown") == state_of(proofs.get(kind)):
        return "", 204
    form = UploadForm(prefix=kind)
    return render_template("portal/document_card.html", kind=kind, document=proofs.get(kind), form=form, **_context(proofs))


@portal.get("/documents/<int:document_id>/file")
@client_required
def document_file(document_id: int) -> ResponseReturnValue:
    """The client's own file back. Nobody else's, and nothing in it may run."""
    storage = document_storage(current_app.extensions["settings"])
    document, content = compliance.read_own_document(db.session(), storage, client_id=g.client.id, document_id=document_id)
    response = Response(content, mimetype=document.media_type)
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    is_pdf = document.media_type == "application/pdf"
    response.headers.set("Content-Disposition", "attachment" if is_pdf else "inline", filename=document.file_name)
    return response


def state_of(document: Document | None) -> str:
    """What a card shows, in one word, to see whether it is out of date."""
    return f"{document.id}-{document.status}" if document else "none"


def _page(forms: dict[str, UploadForm], status: int = 200) -> ResponseReturnValue:
    proofs = compliance.documents_of(db.session(), g.client.id)
    cards = [(kind, proofs.get(kind), forms.get(kind) or UploadForm(formdata=None, prefix=kind)) for kind in DOCUMENT_KINDS]
    return render_template("portal/documents.html", cards=cards, **_context(proofs)), status


def _context(proofs: dict[str, Document]) -> dict[str, object]:
    """What every card needs. `urgent` is the first proof missing or rejected: its button is the page's primary one."""
    urgent = next((kind for kind in DOCUMENT_KINDS if kind not in proofs or proofs[kind].status == "rejected"), None)
    max_bytes = current_app.extensions["settings"].upload_max_bytes
    return {"accept": ACCEPT, "max_bytes": max_bytes, "state_of": state_of, "urgent": urgent}
