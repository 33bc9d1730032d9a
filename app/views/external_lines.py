"""Money desk: one line of a statement, matched by a person, put into suspense, or opened again."""

from __future__ import annotations

from flask import flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_appbuilder import expose, has_access, permission_name
from flask_babel import gettext

from app.core.errors import AppError
from app.extensions import db
from app.ledger import external, external_entries, search
from app.models.controls import ExternalLine, ExternalStatement
from app.surfaces.filters import Filters
from app.views.external_parts import StatementPage, adjustment_address, found, matched_entries, proposals, say
from app.views.guarded import staff_actor


class StatementLines(StatementPage):
    """One line of a statement: what it is matched with, or what it may be."""

    class_permission_name = "Statement lines"
    route_base = "/bank-statements/lines"
    default_view = "show"

    @expose("/<int:pk>", methods=["GET"])
    @has_access
    @permission_name("show")
    def show(self, pk: int) -> ResponseReturnValue:
        return self._page(found(ExternalLine, pk))

    @expose("/of/<int:pk>/match", methods=["POST"])
    @has_access
    @permission_name("match")
    def again(self, pk: int) -> ResponseReturnValue:
        """Look again for the entries of a statement's lines: some come after the import."""
        done = external.match_lines(db.session(), found(ExternalStatement, pk).id)
        words = gettext("%(matched)s more lines matched, %(open)s open.", matched=done.count, open=done.open_count)
        flash(words, "success" if done.count else "info")
        return redirect(url_for("BankStatements.show", pk=pk, show="open" if done.open_count else None))

    @expose("/<int:pk>/match", methods=["POST"])
    @has_access
    @permission_name("match")
    def match(self, pk: int) -> ResponseReturnValue:
        """Match with the chosen entry. A proposal that is confirmed from the list brings its reason with it."""
        line = found(ExternalLine, pk)
        version = request.form.get("entry", "")
        is_number = version.isascii() and version.isdecimal() and len(version) < 20
        reason = request.form.get("reason", "")
        if not is_number:
            return self._page(line, gettext("Please choose the entry."))
        try:
            external.match_by_hand(db.session(), line_id=pk, account_version=int(version), actor=staff_actor(), reason=reason)
        except AppError as error:
            if getattr(error, "problems", None):
                return self._page(found(ExternalLine, pk), say(error))
            flash(say(error), "warning")
            return redirect(url_for("StatementLines.show", pk=pk))
        flash(gettext("Line %(number)s is matched.", number=line.line), "success")
        return _back(line)

    @expose("/<int:pk>/unmatch", methods=["POST"])
    @has_access
    @permission_name("match")
    def unmatch(self, pk: int) -> ResponseReturnValue:
        try:
            external.unmatch(db.session(), line_id=pk, actor=staff_actor(), reason=request.form.get("reason", ""))
            flash(gettext("The match is taken back: line and entry are open again."), "success")
        except AppError as error:
            flash(say(error), "warning")
        return redirect(url_for("StatementLines.show", pk=pk))

    @expose("/<int:pk>/suspense", methods=["POST"])
    @has_access
    @permission_name("match")
    def suspense(self, pk: int) -> ResponseReturnValue:
        line = found(ExternalLine, pk)
        try:
            external.to_suspense(db.session(), line_id=pk, actor=staff_actor())
        except AppError as error:
            flash(say(error), "warning")
            return redirect(url_for("StatementLines.show", pk=pk))
        flash(gettext("%(amount)s are in suspense until somebody knows whose they are.", amount=str(line.amount)), "success")
        return _back(line)

    def _page(self, line: ExternalLine, problem: str = "") -> ResponseReturnValue:
        statement, filters = line.statement, Filters()
        words = filters.text("q")
        entry = matched_entries([line]).get(line.id)
        proposed = [found.entry.key for found in proposals(statement, [line]).get(line.id, [])]
        page = self.render_template(
            "office/bank_statement_line.html",
            line=line,
            statement=statement,
            account=external_entries.account_of(line, statement),
            entry=entry,
            is_reversed=entry is not None and search.reversal_of(db.session(), entry.id) is not None,
            entries=[] if entry else external_entries.search(db.session(), statement, line, words),
            proposed=proposed,
            words=words,
            problem=problem,
            reason=request.form.get("reason", "")[: external.LONGEST_REASON],
            chosen=request.form.get("entry", ""),
            adjustment_address=adjustment_address,
        )
        return page, 422 if problem else 200


def _back(line: ExternalLine) -> ResponseReturnValue:
    """To the page of the list that the person works off, when the form says which it was."""
    after = request.form.get("after", "")
    after = after if after.isascii() and after.isdecimal() and len(after) < 10 else ""
    return redirect(url_for("BankStatements.show", pk=line.statement_id, show="open", after=after or None))
