"""Money desk: statements of banks and payment providers, imported, matched with our entries, and what is open by age."""

from __future__ import annotations

from collections.abc import Iterator

from flask import flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_appbuilder import AppBuilder, expose, has_access, permission_name
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from flask_wtf.file import FileField, FileRequired
from sqlalchemy import func, select, true
from wtforms import SelectChoice, SelectField
from wtforms.validators import InputRequired

from app.core.errors import AppError
from app.extensions import db
from app.ledger import external, external_ageing, external_import
from app.ledger.errors import StatementKnown, StatementRefused
from app.ledger.external_formats import FORMATS, MAX_BYTES, MAX_LINES
from app.models.controls import ExternalLine, ExternalStatement
from app.surfaces.csv_files import Cell, csv_file
from app.surfaces.errors import sentence
from app.surfaces.filters import Filters
from app.views import statement_drafts
from app.views.external_lines import StatementLines
from app.views.external_parts import StatementPage, adjustment_address, found, matched_entries, proposals
from app.views.guarded import staff_actor

PAGE_SIZE = 50
SUSPENSE_MOST = 100
#: Up to so many lines a person waits for; a job takes up every import, and so the larger ones.
MATCHED_AT_ONCE = 2_000
STATES = {"open": ExternalLine.matched_at.is_(None), "matched": ExternalLine.matched_at.is_not(None)}


class ImportForm(FlaskForm):
    account = SelectField(
        _l("Account"),
        description=_l("The account of ours that the file is about, in all its currencies."),
        validators=[InputRequired(_l("Please choose one of the accounts."))],
    )
    format = SelectField(_l("Kind of file"), validators=[InputRequired(_l("Please choose one of the formats."))])
    file = FileField(
        _l("File"),
        description=_l("UTF-8 text, 5 MB and 50,000 lines at most."),
        validators=[FileRequired(_l("Please choose a file."))],
    )

    def __init__(self, accounts: list[str]) -> None:
        super().__init__()
        self.account.choices = [SelectChoice(account, account) for account in accounts]
        self.format.choices = [SelectChoice(name, gettext(kind.label)) for name, kind in FORMATS.items()]


class BankStatements(StatementPage):
    """The imports, each with its lines; the import itself; and everything that is open, by age."""

    class_permission_name = "Bank statements"
    route_base = "/bank-statements"

    @expose("/")
    @has_access
    @permission_name("list")
    def index(self) -> ResponseReturnValue:
        filters = Filters()
        before = filters.whole("before")
        lines = (
            select(
                func.count().label("lines"),
                func.count(ExternalLine.matched_at).label("matched"),
                func.min(ExternalLine.booked_on).label("first"),
                func.max(ExternalLine.booked_on).label("last"),
            )
            .where(ExternalLine.statement_id == ExternalStatement.id)
            .lateral("counted")
        )
        query = select(ExternalStatement, lines).join(lines, true()).order_by(ExternalStatement.id.desc())
        if before is not None:
            query = query.where(ExternalStatement.id < before)
        rows = db.session.execute(query.limit(PAGE_SIZE + 1)).all()
        return self.render_template(
            "office/bank_statements.html",
            rows=rows[:PAGE_SIZE],
            is_later=before is not None,
            next_before=rows[PAGE_SIZE - 1].ExternalStatement.id if len(rows) > PAGE_SIZE else None,
            accounts=external.outside_accounts(db.session()),
        )

    @expose("/import", methods=["GET", "POST"])
    @has_access
    @permission_name("import")
    def choose(self) -> ResponseReturnValue:
        """Choose a file and see what it holds, or what is wrong with it. Nothing is stored yet."""
        form = ImportForm(external.outside_accounts(db.session()))
        if not form.validate_on_submit():
            return self._form(form)
        content = form.file.data.stream.read(MAX_BYTES + 1)
        chosen = {"account": form.account.data, "format_name": form.format.data}
        try:
            preview = external_import.preview_statement(db.session(), content=content, **chosen)
        except AppError as error:
            return self._form(form, error)
        statement_drafts.keep(content)
        return self.render_template(
            "office/bank_statement_preview.html",
            preview=preview,
            chosen=chosen,
            format_label=FORMATS[form.format.data].label,
            file_name=form.file.data.filename or "",
        )

    @expose("/import/store", methods=["POST"])
    @has_access
    @permission_name("import")
    def store(self) -> ResponseReturnValue:
        """Store the file of the preview, and match what is certain."""
        content = statement_drafts.kept(request.form.get("sha256", ""))
        if content is None:
            flash(
                gettext("The preview is too old, or you looked at another file since. Please choose the file again."), "warning"
            )
            return redirect(url_for("BankStatements.choose"))
        try:
            done = external_import.import_statement(
                db.session(),
                account=request.form.get("account", ""),
                format_name=request.form.get("format_name", ""),
                file_name=request.form.get("file_name", ""),
                content=content,
                actor=staff_actor(),
            )
        except AppError as error:
            return self._form(ImportForm(external.outside_accounts(db.session())), error)
        statement_drafts.forget()
        if done.line_count > MATCHED_AT_ONCE:
            flash(gettext("%(lines)s lines imported. They are matched in the background.", lines=done.line_count), "success")
            return redirect(url_for("BankStatements.show", pk=done.statement_id))
        matched = external.match_lines(db.session(), done.statement_id)
        flash(
            gettext(
                "%(lines)s lines imported: %(matched)s matched, %(open)s open.",
                lines=done.line_count,
                matched=matched.count,
                open=matched.open_count,
            ),
            "success",
        )
        show = "open" if matched.open_count else None
        return redirect(url_for("BankStatements.show", pk=done.statement_id, show=show))

    @expose("/<int:pk>")
    @has_access
    @permission_name("list")
    def show(self, pk: int) -> ResponseReturnValue:
        session, filters = db.session(), Filters()
        statement = found(ExternalStatement, pk)
        shown, after = filters.choice("show", STATES), filters.whole("after")
        counts = session.execute(
            select(func.count(), func.count(ExternalLine.matched_at)).where(ExternalLine.statement_id == pk)
        ).one()
        query = select(ExternalLine).where(ExternalLine.statement_id == pk).order_by(ExternalLine.line).limit(PAGE_SIZE + 1)
        if shown:
            query = query.where(STATES[shown])
        if after is not None:
            query = query.where(ExternalLine.line > after)
        lines = session.scalars(query).all()
        page = lines[:PAGE_SIZE]
        return self.render_template(
            "office/bank_statement.html",
            statement=statement,
            lines=page,
            line_count=counts[0],
            open_count=counts[0] - counts[1],
            shown=shown,
            is_later=after is not None,
            next_after=page[-1].line if len(lines) > PAGE_SIZE else None,
            matched=matched_entries(page),
            proposals=proposals(statement, page),
        )

    @expose("/ageing")
    @has_access
    @permission_name("list")
    def ageing(self) -> ResponseReturnValue:
        session = db.session()
        if request.args.get("export") == "csv":
            return csv_file("differences", _HEAD, _difference_rows())
        receipts = list(external_ageing.differences(session, "suspense", limit=SUSPENSE_MOST + 1))
        return self.render_template(
            "office/bank_ageing.html",
            ageing=external_ageing.aged(session),
            receipts=receipts[:SUSPENSE_MOST],
            is_more=len(receipts) > SUSPENSE_MOST,
            class_labels=[gettext("0–3 days"), gettext("4–7 days"), gettext("8–30 days"), gettext("Over 30 days")],
            adjustment_address=adjustment_address,
        )

    def _form(self, form: ImportForm, error: AppError | None = None) -> ResponseReturnValue:
        """The form with what is wrong: beside its fields, as a list by lines, or with a link to the first import."""
        problems, earlier, status = [], None, 200
        if isinstance(error, StatementRefused) and error.problems:
            problems = [(problem.line, gettext(problem.message) % problem.data) for problem in error.problems]
        elif error is not None:
            for name, words in getattr(error, "problems", {}).items() if not isinstance(error, StatementRefused) else ():
                if name in form:
                    form[name].errors = [gettext(words)]
        if isinstance(error, StatementKnown):
            earlier = error.statement_id
        if error is not None or form.errors:
            status = error.http_status if error is not None else 422
        page = self.render_template(
            "office/bank_statement_import.html",
            form=form,
            refusal=sentence(error) if error is not None else "",
            problems=problems,
            problem_count=getattr(error, "problem_count", 0),
            earlier=earlier,
            formats=FORMATS,
            max_bytes=MAX_BYTES,
            max_lines=MAX_LINES,
        )
        return page, status


_HEAD = ("kind", "account", "day", "age_days", "amount", "currency", "reference", "description", "line", "transaction")


def _difference_rows() -> Iterator[tuple[Cell, ...]]:
    for kind in external_ageing.KINDS:
        for one in external_ageing.differences(db.session(), kind):
            yield (
                kind,
                one.account,
                one.day.isoformat(),
                one.age_days,
                one.amount,
                one.amount.currency,
                one.reference,
                one.words,
                one.line_id,
                str(one.txn_id) if one.txn_id else "",
            )


def register(appbuilder: AppBuilder) -> None:
    appbuilder.add_view(
        BankStatements,
        "Bank statements",
        label=_l("Statements"),
        icon="building-bank",
        category="Money desk",
        category_label=_l("Money"),
    )
    appbuilder.add_view_no_menu(StatementLines)
