"""Carrying out changes of trading accounts at their servers, where an answer may be lost.

Setting a value twice changes nothing, so a change needs no token: before it is sent, and again after every answer that
did not come, the server is asked what it holds. A password is asked about with `check_password`.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.crypto import Vault
from app.core.errors import N_, AppError
from app.core.locks import try_lock
from app.core.uow import UnitOfWork, unit_of_work
from app.ledger import chart
from app.metatrader import booking
from app.metatrader.changes import OPEN, NotEmpty, OtherCurrency, end_change, seal_context
from app.metatrader.codes import UserRight
from app.metatrader.errors import AccessDenied, BusinessError, NotKnown, NotSent, PlatformError, ServerBusy
from app.metatrader.platform import PasswordKind, TradingPlatform
from app.models.metatrader import AccountChange, Server, TradingAccount

log = logging.getLogger("lotwise.metatrader")

#: A change that never reached the server in this time is given up: whoever asked for it does not expect it any more.
GIVE_UP_AFTER = timedelta(days=1)
#: From when on the clock looks after a change whose own job did not bring it to an end.
LOST_AFTER = timedelta(seconds=60)


class SamePasswords(AppError):
    code = "account_changes.same_passwords"
    message = N_("The main password and the investor password must differ.")


class UnknownGroup(AppError):
    code = "account_changes.unknown_group"
    message = N_("The trading server has no group of this name.")


def send_change(session: Session, platform: TradingPlatform, vault: Vault, change_id: int) -> str:
    """Have the server make a change, unless it is made already. Safe to repeat, also at the same time.

    Returns the status afterwards. Raises the PlatformError after which the change is still to be made.
    """
    actor = Actor.system("send_change")
    with unit_of_work(session, actor) as unit:
        change = session.get_one(AccountChange, change_id, with_for_update=True)
        server = session.get_one(Server, change.trading_account.server_id)
        if change.status not in OPEN or server.commands_paused_at is not None:
            return change.status
        if change.status == "new" and now() - change.requested_at > GIVE_UP_AFTER:
            end_change(unit, change, N_("The trading server could not be reached for a day. Nothing was changed."))
            return change.status
        was_new = change.status == "new"
        change.status, change.sends, change.sent_at = "sending", change.sends + 1, now()
        attempt = change.sends
    with unit_of_work(session, actor) as unit:
        is_alone = try_lock(session, f"account_change:{change_id}")
        change = session.get_one(AccountChange, change_id, populate_existing=True)
        if not is_alone or change.status != "sending" or change.sends != attempt:
            return change.status
        account = change.trading_account
        sending = _Sending(platform, vault, account, change)
        error = sending.error()
        booking.lock_server(session, account.server_id)
        change = session.get_one(AccountChange, change_id, with_for_update=True)
        if error is None:
            _finish(unit, change)
        elif not isinstance(error, PlatformError) or isinstance(error, (BusinessError, NotKnown)):
            end_change(unit, change, str(error))
        else:
            is_unsent = was_new and (not sending.went_out or isinstance(error, (NotSent, ServerBusy, AccessDenied)))
            change.status, change.error = "new" if is_unsent else "sending", str(error)[:300]
            log.warning("change stays open change=%s error=%s", change_id, type(error).__name__)
        status = change.status
    if error is not None and status in OPEN:
        raise error
    return status


class _Sending:
    """One attempt to bring a server to where a change wants it. `went_out`: more than a question was sent."""

    def __init__(self, platform: TradingPlatform, vault: Vault, account: TradingAccount, change: AccountChange) -> None:
        assert account.login is not None
        self._platform, self._account, self._change, self._login = platform, account, change, account.login
        self.went_out = False
        self._password = ""
        if change.password_sealed is not None:
            self._password = vault.open(change.password_sealed, seal_context(account, change.kind)).decode()

    def error(self) -> AppError | None:
        """Ask the server, and send what is not so yet; None when it is so, else why it is not, or not known to be."""
        try:
            if not self._is_so():
                self._check()
                self._send()
        except AppError as error:
            return error
        return None

    def _is_so(self) -> bool:
        """Whether the server holds already what the change wants."""
        kind, platform, login = self._change.kind, self._platform, self._login
        if kind in ("main_password", "investor_password"):
            return platform.check_password(login, self._which, self._password)
        if kind in ("archive", "restore"):
            return self._is_archived() == (kind == "archive")
        state = platform.get_account(login)
        if kind == "leverage":
            return state.leverage == int(self._change.after)
        if kind == "group":
            return state.group == self._change.after
        return state.rights == self._rights(state.rights)

    def _check(self) -> None:
        """What can be judged only by what the server says just now."""
        kind, platform, login = self._change.kind, self._platform, self._login
        if kind == "main_password" and platform.check_password(login, "investor", self._password):
            raise SamePasswords()
        if kind == "investor_password" and platform.check_password(login, "main", self._password):
            raise SamePasswords()
        if kind == "archive" and not self._change.is_forced and not self._account.product.is_demo:
            state = platform.get_account(login)
            if state.balance or state.credit or platform.positions(login):
                raise NotEmpty()
        if kind == "group":
            assert self._change.product is not None
            self._check_currency(self._change.product.currency)

    def _check_currency(self, currency: str) -> None:
        try:
            groups = {group.name: group.currency for group in self._platform.groups(self._change.after)}
        except NotKnown:
            groups = {}
        if self._change.after not in groups:
            raise UnknownGroup()
        if groups[self._change.after] != currency:
            raise OtherCurrency(N_("The group has another currency at the trading server than its product says."))
        if currency != self._account.currency:
            state = self._platform.get_account(self._login)
            if state.balance or state.credit or self._platform.positions(self._login):
                raise OtherCurrency()

    def _send(self) -> None:
        kind, platform, login = self._change.kind, self._platform, self._login
        rights = self._rights(platform.get_account(login).rights) if kind in ("disable", "enable") else 0
        self.went_out = True
        match kind:
            case "leverage":
                platform.update_account(login, leverage=int(self._change.after))
            case "group":
                platform.update_account(login, group=self._change.after)
            case "main_password" | "investor_password":
                platform.change_password(login, self._which, self._password)
            case "archive":
                platform.archive_account(login)
            case "restore":
                platform.restore_account(login)
            case _:
                platform.update_account(login, rights=rights)

    @property
    def _which(self) -> PasswordKind:
        return "main" if self._change.kind == "main_password" else "investor"

    def _rights(self, rights: int) -> int:
        """The rights that `disable` and `enable` make of these: no sign-in and no trading, or both. Others stay."""
        if self._change.kind == "disable":
            return rights & ~UserRight.ENABLED | UserRight.TRADE_DISABLED
        return (rights | UserRight.ENABLED) & ~UserRight.TRADE_DISABLED

    def _is_archived(self) -> bool:
        """Where the login is now. Raises NotKnown when it is neither among the accounts nor in the archive."""
        try:
            self._platform.get_account(self._login)
        except NotKnown:
            group = self._account.group or self._account.product.group
            if any(state.login == self._login for state in self._platform.archived(group)):
                return True
            raise
        return False


def _finish(unit: UnitOfWork, change: AccountChange) -> None:
    """The server has it: so have we. The server must be locked, because what it reports is booked under that lock."""
    session = unit.session
    account = session.get_one(TradingAccount, change.trading_account_id, with_for_update={"key_share": True})
    match change.kind:
        case "leverage":
            account.leverage = int(change.after)
        case "group":
            _move(session, account, change)
        case "main_password" | "investor_password":
            _forget_older(session, account, change)
        case "disable":
            account.status = "disabled"
        case "archive":
            account.status = "archived"
        case "restore":  # as it was
            account.status = "disabled" if _was_disabled(session, account.id) else "active"
        case _:
            account.status = "active"
    change.status, change.error, change.finished_at = "done", "", now()
    unit.emit(
        "account_change.done",
        subject_id=change.id,
        client_id=account.client_id,
        kind=change.kind,
        account_id=account.id,
        login=account.login,
    )


def _was_disabled(session: Session, account_id: int) -> bool:
    """Whether the last switch of this account that was made turned it off."""
    switches = select(AccountChange.kind).where(
        AccountChange.trading_account_id == account_id,
        AccountChange.kind.in_(("disable", "enable")),
        AccountChange.status == "done",
    )
    return session.scalar(switches.order_by(AccountChange.id.desc()).limit(1)) == "disable"


def _move(session: Session, account: TradingAccount, change: AccountChange) -> None:
    """The account is one of the other product from now on."""
    assert change.product is not None
    assert account.login is not None
    account.group, account.product_id = change.after, change.product.id
    if change.product.currency == account.currency:
        return
    account.currency = change.product.currency
    if not change.product.is_demo:
        chart.open_account(
            session, chart.mt_balance(account.server.code, account.login, account.currency, client_id=account.client_id)
        )


def _forget_older(session: Session, account: TradingAccount, change: AccountChange) -> None:
    """Passwords of this kind that nobody has looked at yet are no longer true. One that the client chose is not kept."""
    session.execute(
        update(AccountChange)
        .where(
            AccountChange.trading_account_id == account.id,
            AccountChange.kind == change.kind,
            AccountChange.id != change.id,
            AccountChange.password_sealed.is_not(None),
        )
        .values(password_sealed=None)
    )
    if change.kind == "main_password":
        account.password_sealed = None
    if change.requested_by.startswith("client:"):
        change.password_sealed = None


def open_changes(session: Session) -> list[tuple[int, int]]:
    """(change id, server id) of the changes whose own job did not bring them to an end, oldest first."""
    moment = now() - LOST_AFTER
    rows = session.execute(
        select(AccountChange.id, TradingAccount.server_id)
        .join(TradingAccount, TradingAccount.id == AccountChange.trading_account_id)
        .join(Server, Server.id == TradingAccount.server_id)
        .where(
            AccountChange.status.in_(OPEN),
            AccountChange.requested_at < moment,
            or_(AccountChange.sent_at.is_(None), AccountChange.sent_at < moment),
            Server.commands_paused_at.is_(None),
        )
        .order_by(AccountChange.sent_at.nulls_first(), AccountChange.id)
        .limit(200)
    ).all()
    session.rollback()
    return [(row.id, row.server_id) for row in rows]
