"""MT4's report database as a source of events: rows by TIMESTAMP become deals and orders, open rows are compared as positions.

TIMESTAMP moves with every change of a row. It counts whole seconds, so the rows of the cursor's own second are read again
and only what was not told before is told. In autumn it may go back an hour with the server's clock: then the source looks
back an hour more. Rows that are deleted at the server vanish without a trace: comparisons find their deals.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace

from app.core.clock import now
from app.metatrader import mt4
from app.metatrader.codes import OrderState
from app.metatrader.platform import AccountState, Deal, Order, Position, Symbol
from app.metatrader.sources import Batch, Place, Told, Unreadable
from app.metatrader.sources.exports import PER_BATCH, PER_FETCH, ExportSource
from app.metatrader.sources.mt4_report import MT4Report

_CURSOR = "mt4_trades"
_KINDS = frozenset(mt4.Cmd)
#: By kind of record and ticket: the TIMESTAMP of the row that told of it last, and a hash of what it told.
_Known = dict[tuple[type, int], tuple[int, int]]


class MT4ReportSource(ExportSource):
    """One server's report database."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._look_back = int(self._look_back_s)
        address = place.secrets.database_url
        self._report = MT4Report(address, place.zone, place.options, self._symbols, keeps_connections=True)
        self._known = _Known()
        self._pending: dict[int, Order] = {}

    def read(self, stop: threading.Event) -> Iterator[Batch]:
        self._pending = {order.ticket: order for order in self._place.held.orders()}
        yield from super().read(stop)

    def close(self) -> None:
        self._report.close()

    def _positions(self) -> Iterator[Position]:
        return self._report.positions()

    def _accounts(self) -> Iterator[AccountState]:
        return self._report.accounts()

    def _symbols(self) -> list[Symbol]:
        with self._place.connect() as bridge:
            return list(bridge.symbols())

    def _follow(self, stop: threading.Event, *, looks_back: bool) -> Iterator[Batch]:
        kept = self._place.cursors.get(_CURSOR)
        cursor = int(kept) if kept else self._report.first_timestamp(now() - self._first)
        after = self._reach(cursor) if looks_back and kept else cursor, 0
        while not stop.is_set():
            trades = self._report.changed(*after)
            for start in range(0, len(trades), PER_BATCH):
                part, known = trades[start : start + PER_BATCH], _Known()
                news = [one for trade in part for one in self._news(trade, known)]
                cursor = max(cursor, part[-1].timestamp)
                if news or str(cursor) != self._place.cursors.get(_CURSOR):
                    yield Batch(news, {_CURSOR: str(cursor)})
                self._known |= known
            reach = self._reach(cursor)
            self._known = {key: told for key, told in self._known.items() if told[0] >= reach}
            if len(trades) < PER_FETCH:
                return
            after = trades[-1].timestamp, trades[-1].order

    def _reach(self, cursor: int) -> int:
        """Where looking back from a cursor begins: the overlap, and what the server's clock went back since the cursor."""
        zone = self._place.zone
        gone_back_min = zone.to_utc(1000 * cursor).utc_offset_min - zone.offset_min(now())
        return cursor - self._look_back - 60 * max(0, gone_back_min)

    def _news(self, trade: mt4.Trade, known: _Known) -> Iterator[Told | Unreadable]:
        """What a row says that was not told before; `known` notes all that it says."""
        for record in self._records(trade):
            key = type(record), trade.order if isinstance(record, Unreadable) else record.ticket
            before, known[key] = self._known.get(key), (trade.timestamp, hash(record))
            if before and before[1] == known[key][1]:
                continue
            if isinstance(record, Unreadable):
                yield record
            else:
                is_over = isinstance(record, Order) and record.done_ms
                yield Told("update" if before or is_over else "add", record)

    def _records(self, trade: mt4.Trade) -> Iterator[Deal | Order | Unreadable]:
        """The order or the deals that a row is. An order that was pending and is a trade now is filled."""
        if trade.cmd not in _KINDS:
            note, payload = f"a row of an unknown kind: CMD {trade.cmd}", json.dumps(mt4.write_trade(trade))
            yield Unreadable("deal.add", payload, note, key=str(trade.order), login=trade.login)
            return
        contract_size = self._report.contract_size(trade.symbol)
        waited = self._pending.pop(trade.order, None)
        order = mt4.pending_of(trade, contract_size)
        if order:
            if not trade.close_time:
                self._pending[trade.order] = order
            yield order
        elif waited:
            filled_ms = 1000 * trade.open_time
            yield replace(waited, state=OrderState.FILLED, volume_current=0, position_ticket=trade.order, done_ms=filled_ms)
        yield from mt4.deals_of(trade, contract_size)
