"""Chart of accounts: all accounts as a tree, in their own currencies and in the reporting currency, now or as of a day."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Context, Decimal
from typing import Any

from flask import abort, current_app, request
from flask.typing import ResponseReturnValue
from flask_appbuilder import AppBuilder, expose, has_access, permission_name
from flask_babel import gettext
from flask_babel import lazy_gettext as _l
from sqlalchemy import Select

from app.core.clock import now
from app.core.money import Money, exponent
from app.extensions import db
from app.ledger import tree
from app.ledger.errors import UnknownAccount
from app.ledger.rates import RateBook, Valued
from app.surfaces import formats
from app.surfaces.csv_files import Cell, csv_file
from app.surfaces.filters import Filters
from app.views.columns import account_link
from app.views.guarded import DeskPage

PAGE_SIZE = 50
#: Enough for any sum of values.
_WIDE = Context(prec=80)


@dataclass(frozen=True)
class Worth:
    """Several amounts in the reporting currency, unrounded. What has no rate stands in `missing` and is not in `amount`."""

    amount: Decimal
    missing: tuple[Money, ...]
    is_stale: bool


class Valuer:
    """Values amounts in the reporting currency with one read of rates, and remembers which rates it used."""

    def __init__(self, moment: datetime | None) -> None:
        self.currency: str = current_app.extensions["settings"].reporting_currency
        self.digits = exponent(self.currency)
        self.at = moment or now()
        self._book = RateBook(db.session(), self.currency, self.at)
        self._used: dict[str, Valued] = {}

    def worth(self, sums: Iterable[Money]) -> Worth:
        total, missing, is_stale = Decimal(0), [], False
        for money in sums:
            if money:
                valued = self.value(money)
                total = _WIDE.add(total, valued.amount or Decimal(0))
                is_stale = is_stale or valued.is_stale
                missing += [] if valued.amount is not None else [money]
        return Worth(total, tuple(missing), is_stale)

    def value(self, money: Money) -> Valued:
        valued = self._book.value(money)
        if money.currency != self.currency:
            self._used.setdefault(money.currency, valued)
        return valued

    def shown(self, value: Decimal) -> str:
        """A value as a reader sees it: rounded to what the currency has."""
        return formats.decimals(_WIDE.quantize(value, Decimal(1).scaleb(-self.digits)), self.digits)

    @property
    def rates(self) -> list[tuple[str, Valued]]:
        """The rates used so far, by currency; one without a rate says so."""
        return sorted(self._used.items())


def name_of(node: tree.Node) -> str:
    """A node's label in the reader's language; names of providers, banks and servers are what they are."""
    return node.label if node.is_name else gettext(node.label)


class ChartOfAccounts(DeskPage):
    """The tree, and the accounts of one group of it. Both can be downloaded."""

    extra_args = {**DeskPage.extra_args, "name_of": name_of, "account_link": account_link}

    class_permission_name = "Chart of accounts"
    route_base = "/chart-of-accounts"

    @expose("/")
    @has_access
    @permission_name("list")
    def index(self) -> ResponseReturnValue:
        filters = Filters()
        day, moment = filters.as_of("at")
        if filters.problems:
            return self.render_template("office/chart_of_accounts.html", filters=filters, day=day, chart=None), 422
        chart, valuer = tree.chart(db.session(), moment), Valuer(moment)
        if filters.wants_csv:
            return csv_file(_file_name("chart-of-accounts", day), _tree_head(), _tree_rows(chart, valuer))
        worth = {node.key: valuer.worth(node.sums) for node in _all(chart.nodes)}
        return self.render_template(
            "office/chart_of_accounts.html", filters=filters, day=day, chart=chart, worth=worth, valuer=valuer
        )

    @expose("/<path:key>")
    @has_access
    @permission_name("list")
    def group(self, key: str) -> ResponseReturnValue:
        """The accounts of one group: a page of its own, and the part of the tree that opens in place."""
        filters = Filters()
        day, moment = filters.as_of("at")
        search, after = filters.text("q"), filters.after("after")
        limit = None if filters.wants_csv else PAGE_SIZE + 1
        try:
            query = tree.account_rows(key, moment=moment, search=search, after=after, limit=limit)
        except UnknownAccount:
            abort(404)
        valuer = Valuer(moment)
        if filters.wants_csv and not filters.problems:
            return csv_file(_file_name(key.replace(":", "-"), day), _account_head(), _account_rows(query, valuer))
        found = [] if filters.problems else [tree.account_line(row) for row in db.session.execute(query)]
        lines = [(line, valuer.worth([line.balance])) for line in found[:PAGE_SIZE]]
        page: dict[str, Any] = {
            "filters": filters,
            "day": day,
            "key": key,
            "lines": lines,
            "valuer": valuer,
            "next_after": found[PAGE_SIZE - 1].code if len(found) > PAGE_SIZE else None,
        }
        status = 422 if filters.problems else 200
        if request.headers.get("HX-Request"):
            return self.render_template("office/chart_accounts.html", **page), status, {"Vary": "HX-Request"}
        chart = tree.chart(db.session(), moment)
        node = chart.find(key)
        worth = valuer.worth(node.sums) if node else None
        answer = self.render_template("office/chart_group.html", node=node, path=_path(chart, key), worth=worth, **page)
        return answer, status, {"Vary": "HX-Request"}


def _all(nodes: Iterable[tree.Node]) -> Iterator[tree.Node]:
    for node in nodes:
        yield node
        yield from _all(node.children)


def _path(chart: tree.Chart, key: str) -> list[tree.Node]:
    """The nodes from the kind down to the one with this key."""
    nodes = chart.nodes
    path: list[tree.Node] = []
    while True:
        step = next((node for node in nodes if any(one.key == key for one in _all([node]))), None)
        if step is None:
            return path
        path.append(step)
        nodes = step.children if step.key != key else ()


def _file_name(name: str, day: date | None) -> str:
    return f"{name}-{day or now():%Y-%m-%d}"


def _tree_head() -> list[str]:
    return [
        gettext("Kind"),
        gettext("Group"),
        gettext("Name"),
        gettext("Accounts"),
        gettext("Currency"),
        gettext("Balance"),
        *_value_head(),
    ]


def _tree_rows(chart: tree.Chart, valuer: Valuer) -> Iterator[list[Cell]]:
    """One row for each currency of each node without children: what is summed up to all the others."""
    for kind in chart.nodes:
        for group in kind.children:
            for leaf in group.children or (group,):
                for money in leaf.sums:
                    name = leaf.label if leaf.is_name else ""
                    start: list[Cell] = [name_of(kind), name_of(group), name, leaf.accounts, money.currency, money]
                    yield [*start, *_value_cells(money, valuer)]


def _account_head() -> list[str]:
    return [gettext("Account"), gettext("Client"), gettext("Currency"), gettext("Balance"), *_value_head()]


def _account_rows(query: Select[*tuple[Any, ...]], valuer: Valuer) -> Iterator[list[Cell]]:
    for line in map(tree.account_line, db.session.execute(query.execution_options(yield_per=1000))):
        start: list[Cell] = [line.code, line.client_name, line.balance.currency, line.balance]
        yield [*start, *_value_cells(line.balance, valuer)]


def _value_head() -> list[str]:
    return [
        gettext("Reporting currency"),
        gettext("Value"),
        gettext("Rate"),
        gettext("Source"),
        gettext("Observed"),
        gettext("Stale"),
    ]


def _value_cells(money: Money, valuer: Valuer) -> list[Cell]:
    """The value and where it comes from; empty, not zero, where there is no rate."""
    valued = valuer.value(money)
    stale = gettext("Yes") if valued.is_stale else ""
    return [valuer.currency, valued.amount, valued.rate, valued.source, valued.observed_at, stale]


def register(appbuilder: AppBuilder) -> None:
    appbuilder.add_view(
        ChartOfAccounts,
        "Chart of accounts",
        label=_l("Chart of accounts"),
        icon="sitemap",
        category="Money desk",
        category_label=_l("Money"),
    )
