"""Trading accounts: asked for by the client, opened at the server by a job, the password shown once.

The account's token stands in the server's record, so that an account whose creation got no answer is found again instead
of being made twice. A practice account gets its play money by a balance operation once it is open.
"""

from __future__ import annotations

import hashlib
import logging
from datetime import timedelta
from decimal import Decimal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.crypto import Vault
from app.core.errors import N_, Conflict, InvalidInput, NotFound
from app.core.ids import ALPHABET, TOKEN_LENGTH, new_token
from app.core.locks import try_lock
from app.core.money import Money
from app.core.uow import UnitOfWork, unit_of_work
from app.ledger import chart
from app.metatrader import booking, commands, rules
from app.metatrader.errors import AccessDenied, BusinessError, NotKnown, NotSent, PlatformError, ServerBusy
from app.metatrader.passwords import make_password
from app.metatrader.platform import AccountState, NewAccount, TradingPlatform
from app.models.clients import Client
from app.models.metatrader import BalanceOperation, Product, TradingAccount

log = logging.getLogger("lotwise.metatrader")

#: Those that failed or are closed do not count.
MOST_ACCOUNTS_PER_CLIENT = 20
MOST_PRACTICE_ACCOUNTS = 5
#: How long after a balance operation its account may still show the balance of before.
BALANCE_COMES_WITHIN = timedelta(minutes=1)
VAULT_PURPOSE = "trading-account-password"


class ClientNotApproved(Conflict):
    code = "accounts.client_not_approved"
    message = N_("Please have your documents approved first. Then you can open a live account.")


class TooManyAccounts(Conflict):
    code = "accounts.too_many"
    message = N_("You have %(most)s trading accounts, which is the most we offer. Please write to us if you need more.")


class TooManyPracticeAccounts(Conflict):
    code = "accounts.too_many_practice"
    message = N_("You have %(most)s practice accounts, which is the most we offer. You can close one that you no longer need.")


class OtherWish(Conflict):
    code = "accounts.other_wish"
    message = N_("This form was sent before, for another account. Nothing was opened now; please load the page again.")


class NoTopUp(Conflict):
    code = "accounts.no_top_up"
    message = N_("This account has as much practice money as it began with, or is just getting some.")


class PasswordAlreadyShown(Conflict):
    code = "accounts.password_already_shown"
    message = N_("This password was shown once and is no longer kept. Please set a new one in your trading terminal.")


def request_account(
    session: Session, *, client_id: int, product_id: int, leverage: int, actor: Actor, key: str | None = None
) -> TradingAccount:
    """Write down that the client wants an account of this product; a job opens it. The same key is the same wish.

    Raises ClientNotApproved (live products), NotFound, TooManyAccounts, InvalidInput for a leverage that the product does
    not offer, or that the rules of the client's country do not allow.
    """
    with unit_of_work(session, actor) as unit:
        client = session.get_one(Client, client_id, with_for_update=True)
        token = _token_of(client_id, key) if key else new_token("A")
        known = session.scalars(select(TradingAccount).where(TradingAccount.token == token)).one_or_none()
        if known is not None:
            if (known.product_id, known.leverage) != (product_id, leverage):
                raise OtherWish()
            return known
        product = session.get(Product, product_id)
        if product is None or not product.is_open or not product.server.is_active:
            raise NotFound()
        if not product.is_demo and client.status != "approved":
            raise ClientNotApproved()
        check_leverage(session, product, client, leverage)
        _check_count(session, client_id, product)
        account = TradingAccount(
            client_id=client_id,
            product_id=product.id,
            server_id=product.server_id,
            currency=product.currency,
            leverage=leverage,
            status="requested",
            token=token,
        )
        session.add(account)
        session.flush()
        unit.emit(
            "account.requested", subject_id=account.id, client_id=client_id, product=product.code, server_id=product.server_id
        )
        return account


def check_leverage(session: Session, product: Product, client: Client, leverage: int) -> None:
    """Raise InvalidInput for a leverage that this client may not choose for this product, with the reason."""
    offer = rules.offer_of(session, product, client, now().date())
    if leverage in offer.withheld:
        raise InvalidInput(
            {"leverage": N_("In your country the highest leverage is 1:%(cap)s (%(rule)s).")}, cap=offer.cap, rule=offer.rule
        )
    if leverage not in offer.leverages:
        raise InvalidInput({"leverage": N_("Please choose one of the offered leverages.")})


def _check_count(session: Session, client_id: int, product: Product) -> None:
    """Raise TooManyAccounts. The client must be locked, so that wishes at the same time count each other."""
    counted = (
        select(func.count())
        .select_from(TradingAccount)
        .where(TradingAccount.client_id == client_id, TradingAccount.status.not_in(("failed", "archived")))
    )
    if (session.scalar(counted) or 0) >= MOST_ACCOUNTS_PER_CLIENT:
        raise TooManyAccounts(most=MOST_ACCOUNTS_PER_CLIENT)
    if product.is_demo:
        practice = counted.join(Product, Product.id == TradingAccount.product_id).where(Product.is_demo)
        if (session.scalar(practice) or 0) >= MOST_PRACTICE_ACCOUNTS:
            raise TooManyPracticeAccounts(most=MOST_PRACTICE_ACCOUNTS)


def _token_of(client_id: int, key: str) -> str:
    """The token of the account that this form asks for, in the alphabet of `new_token`."""
    number = int.from_bytes(hashlib.sha256(f"{client_id}:{key}".encode()).digest(), "big")
    return "A-" + "".join(ALPHABET[number >> 5 * place & 31] for place in range(TOKEN_LENGTH - 2))


def open_account(session: Session, platform: TradingPlatform, vault: Vault, account_id: int) -> str:
    """Create the account at its server. Safe to repeat, also at the same time; returns the status afterwards.

    Our password is sealed and committed before it is sent. When an earlier answer was lost, the server is searched for
    the token first. Raises the PlatformError after which the account is still to be opened.
    """
    actor = Actor.system("open_account")
    with unit_of_work(session, actor):
        account = session.get_one(TradingAccount, account_id, with_for_update=True)
        if account.status not in ("requested", "opening", "unknown"):
            return account.status
        maybe_made = account.status != "requested"
        if account.password_sealed is None:
            account.password_sealed = vault.seal(make_password().encode(), account.token)
        account.status = "opening"
        wanted = _wanted(account, vault.open(account.password_sealed, account.token).decode())
        server_id = account.server_id
    with unit_of_work(session, actor) as unit:
        is_alone = try_lock(session, f"account:{account_id}")
        account = session.get_one(TradingAccount, account_id, populate_existing=True)
        if not is_alone or account.status != "opening":
            return account.status
        status, state, error = _make_or_find(platform, wanted, maybe_made=maybe_made)
        booking.lock_server(session, server_id)
        account = session.get_one(TradingAccount, account_id, with_for_update=True)
        account.status, account.error = status, str(error)[:300] if error else ""
        if state is not None:
            _activate(unit, account, state)
        elif status == "failed":
            log.warning("server refused account=%s error=%s", account_id, error)
            account.password_sealed = None
            unit.emit("account.failed", subject_id=account.id, client_id=account.client_id)
    if error is not None and status != "failed":
        raise error
    return status


def _make_or_find(
    platform: TradingPlatform, wanted: NewAccount, *, maybe_made: bool
) -> tuple[str, AccountState | None, PlatformError | None]:
    """Have the account made, or find it: the status that follows, with the account there or what went wrong."""
    try:
        login = find_by_mark(platform, wanted.group, wanted.mark) if maybe_made else None
    except PlatformError as error:
        return "unknown", None, error
    try:
        login = login or platform.create_account(wanted)
    except (BusinessError, NotKnown) as error:
        return "failed", None, error
    except (NotSent, ServerBusy, AccessDenied) as error:
        return "unknown" if maybe_made else "requested", None, error
    except PlatformError as error:
        return "unknown", None, error
    try:
        return "active", platform.get_account(login), None
    except PlatformError as error:
        return "unknown", None, error  # it is there: the next try finds it by its mark


def _activate(unit: UnitOfWork, account: TradingAccount, state: AccountState) -> None:
    """The login is ours from now on, and so is what was booked for it before. The server must be locked."""
    session, login = unit.session, state.login
    account.login, account.opened_at = login, now()
    account.group, account.rights = state.group, state.rights
    session.flush()
    booking.adopt_login(unit, account.server_id, login, account.id)
    booking.book_account(session, account.server_id, state, now())
    if not account.product.is_demo:
        chart.open_account(session, chart.mt_balance(account.server.code, login, account.currency, client_id=account.client_id))
    elif account.product.demo_deposit_minor:
        _give_practice_money(unit, account, account.product.demo_deposit_minor)
    unit.emit("account.opened", subject_id=account.id, client_id=account.client_id, login=login)


def _give_practice_money(unit: UnitOfWork, account: TradingAccount, amount_minor: int) -> None:
    """Order the operation that puts play money on a practice account; the ledger has nothing to do with it."""
    assert account.login is not None
    amount = Money(amount_minor, account.currency)
    commands.create_operation(
        unit, server_id=account.server_id, login=account.login, amount=amount, prefix="P", purpose="demo_deposit"
    )


def top_up(session: Session, *, client_id: int, account_id: int, actor: Actor) -> Money:
    """Fill a practice account up to the play money it began with. Returns what is on its way.

    Raises NotFound for what is no open practice account of the client's, NoTopUp when nothing is missing or it is coming.
    """
    with unit_of_work(session, actor) as unit:
        account = session.get(TradingAccount, account_id, with_for_update={"key_share": True})
        if account is None or account.client_id != client_id or account.status != "active" or not account.product.is_demo:
            raise NotFound()
        missing = missing_practice_money(account)
        if not missing.amount_minor or _is_moving(session, account):
            raise NoTopUp()
        _give_practice_money(unit, account, missing.amount_minor)
        unit.emit("account.topped_up", subject_id=account.id, client_id=client_id, login=account.login)
        return missing


def missing_practice_money(account: TradingAccount) -> Money:
    """What a practice account has less than it began with, in whole minor units; zero where it has more."""
    given = Money(account.product.demo_deposit_minor, account.currency)
    return Money.round_down(max(given.decimal - account.balance, Decimal(0)), account.currency)


def _is_moving(session: Session, account: TradingAccount) -> bool:
    """Whether a balance operation of this login is on its way, or done so lately that its balance has not come yet."""
    lately = now() - BALANCE_COMES_WITHIN
    on_its_way = select(BalanceOperation.id).where(
        BalanceOperation.server_id == account.server_id,
        BalanceOperation.login == account.login,
        BalanceOperation.status.in_(("new", "sending", "unknown"))
        | (BalanceOperation.sent_at > max(lately, account.state_at or lately)),
    )
    return session.scalar(on_its_way.limit(1)) is not None


def find_by_mark(platform: TradingPlatform, group: str, mark: str) -> int | None:
    """The login in this group that carries our mark, or None: how an account whose creation got no answer is found."""
    return next((state.login for state in platform.accounts(group) if state.mark == mark), None)


def reveal_password(session: Session, vault: Vault, *, client_id: int, account_id: int, actor: Actor) -> str:
    """The account's first password, once: showing it wipes it. Raises PasswordAlreadyShown afterwards, NotFound for others."""
    with unit_of_work(session, actor) as unit:
        account = session.get(TradingAccount, account_id, with_for_update=True)
        if account is None or account.client_id != client_id or account.status != "active":
            raise NotFound()
        if account.password_sealed is None:
            raise PasswordAlreadyShown()
        password = vault.open(account.password_sealed, account.token).decode()
        account.password_sealed, account.password_shown_at = None, now()
        unit.emit("account.password_shown", subject_id=account.id, client_id=client_id)
        return password


def _wanted(account: TradingAccount, password: str) -> NewAccount:
    client = account.client
    return NewAccount(
        group=account.product.group,
        leverage=account.leverage,
        first_name=client.first_name,
        last_name=client.last_name,
        email=client.email,
        country=client.country,
        mark=account.token,
        main_password=password,
        investor_password=make_password(),
    )
