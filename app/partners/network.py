"""The network below an IB as the IB sees it: one level at a time, each branch with its size."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, String, cast, func, literal, select, text
from sqlalchemy.orm import Session

from app.core.errors import NotFound
from app.models.clients import Client
from app.models.partners import IntroducingBroker
from app.partners import tree
from app.partners.branches import branch_ids
from app.partners.privacy import current_privacy

#: One query for a level, whatever stands below it: each branch is walked down once, and its IBs and clients are counted.
_LEVEL = text(
    """
    WITH RECURSIVE below (root, ib_id, depth) AS (
        SELECT p.ib_id, p.ib_id, 0 FROM ib_parent p
        WHERE p.parent_id = :ib_id AND tstzrange(p.valid_from, p.valid_to) @> CAST(:at AS timestamptz)
        UNION ALL
        SELECT below.root, p.ib_id, below.depth + 1 FROM below
        JOIN ib_parent p ON p.parent_id = below.ib_id AND tstzrange(p.valid_from, p.valid_to) @> CAST(:at AS timestamptz)
    ), clients AS (
        SELECT a.ib_id, count(*) AS number FROM attribution a
        WHERE a.ib_id IN (SELECT ib_id FROM below) AND tstzrange(a.valid_from, a.valid_to) @> CAST(:at AS timestamptz)
        GROUP BY a.ib_id
    )
    SELECT below.root, count(*) - 1 AS ibs, count(*) FILTER (WHERE below.depth = 1) AS right_below,
           coalesce(sum(clients.number) FILTER (WHERE below.depth = 0), 0) AS own_clients,
           coalesce(sum(clients.number), 0) AS clients
    FROM below LEFT JOIN clients ON clients.ib_id = below.ib_id
    GROUP BY below.root ORDER BY clients DESC, below.root LIMIT :limit
    """
)


@dataclass(frozen=True)
class Branch:
    """An IB and all below it: `ibs` below, of them `right_below` at the next level; its own clients, and all of the branch."""

    ib_id: int
    name: str
    ibs: int
    right_below: int
    own_clients: int
    clients: int


def path_to(session: Session, above_id: int, ib_id: int, at: datetime) -> list[tuple[int, str]]:
    """The IBs from `above_id` down to `ib_id`, both included, with their names. Raises NotFound outside its branch."""
    upline = tree.upline_at(tree.uplines(session, [ib_id]), ib_id, at)
    if above_id not in upline:
        raise NotFound
    way = list(reversed(upline[: upline.index(above_id) + 1]))
    names = _names(session, way)
    return [(one, names[one]) for one in way if one in names]


def level_below(session: Session, ib_id: int, at: datetime, limit: int = 1_000) -> list[Branch]:
    """The IBs right below an IB, those with the most clients first; `limit` of them at most."""
    rows = session.execute(_LEVEL, {"ib_id": ib_id, "at": at, "limit": limit}).all()
    names = _names(session, [row.root for row in rows])
    return [Branch(row.root, names[row.root], row.ibs, row.right_below, int(row.own_clients), int(row.clients)) for row in rows]


def find_below(session: Session, ib_id: int, words: str, at: datetime, limit: int = 50) -> list[tuple[int, str]]:
    """The IBs of a branch whose name, as it is shown, has this text."""
    privacy = current_privacy(session)
    shown: ColumnElement[str] = Client.first_name + " " + func.left(Client.last_name, 1) + "."
    if privacy.names == "number":
        shown = literal("#") + cast(IntroducingBroker.id, String)
    query = (
        select(IntroducingBroker.id, Client)
        .join(Client, Client.id == IntroducingBroker.client_id)
        .where(IntroducingBroker.id.in_(branch_ids(session, ib_id, at)), shown.icontains(words, autoescape=True))
        .order_by(shown, IntroducingBroker.id)
    )
    return [(found, privacy.ib_name(found, client)) for found, client in session.execute(query.limit(limit))]


def watchers(session: Session, ib_ids: Iterable[int], at: datetime) -> list[int]:
    """The clients in whose network these IBs stand at a moment: the IBs themselves and all above them."""
    wanted = set(ib_ids)
    above = tree.uplines(session, wanted)
    seen = {one for ib_id in wanted for one in tree.upline_at(above, ib_id, at)}
    query = select(IntroducingBroker.client_id).where(IntroducingBroker.id.in_(seen))
    return list(session.scalars(query.order_by(IntroducingBroker.client_id)))


def _names(session: Session, ib_ids: list[int]) -> dict[int, str]:
    people, privacy = select(IntroducingBroker.id, Client).join(IntroducingBroker.client), current_privacy(session)
    rows = session.execute(people.where(IntroducingBroker.id.in_(ib_ids)))
    return {found: privacy.ib_name(found, client) for found, client in rows}
