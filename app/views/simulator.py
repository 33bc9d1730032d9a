"""Trading desk, in development only: what traders, the market and the broker's staff do at the simulated servers, by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from flask import abort, current_app, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_appbuilder import AppBuilder, expose, has_access, permission_name
from flask_babel import gettext
from flask_babel import lazy_gettext as _l

from app.core.errors import AppError
from app.extensions import db
from app.metatrader.codes import DealAction
from app.metatrader.platform import UNITS_PER_LOT
from app.surfaces.errors import sentence
from app.views.guarded import DeskPage
from app.views.simulator_forms import AccountForm, DealForm, FaultForm, LateForm, MoveForm, Part, TradeForm
from app.views.simulator_link import SimulatedServer, SimulatorAway, simulated_servers

RIGHTS = "Simulator"
DEALS_SHOWN = 60
GAP_S = 30

#: A deal's action in a word; whatever else it is moves money without a trade.
ACTIONS = {
    DealAction.BUY: _l("Bought"),
    DealAction.SELL: _l("Sold"),
    DealAction.BALANCE: _l("Balance"),
    DealAction.CREDIT: _l("Credit"),
    DealAction.BUY_CANCELED: _l("Void purchase"),
    DealAction.SELL_CANCELED: _l("Void sale"),
}


class SimulatorPage(DeskPage):
    """One page per simulated server: its state, and everything that can be done to it."""

    class_permission_name = RIGHTS
    route_base = "/simulator"

    @expose("/")
    @has_access
    @permission_name("use")
    def index(self) -> ResponseReturnValue:
        return self._page()

    @expose("/state")
    @has_access
    @permission_name("use")
    def state(self) -> ResponseReturnValue:
        """The part of the page that changes by itself."""
        return self.render_template("office/simulator_state.html", states=self._states(), shown=self._shown())

    @expose("/move", methods=["POST"])
    @has_access
    @permission_name("use")
    def move(self) -> ResponseReturnValue:
        def carry_out(server: SimulatedServer, form: Any) -> str:
            server.post("market", {"symbol": form.symbol.data, "move_points": form.points.data})
            return gettext("The price of %(symbol)s has moved.", symbol=form.symbol.data)

        return self._carry_out("move", carry_out)

    @expose("/trade", methods=["POST"])
    @has_access
    @permission_name("use")
    def trade(self) -> ResponseReturnValue:
        def carry_out(server: SimulatedServer, form: Any) -> str:
            wished = {name: form[name].data for name in ("login", "symbol", "side")}
            closes = form.then.data == "close"
            points = form.points.data or 0
            deals = server.post(
                "trade", {**wished, "lots": str(form.lots.data), "close": closes, "move_points": points if closes else 0}
            )["deals"]
            if closes:
                return gettext("Opened and closed; the result is %(result)s.", result=deals[-1]["Profit"])
            return gettext("Opened, at %(price)s.", price=deals[0]["Price"])

        return self._carry_out("trade", carry_out)

    @expose("/deal", methods=["POST"])
    @has_access
    @permission_name("use")
    def deal(self) -> ResponseReturnValue:
        def carry_out(server: SimulatedServer, form: Any) -> str:
            body: dict[str, Any] = {"ticket": form.ticket.data, "do": form.do.data}
            if form.do.data == "edit":
                body["profit"] = str(form.profit.data)
            server.post("deal", body)
            return gettext("Done with deal %(ticket)s.", ticket=form.ticket.data)

        return self._carry_out("deal", carry_out)

    @expose("/late", methods=["POST"])
    @has_access
    @permission_name("use")
    def late(self) -> ResponseReturnValue:
        def carry_out(server: SimulatedServer, form: Any) -> str:
            wished = {name: form[name].data for name in ("login", "symbol", "side")}
            amounts = {"lots": str(form.lots.data), "profit": str(form.profit.data)}
            answer = server.post("late_deal", {**wished, **amounts, "seconds_ago": 60 * form.minutes.data})
            return gettext("Written down as deal %(ticket)s.", ticket=answer["deal"]["Deal"])

        return self._carry_out("late", carry_out)

    @expose("/account", methods=["POST"])
    @has_access
    @permission_name("use")
    def account(self) -> ResponseReturnValue:
        def carry_out(server: SimulatedServer, form: Any) -> str:
            body: dict[str, Any] = {"login": form.login.data, "do": form.do.data}
            if form.do.data == "drift":
                body["balance"] = str(form.amount.data)
            server.post("account", body)
            return gettext("Done with account %(login)s.", login=form.login.data)

        return self._carry_out("account", carry_out)

    @expose("/faults", methods=["POST"])
    @has_access
    @permission_name("use")
    def faults(self) -> ResponseReturnValue:
        def carry_out(server: SimulatedServer, form: Any) -> str:
            server.post("faults", {"line": form.line})
            return gettext("The faults are set.") if form.line else gettext("All faults are off.")

        return self._carry_out("faults", carry_out)

    @expose("/do/<string:what>", methods=["POST"])
    @has_access
    @permission_name("use")
    def do(self, what: str) -> ResponseReturnValue:
        """The buttons that need no form."""
        server = self._chosen()
        if server is None:
            abort(404)
        try:
            if what in ("lose", "hold"):
                server.post("gap", {"seconds": GAP_S, "do": what})
                words = gettext("For %(seconds)s seconds from now.", seconds=GAP_S)
            elif what == "calm":
                server.post("faults", {"line": ""})
                words = gettext("All faults are off.")
            elif what == "lose-answer":
                rules = [
                    *server.get("state")["faults"],
                    {"kind": "execute_then_drop", "path": server.balance_command, "times": 1},
                ]
                server.post("faults", {"rules": rules})
                words = gettext("The next payment to or from an account is carried out, and its answer is lost.")
            else:
                abort(404)
            flash(words, "success")
        except AppError as error:
            flash(sentence(error), "danger")
        return redirect(url_for("SimulatorPage.index", server=server.code))

    def _carry_out(self, name: str, work: Callable[[SimulatedServer, Any], str]) -> ResponseReturnValue:
        """Do what one of the forms asks for; with a problem the page comes back with what was typed."""
        server = self._chosen()
        if server is None:
            abort(404)
        try:
            form = _forms(server, server.get("state"))[name]
        except SimulatorAway as error:
            flash(sentence(error), "danger")
            return redirect(url_for("SimulatorPage.index", server=server.code))
        if form.validate_on_submit() and _is_complete(form):
            try:
                flash(work(server, form), "success")
                return redirect(url_for("SimulatorPage.index", server=server.code) + f"#{name}")
            except AppError as error:
                form.show(error)
        return self._page(form), 422

    def _page(self, given: Part | None = None) -> str:
        states, shown = self._states(), self._shown()
        forms: dict[str, Part] = {}
        state = states.get(shown.code) if shown else None
        if shown and state:
            try:
                forms = _forms(shown, state)
            except SimulatorAway:
                states[shown.code] = None
        if given is not None and forms:
            forms[given.name] = given
        return self.render_template("office/simulator.html", states=states, shown=shown, forms=forms, gap_s=GAP_S)

    def _states(self) -> dict[str, dict[str, Any] | None]:
        """What each server says of itself, by its code; None for one that does not answer."""
        states: dict[str, dict[str, Any] | None] = {}
        for server in self._servers():
            try:
                state = server.get("state")
                clock = datetime.fromtimestamp(state["server_time_ms"] / 1000, UTC)
                states[server.code] = {**state, "name": server.name, "clock": f"{clock:%Y-%m-%d %H:%M:%S}"}
            except SimulatorAway:
                states[server.code] = None
        return states

    def _servers(self) -> list[SimulatedServer]:
        return simulated_servers(db.session(), current_app.extensions["settings"])

    def _chosen(self) -> SimulatedServer | None:
        """The server that the address names; the first one when it names none."""
        code = request.args.get("server", "")
        return next((server for server in self._servers() if code in ("", server.code)), None)

    def _shown(self) -> SimulatedServer | None:
        server = self._chosen()
        if server is None and "server" in request.args:
            abort(404)
        return server


def _forms(server: SimulatedServer, state: Mapping[str, Any]) -> dict[str, Part]:
    """All forms of the page with the choices that the server offers just now. Raises SimulatorAway."""
    recent = server.get("recent")
    symbols = [(name, f"{name}, {quote['bid']}") for name, quote in state["quotes"].items()]
    accounts = [(str(one["login"]), _account_words(one)) for one in recent["accounts"]]
    archived = [
        (str(one["login"]), gettext("%(account)s, archived", account=_account_words(one))) for one in recent["archived"]
    ]
    deals = [(one["Deal"], _deal_words(one)) for one in recent["deals"][:DEALS_SHOWN]]
    deal, account = DealForm(ticket=deals), AccountForm(login=[*accounts, *archived])
    if server.is_mt4:
        deal.leave_out("cancel")
        account.leave_out("archive", "restore", "clean")
    return {
        "move": MoveForm(symbol=symbols),
        "trade": TradeForm(login=accounts, symbol=symbols),
        "deal": deal,
        "late": LateForm(login=accounts, symbol=symbols),
        "account": account,
        "faults": FaultForm(state),
    }


def _is_complete(form: Part) -> bool:
    """Whether an amount is there where the choice beside it needs one."""
    for needy, choice, field in ((DealForm, "edit", "profit"), (AccountForm, "drift", "amount")):
        if isinstance(form, needy) and form["do"].data == choice and form[field].data is None:
            form[field].errors = [gettext("Please enter a number.")]
            return False
    return True


def _account_words(account: Mapping[str, Any]) -> str:
    return f"{account['login']} {account['name']}, {account['balance']} {account['currency']}"


def _deal_words(deal: Mapping[str, str]) -> str:
    action = int(deal["Action"])
    what = str(ACTIONS.get(DealAction(action), action)) if action in set(DealAction) else str(action)
    if deal["Symbol"]:
        lots = Decimal(deal["VolumeExt"]) / UNITS_PER_LOT
        what = f"{what} {lots.normalize():f} {deal['Symbol']}"
    return f"{deal['Deal']}: {deal['Login']}, {what}, {deal['Profit']}"


def register(appbuilder: AppBuilder) -> None:
    appbuilder.add_view(
        SimulatorPage, RIGHTS, label=_l("Simulator"), icon="adjustments", category="Trading desk", category_label=_l("Trading")
    )
