"""Partners desk: the marketing material that introducing brokers find in the portal."""

from __future__ import annotations

from typing import Any

from flask import Response, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_appbuilder import AppBuilder, expose, has_access, permission_name
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from werkzeug.datastructures import FileStorage
from wtforms import FileField, SelectField, StringField, TextAreaField
from wtforms.fields.choices import SelectChoice

from app.core.errors import AppError, InvalidInput
from app.engagement import material
from app.extensions import db
from app.surfaces.errors import sentence
from app.views.columns import person
from app.views.guarded import DeskPage, staff_actor
from app.views.ledger_request_forms import Needed

RIGHTS = "Marketing material"

KINDS = {"image": _l("Banner"), "text": _l("Text"), "link": _l("Page")}
LANGUAGES = {"en": "English", "ar": "العربية"}


class MaterialForm(FlaskForm):
    title = StringField(_l("Title"), validators=[Needed()])
    kind = SelectField(_l("Kind"), choices=[SelectChoice(code, name) for code, name in KINDS.items()], default="image")
    language = SelectField(_l("Language"), choices=[SelectChoice(code, name) for code, name in LANGUAGES.items()], default="en")
    file = FileField(_l("Picture"), description=_l("PNG or JPEG, 2 MB at most. For a banner."))
    words = TextAreaField(
        _l("Text or address"),
        description=_l("A text with {link} where the partner's link goes, or the https:// address of a page."),
        render_kw={"rows": 4, "maxlength": 2000},
    )


class MaterialPage(DeskPage):
    """What there is, with the form that adds more."""

    class_permission_name = RIGHTS
    route_base = "/marketing-material"
    extra_args = {"person": person}

    @expose("/", methods=["GET"])
    @has_access
    @permission_name("list")
    def index(self) -> ResponseReturnValue:
        return self._page(MaterialForm())

    @expose("/add", methods=["POST"])
    @has_access
    @permission_name("add")
    def add(self) -> ResponseReturnValue:
        form, problem = MaterialForm(), ""
        if form.validate_on_submit():
            try:
                material.add_material(
                    db.session(),
                    kind=form.kind.data,
                    language=form.language.data,
                    title=form.title.data or "",
                    words=form.words.data or "",
                    content=_content(form.file.data),
                    actor=staff_actor(),
                )
                flash(gettext("Added. Introducing brokers see it now."), "success")
                return redirect(url_for("MaterialPage.index"))
            except InvalidInput as error:
                for name, message in error.problems.items():
                    form[name].errors = [gettext(message)]
            except AppError as error:
                problem = sentence(error)
        return self._page(form, problem), 422

    @expose("/<int:pk>/switch", methods=["POST"])
    @has_access
    @permission_name("add")
    def switch(self, pk: int) -> ResponseReturnValue:
        shows = request.form.get("shows") == "1"
        material.switch_material(db.session(), pk, is_active=shows, actor=staff_actor())
        flash(gettext("Shown to introducing brokers.") if shows else gettext("Not shown any more."), "success")
        return redirect(url_for("MaterialPage.index"))

    @expose("/<int:pk>/picture")
    @has_access
    @permission_name("list")
    def picture(self, pk: int) -> ResponseReturnValue:
        """A banner as it is, also one that is off."""
        found = material.picture(db.session(), pk)
        response = Response(found.content, mimetype=found.media_type)
        response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
        return response

    def _page(self, form: MaterialForm, problem: str = "") -> Any:
        return self.render_template(
            "office/marketing_material.html",
            form=form,
            problem=problem,
            rows=material.material(db.session(), only_active=False),
            kinds=KINDS,
            languages=LANGUAGES,
        )


def _content(file: Any) -> bytes:
    """The bytes of an upload; none of what a form sent as text."""
    return file.read(material.MAX_BYTES + 1) if isinstance(file, FileStorage) else b""


def register(appbuilder: AppBuilder) -> None:
    appbuilder.add_view(
        MaterialPage,
        RIGHTS,
        href="/marketing-material/",
        label=_l("Material"),
        icon="photo",
        category="Partners desk",
        category_label=_l("Partners"),
    )
