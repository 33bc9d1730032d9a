"""Trading desk: trading accounts, what may be changed on them, and logins of a server that are bound to a client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import abort, current_app, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_appbuilder import AppBuilder, BaseView, expose, has_access, permission_name
from flask_babel import get_locale, gettext
from flask_babel import lazy_gettext as _l
from sqlalchemy import func, select

from app.clients.countries import country_names
from app.core.clock import now
from app.core.errors import AppError, InvalidInput, NotFound
from app.extensions import db
from app.jobs import gateways
from app.metatrader import binding, changes, rules
from app.metatrader.codes import UserRight
from app.models.metatrader import AccountChange, Position, Product, TradingAccount
from app.views.columns import client_link, decimals, formatters, moment, person, transaction_link
from app.views.guarded import AuditedInterface, DeskPage, ReadOnlyView, staff_actor
from app.views.login_binding import Beside, BindForm
from app.views.refusal import NOTHING_REFUSED, Refused, refused, why

SHOW = "office/trading_account.html"
POSITIONS_SHOWN = 20
CHANGES_SHOWN = 50

#: What each kind of change is called.
KINDS = {
    "leverage": _l("Leverage"),
    "group": _l("Group"),
    "main_password": _l("New main password"),
    "investor_password": _l("New investor password"),
    "disable": _l("Disable"),
    "enable": _l("Enable"),
    "archive": _l("Archive"),
    "restore": _l("Restore"),
}
ORIGINS = {"opened": _l("Opened by us"), "bound": _l("Bound by staff"), "imported": _l("Imported")}

#: What MetaTrader's bits mean that staff ask about; the others stand as a number.
RIGHT_WORDS = {
    UserRight.ENABLED: _l("may sign in"),
    UserRight.TRADE_DISABLED: _l("trading is off"),
    UserRight.INVESTOR: _l("investor only"),
    UserRight.EXPERT: _l("robots allowed"),
    UserRight.READONLY: _l("read only"),
    UserRight.EXCLUDE_REPORTS: _l("left out of reports"),
}


def rights_in_words(rights: int | None) -> str:
    """The rights of a login as a list of words."""
    if rights is None:
        return "—"
    words = [str(word) for bit, word in RIGHT_WORDS.items() if rights & bit]
    return ", ".join([*words, f"({rights:#x})"])


def is_usable(rights: int) -> bool:
    """Whether these rights let somebody sign in and trade."""
    return bool(rights & UserRight.ENABLED and not rights & UserRight.TRADE_DISABLED)


def account_page(view: BaseView, account: TradingAccount, refusal: Refused = NOTHING_REFUSED) -> str:
    """The page of an account, with the dialog open that was refused."""
    session, today = db.session(), now().date()
    positions = select(Position).where(Position.trading_account_id == account.id)
    products = session.scalars(
        select(Product)
        .where(Product.server_id == account.server_id, Product.is_demo == account.product.is_demo)
        .order_by(Product.name, Product.id)
    ).all()
    groups = [(product, [why(error) for error in changes.group_obstacles(session, account, product)]) for product in products]
    offer = rules.offer_of(session, account.product, account.client, today)
    recent = select(AccountChange).where(AccountChange.trading_account_id == account.id)
    page: str = view.render_template(
        SHOW,
        account=account,
        refusal=refusal,
        positions=session.scalars(positions.order_by(Position.id).limit(POSITIONS_SHOWN)).all(),
        position_count=session.scalar(select(func.count()).select_from(positions.subquery())),
        changes=session.scalars(recent.order_by(AccountChange.id.desc()).limit(CHANGES_SHOWN)).all(),
        under_way=changes.open_change(session, account.id),
        offer=offer,
        protects=not account.product.is_demo and rules.protects_negative_balance(session, account.client, today),
        groups=[product for product, obstacles in groups if not obstacles],
        other_groups=[(product, obstacles) for product, obstacles in groups if obstacles and product.id != account.product_id],
        is_usable=account.rights is None or is_usable(account.rights),
        is_closable=changes.is_closable(session, account),
        can_unbind=binding.can_unbind(session, account),
        kinds=KINDS,
        origins=ORIGINS,
        rights_in_words=rights_in_words,
        person=person,
        client_link=client_link,
        transaction_link=transaction_link,
    )
    return page


class TradingAccountView(ReadOnlyView):
    """All accounts, and a page per account."""

    class_permission_name = "Trading accounts"
    datamodel = AuditedInterface(TradingAccount)
    list_title, show_title = _l("Trading accounts"), _l("Trading account")
    list_template = "office/trading_accounts.html"
    show_template = SHOW
    list_columns = ["login", "client", "product", "server", "leverage", "balance", "equity", "currency", "status"]
    search_columns = ["login", "client", "product", "server", "status", "currency", "origin", "group", "leverage"]
    formatters_columns = formatters(
        client=client_link,
        leverage=lambda value: f"1:{value}",
        **dict.fromkeys(("balance", "credit", "equity"), decimals),
        requested_at=moment,
    )

    @expose("/show/<pk>", methods=["GET"])
    @has_access
    def show(self, pk: str) -> ResponseReturnValue:
        """The account with what the server last said of it, and what was changed on it."""
        account = self.datamodel.get(pk)
        if account is None:
            abort(404)
        return account_page(self, account)


class AccountDesk(DeskPage):
    """What may be done to accounts: changes that their server makes, and the binding of logins that exist there."""

    class_permission_name = "Account changes"
    route_base = "/trading-accounts"
    default_view = "bind"

    @expose("/<int:pk>/change/<kind>", methods=["POST"])
    @has_access
    @permission_name("change")
    def change(self, pk: int, kind: str) -> ResponseReturnValue:
        """Ask the account's server for a change, with the reason; a refusal keeps what was typed."""
        ask = _ASKS.get(kind)
        if ask is None:
            abort(404)
        try:
            ask(pk, request.form)
        except NotFound:
            abort(404)
        except (changes.ChangeUnderWay, changes.NotInThisState) as error:
            flash(why(error), "warning")
            return account_page(self, db.session.get_one(TradingAccount, pk)), 422
        except AppError as error:
            return account_page(self, db.session.get_one(TradingAccount, pk), refused(kind, error)), 422
        flash(gettext("The trading server is asked for this now. The result stands below in a few seconds."), "success")
        return redirect(url_for("TradingAccountView.show", pk=pk))

    @expose("/changes/<int:change_id>/withdraw", methods=["POST"])
    @has_access
    @permission_name("change")
    def withdraw(self, change_id: int) -> ResponseReturnValue:
        """Give up a change that was not sent yet."""
        change = db.session.get(AccountChange, change_id)
        if change is None:
            abort(404)
        account_id = change.trading_account_id
        try:
            changes.withdraw_change(db.session(), change_id, actor=staff_actor(), reason=request.form.get("reason", ""))
            flash(gettext("Withdrawn. Nothing is sent."), "success")
        except InvalidInput as error:
            return account_page(self, db.session.get_one(TradingAccount, account_id), refused("withdraw", error)), 422
        except AppError as error:
            flash(why(error), "warning")
        return redirect(url_for("TradingAccountView.show", pk=account_id))

    @expose("/<int:pk>/unbind", methods=["POST"])
    @has_access
    @permission_name("bind")
    def unbind(self, pk: int) -> ResponseReturnValue:
        """Take a login that was bound by mistake from its client again."""
        try:
            binding.unbind_login(db.session(), account_id=pk, reason=request.form.get("reason", ""), actor=staff_actor())
        except NotFound:
            abort(404)
        except InvalidInput as error:
            return account_page(self, db.session.get_one(TradingAccount, pk), refused("unbind", error)), 422
        except AppError as error:
            flash(why(error), "warning")
            return redirect(url_for("TradingAccountView.show", pk=pk))
        flash(gettext("The login belongs to nobody again. At the trading server it is as it was."), "success")
        return redirect(url_for("TradingAccountView.list"))

    @expose("/bind", methods=["GET", "POST"])
    @has_access
    @permission_name("bind")
    def bind(self) -> ResponseReturnValue:
        """Look a login up at its server, put a client's data beside the server's, then bind it."""
        form = BindForm(request.form if request.method == "POST" else request.args)
        is_sent = request.method == "POST"
        found: binding.Found | None = None
        beside: Beside | None = None
        if form.asks and form.validate_place():
            session = db.session()
            try:
                platform = gateways.platform_of(session, current_app.extensions["settings"], form.server.data)
                found = binding.look_up(session, platform, server_id=form.server.data, login=form.login_number)
                form.offer(found)
                is_named = found.obstacle is None and bool(found.products) and (not is_sent or form.validate_binding())
                if is_named and is_sent and form.was_shown and "bind" in request.form:
                    account = binding.bind_login(
                        session,
                        platform,
                        server_id=form.server.data,
                        login=form.login_number,
                        client_id=form.client_number,
                        product_id=form.product.data,
                        reason=form.reason.data,
                        actor=staff_actor(),
                    )
                    flash(gettext("Login %(login)s is bound.", login=account.login), "success")
                    return redirect(url_for("TradingAccountView.show", pk=account.id))
                if is_named:
                    beside = form.beside(found)
            except AppError as error:
                form.take(error)
                if found is not None and form.client_number:
                    beside = form.beside(found)
        page = self.render_template(
            "office/login_bind.html",
            form=form,
            found=found,
            beside=beside,
            why=why,
            rights_in_words=rights_in_words,
            countries=dict(country_names(str(get_locale()))),
            client_link=client_link,
        )
        return page, 422 if form.is_refused else 200


def _whole(text: str | None) -> int:
    """A whole number as typed; 0, which no field takes, for anything else."""
    typed = (text or "").strip().removeprefix("1:")
    return int(typed) if typed.isascii() and typed.isdecimal() and len(typed) < 10 else 0


def _leverage(account_id: int, form: Any) -> AccountChange:
    return changes.change_leverage(db.session(), leverage=_whole(form.get("leverage")), **_by_staff(account_id, form))


def _group(account_id: int, form: Any) -> AccountChange:
    return changes.change_group(db.session(), product_id=_whole(form.get("product")), **_by_staff(account_id, form))


def _password(which: Any) -> Callable[[int, Any], AccountChange]:
    def ask(account_id: int, form: Any) -> AccountChange:
        vault = gateways.password_vault(current_app.extensions["settings"])
        return changes.reset_password(db.session(), vault, which=which, **_by_staff(account_id, form))

    return ask


def _archive(account_id: int, form: Any) -> AccountChange:
    return changes.archive(db.session(), is_forced="forced" in form, **_by_staff(account_id, form))


def _by_staff(account_id: int, form: Any) -> dict[str, Any]:
    return {"account_id": account_id, "actor": staff_actor(), "reason": form.get("reason", "")[:1000]}


_ASKS: dict[str, Callable[[int, Any], AccountChange]] = {
    "leverage": _leverage,
    "group": _group,
    "main_password": _password("main"),
    "investor_password": _password("investor"),
    "disable": lambda account_id, form: changes.disable(db.session(), **_by_staff(account_id, form)),
    "enable": lambda account_id, form: changes.enable(db.session(), **_by_staff(account_id, form)),
    "archive": _archive,
    "restore": lambda account_id, form: changes.restore(db.session(), **_by_staff(account_id, form)),
}


def register(appbuilder: AppBuilder) -> None:
    appbuilder.add_view(
        TradingAccountView,
        "Trading accounts",
        label=_l("Trading accounts"),
        icon="chart",
        category="Trading desk",
        category_label=_l("Trading"),
    )
    appbuilder.add_view_no_menu(AccountDesk)
