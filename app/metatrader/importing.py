"""Taking over all logins that a server has, when a broker moves to us: read (import_reading.py), decided, carried out.

Nothing changes until staff order it. The work goes on where it stopped: a row that was imported is not touched again, and
what a person decided about a row outlives another reading.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import N_, Conflict, InvalidInput, NotFound
from app.core.money import InvalidMoney
from app.core.uow import UnitOfWork, unit_of_work
from app.metatrader import booking
from app.metatrader.errors import PlatformError
from app.metatrader.platform import TradingPlatform, User
from app.metatrader.servertime import ServerZone, server_zone
from app.metatrader.takeover import AHEAD, PAUSE_S, READINGS, Takeover, server_moment, take_over
from app.models.clients import Client
from app.models.metatrader import Product, Server
from app.models.trading_desk import LoginImport, LoginImportRow

#: Logins that one unit of work takes over. Ingest waits while it holds the server.
LOGINS_PER_UNIT = 100

#: Outcomes that a person may decide about, and notes of decisions that another reading leaves alone.
DECIDABLE = ("matched", "ambiguous", "unmatched", "no_product", "left_out")
DECIDED = ("person", "left")


class ImportUnderWay(Conflict):
    code = "login_imports.under_way"
    message = N_("An import from this server is being read or carried out. Please wait until it has ended.")


class NotDecidable(Conflict):
    code = "login_imports.not_decidable"
    message = N_("This row cannot be decided any more, or not yet.")


class NothingToImport(Conflict):
    code = "login_imports.nothing_to_import"
    message = N_("No login of this import has both a client and a product. There is nothing to carry out.")


def decide_row(
    session: Session, row_id: int, *, actor: Actor, client_id: int | None = None, leave_out: bool = False
) -> LoginImportRow:
    """A person's word on a login: whose it is, or that it stays out. Raises InvalidInput, NotDecidable."""
    with unit_of_work(session, actor) as unit:
        row = session.get(LoginImportRow, row_id, with_for_update=True)
        if row is None:
            raise NotFound()
        if locked_import(session, row.import_id).status not in ("ready", "done") or row.outcome not in DECIDABLE:
            raise NotDecidable()
        before = {"outcome": row.outcome, "client_id": row.client_id}
        if leave_out:
            row.outcome, row.note = "left_out", "left"
        elif client_id is None or session.get(Client, client_id) is None:
            raise InvalidInput({"client": N_("There is no client with this number.")})
        elif row.product_id is None and (product_id := _product_of(session, row)) is None:
            raise InvalidInput({"client": N_("No product has the group of this login. Add one first, then read again.")})
        else:
            row.product_id = row.product_id or product_id
            row.outcome, row.note, row.client_id = "matched", "person", client_id
        after = {"login": row.login, "outcome": row.outcome, "client_id": row.client_id}
        unit.audit("login_import.decide", f"login_import:{row.import_id}", before=before, after=after)
        return row


def order_import(session: Session, import_id: int, *, actor: Actor) -> int:
    """Have everything that is matched taken over by a job. Returns how many logins that is."""
    with unit_of_work(session, actor) as unit:
        found = locked_import(session, import_id)
        if found.status not in ("ready", "done"):
            raise ImportUnderWay()
        check_free(session, found.server_id)
        count = session.scalar(select(func.count()).where(*_waiting(import_id))) or 0
        if not count:
            raise NothingToImport()
        found.status, found.error, found.finished_at = "importing", "", None
        unit.audit("login_import.order", f"login_import:{import_id}", after={"logins": count})
        unit.emit("login_import.ordered", subject_id=import_id, server_id=found.server_id)
        return count


@dataclass(frozen=True)
class _Reading:
    """What the server has, as of a moment `at` of its clock; the money of logins in `trading` is younger."""

    at: datetime
    users: Mapping[int, User]
    trading: set[int]
    currencies: Mapping[str, str]


def carry_out(session: Session, platform: TradingPlatform, import_id: int) -> str:
    """Take over what is matched, in parts. Safe to repeat, and to go on with after a crash; returns the status afterwards.

    Logins that trade while they are read are read again. Those that do not stop, and all that are left when the server
    does not answer, wait for the next order.
    """
    actor = Actor.system("import_logins")
    found = session.get_one(LoginImport, import_id)
    if found.status != "importing":
        return found.status
    mask, zone = found.group_mask, server_zone(found.server.time_zone)
    session.rollback()
    for attempt in range(READINGS):
        if attempt:
            time.sleep(PAUSE_S)
        waiting = session.scalars(select(LoginImportRow.id).where(*_waiting(import_id)).order_by(LoginImportRow.id)).all()
        session.rollback()
        if not waiting:
            return end_import(session, import_id, actor, "done", "")
        try:
            reading = _read(platform, zone, mask)
        except PlatformError as error:
            return end_import(session, import_id, actor, "ready", str(error))
        for start in range(0, len(waiting), LOGINS_PER_UNIT):
            with unit_of_work(session, actor) as unit:
                _take_part(unit, import_id, waiting[start : start + LOGINS_PER_UNIT], reading)
    left = session.scalar(select(func.count()).where(*_waiting(import_id))) or 0
    session.rollback()
    if left:
        still_trading = N_("Some logins traded all the time. They can be taken over later.")
        return end_import(session, import_id, actor, "ready", still_trading)
    return end_import(session, import_id, actor, "done", "")


def _read(platform: TradingPlatform, zone: ServerZone, mask: str) -> _Reading:
    at = server_moment(platform, zone)
    users = {user.login: user for user in platform.users(mask)}
    deals = platform.deals_by_group(mask, at, at + AHEAD)
    trading = {deal.login for deal in deals if zone.to_utc(deal.server_time_ms, near=at).utc > at}
    return _Reading(at, users, trading, {group.name: group.currency for group in platform.groups(mask)})


def _take_part(unit: UnitOfWork, import_id: int, row_ids: Sequence[int], reading: _Reading) -> None:
    """Take over some rows; those that are no longer as they were looked through say why they are not."""
    session = unit.session
    server_id = session.scalars(select(LoginImport.server_id).where(LoginImport.id == import_id)).one()
    booking.lock_server(session, server_id)
    rows = session.scalars(
        select(LoginImportRow)
        .where(LoginImportRow.id.in_(row_ids), LoginImportRow.outcome == "matched")
        .order_by(LoginImportRow.id)
        .with_for_update()
    ).all()
    ours = booking.accounts_by_login(session, server_id, (row.login for row in rows))
    taken: list[tuple[LoginImportRow, Takeover]] = []
    for row in rows:
        if row.login in ours:
            row.outcome, row.note = "known", "known"
        elif row.login not in reading.trading:
            one = _takeover(row, reading)
            if one is not None:
                taken.append((row, one))
    take_over(unit, session.get_one(Server, server_id), [one for _, one in taken], origin="imported")
    for row, one in taken:
        row.outcome, row.balance = "imported", one.balance
    if taken:
        unit.emit("login_import.carried_out", subject_id=import_id, logins=len(taken))


def _takeover(row: LoginImportRow, reading: _Reading) -> Takeover | None:
    """What is taken over; None where the login changed since it was looked through, or its money fits no currency."""
    user, product = reading.users.get(row.login), row.product
    assert product is not None
    assert row.client_id is not None
    if user is None:
        row.outcome, row.note = "left_out", "gone"
        return None
    if user.group != product.group or reading.currencies.get(user.group) != product.currency:
        row.outcome, row.note = "no_product", "moved" if user.group != product.group else "currency"
        row.product_id, row.group = None, user.group
        return None
    made = Takeover(
        login=row.login,
        client_id=row.client_id,
        product=product,
        group=user.group,
        leverage=user.leverage,
        rights=user.rights,
        balance=user.balance,
        credit=user.credit,
        at=reading.at,
    )
    try:
        made.opening  # noqa: B018  asked for its error
    except InvalidMoney:
        row.outcome, row.note = "ambiguous", "amount"
        return None
    return made


def counts(session: Session, import_id: int) -> dict[str, int]:
    """How many logins there are of each outcome."""
    rows = session.execute(
        select(LoginImportRow.outcome, func.count())
        .where(LoginImportRow.import_id == import_id)
        .group_by(LoginImportRow.outcome)
    )
    return {row[0]: row[1] for row in rows}


def sums(session: Session, import_id: int) -> list[tuple[str, str, int, Decimal]]:
    """(currency, outcome, logins, balance) of the live logins that are matched or imported."""
    rows = session.execute(
        select(Product.currency, LoginImportRow.outcome, func.count(), func.sum(LoginImportRow.balance))
        .join(Product, Product.id == LoginImportRow.product_id)
        .where(
            LoginImportRow.import_id == import_id,
            LoginImportRow.outcome.in_(("matched", "imported")),
            Product.is_demo.is_(False),
        )
        .group_by(Product.currency, LoginImportRow.outcome)
        .order_by(Product.currency, LoginImportRow.outcome.desc())
    )
    return [(row[0], row[1], row[2], row[3]) for row in rows]


def _waiting(import_id: int) -> tuple[Any, ...]:
    return (
        LoginImportRow.import_id == import_id,
        LoginImportRow.outcome == "matched",
        LoginImportRow.client_id.is_not(None),
        LoginImportRow.product_id.is_not(None),
    )


def _product_of(session: Session, row: LoginImportRow) -> int | None:
    """The product for the group of a row, chosen as the reading does."""
    server_id = select(LoginImport.server_id).where(LoginImport.id == row.import_id).scalar_subquery()
    return session.scalar(
        select(Product.id)
        .where(Product.server_id == server_id, Product.group == row.group)
        .order_by(Product.is_open.desc(), Product.id)
        .limit(1)
    )


def check_free(session: Session, server_id: int) -> None:
    """Raise ImportUnderWay while another import from this server is read or carried out."""
    busy = select(LoginImport.id).where(LoginImport.server_id == server_id, LoginImport.status.in_(("reading", "importing")))
    if session.scalar(busy.limit(1)) is not None:
        raise ImportUnderWay()


def locked_import(session: Session, import_id: int) -> LoginImport:
    """The import, locked; NotFound when there is none."""
    found = session.get(LoginImport, import_id, with_for_update={"key_share": True})
    if found is None:
        raise NotFound()
    return found


def end_import(session: Session, import_id: int, actor: Actor, status: str, error: str) -> str:
    """Write down how the reading or carrying out ended, unless that is written already. Returns the status."""
    with unit_of_work(session, actor) as unit:
        found = locked_import(session, import_id)
        if found.status in ("reading", "importing"):
            found.status, found.error = status, error[:300]
            found.finished_at = now() if status in ("done", "failed") else None
            unit.emit("login_import.ended", subject_id=import_id, status=status)
        return found.status
