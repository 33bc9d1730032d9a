"""Of which category a client is: a decision of compliance, with its history."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from app.compliance.errors import CategoryUnchanged
from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import N_, InvalidInput, NotFound
from app.core.uow import unit_of_work
from app.models.clients import CLIENT_CATEGORIES, Client, ClientCategory

#: That rows are never changed; repeatable, run after migrations.
SQL = Path(__file__).parent / "sql" / "categories.sql"


def history_of(client_id: int) -> Select[ClientCategory]:
    """The categories of a client, the newest first; before the first one it was retail."""
    return select(ClientCategory).where(ClientCategory.client_id == client_id).order_by(ClientCategory.id.desc())


def category_of(session: Session, client_id: int) -> str:
    """The category of a client now."""
    row = session.scalar(history_of(client_id).limit(1))
    return row.category if row else CLIENT_CATEGORIES[0]


def set_category(session: Session, client_id: int, category: str, *, reason: str, actor: Actor) -> None:
    """Have a client be of this category from now on.

    Raises NotFound, InvalidInput without a reason or for another category, CategoryUnchanged. Emits client.category_changed.
    """
    said, problems = " ".join(reason.split()), {}
    if not said:
        problems["reason"] = N_("Please give a reason.")
    if category not in CLIENT_CATEGORIES:
        problems["category"] = N_("Please choose one of the list.")
    if problems:
        raise InvalidInput(problems)
    with unit_of_work(session, actor) as unit:
        if session.get(Client, client_id, with_for_update={"key_share": True}) is None:
            raise NotFound
        before = category_of(session, client_id)
        if category == before:
            raise CategoryUnchanged
        session.add(ClientCategory(client_id=client_id, category=category, valid_from=now(), set_by=str(actor), reason=said))
        unit.audit(
            "client.category",
            f"client:{client_id}",
            before={"category": before},
            after={"category": category},
            reason=said,
        )
        unit.emit("client.category_changed", subject_id=client_id, client_id=client_id, category=category)
