"""The form that binds a login: first where it is, then whose it becomes. What was typed survives every refusal.

A login is bound only to a client whose data stood beside the server's when the button was pressed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from sqlalchemy import func, select
from wtforms import HiddenField, SelectChoice, SelectField, StringField, TextAreaField

from app.clients.countries import country_names
from app.core.errors import AppError
from app.core.uow import unit_of_work
from app.extensions import db
from app.metatrader import matching
from app.metatrader.binding import Found
from app.models.clients import Client
from app.models.metatrader import Server
from app.surfaces.errors import sentence
from app.views.guarded import staff_actor


def _key(value: Any) -> int:
    """A choice as a key; 0, which is none, for anything else."""
    text = str(value)
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else 0


@dataclass(frozen=True)
class Beside:
    """A client beside a login, and which of "name", "email" and "country" differ."""

    client: Client
    differs: tuple[str, ...]


class BindForm(FlaskForm):
    """`shown`: the client, by number, whose data stood on the page."""

    server = SelectField(_l("Trading server"), coerce=_key, validate_choice=False)
    login = StringField(_l("Login"), description=_l("The number at the trading server."))
    client = StringField(_l("Client"), description=_l("The client's number or mail address."))
    product = SelectField(
        _l("Product"), coerce=_key, validate_choice=False, description=_l("Only products with the login's group fit.")
    )
    reason = TextAreaField(_l("Reason"), description=_l("Stands in the audit trail."))
    shown = HiddenField()

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

    def offer(self, found: Found) -> None:
        """The products that fit the login that was found, and the client who has its mail address."""
        self.product.choices = [SelectChoice(product.id, f"{product.name} ({product.code})") for product in found.products]
        if not self.product.data and found.products:
            self.product.data = found.products[0].id
        if self.client.data is None and found.client_id is not None:
            self.client.data = str(found.client_id)

    def beside(self, found: Found) -> Beside | None:
        """The named client beside the login; None where nobody is named or found. Looking stands in the audit trail."""
        client = db.session.get(Client, self._find_client()) if self.client.data else None
        self.shown.data = str(client.id) if client else ""
        if client is None:
            return None
        with unit_of_work(db.session(), staff_actor()) as unit:
            unit.audit("client.view", f"client:{client.id}", reason=f"login {found.state.login}")
        known = matching.KnownClient(client.id, client.email, client.full_name, client.country)
        names = {name.lower(): code for code, name in country_names("en")}
        return Beside(client, matching.differences(found.user, known, names))

    @property
    def was_shown(self) -> bool:
        """Whether the client who is named now is the one whose data stood on the page."""
        return self.shown.data == str(self.client_number)

    def validate_binding(self) -> bool:
        """Whether a client is named who is there; the rest is judged by the use case. Wrong where the form is not ours."""
        if not self.validate():
            return False
        self.client_number = self._find_client()
        if not self.client_number:
            self.client.errors = [gettext("There is no client with this number or mail address.")]
        return not self.client.errors

    def _find_client(self) -> int:
        typed = (self.client.data or "").strip()
        query = select(Client.id).where(func.lower(Client.email) == typed.lower() if "@" in typed else Client.id == _key(typed))
        return db.session.scalar(query) or 0

    def take(self, error: AppError) -> None:
        """Write a refusal beside its fields."""
        problems: dict[str, str] = getattr(error, "problems", {})
        for name, problem in problems.items():
            if name in self:
                self[name].errors = [gettext(problem)]
        if not problems:
            self.elsewhere.append(sentence(error))
