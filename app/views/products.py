"""Trading desk: products that clients can open, and whether they fit their trading server."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from flask import current_app, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_appbuilder import AppBuilder
from flask_appbuilder.actions import action
from flask_appbuilder.fieldwidgets import BS3TextAreaFieldWidget, BS3TextFieldWidget, Select2Widget
from flask_babel import gettext, ngettext
from flask_babel import lazy_gettext as _l
from wtforms import Field, SelectField, StringField, TextAreaField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import DataRequired, Optional

from app.core.errors import N_, AppError, InvalidInput
from app.core.money import Money, exponent, parent
from app.extensions import db
from app.jobs import gateways
from app.metatrader.products import check_products
from app.models.metatrader import Product
from app.surfaces.errors import sentence
from app.views.columns import amount, formatters
from app.views.guarded import AuditedInterface, BackOfficeView
from app.views.ledger_request_forms import Needed

MARGIN_MODES = {"hedging": _l("Hedging: a position per order"), "netting": _l("Netting: one position per symbol")}


class LeveragesField(Field):
    """Whole numbers with commas between, such as "30, 100, 200"."""

    widget = BS3TextFieldWidget()

    data: list[int] | str | None

    def _value(self) -> str:
        return ", ".join(map(str, self.data)) if isinstance(self.data, list) else self.data or ""

    def process_formdata(self, valuelist: list[str]) -> None:
        text = valuelist[0] if valuelist else ""
        try:
            self.data = sorted({int(part) for part in text.split(",")})
        except ValueError:
            self.data = text
            raise ValueError(gettext("Please give whole numbers with commas between, such as 30, 100, 200.")) from None


class PracticeMoneyField(StringField):
    """An amount in the product's currency, kept in minor units."""

    def process_data(self, value: Any) -> None:
        self.data = f"{value.decimal:f}" if isinstance(value, Money) and value else ""

    def populate_obj(self, obj: Any, name: str) -> None:
        currency = obj.currency or request.form.get("currency", "")  # of a new product it is not filled in yet
        try:
            exponent(currency)
        except AppError:
            return  # the currency itself is what is wrong, and the screen says so
        try:
            minor = Money.parse((self.data or "0").replace(",", ""), currency).amount_minor
        except AppError as error:
            raise InvalidInput({name: error.message % error.data if error.data else error.message}) from None
        if minor < 0:
            raise InvalidInput({name: N_("Please give an amount above zero, or none.")})
        obj.demo_deposit_minor = minor


class ProductView(BackOfficeView):
    class_permission_name = "Products"
    datamodel = AuditedInterface(Product)
    list_title, add_title, edit_title, show_title = _l("Products"), _l("New product"), _l("Product"), _l("Product")
    list_columns = ["code", "name", "server", "group", "currency", "is_demo", "is_open"]
    edit_columns = [
        "name",
        "description",
        "group",
        "leverages",
        "margin_mode",
        "is_swap_free",
        "is_cent",
        "demo_deposit",
        "is_open",
    ]
    add_columns = ["code", *edit_columns[:2], "server", "group", "currency", "leverages", "is_demo", *edit_columns[4:]]
    show_columns = add_columns
    search_columns = [
        *("code", "name", "server", "group", "currency", "margin_mode"),
        *("is_demo", "is_swap_free", "is_cent", "is_open"),
    ]
    formatters_columns = formatters(
        leverages=lambda values: ", ".join(map(str, values)),
        margin_mode=lambda mode: MARGIN_MODES.get(mode, mode),
        demo_deposit=amount,
    )
    label_columns = {
        "is_swap_free": _l("Swap-free"),
        "is_cent": _l("Cent account"),
        "margin_mode": _l("Positions"),
        "demo_deposit": _l("Practice money"),
        "is_open": _l("Open to clients"),
    }
    description_columns = {
        "group": _l("The group on the trading server, such as real\\standard\\usd. Case matters."),
        "leverages": _l("Choices for the client, such as 30, 100, 200. The rules of the client's country may keep some back."),
        "margin_mode": _l("As the group on the trading server has it."),
        "is_swap_free": _l("Told to clients. Whether swaps are booked is set in the group on the trading server."),
        "is_cent": _l("Balances are in a cent currency, such as USC."),
        "is_demo": _l("For practice: outside the ledger, and open to clients before their documents are approved."),
        "demo_deposit": _l("What a new practice account begins with, such as 10000. Empty for none."),
        "is_open": _l("Offered to clients now. Accounts that are open already stay."),
    }
    add_form_extra_fields = {
        "leverages": LeveragesField(_l("Leverages"), description=description_columns["leverages"], validators=[DataRequired()]),
        "description": TextAreaField(_l("Description"), validators=[Optional()], widget=BS3TextAreaFieldWidget()),
        "margin_mode": SelectField(
            label_columns["margin_mode"],
            description=description_columns["margin_mode"],
            choices=[SelectChoice(mode, words) for mode, words in MARGIN_MODES.items()],
            default="hedging",
            validators=[Needed()],
            widget=Select2Widget(),
        ),
        "demo_deposit": PracticeMoneyField(
            label_columns["demo_deposit"],
            description=description_columns["demo_deposit"],
            validators=[Optional()],
            widget=BS3TextFieldWidget(),
        ),
    }
    edit_form_extra_fields = add_form_extra_fields

    def check(self, item: Any) -> None:
        problems = {}
        try:
            exponent(item.currency)
            is_cent_currency = parent(item.currency)[1] > 1
            if item.is_cent and not is_cent_currency:
                problems["is_cent"] = N_("A cent account needs a cent currency, such as USC.")
            if is_cent_currency and not item.is_cent:
                problems["is_cent"] = N_("This currency is a cent currency, so this is a cent account.")
        except AppError:
            problems["currency"] = N_("This currency is not known.")
        if not item.leverages or not all(1 <= leverage <= 5000 for leverage in item.leverages):
            problems["leverages"] = N_("Each leverage must lie between 1 and 5000.")
        if any(sign in item.group for sign in "*!,"):
            problems["group"] = N_("Please name one group; * and ! are for masks.")
        if item.demo_deposit_minor and not item.is_demo:
            problems["demo_deposit"] = N_("Only a product for practice begins with practice money.")
        if problems:
            raise InvalidInput(problems)

    @action("check", _l("Check with the server"), confirmation="", icon="search")
    def check_action(self, items: Any) -> ResponseReturnValue:
        """Compare the chosen products with the groups of their servers, and say what differs. Nothing changes."""
        products = sorted(items if isinstance(items, list) else [items], key=lambda one: (one.server_id, one.id))
        fit = 0
        for server_id, group in groupby(products, key=lambda one: one.server_id):
            its = list(group)
            try:
                platform = gateways.platform_of(db.session(), current_app.extensions["settings"], server_id)
                findings = check_products(platform, its)
            except AppError as error:
                flash(f"{its[0].server}: {sentence(error)}", "danger")
                continue
            for one in findings:
                flash(f"{one.product}: {gettext(one.message) % one.data}", "warning")
            fit += len(its) - len({one.product for one in findings})
        if fit:
            flash(ngettext("%(num)d product fits its server.", "%(num)d products fit their servers.", fit), "success")
        return redirect(url_for("ProductView.list"))


def register(appbuilder: AppBuilder) -> None:
    appbuilder.add_view(
        ProductView, "Products", label=_l("Products"), icon="tag", category="Trading desk", category_label=_l("Trading")
    )
