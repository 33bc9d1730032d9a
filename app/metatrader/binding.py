"""Binding a login that exists at a server to a client, by staff: looked up first, then taken over with its balance."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.errors import N_, AppError, Conflict, InvalidInput, NotFound
from app.core.uow import unit_of_work
from app.metatrader import booking
from app.metatrader.codes import UserRight
from app.metatrader.errors import NotKnown
from app.metatrader.platform import AccountState, TradingPlatform, User
from app.metatrader.servertime import server_zone
from app.metatrader.takeover import Takeover, read_still, take_over
from app.models.clients import Client
from app.models.metatrader import (
    AccountChange,
    BalanceOperation,
    Deal,
    Order,
    Position,
    Product,
    Server,
    TradingAccount,
)
from app.models.trading_desk import ForeignOperation, ServerBreak


class NoSuchLogin(AppError):
    code = "binding.no_such_login"
    http_status = 422
    message = N_("The trading server has no login %(login)s.")


class LoginIsOurs(Conflict):
    code = "binding.login_is_ours"
    message = N_("This login belongs to a client of ours already, or is being opened for one.")


class TechnicalLogin(Conflict):
    code = "binding.technical_login"
    message = N_("This login is marked as technical at the trading server. It belongs to no client.")


class MoneyHasMoved(Conflict):
    code = "binding.money_has_moved"
    message = N_("Money has moved on this account, or it was changed, so it cannot be taken from its client any more.")


@dataclass(frozen=True)
class Found:
    """A login as the server holds it: whose it is there, whether it may be bound, and the products that it fits.

    `client_id` is the client who has the mail address that the server has.
    """

    state: AccountState
    user: User
    currency: str
    products: list[Product]
    obstacle: AppError | None
    client_id: int | None = None


def look_up(session: Session, platform: TradingPlatform, *, server_id: int, login: int) -> Found:
    """What the server knows of a login. Raises NoSuchLogin, or the PlatformError that came instead of an answer."""
    try:
        state, user = platform.get_account(login), platform.user(login)
    except NotKnown:
        raise NoSuchLogin(login=login) from None
    currency = _currency_of(platform, state.group)
    email = user.email.strip().lower()
    client_id = session.scalar(select(Client.id).where(func.lower(Client.email) == email)) if email else None
    products = session.scalars(
        select(Product)
        .where(Product.server_id == server_id, Product.group == state.group, Product.currency == currency)
        .order_by(Product.is_open.desc(), Product.id)
    ).all()
    return Found(state, user, currency, list(products), _obstacle(session, server_id, state), client_id)


def bind_login(
    session: Session,
    platform: TradingPlatform,
    *,
    server_id: int,
    login: int,
    client_id: int,
    product_id: int,
    reason: str,
    actor: Actor,
) -> TradingAccount:
    """Make a login that exists at the server a client's account, its present balance the opening one in the ledger.

    Raises InvalidInput with everything that is wrong, NoSuchLogin, LoginIsOurs, TechnicalLogin, TradingNow, PlatformError.
    """
    server = session.get(Server, server_id)
    if server is None:
        raise NotFound()
    zone = server_zone(server.time_zone)
    session.rollback()
    try:
        state, at = read_still(platform, zone, login)
    except NotKnown:
        raise NoSuchLogin(login=login) from None
    currency = _currency_of(platform, state.group)
    with unit_of_work(session, actor) as unit:
        booking.lock_server(session, server_id)
        obstacle = _obstacle(session, server_id, state)
        if obstacle is not None:
            raise obstacle
        product = _fitting(session, server_id, state, currency, product_id=product_id, client_id=client_id, reason=reason)
        wanted = Takeover(
            login=login,
            client_id=client_id,
            product=product,
            group=state.group,
            leverage=state.leverage,
            rights=state.rights,
            balance=state.balance,
            credit=state.credit,
            at=at,
        )
        (account,) = take_over(unit, session.get_one(Server, server_id), [wanted], origin="bound")
        account.equity = state.equity
        session.flush()
        unit.audit(
            "trading_account.bind",
            f"trading_account:{account.id}",
            after={"login": login, "client_id": client_id, "product": product.code, "balance": f"{state.balance:f}"},
            reason=reason.strip(),
        )
        unit.emit("account.bound", subject_id=account.id, client_id=client_id, login=login)
        return account


def _obstacle(session: Session, server_id: int, state: AccountState) -> AppError | None:
    """Why nobody may have this login; None when it is free."""
    if state.rights & UserRight.TECHNICAL:
        return TechnicalLogin()
    is_ours = (TradingAccount.server_id == server_id) & (TradingAccount.login == state.login)
    if state.mark:
        is_ours |= TradingAccount.token == state.mark
    return LoginIsOurs() if session.scalar(select(TradingAccount.id).where(is_ours)) is not None else None


def _fitting(
    session: Session, server_id: int, state: AccountState, currency: str, *, product_id: int, client_id: int, reason: str
) -> Product:
    """The product, when it fits the login; else InvalidInput with all that does not."""
    problems: dict[str, str] = {}
    product = session.get(Product, product_id)
    if session.get(Client, client_id) is None:
        problems["client"] = N_("There is no client with this number.")
    if product is None or product.server_id != server_id:
        problems["product"] = N_("Please choose a product of this trading server.")
    elif product.group != state.group:
        problems["product"] = N_("This product has another group than the login.")
    elif product.currency != currency:
        problems["product"] = N_("This product has another currency than the login.")
    if not reason.strip():
        problems["reason"] = N_("Please say why.")
    if problems or product is None:
        raise InvalidInput(problems)
    return product


def _currency_of(platform: TradingPlatform, group: str) -> str:
    """The deposit currency of a group at the server; empty where our manager may not see it."""
    try:
        return next((one.currency for one in platform.groups(group) if one.name == group), "")
    except NotKnown:
        return ""


def can_unbind(session: Session, account: TradingAccount) -> bool:
    """Whether an account that was taken over may be taken from its client: only while nothing has happened on it."""
    if account.origin == "opened" or account.opening_txn_id is not None:
        return False
    happened = (
        select(Deal.id).where(Deal.trading_account_id == account.id),
        select(AccountChange.id).where(AccountChange.trading_account_id == account.id),
        select(BalanceOperation.id).where(
            BalanceOperation.server_id == account.server_id, BalanceOperation.login == account.login
        ),
    )
    return all(session.scalar(query.limit(1)) is None for query in happened)


def unbind_login(session: Session, *, account_id: int, reason: str, actor: Actor) -> None:
    """Take a login that was bound by mistake from its client again. The server keeps it as it is.

    Raises MoneyHasMoved once there was an opening balance, a deal, an operation or a change.
    """
    with unit_of_work(session, actor) as unit:
        server_id = session.scalar(select(TradingAccount.server_id).where(TradingAccount.id == account_id))
        if server_id is None:
            raise NotFound()
        if not reason.strip():
            raise InvalidInput({"reason": N_("Please say why.")})
        booking.lock_server(session, server_id)
        account = session.get_one(TradingAccount, account_id, with_for_update=True)
        if not can_unbind(session, account):
            raise MoneyHasMoved()
        for table in (Position, Order, ForeignOperation, ServerBreak):
            session.execute(update(table).where(table.trading_account_id == account.id).values(trading_account_id=None))
        unit.audit(
            "trading_account.unbind",
            f"trading_account:{account.id}",
            before={"login": account.login, "client_id": account.client_id, "product": account.product.code},
            reason=reason.strip(),
        )
        unit.emit("account.unbound", subject_id=account.id, client_id=account.client_id, login=account.login)
        session.execute(delete(TradingAccount).where(TradingAccount.id == account.id))
