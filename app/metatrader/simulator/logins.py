"""What becomes of logins at the simulator: numbers, groups, the archive, deletion, and the cleaning of demo accounts."""

from __future__ import annotations

from app.metatrader.codes import OrderState
from app.metatrader.events import AccountChange
from app.metatrader.platform import AccountState, BalanceCheck
from app.metatrader.simulator.books import Books, Refused
from app.metatrader.simulator.groups import GROUPS
from app.metatrader.simulator.holdings import Account
from app.metatrader.simulator.valuation import major

EVER = (0, 2**62)


class Logins:
    """Each method is one transaction, and tells of what it did."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._store = books.store

    def next_login(self, wished: int = 0) -> int:
        """A number for a new login, the wished one if it is free.

        Refused: 3004 taken, 3003 not one of this server's, 3002 none left.
        """
        cluster = self._books.cluster
        with self._store.transaction():
            if wished:
                if not cluster.first_login <= wished <= cluster.last_login:
                    raise Refused(3003)
                if self._is_taken(wished):
                    raise Refused(3004)
                return wished
            while self._is_taken(login := self._store.next_number("login", cluster.first_login)):
                pass
            if login > cluster.last_login:
                raise Refused(3002)
            return login

    def check_group(self, account: Account, name: str) -> None:
        """Whether a login may move to a group. Refused: 13, 3009 of another server, 3010 of another currency while money is
        there or something is open, 3008 of another way to hold positions while something is open.
        """
        if name not in GROUPS:
            raise Refused(13)
        old, new = GROUPS[account.group_name], GROUPS[name]
        if new.server != self._books.cluster.number:
            raise Refused(3009)
        is_busy = self._has_trades(account.login)
        if new.currency != old.currency and (account.balance or account.credit or is_busy):
            raise Refused(3010)
        if new.margin_mode != old.margin_mode and is_busy:
            raise Refused(3008)

    def change_group(self, login: int, name: str) -> Account:
        """Move a login to another group. Refused as in `check_group`."""
        with self._store.transaction():
            account = self._books.account(login)
            self.check_group(account, name)
            account.group_name = name
            self._store.save_account(account)
            self._books.tell_account(login)
            return account

    def archive(self, login: int) -> Account:
        """Put a login away with its history. Refused: 13, 3008 while something is open."""
        with self._store.transaction():
            account = self._books.account(login)
            self._check_idle(login)
            state = self._books.state(login)
            account.archived_ms = self._books.now_ms()
            self._store.save_account(account)
            self._tell("archived", state)
            return account

    def restore(self, login: int) -> Account:
        """Bring an archived login back. Refused: 13 when there is none, 3004 when it is not archived."""
        with self._store.transaction():
            account = self._store.archived(login)
            if account is None:
                raise Refused(3004 if self._store.account(login) else 13)
            account.archived_ms = 0
            self._store.save_account(account)
            self._tell("restored", self._books.state(login))
            return account

    def delete(self, login: int) -> None:
        """Take a login away for good; its deals stay. Refused: 13, 3008 while something is open."""
        with self._store.transaction():
            self._books.account(login)
            self._check_idle(login)
            state = self._books.state(login)
            self._store.delete_account(login)
            self._tell("deleted", state)

    def clean(self, login: int) -> int:
        """Wipe a login's deals, orders and positions, as servers do with demo accounts; returns how many deals went.

        Of the deals only the login is told, as MetaTrader does.
        """
        books = self._books
        with self._store.transaction():
            account = books.account(login)
            for position in self._store.positions(login):
                self._store.delete_position(position.ticket)
                books.journal.position("delete", books.shown(position))
            orders = [*self._store.orders(login), *self._store.order_history(login, *EVER)]
            for order in orders:
                self._store.delete_order(order.ticket)
                if order.state == OrderState.PLACED:
                    books.journal.order("delete", order)
            deals = self._store.deals(login, *EVER)
            for deal in deals:
                self._store.delete_deal(deal.ticket)
            account.balance = account.credit = 0
            self._store.save_account(account)
            books.journal.cleaned(books.state(login), deals)
            books.tell_account(login)
            return len(deals)

    def check_balance(self, login: int) -> BalanceCheck:
        """What a login has beside what its deals add up to. Refused(13)."""
        with self._store.reading():
            account = self._books.account(login)
            digits = GROUPS[account.group_name].digits
            balance, credit = self._store.sums(login)
            return BalanceCheck(
                login=login,
                balance=major(account.balance, digits),
                balance_of_deals=major(balance, digits),
                credit=major(account.credit, digits),
                credit_of_deals=major(credit, digits),
            )

    def _is_taken(self, login: int) -> bool:
        return self._store.account(login) is not None or self._store.archived(login) is not None

    def _has_trades(self, login: int) -> bool:
        return bool(self._store.positions(login) or self._store.orders(login))

    def _check_idle(self, login: int) -> None:
        if self._has_trades(login):
            raise Refused(3008)

    def _tell(self, change: AccountChange, state: AccountState) -> None:
        self._books.journal.account(state, change)
