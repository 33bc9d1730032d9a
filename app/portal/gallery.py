"""Every component in every state, for whoever changes the look. Development only: elsewhere the page does not exist."""

from __future__ import annotations

from flask import abort, current_app, render_template
from flask.typing import ResponseReturnValue
from flask_wtf import FlaskForm
from flask_wtf.file import FileField
from wtforms import BooleanField, EmailField, PasswordField, RadioField, SelectField, StringField, TextAreaField
from wtforms.fields.choices import SelectChoice

from app.portal.guards import portal


class GalleryForm(FlaskForm):
    """One field of each kind."""

    email = EmailField("Mail address")
    password = PasswordField("Password")
    country = SelectField("Country", choices=[SelectChoice("DE", "Germany"), SelectChoice("AE", "United Arab Emirates")])
    amount = StringField("Amount")
    note = TextAreaField("Note")
    product = RadioField("Account type", choices=[SelectChoice("std", "Standard"), SelectChoice("ecn", "ECN")])
    document = FileField("Document")
    agree = BooleanField("I agree")


@portal.get("/gallery")
def gallery() -> ResponseReturnValue:
    if current_app.extensions["settings"].environment != "development":
        abort(404)
    return render_template("components/gallery.html", form=GalleryForm())
