"""A brokerage whose clients trade below a tree of IBs: its rows, made by PostgreSQL itself, the same at every run.

Each tier of the tree has equally many IBs; half of the IBs of a tier have two below them. The traders belong to the lowest
tier, so that each deal has an upline of the whole depth.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from app.commissions.units import SHARDS
from benchmarks.servers import BenchDatabase

#: All of the trading lies in one month, and all else was so before it.
MONTH = datetime(2026, 3, 1, tzinfo=UTC)
_BEFORE = MONTH - timedelta(days=60)
FIRST_TICKET = 1_000_001

#: One symbol for each rule of the plan.
SYMBOLS = ("EURUSD", "GBPUSD", "XAUUSD", "US500", "BTCUSD", "USOIL")
_COMPONENTS = (
    ("per_lot", "8"), ("per_deal", "1.5"), ("spread_share", "30"), ("per_lot", "2.25"), ("commission_share", "40"),
    ("revenue_share", "12.5"),
)  # fmt: skip
SHARES = ("0.5", "0.2", "0.15", "0.1", "0.05")


@dataclass(frozen=True)
class Tree:
    """How many IBs on how many tiers."""

    ibs: int
    depth: int

    @property
    def width(self) -> int:
        return self.ibs // self.depth


def rules(*, all_match: bool = False) -> list[dict[str, Any]]:
    """The document of a hybrid plan with six rules over five levels: of one symbol each, or of every symbol."""
    return [
        {
            "key": f"{component}-{symbol.lower()}".replace("_", "-"),
            "component": component,
            "rate": rate,
            "when": "close",
            "levels": list(SHARES),
            "filter": {"symbols": ["*" if all_match else symbol]},
        }
        for symbol, (component, rate) in zip(SYMBOLS, _COMPONENTS, strict=True)
    ]


#: Whether a tree is one is checked for each row that is entered, all the way up; this one is, so that triggers rest.
_HOUSE = """
INSERT INTO mt_server (code, name, platform, url, manager_login, time_zone)
VALUES ('bench', 'Bench', 'mt5_web', 'https://localhost', 1, 'GMT+2/EU');
INSERT INTO product (code, name, server_id, "group", currency, leverages)
SELECT 'std', 'Standard', id, 'real\\std\\usd', 'USD', '[100]' FROM mt_server;
INSERT INTO client (email, password_hash, first_name, last_name, country, status, terms_version, terms_accepted_at)
SELECT 'client-' || n || '@bench.example', 'x', 'Elena', 'Rossi', 'IT', 'approved', '1', now()
  FROM generate_series(1, {ibs} + {accounts}) n;
INSERT INTO introducing_broker (client_id, currency) SELECT id, 'USD' FROM client ORDER BY id LIMIT {ibs};
INSERT INTO trading_account (client_id, product_id, server_id, login, currency, leverage, status, token, opened_at)
SELECT c.id, p.id, p.server_id, 100000 + c.id, 'USD', 100, 'active', 'A-' || lpad(c.id::text, 13, '0'), '{before}'
  FROM product p, (SELECT id FROM client ORDER BY id OFFSET {ibs}) c ORDER BY c.id;
INSERT INTO attribution (client_id, ib_id, source, valid_from)
SELECT c.client_id, ib.id, 'link', '{before}'
  FROM (SELECT client_id, row_number() OVER (ORDER BY id) - 1 AS n FROM trading_account) c
  JOIN (SELECT id, row_number() OVER (ORDER BY id) - 1 AS n FROM introducing_broker) ib
    ON ib.n = {ibs} - {width} + c.n % {width};
INSERT INTO plan (name, currency) VALUES ('Hybrid', 'USD');
INSERT INTO plan_version (plan_id, version, valid_from, rules) SELECT id, 1, '{before}', {rules}::jsonb FROM plan;
INSERT INTO ib_plan (ib_id, plan_id, valid_from) SELECT ib.id, plan.id, '{before}' FROM introducing_broker ib, plan;
SET session_replication_role = replica;
WITH numbered AS (SELECT id, row_number() OVER (ORDER BY id) - 1 AS n FROM introducing_broker)
INSERT INTO ib_parent (ib_id, parent_id, set_by, reason, valid_from)
SELECT below.id, above.id, 'bench', 'bench', '{before}'
  FROM numbered below JOIN numbered above ON above.n = (below.n / {width} - 1) * {width} + below.n % {width} / 2
 WHERE below.n >= {width};
ANALYZE;
"""

#: Closing deals, evenly over the month, the accounts and the symbols; each pays by exactly one rule.
_DEALS = """
SELECT deal_month('{month}');
INSERT INTO deal (filed_at, done_at, server_id, ticket, fingerprint, login, trading_account_id, action, entry, reason,
                  order_ticket, position_ticket, symbol, volume, volume_closed, price, market_bid, market_ask, contract_size,
                  profit, commission, rate_profit, server_time_ms, utc_offset_min)
SELECT at, at, account.server_id, ticket, decode(md5(ticket::text), 'hex'), account.login, account.id, ticket % 2, 1, 0,
       ticket, ticket, (ARRAY[{symbols}])[ticket % {symbol_count} + 1], lots, lots, bid, bid, bid + 0.00012, 100000,
       (ticket % 1001 - 500) * 0.37, -3.5, 1, (extract(epoch FROM at) * 1000)::bigint, 120
  FROM (SELECT ticket, timestamptz '{month}' + (ticket - {first}) * interval '28 days' / {number} AS at,
               (ticket % 500 + 1) * 1000000 AS lots, 1.05 + (ticket % 1000) * 0.0001 AS bid,
               ticket * 7919 % {accounts} AS n
          FROM generate_series({first}::bigint, {first} + {number} - 1) ticket) made
  JOIN (SELECT id, login, server_id, row_number() OVER (ORDER BY id) - 1 AS n FROM trading_account) account USING (n)
 ORDER BY ticket;
ANALYZE deal;
"""

#: As if accrued and settled before: five accruals for each of these deals. References are right by making, not checked.
_HISTORY = """
SET session_replication_role = replica;
WITH unit AS (INSERT INTO accrual_unit (server_id, shard, accruals) SELECT min(id), 0, 0 FROM mt_server RETURNING id),
settled AS (
    INSERT INTO settlement (ib_id, currency, accrued, paid_currency, converted, carried_in, amount_minor, carried_out, period)
    SELECT id, 'USD', 0, 'USD', 0, 0, 0, 0, 'history {first}' FROM introducing_broker RETURNING id, ib_id
),
summed AS (
    INSERT INTO accrual_sum (unit_id, ib_id, plan_version_id, currency, amount, accruals, settlement_id)
    SELECT unit.id, settled.ib_id, version.id, 'USD', 0, 0, settled.id FROM unit, settled, plan_version version
)
INSERT INTO accrual (unit_id, deal_id, plan_version_id, rule, level, ib_id, kind, amount, currency, lots, rate)
SELECT unit.id, deal.id, version.id, 'per-lot-eurusd', level, broker.ib_id, 'accrue', 0.0123456789, 'USD', 0.01, 8
  FROM unit
  CROSS JOIN deal
  CROSS JOIN plan_version version
  CROSS JOIN generate_series(1, 5) level
  JOIN (SELECT ib_id, row_number() OVER (ORDER BY ib_id) - 1 AS n FROM settled) broker ON broker.n = deal.id * level % {ibs}
 WHERE deal.ticket BETWEEN {first} AND {last}
 ORDER BY deal.id, level;
INSERT INTO accrual_cursor (server_id, shard, deal_id)
SELECT server.id, shard, (SELECT max(id) FROM deal WHERE ticket <= {last})
  FROM mt_server server, generate_series(0, {shards} - 1) shard
ON CONFLICT (server_id, shard) DO UPDATE SET deal_id = excluded.deal_id;
ANALYZE accrual; ANALYZE accrual_sum;
"""


class Brokerage:
    """One server, one plan, the tree, and accounts of as many clients."""

    def __init__(self, place: BenchDatabase, tree: Tree, accounts: int) -> None:
        self._place, self._tree, self._accounts = place, tree, accounts
        self._next_ticket = FIRST_TICKET
        document = _literal(json.dumps(rules()))
        values = {"ibs": tree.ibs, "accounts": accounts, "width": tree.width, "before": _BEFORE, "rules": document}
        self._run(_HOUSE, values)

    def trade(self, number: int) -> range:
        """Book so many deals; their tickets, which follow one another."""
        first = self._next_ticket
        self._next_ticket += number
        symbols = ", ".join(map(_literal, SYMBOLS))
        self._run(
            _DEALS,
            {
                "first": first, "number": number, "accounts": self._accounts, "month": MONTH, "symbols": symbols,
                "symbol_count": len(SYMBOLS),
            },
        )  # fmt: skip
        return range(first, self._next_ticket)

    def remember(self, tickets: Sequence[int]) -> None:
        """Store accruals for these deals, as if they had been settled long ago."""
        self._run(_HISTORY, {"first": tickets[0], "last": tickets[-1], "ibs": self._tree.ibs, "shards": SHARDS})

    def _run(self, script: str, values: Mapping[str, object]) -> None:
        self._place.psql(self._place.superuser, script.format(**values))


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
