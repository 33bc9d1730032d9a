"""What a dealer does to deals afterwards: change, delete, cancel, enter late. The balance moves along each time."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from app.metatrader.codes import DealAction, DealEntry, DealReason
from app.metatrader.platform import COMMENT_LIMIT, Deal
from app.metatrader.simulator import pricing
from app.metatrader.simulator.books import FLAG_ADMIN, ZERO, Books, Refused
from app.metatrader.simulator.groups import GROUPS
from app.metatrader.simulator.holdings import OpenPosition
from app.metatrader.simulator.trading import check_volume
from app.metatrader.simulator.valuation import major

_CANCELLED = {DealAction.BUY: DealAction.BUY_CANCELED, DealAction.SELL: DealAction.SELL_CANCELED}


class Edits:
    """Each method is one transaction, and tells of the deal and of the account."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._store = books.store

    def edit(
        self,
        ticket: int,
        *,
        price: Decimal | None = None,
        profit: Decimal | None = None,
        swap: Decimal | None = None,
        commission: Decimal | None = None,
        comment: str | None = None,
    ) -> Deal:
        """Change what is given of a deal. Where it opened a position that is open still, that gets the price too.

        Refused: 13, 3 for money finer than the currency.
        """
        with self._store.transaction():
            old = self._deal(ticket)
            digits = old.digits_currency
            new = replace(
                old,
                profit=old.profit if profit is None else _exact(profit, digits),
                swap=old.swap if swap is None else _exact(swap, digits),
                commission=old.commission if commission is None else _exact(commission, digits),
                price=old.price if price is None else price,
                comment=old.comment if comment is None else comment[:COMMENT_LIMIT],
                modification_flags=old.modification_flags | FLAG_ADMIN,
            )
            self._replace(old, new)
            if price is not None and new.is_trade and new.entry == DealEntry.IN:
                self._move_opening(new)
            self._books.tell_account(old.login)
            return new

    def delete(self, ticket: int) -> None:
        """Take a deal away, and what it did to the money. A position that it opened stays. Refused(13)."""
        with self._store.transaction():
            deal = self._deal(ticket)
            account = self._books.account(deal.login)
            self._store.delete_deal(ticket)
            self._books.move_money(account, deal.action, -deal.result)
            self._store.save_account(account)
            self._books.journal.deal("delete", deal)
            self._books.tell_account(deal.login)

    def cancel(self, ticket: int) -> Deal:
        """Declare a trade void: it stays as a cancelled one that moved no money, and what it opened is taken back.

        Refused: 13, 3 for what is no trade.
        """
        with self._store.transaction():
            old = self._deal(ticket)
            if not old.is_trade:
                raise Refused(3)
            nothing = major(0, old.digits_currency)
            new = replace(
                old,
                action=_CANCELLED[DealAction(old.action)],
                profit=nothing,
                swap=nothing,
                commission=nothing,
                fee=nothing,
                modification_flags=old.modification_flags | FLAG_ADMIN,
            )
            self._replace(old, new)
            opened = self._opened_by(old)
            if opened and old.entry == DealEntry.IN:
                self._take_volume(opened, old.volume)
            self._books.tell_account(old.login)
            return new

    def enter(
        self,
        login: int,
        *,
        symbol: str,
        action: int,
        entry: int,
        volume: int,
        price: Decimal,
        profit: Decimal,
        time_ms: int,
        position_ticket: int = 0,
        swap: Decimal = ZERO,
        commission: Decimal = ZERO,
        comment: str = "",
    ) -> Deal:
        """Write down a trade of the past under a new ticket, as it is done when one was forgotten. No position changes.

        Refused: 13, 3 for a time to come or money finer than the currency, 10014.
        """
        instrument = self._books.instrument(symbol)
        check_volume(volume)
        with self._store.transaction():
            account = self._books.account(login)
            group = GROUPS[account.group_name]
            if not 0 < time_ms <= self._books.now_ms() or action not in _CANCELLED:
                raise Refused(3)
            closed = volume if entry != DealEntry.IN else 0
            deal = Deal(
                ticket=self._books.next_deal(),
                login=login,
                action=action,
                entry=entry,
                reason=DealReason.DEALER,
                order_ticket=0,
                position_ticket=position_ticket,
                symbol=symbol,
                volume=volume,
                volume_closed=closed,
                price=price,
                price_position=ZERO,
                market_bid=ZERO,
                market_ask=ZERO,
                contract_size=instrument.contract_size,
                digits=instrument.digits,
                digits_currency=group.digits,
                profit=_exact(profit, group.digits),
                swap=_exact(swap, group.digits),
                commission=_exact(commission, group.digits),
                fee=major(0, group.digits),
                rate_profit=self._books.market.rate(instrument.profit_currency, group.currency, sell=True),
                rate_margin=self._books.market.rate(instrument.margin_currency, group.currency, sell=False),
                server_time_ms=time_ms,
                comment=comment[:COMMENT_LIMIT],
                modification_flags=FLAG_ADMIN,
            )
            self._books.enter(account, deal)
            self._books.tell_account(login)
            return deal

    def _deal(self, ticket: int) -> Deal:
        deal = self._store.deal(ticket)
        if deal is None:
            raise Refused(13)
        self._books.account(deal.login)
        return deal

    def _replace(self, old: Deal, new: Deal) -> None:
        account = self._books.account(old.login)
        self._books.move_money(account, old.action, new.result - old.result)
        self._store.save_account(account)
        self._store.add_deal(new)
        self._books.journal.deal("update", new)

    def _move_opening(self, deal: Deal) -> None:
        position = self._opened_by(deal)
        if position and position.volume <= deal.volume:
            position.opened = deal.price.scaleb(deal.digits)
            position.modification_flags |= FLAG_ADMIN
            position.update_ms = self._books.now_ms()
            self._store.save_position(position)
            self._books.journal.position("update", self._books.shown(position))

    def _opened_by(self, deal: Deal) -> OpenPosition | None:
        """The position that hangs on a deal, when it is open still and was not turned round since."""
        for position in self._store.positions(deal.login):
            if position.identifier == deal.position_ticket and position.action == deal.action:
                return position
        return None

    def _take_volume(self, position: OpenPosition, volume: int) -> None:
        position.update_ms = self._books.now_ms()
        if position.volume <= volume:
            self._store.delete_position(position.ticket)
            self._books.journal.position("delete", self._books.shown(position))
            return
        position.swap -= pricing.share(position.swap, volume, position.volume)
        position.volume -= volume
        self._store.save_position(position)
        self._books.journal.position("update", self._books.shown(position))


def _exact(amount: Decimal, digits: int) -> Decimal:
    """The amount in the currency's digits. Raises Refused(3) for a finer one."""
    if not amount.is_finite() or (exact := major(pricing.minor(amount, digits), digits)) != amount:
        raise Refused(3)
    return exact
