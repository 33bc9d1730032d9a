"""The portal's forms. They ask for what is needed; whether it will do is judged by the use cases, in one place for all."""

from __future__ import annotations

from typing import Any

from flask_babel import get_locale, gettext
from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from flask_wtf.file import FileField, FileRequired
from wtforms import (
    BooleanField,
    DateField,
    EmailField,
    HiddenField,
    PasswordField,
    SelectChoice,
    SelectField,
    StringField,
    TelField,
    TextAreaField,
)
from wtforms.validators import InputRequired, Length

from app import LANGUAGES
from app.clients.countries import country_names
from app.core.errors import AppError
from app.surfaces.errors import sentence

MAIL_NEEDED = _l("Please enter your mail address.")


class DayField(DateField):
    """A date whose error is ours to word."""

    def process_formdata(self, valuelist: list[str]) -> None:
        try:
            super().process_formdata(valuelist)
        except ValueError:
            raise ValueError(gettext("Please enter a date, such as 1990-12-31.")) from None


class RegisterForm(FlaskForm):
    first_name = StringField(_l("First name"), validators=[InputRequired(_l("Please enter your first name."))])
    last_name = StringField(_l("Last name"), validators=[InputRequired(_l("Please enter your last name."))])
    email = EmailField(_l("Mail address"), validators=[InputRequired(MAIL_NEEDED)])
    password = PasswordField(
        _l("Password"),
        description=_l("At least 10 characters. A few unrelated words are easy to keep in mind."),
        validators=[InputRequired(_l("Please choose a password."))],
    )
    country = SelectField(
        _l("Country you live in"),
        validate_choice=False,
        validators=[InputRequired(_l("Please choose the country you live in."))],
    )
    birth_date = DayField(_l("Date of birth"), validators=[InputRequired(_l("Please enter your date of birth."))])
    terms = BooleanField(
        _l("I have read the terms and the notice of risks, and agree to them."),
        validators=[InputRequired(_l("Please read the terms and agree to them."))],
    )
    promo_code = StringField(
        _l("Promotion code (optional)"), description=_l("If somebody gave you one. Capital or small letters are the same.")
    )
    ib = HiddenField()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        countries = country_names(str(get_locale()))
        self.country.choices = [SelectChoice("", gettext("Please choose")), *(SelectChoice(*country) for country in countries)]


class SignInForm(FlaskForm):
    email = EmailField(_l("Mail address"), validators=[InputRequired(MAIL_NEEDED)])
    password = PasswordField(_l("Password"), validators=[InputRequired(_l("Please enter your password."))])
    next = HiddenField()


class MailForm(FlaskForm):
    """Asks for a mail to this address: a reset link, or another verification link."""

    email = EmailField(_l("Mail address"), validators=[InputRequired(MAIL_NEEDED), Length(max=254)])


class NewPasswordForm(FlaskForm):
    password = PasswordField(
        _l("New password"),
        description=_l("At least 10 characters."),
        validators=[InputRequired(_l("Please choose a password."))],
    )


class ConfirmForm(FlaskForm):
    """Nothing but a button."""


class UploadForm(FlaskForm):
    file = FileField(_l("File"), validators=[FileRequired(_l("Please choose a file."))])


class ProfileForm(FlaskForm):
    language = SelectField(
        _l("Language"),
        choices=[SelectChoice(code, language["name"]) for code, language in LANGUAGES.items()],
        invalid_choice_message=_l("Please choose a language."),
    )
    phone = TelField(_l("Telephone"), description=_l("With the country code, such as +44 20 7946 0958."))
    address = TextAreaField(_l("Address"), description=_l("Street, town, postal code, as on your proof of address."))


class PasswordForm(FlaskForm):
    current = PasswordField(_l("Present password"), validators=[InputRequired(_l("Please enter your present password."))])
    password = PasswordField(
        _l("New password"),
        description=_l("At least 10 characters."),
        validators=[InputRequired(_l("Please choose a password."))],
    )


def show_problems(form: FlaskForm, error: AppError) -> list[str]:
    """Write what a use case found wrong beside its fields. Returns the sentences that belong to no field."""
    problems: dict[str, str] = getattr(error, "problems", {})
    elsewhere = []
    for name, problem in problems.items():
        if name not in form:
            elsewhere.append(translated(problem, error.data))
        elif not form[name].errors:
            form[name].errors = [translated(problem, error.data)]
    return elsewhere if problems or form.errors else [sentence(error)]


def translated(message: str, data: dict[str, Any]) -> str:
    text = gettext(message)
    return text % data if data else text
