"""Partners desk: the network of IBs, who stands under whom now, and since when."""

from __future__ import annotations

from datetime import datetime

from flask import abort
from flask.typing import ResponseReturnValue
from flask_appbuilder import AppBuilder, expose, has_access, permission_name
from flask_babel import lazy_gettext as _l
from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import joinedload

from app.commissions.progress import standing
from app.core.clock import now
from app.extensions import db
from app.models.partners import Attribution, IBParent, IntroducingBroker
from app.partners import branches, tree
from app.views.guarded import DeskPage

RIGHTS = "IB network"

#: IBs of one page; below them the branch of each is a page of its own.
LIMIT = 500


class NetworkPage(DeskPage):
    """The IBs under nobody, and the branch of each IB."""

    class_permission_name = RIGHTS
    route_base = "/ib-network"

    @expose("/")
    @has_access
    @permission_name("list")
    def index(self) -> ResponseReturnValue:
        """Who stands under nobody, with the IBs and clients right below."""
        session, at = db.session(), now()
        placed = select(IBParent.ib_id).where(_holds(IBParent, at))
        tops = session.scalars(
            select(IntroducingBroker)
            .options(joinedload(IntroducingBroker.client))
            .where(IntroducingBroker.id.not_in(placed))
            .order_by(IntroducingBroker.id)
            .limit(LIMIT)
        ).all()
        ids = [ib.id for ib in tops]
        return self.render_template(
            "office/ib_network.html", tops=tops, below=_sub_ibs(ids, at), clients=_clients(ids, at), limit=LIMIT
        )

    @expose("/<int:pk>")
    @has_access
    @permission_name("list")
    def branch(self, pk: int) -> ResponseReturnValue:
        """One IB: the IBs above it, and all below it."""
        session, at = db.session(), now()
        ib = session.get(IntroducingBroker, pk)
        if ib is None:
            abort(404)
        above = tree.upline_at(tree.uplines(session, [pk]), pk, at)[1:]
        named = {
            one.id: one
            for one in session.scalars(
                select(IntroducingBroker).options(joinedload(IntroducingBroker.client)).where(IntroducingBroker.id.in_(above))
            )
        }
        return self.render_template(
            "office/ib_branch.html",
            ib=ib,
            above=[named[number] for number in reversed(above)],
            rows=_in_order(branches.branch(session, pk, at, LIMIT), pk),
            clients=_clients([pk], at).get(pk, 0),
            places=branches.places_of_ib(session, pk),
            standings=standing(session, pk, at),
            limit=LIMIT,
        )


def _in_order(found: list[branches.BranchIB], root: int) -> list[branches.BranchIB]:
    """Each IB followed by those below it."""
    children: dict[int, list[branches.BranchIB]] = {}
    for one in found:
        children.setdefault(one.parent_id, []).append(one)
    ordered: list[branches.BranchIB] = []
    waiting = list(reversed(children.get(root, [])))
    while waiting:
        one = waiting.pop()
        ordered.append(one)
        waiting += reversed(children.get(one.ib_id, []))
    return ordered


def _holds(table: type[IBParent | Attribution], at: datetime) -> ColumnElement[bool]:
    return and_(table.valid_from <= at, or_(table.valid_to.is_(None), table.valid_to > at))


def _sub_ibs(ids: list[int], at: datetime) -> dict[int, int]:
    """How many IBs stand right below each."""
    query = select(IBParent.parent_id, func.count()).where(IBParent.parent_id.in_(ids), _holds(IBParent, at))
    return {row[0]: int(row[1]) for row in db.session.execute(query.group_by(IBParent.parent_id))}


def _clients(ids: list[int], at: datetime) -> dict[int, int]:
    """How many clients each has of its own."""
    query = select(Attribution.ib_id, func.count()).where(Attribution.ib_id.in_(ids), _holds(Attribution, at))
    return {row[0]: int(row[1]) for row in db.session.execute(query.group_by(Attribution.ib_id))}


def register(appbuilder: AppBuilder) -> None:
    desk = {"category": "Partners desk", "category_label": _l("Partners")}
    appbuilder.add_view(NetworkPage, RIGHTS, label=_l("IB network"), icon="affiliate", **desk)
