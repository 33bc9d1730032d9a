"""Reading the logins of a server for an import, and saying of each what would become of it. Nothing changes yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.errors import N_, InvalidInput
from app.core.uow import unit_of_work
from app.metatrader.errors import PlatformError
from app.metatrader.importing import DECIDED, ImportUnderWay, check_free, end_import, locked_import
from app.metatrader.matching import Clients, KnownClient
from app.metatrader.platform import TradingPlatform, User
from app.models.clients import Client
from app.models.metatrader import Product, Server, TradingAccount
from app.models.trading_desk import LoginImport, LoginImportRow

ROWS_PER_INSERT = 1_000


def start_import(session: Session, *, server_id: int, group_mask: str, actor: Actor) -> LoginImport:
    r"""Ask for the logins of groups such as `real\*,!real\test*`; a job reads and matches them."""
    mask = group_mask.strip()
    if not 1 <= len(mask) <= 200 or not mask.isprintable():
        raise InvalidInput({"group_mask": N_("Please name groups of the trading server, such as real\\*.")})
    with unit_of_work(session, actor) as unit:
        if session.get(Server, server_id, with_for_update={"key_share": True}) is None:
            raise InvalidInput({"server": N_("Please choose a trading server.")})
        check_free(session, server_id)
        made = LoginImport(server_id=server_id, group_mask=mask, requested_by=str(actor))
        session.add(made)
        session.flush()
        unit.audit("login_import.start", f"login_import:{made.id}", after={"server_id": server_id, "group_mask": mask})
        unit.emit("login_import.requested", subject_id=made.id, server_id=server_id)
        return made


def read_again(session: Session, import_id: int, *, actor: Actor) -> None:
    """Have the server read once more, such as after a product was added. Decisions of people and imported rows stay."""
    with unit_of_work(session, actor) as unit:
        found = locked_import(session, import_id)
        if found.status in ("reading", "importing"):
            raise ImportUnderWay()
        check_free(session, found.server_id)
        found.status, found.error, found.finished_at = "reading", "", None
        unit.audit("login_import.read_again", f"login_import:{import_id}")
        unit.emit("login_import.requested", subject_id=import_id, server_id=found.server_id)


def read_users(session: Session, platform: TradingPlatform, import_id: int, countries: Mapping[str, str]) -> str:
    """Read the server's logins and say of each what would become of it. Safe to repeat; returns the status afterwards.

    `countries`: names in small letters → codes. A server that does not answer ends the reading; staff may start it again.
    """
    actor = Actor.system("read_logins")
    found = session.get_one(LoginImport, import_id)
    if found.status != "reading":
        return found.status
    mask, server_id = found.group_mask, found.server_id
    session.rollback()
    try:
        users = platform.users(mask)
        currencies = {group.name: group.currency for group in platform.groups(mask)}
    except PlatformError as error:
        return end_import(session, import_id, actor, "failed", str(error))
    with unit_of_work(session, actor) as unit:
        found = locked_import(session, import_id)
        if found.status != "reading":
            return found.status
        keep = LoginImportRow.note.in_(DECIDED) | (LoginImportRow.outcome == "imported")
        session.execute(delete(LoginImportRow).where(LoginImportRow.import_id == import_id, ~keep))
        kept = set(session.scalars(select(LoginImportRow.login).where(LoginImportRow.import_id == import_id)))
        judge = _Judge(session, server_id, currencies, countries)
        rows = [
            {"import_id": import_id, **judge.row(user)}
            for user in sorted({user.login: user for user in users}.values(), key=lambda user: user.login)
            if user.login not in kept
        ]
        for start in range(0, len(rows), ROWS_PER_INSERT):
            session.execute(insert(LoginImportRow), rows[start : start + ROWS_PER_INSERT])
        found.status, found.error = "ready", ""
        unit.emit("login_import.read", subject_id=import_id, logins=len(users))
        return "ready"


class _Judge:
    """What becomes of a login, by what we have: clients, products by group, logins that are ours."""

    def __init__(self, session: Session, server_id: int, currencies: Mapping[str, str], countries: Mapping[str, str]) -> None:
        known = session.execute(select(Client.id, Client.email, Client.first_name, Client.last_name, Client.country))
        self._clients = Clients.of(
            KnownClient(row.id, row.email, f"{row.first_name} {row.last_name}", row.country) for row in known
        )
        products = select(Product).where(Product.server_id == server_id).order_by(Product.is_open, Product.id.desc())
        # Of several for one group the open ones, and of those the oldest, come last and so win.
        self._products = {(product.group, product.currency): product for product in session.scalars(products)}
        self._groups = {group for group, _ in self._products}
        ours = session.execute(
            select(TradingAccount.login, TradingAccount.token).where(TradingAccount.server_id == server_id)
        ).all()
        self._logins, self._tokens = {row.login for row in ours}, {row.token for row in ours}
        self._currencies, self._countries = currencies, countries

    def row(self, user: User) -> dict[str, Any]:
        outcome, client_id, product_id, note = self._judged(user)
        return {
            "login": user.login,
            "group": user.group,
            "name": user.name[:128],
            "email": user.email[:254],
            "leverage": user.leverage,
            "balance": user.balance,
            "outcome": outcome,
            "client_id": client_id,
            "product_id": product_id,
            "note": note,
        }

    def _judged(self, user: User) -> tuple[str, int | None, int | None, str]:
        """Outcome, client, product and note of a login."""
        if user.is_technical:
            return "technical", None, None, "technical"
        if user.login in self._logins or (user.mark and user.mark in self._tokens):
            return "known", None, None, "known"
        match = self._clients.match(user, self._countries)
        product = self._products.get((user.group, self._currencies.get(user.group, "")))
        if product is None:
            return "no_product", match.client_id, None, "currency" if user.group in self._groups else "no_product"
        return match.outcome, match.client_id, product.id, match.note
