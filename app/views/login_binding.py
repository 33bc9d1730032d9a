"""The form that binds a login: first where it is, then whose it becomes. What was typed survives every refusal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from sqlalchemy import func, select
from wtforms import SelectChoice, SelectField, StringField, TextAreaField

from app.core.errors import AppError
from app.extensions import db
from app.models.clients import Client
from app.models.metatrader import Product, Server
from app.surfaces.errors import sentence


def _key(value: Any) -> int:
    """A choice as a key; 0, which is none, for anything else."""
    text = str(value)
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else 0


class BindForm(FlaskForm):
    server = SelectField(_l("Trading server"), coerce=_key, validate_choice=False)
    login = StringField(_l("Login"), description=_l("The number at the trading server."))
    client = StringField(_l("Client"), description=_l("The client's number or mail address."))
    product = SelectField(
        _l("Product"), coerce=_key, validate_choice=False, description=_l("Only products with the login's group fit.")
    )
    reason = TextAreaField(_l("Reason"), description=_l("Stands in the audit trail."))

    def __init__(self, given: Mapping[str, Any]) -> None:
        super().__init__(formdata=given)
        servers = db.session.scalars(select(Server).where(Server.is_active).order_by(Server.name)).all()
        self.server.choices = [SelectChoice(server.id, server.name) for server in servers]
        if not self.server.data and servers:
            self.server.data = servers[0].id
        self.product.choices = []
        self.elsewhere: list[str] = []
        self.client_number = 0

    @property
    def asks(self) -> bool:
        """Whether a login was named."""
        return bool(self.login.data)

    @property
    def login_number(self) -> int:
        return _key((self.login.data or "").strip())

    @property
    def is_refused(self) -> bool:
        return bool(self.elsewhere or self.errors)

    def validate_place(self) -> bool:
        """Whether server and login can be asked about."""
        self.login.errors, self.server.errors = [], []
        if not self.login_number:
            self.login.errors = [gettext("Please give a whole number.")]
        if self.server.data not in {choice.value for choice in self.server.choices or []}:
            self.server.errors = [gettext("Please choose a trading server.")]
        return not self.login.errors and not self.server.errors

    def offer(self, products: Sequence[Product]) -> None:
        """The products that fit the login that was found."""
        self.product.choices = [SelectChoice(product.id, f"{product.name} ({product.code})") for product in products]
        if not self.product.data and products:
            self.product.data = products[0].id

    def validate_binding(self) -> bool:
        """Whether a client is named who is there; the rest is judged by the use case. Wrong where the form is not ours."""
        if not self.validate():
            return False
        typed = (self.client.data or "").strip()
        query = select(Client.id).where(func.lower(Client.email) == typed.lower() if "@" in typed else Client.id == _key(typed))
        self.client_number = db.session.scalar(query) or 0
        if not self.client_number:
            self.client.errors = [gettext("There is no client with this number or mail address.")]
        return not self.client.errors

    def take(self, error: AppError) -> None:
        """Write a refusal beside its fields."""
        problems: dict[str, str] = getattr(error, "problems", {})
        for name, problem in problems.items():
            if name in self:
                self[name].errors = [gettext(problem)]
        if not problems:
            self.elsewhere.append(sentence(error))
