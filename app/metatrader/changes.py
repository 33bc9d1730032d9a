"""Changes of a trading account that its server has to make: leverage, group, passwords, disable, archive and back.

What is asked for is a row (account_change) first, checked by our own rules; a job sends it (change_sending.py). An account
has one open change at a time. Clients change their own accounts, staff any, with a reason.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.crypto import Vault
from app.core.errors import N_, AppError, Conflict, InvalidInput, NotFound, map_constraint
from app.core.uow import UnitOfWork, unit_of_work
from app.metatrader import rules
from app.metatrader.accounts import PasswordAlreadyShown, check_leverage
from app.metatrader.passwords import make_password, password_problem
from app.metatrader.platform import PasswordKind
from app.models.clients import Client
from app.models.metatrader import AccountChange, BalanceOperation, Deal, Position, Product, TradingAccount

OPEN = ("new", "sending")


class ChangeUnderWay(Conflict):
    code = "account_changes.under_way"
    message = N_("Another change of this account is under way. Please wait until it is done, then try again.")


class NotInThisState(Conflict):
    code = "account_changes.not_in_this_state"
    message = N_("This is not possible in the state that the account is in now. Nothing was changed.")


class NotEmpty(Conflict):
    code = "account_changes.not_empty"
    message = N_(
        "There is still money or an open position on this account. Please close the positions and move the money first."
    )


class MoneyIsMoving(Conflict):
    code = "account_changes.money_is_moving"
    message = N_("Money is on its way to or from this account. Please wait until it has arrived, then try again.")


class OtherServer(Conflict):
    code = "account_changes.other_server"
    message = N_("The two groups belong to different trading servers.")


class OtherCurrency(Conflict):
    code = "account_changes.other_currency"
    message = N_("The two groups have different currencies, and there is money or an open position on the account.")


class HistoryInCurrency(Conflict):
    code = "account_changes.history_in_currency"
    message = N_("The account has a history in its currency, which has to stay readable. Please open a new account instead.")


class PracticeAndReal(Conflict):
    code = "account_changes.practice_and_real"
    message = N_("A practice account cannot become a real one, nor a real one a practice account.")


class NotWithdrawable(Conflict):
    code = "account_changes.not_withdrawable"
    message = N_("This change was sent already, or has ended. Nothing was changed.")


map_constraint("uq_account_change_one_open", ChangeUnderWay)


def change_leverage(session: Session, *, account_id: int, leverage: int, actor: Actor, reason: str = "") -> AccountChange:
    """Ask for another leverage. Clients choose from what the product offers them; staff up to what the rules allow.

    Raises InvalidInput for a leverage that may not be, or is already there.
    """
    with unit_of_work(session, actor) as unit:
        account = _begin(unit, account_id, ("active",), reason)
        if leverage == account.leverage:
            raise InvalidInput({"leverage": N_("The account has this leverage already.")})
        if actor.kind == "client":
            check_leverage(session, account.product, account.client, leverage)
        elif not 1 <= leverage <= rules.MOST_LEVERAGE:
            raise InvalidInput({"leverage": N_("The leverage must lie between 1 and 5000.")})
        else:
            _check_cap(session, account.product, account.client, leverage)
        return _write(unit, account, "leverage", before=str(account.leverage), after=str(leverage), reason=reason)


def change_group(session: Session, *, account_id: int, product_id: int, actor: Actor, reason: str) -> AccountChange:
    """Ask for the group of another product; the account becomes one of that product. For staff.

    Raises what `group_obstacles` names first.
    """
    with unit_of_work(session, actor) as unit:
        account = _begin(unit, account_id, ("active", "disabled"), reason)
        product = session.get(Product, product_id)
        if product is None:
            raise NotFound()
        for error in group_obstacles(session, account, product):
            raise error
        before = account.group or account.product.group
        return _write(unit, account, "group", before=before, after=product.group, reason=reason, product_id=product.id)


def group_obstacles(session: Session, account: TradingAccount, product: Product) -> list[AppError]:
    """Why this account cannot get this product's group, as far as we can tell without asking the server."""
    if product.server_id != account.server_id:
        return [OtherServer()]
    found: list[AppError] = []
    if product.id == account.product_id and product.group == account.group:
        found.append(InvalidInput({"product": N_("The account is in this group already.")}))
    if product.is_demo != account.product.is_demo:
        found.append(PracticeAndReal())
    if product.currency != account.currency:
        if not is_empty(session, account):
            found.append(OtherCurrency())
        elif _has_history(session, account):
            found.append(HistoryInCurrency())
    cap = None if product.is_demo else rules.max_leverage(session, account.client, now().date())
    if cap is not None and account.leverage > cap:
        found.append(InvalidInput({"product": N_("The account has more leverage than the rules allow. Lower it first.")}))
    return found


def reset_password(
    session: Session, vault: Vault, *, account_id: int, which: PasswordKind, actor: Actor, reason: str
) -> AccountChange:
    """Ask for a new password of our making. No staff see it; the client is shown it once, when the server has it."""
    return _change_password(session, vault, account_id, which, make_password(), actor, reason)


def set_password(
    session: Session, vault: Vault, *, account_id: int, which: PasswordKind, password: str, actor: Actor
) -> AccountChange:
    """Ask for a password that the client chose. Raises InvalidInput for one that trading servers would refuse."""
    if problem := password_problem(password):
        raise InvalidInput({"password": problem})
    return _change_password(session, vault, account_id, which, password, actor, "")


def _change_password(
    session: Session, vault: Vault, account_id: int, which: PasswordKind, password: str, actor: Actor, reason: str
) -> AccountChange:
    with unit_of_work(session, actor) as unit:
        account = _begin(unit, account_id, ("active",), reason)
        change = _write(unit, account, f"{which}_password", reason=reason)
        change.password_sealed = vault.seal(password.encode(), seal_context(account, change.kind))
        return change


def seal_context(account: TradingAccount, kind: str) -> str:
    """What a sealed password of a change belongs to, so that it cannot be moved to another account or kind."""
    return f"{account.token}:{kind}"


def reveal_password(session: Session, vault: Vault, *, change_id: int, actor: Actor) -> tuple[TradingAccount, str, str]:
    """The password that we made for a client's account, once: the account, the kind of change, the password.

    Raises NotFound for anybody else's, PasswordAlreadyShown afterwards.
    """
    with unit_of_work(session, actor) as unit:
        change = session.get(AccountChange, change_id, with_for_update=True)
        if change is None or str(change.trading_account.client_id) != actor.id or actor.kind != "client":
            raise NotFound()
        if change.status != "done" or change.password_sealed is None:
            raise PasswordAlreadyShown()
        account = change.trading_account
        password = vault.open(change.password_sealed, seal_context(account, change.kind)).decode()
        change.password_sealed = None
        unit.emit("account.password_shown", subject_id=account.id, client_id=account.client_id)
        return account, change.kind, password


def disable(session: Session, *, account_id: int, actor: Actor, reason: str) -> AccountChange:
    """Ask that nobody can sign in to the account or trade on it. Open positions stay open. For staff."""
    return _switch(session, account_id, "disable", ("active",), actor, reason)


def enable(session: Session, *, account_id: int, actor: Actor, reason: str) -> AccountChange:
    """Ask that the account can be used again, also where somebody disabled it at the server. For staff."""
    return _switch(session, account_id, "enable", ("active", "disabled"), actor, reason)


def restore(session: Session, *, account_id: int, actor: Actor, reason: str) -> AccountChange:
    """Ask that the account comes back from the archive, as it was. For staff."""
    return _switch(session, account_id, "restore", ("archived",), actor, reason)


def archive(session: Session, *, account_id: int, actor: Actor, reason: str = "", is_forced: bool = False) -> AccountChange:
    """Ask that the account is closed: taken into the server's archive.

    Only an empty one (a practice account: without positions); staff may force it while money is there. The server itself
    keeps an account with open positions. Raises NotEmpty, MoneyIsMoving.
    """
    with unit_of_work(session, actor) as unit:
        account = _begin(unit, account_id, ("active", "disabled"), reason)
        if _is_moving(session, account):
            raise MoneyIsMoving()
        if not is_closable(session, account) and not (is_forced and actor.kind == "staff"):
            raise NotEmpty()
        before = f"{account.balance:f} {account.currency}"
        return _write(unit, account, "archive", before=before, reason=reason, is_forced=is_forced)


def withdraw_change(session: Session, change_id: int, *, actor: Actor, reason: str) -> None:
    """Give up a change that waits to be sent. Raises NotWithdrawable once it may have reached the server. For staff."""
    with unit_of_work(session, actor) as unit:
        if not reason.strip():
            raise InvalidInput({"reason": N_("Please say why.")})
        change = session.get(AccountChange, change_id, with_for_update=True)
        if change is None:
            raise NotFound()
        if change.status != "new":
            raise NotWithdrawable()
        unit.audit(
            "account_change.withdraw",
            f"trading_account:{change.trading_account_id}",
            before={"kind": change.kind, "after": change.after},
            reason=reason.strip(),
        )
        end_change(unit, change, N_("It was withdrawn before it was sent."))


def end_change(unit: UnitOfWork, change: AccountChange, error: str) -> None:
    """The change is not made, and will not be. The row must be locked."""
    change.status, change.error, change.finished_at, change.password_sealed = "failed", error[:300], now(), None
    account = change.trading_account
    unit.emit(
        "account_change.failed",
        subject_id=change.id,
        client_id=account.client_id,
        kind=change.kind,
        account_id=account.id,
        login=account.login,
    )


def open_change(session: Session, account_id: int) -> AccountChange | None:
    """The change of this account that is under way, if there is one."""
    return session.scalars(
        select(AccountChange).where(AccountChange.trading_account_id == account_id, AccountChange.status.in_(OPEN))
    ).one_or_none()


def is_empty(session: Session, account: TradingAccount) -> bool:
    """Whether there is no money, no credit and no open position on the account, as far as we have heard."""
    return not account.balance and not account.credit and not _has_positions(session, account)


def is_closable(session: Session, account: TradingAccount) -> bool:
    """Whether the account may be closed as it is: empty; of a practice account the play money does not matter."""
    return not _has_positions(session, account) if account.product.is_demo else is_empty(session, account)


def _switch(session: Session, account_id: int, kind: str, states: tuple[str, ...], actor: Actor, reason: str) -> AccountChange:
    with unit_of_work(session, actor) as unit:
        account = _begin(unit, account_id, states, reason)
        return _write(unit, account, kind, reason=reason)


def _begin(unit: UnitOfWork, account_id: int, states: tuple[str, ...], reason: str) -> TradingAccount:
    """The account, locked; NotFound for other clients' ones, NotInThisState, InvalidInput where staff give no reason."""
    actor = unit.actor
    account = unit.session.get(TradingAccount, account_id, with_for_update={"key_share": True})
    if account is None or (actor.kind == "client" and actor.id != str(account.client_id)):
        raise NotFound()
    if actor.kind == "staff" and not reason.strip():
        raise InvalidInput({"reason": N_("Please say why.")})
    if account.status not in states:
        raise NotInThisState()
    return account


def _write(
    unit: UnitOfWork,
    account: TradingAccount,
    kind: str,
    *,
    before: str = "",
    after: str = "",
    reason: str = "",
    product_id: int | None = None,
    is_forced: bool = False,
) -> AccountChange:
    """Write the change down, and tell. The same wish once more is the one that is under way. The account must be locked."""
    under_way = open_change(unit.session, account.id)
    if under_way is not None:
        if not kind.endswith("_password") and (under_way.kind, under_way.after) == (kind, after):
            return under_way
        raise ChangeUnderWay()
    change = AccountChange(
        trading_account_id=account.id,
        kind=kind,
        before=before,
        after=after,
        product_id=product_id,
        is_forced=is_forced,
        reason=reason.strip(),
        requested_by=str(unit.actor),
    )
    unit.session.add(change)
    unit.session.flush()
    if unit.actor.kind == "staff":
        unit.audit(
            f"account_change.{kind}",
            f"trading_account:{account.id}",
            before={kind: before} if before else None,
            after={kind: after, **({"forced": True} if is_forced else {})},
            reason=change.reason,
        )
    unit.emit(
        "account_change.requested",
        subject_id=change.id,
        client_id=account.client_id,
        kind=kind,
        login=account.login,
        server_id=account.server_id,
    )
    return change


def _check_cap(session: Session, product: Product, client: Client, leverage: int) -> None:
    offer = rules.offer_of(session, product, client, now().date())
    if offer.cap is not None and leverage > offer.cap:
        raise InvalidInput(
            {"leverage": N_("In the client's country the highest leverage is 1:%(cap)s (%(rule)s).")},
            cap=offer.cap,
            rule=offer.rule,
        )


def _has_positions(session: Session, account: TradingAccount) -> bool:
    return session.scalar(select(Position.id).where(Position.trading_account_id == account.id).limit(1)) is not None


def _has_history(session: Session, account: TradingAccount) -> bool:
    return session.scalar(select(Deal.id).where(Deal.trading_account_id == account.id).limit(1)) is not None


def _is_moving(session: Session, account: TradingAccount) -> bool:
    moving = select(BalanceOperation.id).where(
        BalanceOperation.server_id == account.server_id,
        BalanceOperation.login == account.login,
        BalanceOperation.status.in_(("new", "sending", "unknown")),
    )
    return session.scalar(moving.limit(1)) is not None
