"""A broker's house with one movement of every kind, each with the row that caused it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.money import Money
from app.core.orm import Model
from app.core.uow import unit_of_work
from app.ledger import chart, external, posting
from app.ledger.posting import Leg, credit, debit
from app.models.clients import Client
from app.models.commissions import Settlement
from app.models.controls import ExternalLine, ExternalStatement, LedgerRequest
from app.models.fx import FXQuote, FXRate
from app.models.metatrader import Deal, Product, Server, TradingAccount
from app.models.partners import IntroducingBroker
from app.models.payments import Deposit, Transfer, Withdrawal
from app.models.payouts import Payout

ACTOR = Actor.system("test")
PAYER, PAYEE = Actor.staff(1), Actor.staff(2)


class House:
    """Rows and transactions on one session; ids of rows by name. The house has 10,000.00 USD of its own with clients' money."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.at = now() - timedelta(minutes=1)
        self.ids: dict[str, int] = {}
        self.txns: dict[str, UUID] = {}

    def add(self, name: str, row: Model) -> int:
        self.session.add(row)
        self.session.flush()
        self.ids[name] = row.id  # type: ignore[attr-defined]  # all rows here have one
        return self.ids[name]

    def post(
        self, kind: str, key: str, *legs: Leg, reverses: UUID | None = None, metadata: Mapping[str, Any] | None = None
    ) -> UUID:
        self.txns[key] = posting.post(
            self.session, key=key, kind=kind, effective_at=self.at, actor=ACTOR, legs=legs, reverses=reverses, metadata=metadata
        )
        return self.txns[key]

    def build(self) -> House:
        with unit_of_work(self.session, ACTOR):
            self.session.add(FXRate(source="ecb", base="EUR", quote="USD", rate=Decimal("1.1"), observed_at=self.at))
            self.open_house()
            self.deposit()
            self.withdrawals()
            self.transfers()
            self.trading()
            self.commission()
            self.conversion()
            self.requests()
            self.receipt()
        return self

    def open_house(self) -> None:
        client = Client(
            email="elena@example.com", password_hash="x", first_name="Elena", last_name="Rossi", country="IT",
            terms_version="1", terms_accepted_at=now(), status="approved",
        )  # fmt: skip
        self.client = self.add("client", client)
        usd = {"wallet": chart.client_wallet(self.client, "USD"), "clearing": chart.psp_clearing("stripe", "USD")}
        self.wallet, self.clearing = usd["wallet"], usd["clearing"]
        self.bank, own = chart.bank_client_money("first", "USD"), chart.bank_own_money("first", "USD")
        self.payouts, self.account = chart.psp_payouts("stripe", "USD"), chart.mt_balance("sim", 5001, "USD")
        opening = chart.migration_opening("USD")
        chart.open_accounts(self.session, self.wallet, self.clearing, self.bank, own, self.payouts, self.account, opening)
        bank_id = chart.open_account(self.session, self.bank)
        self.post("migration_opening", f"migration-account:{bank_id}", *moves(self.bank, opening, 1_000_000))
        self.post("migration_opening", f"migration:{self.client}:USD", *moves(self.bank, self.wallet, 5_000))
        server = Server(
            code="sim", name="Sim", platform="mt5_web", url="https://127.0.0.1:1", manager_login=1000, time_zone="EET"
        )
        self.add("server", server)
        product = Product(code="std", name="Standard", server_id=server.id, group="real", currency="USD", leverages=[100])
        self.add("product", product)
        account = TradingAccount(
            client_id=self.client, product_id=product.id, server_id=server.id, login=5001, currency="USD", leverage=100,
            status="active", token="A-0000000000000",
        )  # fmt: skip
        self.add("trading_account", account)

    def deposit(self) -> None:
        public = uuid.uuid4()
        row = Deposit(
            public_id=public, client_id=self.client, connector="stripe", amount_minor=100_000, currency="USD", state="settled",
            idempotency_key="d", settled_minor=100_000, fee_minor=1_450, settled_at=self.at,
        )  # fmt: skip
        self.add("deposit", row)
        row.ledger_txn_id = self.post("deposit", f"deposit:stripe:{public}", *moves(self.clearing, self.wallet, 100_000))
        fees = chart.psp_fees("stripe", "USD")
        chart.open_account(self.session, fees)
        self.post("psp_fee", f"deposit-fee:stripe:{public}", *moves(fees, self.clearing, 1_450))

    def withdrawals(self) -> None:
        for name, state in (("paid", "paid"), ("returned", "returned"), ("waiting", "requested")):
            row = Withdrawal(
                public_id=uuid.uuid4(), client_id=self.client, connector="stripe", deposit_id=self.ids["deposit"],
                amount_minor=2_000, currency="USD", state=state, idempotency_key=name, hold_id=uuid.uuid4(),
                requested_by=f"client:{self.client}",
            )  # fmt: skip
            self.add(name, row)
            if state == "requested":
                continue
            key = f"withdrawal:{row.public_id}"
            row.capture_txn_id = self.post("withdrawal", f"{key}:capture", *moves(self.wallet, self.payouts, 2_000))
            row.final_txn_id = self.post("payout", f"{key}:paid", *moves(self.payouts, self.clearing, 2_000))
            if state == "returned":
                taken, paid = row.capture_txn_id, row.final_txn_id
                self.post("reversal", f"{key}:returned", *moves(self.clearing, self.payouts, 2_000), reverses=paid)
                self.post("reversal", f"{key}:failed", *moves(self.payouts, self.wallet, 2_000), reverses=taken)

    def transfers(self) -> None:
        for direction, giver, taker, minor in (
            ("to_account", self.wallet, self.account, 7_000),
            ("to_wallet", self.account, self.wallet, 500),
        ):
            row = Transfer(
                client_id=self.client, trading_account_id=self.ids["trading_account"], direction=direction,
                amount_minor=minor, currency="USD", state="done", idempotency_key=direction,
            )  # fmt: skip
            self.add(direction, row)
            legs = moves(giver, taker, row.amount_minor)
            row.ledger_txn_id = self.post(f"transfer_{direction}", f"transfer:{row.id}", *legs)

    def trading(self) -> None:
        """A result, a balance operation that is not ours, one that wrote a debt off, and one that changed nothing."""
        result, suspense = chart.mt_trading_counter("sim", "USD"), chart.suspense("mt-sim", "USD")
        written_off = chart.negative_balance_expense("USD")
        chart.open_accounts(self.session, result, suspense, written_off)
        kinds = {
            "deal_results": moves(self.account, result, 300),
            "unmatched_balance_operation": moves(suspense, self.account, 40),
            "negative_balance": moves(written_off, self.account, 10),
        }
        for number, (kind, legs) in enumerate(kinds.items()):
            self._deal(kind, number + 1, self.post(kind, f"mirror:sim:USD:{kind}", *legs))
        self._deal("second of the run", 8, self.txns["mirror:sim:USD:deal_results"])
        self._deal("no change", 9, UUID(int=0))

    def _deal(self, name: str, ticket: int, txn_id: UUID) -> None:
        deal = Deal(
            server_id=self.ids["server"], ticket=ticket, fingerprint=b"", login=5001,
            trading_account_id=self.ids["trading_account"], action=0, entry=1, reason=0, order_ticket=ticket,
            position_ticket=ticket, symbol="EURUSD", volume=1, price=1, profit=1, server_time_ms=0, utc_offset_min=0,
            done_at=self.at, ledger_txn_id=txn_id,
        )  # fmt: skip
        self.add(name, deal)

    def commission(self) -> None:
        broker = self.add("ib", IntroducingBroker(client_id=self.client, currency="USD"))
        expense, payable = chart.commission_expense("USD"), chart.ib_commission(broker, "USD")
        chart.open_accounts(self.session, expense, payable)
        for period, minor in (("1", 4_137), ("nothing left", 0)):
            row = Settlement(
                ib_id=broker, currency="USD", accrued=Decimal(minor) / 100, paid_currency="USD", converted=Decimal(minor) / 100,
                carried_in=Decimal(0), amount_minor=minor, carried_out=Decimal(0), period=period,
            )  # fmt: skip
            self.add(f"settlement {period}", row)
            if minor:
                key = f"commission-settlement:{broker}:USD:{period}"
                row.ledger_txn_id = self.post("commission_settlement", key, *moves(expense, payable, minor))
        rebate = Settlement(
            client_id=self.client, currency="USD", accrued=Decimal("3.21"), paid_currency="USD", converted=Decimal("3.21"),
            carried_in=Decimal(0), amount_minor=321, carried_out=Decimal(0), period="1",
        )  # fmt: skip
        self.add("rebate", rebate)
        rebate.ledger_txn_id = self.post("rebate_settlement", "rebate-settlement:1", *moves(expense, self.wallet, 321))
        payout = Payout(
            ib_id=broker, client_id=self.client, amount_minor=4_000, currency="USD", destination="wallet", state="approved",
            figures={}, requested_by="staff:1", hold_id=uuid.uuid4(),
        )  # fmt: skip
        self.add("commission payout", payout)
        key = f"payout:{payout.id}"
        payout.ledger_txn_id = self.post("commission_payout", key, *moves(payable, self.wallet, 4_000))
        payout.state = "paid"

    def conversion(self) -> None:
        euros, spread = chart.client_wallet(self.client, "EUR"), chart.fx_spread("USD")
        dollars, position = chart.fx_position("USD"), chart.fx_position("EUR")
        chart.open_accounts(self.session, euros, spread, dollars, position)
        row = FXQuote(
            client_id=self.client, sell_currency="USD", sell_minor=1_110, spread_minor=10, buy_currency="EUR", buy_minor=1_000,
            rate=Decimal("0.9091"), sources=[], quoted_at=self.at, expires_at=self.at,
        )  # fmt: skip
        self.add("quote", row)
        legs = [debit(self.wallet, usd(1_110)), credit(dollars, usd(1_100)), credit(spread, usd(10))]
        legs += [debit(position, Money(1_000, "EUR")), credit(euros, Money(1_000, "EUR"))]
        row.txn_id, row.converted_at = self.post("conversion", f"conversion:{row.id}", *legs), self.at

    def requests(self) -> None:
        fees = chart.fees("USD")
        chart.open_account(self.session, fees)
        common = {
            "status": "approved",
            "reason": "r",
            "proposed_by": str(PAYER),
            "decided_by": str(PAYEE),
            "decided_at": self.at,
        }
        adjusted = LedgerRequest(kind="adjustment", legs=[], effective_at=self.at, idempotency_key="a", **common)
        self.add("adjustment", adjusted)
        adjusted.txn_id = self.post("adjustment", f"ledger-request:{adjusted.id}", *moves(self.wallet, fees, 25))
        undone = LedgerRequest(kind="reversal", reverses=adjusted.txn_id, effective_at=self.at, idempotency_key="r", **common)
        self.add("reversal", undone)
        undone.txn_id = self.post(
            "reversal", f"ledger-request:{undone.id}", *moves(fees, self.wallet, 25), reverses=adjusted.txn_id
        )
        through = datetime(2026, 1, 1, tzinfo=UTC)
        self.add("close", LedgerRequest(kind="period_close", closed_through=through, idempotency_key="c", **common))
        revaluation, gained = chart.fx_revaluation("USD"), chart.fx_result("USD")
        chart.open_accounts(self.session, revaluation, gained)
        self.post("revaluation", f"revaluation:{through.isoformat()}", *moves(revaluation, gained, 3))

    def receipt(self) -> None:
        statement = ExternalStatement(account_code="bank:first:client_money", file_name="f", sha256="0" * 64, imported_by="x")
        self.add("statement", statement)
        day: date = self.at.astimezone(UTC).date()
        line = ExternalLine(statement_id=statement.id, line=1, booked_on=day, reference="?", amount_minor=777, currency="USD")
        self.add("line", line)
        external.to_suspense(self.session, line_id=line.id, actor=PAYER)


def usd(minor: int) -> Money:
    return Money(minor, "USD")


def moves(debited: chart.AccountSpec, credited: chart.AccountSpec, minor: int) -> tuple[Leg, Leg]:
    return debit(debited, usd(minor)), credit(credited, usd(minor))
