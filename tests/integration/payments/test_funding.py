"""Who pays for a withdrawal: clients' money pays out what clients brought, the house what it owes them."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import Counter
from datetime import UTC, datetime
from itertools import count

import pytest
from sqlalchemy import select

from app.core.actor import Actor
from app.core.money import Money
from app.core.uow import unit_of_work
from app.ledger import chart, posting, proofs, queries
from app.ledger.posting import credit, debit
from app.models.ledger import Account, Entry, Transaction
from app.models.payments import Withdrawal
from app.payments import funding, janitor, withdrawals
from app.payments.connector import Failed
from tests.integration.payments.conftest import OFFICER, OTHER_OFFICER

SYSTEM = Actor.system("test")
CLIENTS, OWN = funding.accounts("house", "USD")
CLEARING, PAYOUTS = chart.psp_clearing("stripe", "USD"), chart.psp_payouts("stripe", "USD")
TRADING = chart.mt_trading_counter("sim", "USD")
WIRE = chart.bank_client_money("first", "USD")
_numbers = count(1)


def usd(text: str) -> Money:
    return Money.parse(text, "USD")


class Books:
    """What happens to one client's money, in a word each."""

    def __init__(self, session, client_id: int = 7) -> None:
        self.session = session
        self.client_id = client_id

    def wallet(self, currency: str = "USD") -> chart.AccountSpec:
        return chart.client_wallet(self.client_id, currency)

    def post(self, *legs: tuple[str, chart.AccountSpec, Money], kind: str = "test"):
        """Legs as (side, account, amount)."""
        with unit_of_work(self.session, SYSTEM):
            chart.open_accounts(self.session, *(spec for _, spec, _ in legs))
            sides = {"debit": debit, "credit": credit}
            return posting.post(
                self.session, key=f"test:{next(_numbers)}", kind=kind, effective_at=datetime(2026, 3, 2, tzinfo=UTC),
                actor=SYSTEM, legs=[sides[side](spec, money) for side, spec, money in legs],
            )  # fmt: skip

    def reverse(self, txn_id) -> None:
        with unit_of_work(self.session, SYSTEM):
            posting.reverse(
                self.session,
                txn_id,
                key=f"test:{next(_numbers)}",
                actor=SYSTEM,
                at=datetime(2026, 3, 3, tzinfo=UTC),
                reason="test",
            )

    def deposit(self, amount: Money):
        clearing = chart.psp_clearing("stripe", amount.currency)
        return self.post(("debit", clearing, amount), ("credit", self.wallet(amount.currency), amount), kind="deposit")

    def win(self, amount: Money):
        """A trading result that is in the wallet by now."""
        counter = chart.mt_trading_counter("sim", amount.currency)
        return self.post(("debit", counter, amount), ("credit", self.wallet(amount.currency), amount))

    def lose(self, amount: Money):
        return self.post(("debit", self.wallet(), amount), ("credit", TRADING, amount))

    def convert(self, sold: Money, bought: Money):
        return self.post(
            ("debit", self.wallet(sold.currency), sold), ("credit", chart.fx_position(sold.currency), sold),
            ("debit", chart.fx_position(bought.currency), bought), ("credit", self.wallet(bought.currency), bought),
            kind="conversion",
        )  # fmt: skip

    def found(self, amount: Money) -> funding.Funding:
        """Who would pay for a withdrawal."""
        asked = Withdrawal(id=1, client_id=self.client_id, amount_minor=amount.amount_minor, currency=amount.currency)
        return funding.of_withdrawal(self.session, asked)

    def pay_out(self, amount: Money):
        """A withdrawal as it is approved. Returns its transaction and what the house paid."""
        found = self.found(amount)
        payouts = chart.psp_payouts("stripe", amount.currency)
        legs = [(leg.side, chart.spec_of(leg.account), leg.money) for leg in found.legs("house")]
        txn_id = self.post(
            ("debit", self.wallet(amount.currency), amount), ("credit", payouts, amount), *legs, kind="withdrawal"
        )
        return txn_id, found.of_house


@pytest.fixture
def books(session) -> Books:
    return Books(session)


def test_who_takes_out_what_was_brought_costs_the_house_nothing(books):
    books.deposit(usd("1000.00"))
    books.win(usd("400.00"))
    found = books.found(usd("1000.00"))
    assert (found.of_house, found.brought, found.legs("house")) == (usd("0.00"), usd("1000.00"), [])
    assert found.explained() == {
        "house_minor": 0, "paid_in_minor": 100_000, "paid_out_minor": 0, "converted_minor": 0, "funded_before_minor": 0,
    }  # fmt: skip


def test_the_house_pays_what_goes_beyond(books):
    books.deposit(usd("1000.00"))
    books.win(usd("400.00"))
    assert books.pay_out(usd("1200.00"))[1] == usd("200.00")
    found = books.found(usd("200.00"))
    assert found.of_house == usd("200.00")
    assert (found.paid_out_minor, found.funded_minor, found.brought) == (120_000, 20_000, usd("0.00"))
    books.deposit(usd("50.00"))
    assert books.found(usd("200.00")).of_house == usd("150.00")


def test_losses_are_won_back_before_the_house_owes_anything(books):
    books.deposit(usd("1000.00"))
    books.lose(usd("600.00"))
    books.win(usd("500.00"))
    assert books.found(usd("900.00")).of_house == usd("0.00")


@pytest.mark.parametrize(
    ("giver", "is_brought"),
    [
        (chart.bank_client_money("first", "USD"), True),  # a wire to the clients' account
        (chart.migration_opening("USD"), True),
        (chart.suspense("first", "USD"), True),  # a receipt that nobody could be found for at first
        (chart.suspense("mt-sim", "USD"), False),  # a dealer's doing, which nobody has explained
        (chart.ib_commission(3, "USD"), False),
        (chart.bonus_expense("USD"), False),
        (chart.client_wallet(8, "USD"), False),  # another client's money
        (chart.bank_own_money("house", "USD"), False),  # a gift of the house, or a wire to the wrong account
    ],
    ids=str,
)
def test_where_money_in_the_wallet_may_come_from(books, giver, is_brought):
    if not giver.may_go_negative:
        books.post(("debit", TRADING, usd("100.00")), ("credit", giver, usd("100.00")))
    books.post(("debit", giver, usd("100.00")), ("credit", books.wallet(), usd("100.00")))
    assert books.found(usd("100.00")).of_house == usd("0.00" if is_brought else "100.00")


def test_a_payout_that_is_given_back_counts_for_nothing(books):
    books.deposit(usd("1000.00"))
    books.win(usd("400.00"))
    before = books.found(usd("1200.00"))
    txn_id, _ = books.pay_out(usd("1200.00"))
    books.reverse(txn_id)
    assert books.found(usd("1200.00")) == before


def test_money_charged_back_after_it_was_paid_out(books):
    """The client has taken out more than was brought: what is won later is the house's to pay, whole."""
    books.deposit(usd("1000.00"))
    books.pay_out(usd("800.00"))
    receivable = chart.client_receivable(7, "USD")
    books.post(
        ("debit", books.wallet(), usd("200.00")), ("debit", receivable, usd("800.00")), ("credit", CLEARING, usd("1000.00"))
    )
    assert books.found(usd("10.00")).brought == usd("-800.00")
    books.win(usd("300.00"))
    assert books.found(usd("300.00")).of_house == usd("300.00")
    books.deposit(usd("1000.00"))
    assert books.found(usd("1000.00")).of_house == usd("800.00")


def test_a_transaction_for_several_clients_counts_for_each_with_its_own_part(books):
    other = Books(books.session, 8)
    books.post(
        ("debit", CLEARING, usd("100.00")), ("credit", books.wallet(), usd("30.00")), ("credit", other.wallet(), usd("70.00"))
    )
    assert (books.found(usd("50.00")).brought, other.found(usd("50.00")).brought) == (usd("30.00"), usd("70.00"))


def test_a_conversion_carries_over_what_was_brought_and_no_profit(books):
    books.deposit(usd("1000.00"))
    books.win(usd("1000.00"))
    txn_id = books.convert(usd("1500.00"), Money(139_000, "EUR"))
    assert books.found(usd("500.00")).of_house == usd("500.00")
    assert books.found(Money(139_000, "EUR")).of_house == Money(139_000 - 92_666, "EUR")
    books.convert(Money(139_000, "EUR"), usd("1490.00"))
    assert books.found(usd("1990.00")).brought == usd("993.32")  # 92,666 of 139,000 cents, rounded down
    books.reverse(books.convert(usd("10.00"), Money(900, "EUR")))
    assert books.found(usd("1990.00")).brought == usd("993.32")
    assert txn_id


def test_profits_do_not_become_money_brought_by_converting_them(books):
    books.win(usd("1000.00"))
    books.convert(usd("1000.00"), Money(92_600, "EUR"))
    assert books.found(Money(92_600, "EUR")).of_house == Money(92_600, "EUR")


@pytest.mark.parametrize("seed", range(3))
def test_clients_money_never_pays_for_another_clients_profits(session, seed):
    """At any moment the money held for clients covers what every one of them brought and has not taken out."""
    chance, people = random.Random(seed), [Books(session, number) for number in (1, 2, 3)]
    for _ in range(60):
        one = chance.choice(people)
        amount = Money(chance.randint(1, 50_000), "USD")
        wallet = queries.find_balance(session, one.wallet())
        has = wallet.available.amount_minor if wallet else 0
        act = chance.choice(["deposit", "win", "lose", "pay_out", "give_back"])
        if act in ("deposit", "win"):
            getattr(one, act)(amount)
        elif has:
            part = Money(chance.randint(1, has), "USD")
            if act == "lose":
                one.lose(part)
            else:
                txn_id, _ = one.pay_out(part)
                if act == "give_back":
                    one.reverse(txn_id)
        held = Counter({leg.code: leg.balance for leg in session.execute(select(Account.code, Account.balance))})
        pool = held[CLEARING.code] + held[CLIENTS.code] - held[PAYOUTS.code]
        brought = [one.found(usd("1.00")).brought.amount_minor for one in people]
        assert min(brought) >= 0
        assert pool == sum(brought)


# The use cases, at the payment desk.


def profitable(desk, profit_minor: int = 40_000, deposit_minor: int = 100_000) -> None:
    """A deposit, a profit in the wallet, and a provider that can pay out more than it took in."""
    deposit = desk.settled(deposit_minor)
    Books(desk.session, desk.client_id).win(Money(profit_minor, "USD"))
    with unit_of_work(desk.session, SYSTEM):
        deposit.settled_minor = deposit_minor + profit_minor


def ask(desk, amount_minor: int) -> int:
    made = withdrawals.request_withdrawal(
        desk.session, client_id=desk.client_id, amount=Money(amount_minor, "USD"), key=str(uuid.uuid4()), actor=desk.client
    )
    desk.session.commit()
    return made.id


def balance(desk, spec: chart.AccountSpec) -> Money:
    desk.session.rollback()
    found = queries.find_balance(desk.session, spec)
    return found.posted if found else Money.zero(spec.currency)


def legs(desk, txn_id) -> dict[str, int]:
    rows = select(Account.code, Entry.debit - Entry.credit).join(Account, Account.id == Entry.account_id)
    return dict(desk.session.execute(rows.where(Entry.txn_id == txn_id)).all())


def is_proven(desk) -> bool:
    desk.session.rollback()
    return all(not proof.breaks for proof in proofs.prove(desk.session))


def test_the_funding_leg_is_in_the_withdrawals_own_transaction(desk):
    profitable(desk)
    withdrawal_id = ask(desk, 120_000)
    foreseen = funding.preview(desk.session, [desk.session.get_one(Withdrawal, withdrawal_id)])[withdrawal_id]
    done = withdrawals.approve_withdrawal(desk.session, withdrawal_id, OFFICER, client_bank="first")
    assert legs(desk, done.capture_txn_id) == {
        f"client:{desk.client_id}:wallet:USD": 120_000,
        "psp:stripe:payouts:USD": -120_000,
        "bank:first:client_money:USD": 20_000,
        "bank:first:own_money:USD": -20_000,
    }
    assert desk.session.get_one(Transaction, done.capture_txn_id).details == {
        "withdrawal_id": withdrawal_id,
        "funding": {
            "house_minor": 20_000, "paid_in_minor": 100_000, "paid_out_minor": 0, "converted_minor": 0,
            "funded_before_minor": 0,
        },
    }  # fmt: skip
    assert funding.recorded(desk.session, done) == foreseen
    assert foreseen.of_house == usd("200.00")
    assert is_proven(desk)


def test_a_payout_that_fails_gives_the_house_its_part_back(desk):
    profitable(desk)
    withdrawal_id = ask(desk, 120_000)
    withdrawals.approve_withdrawal(desk.session, withdrawal_id, OFFICER)
    assert (balance(desk, CLIENTS), balance(desk, OWN)) == (usd("200.00"), usd("-200.00"))
    withdrawals.submit_payout(desk.session, desk.connector, withdrawal_id)
    refuse(desk, withdrawal_id)
    assert (balance(desk, CLIENTS), balance(desk, OWN)) == (usd("0.00"), usd("0.00"))
    assert balance(desk, chart.client_wallet(desk.client_id, "USD")) == usd("1400.00")
    assert desk.session.get_one(Withdrawal, withdrawal_id).state == "failed"
    again = ask(desk, 110_000)
    assert funding.of_withdrawal(desk.session, desk.session.get_one(Withdrawal, again)).of_house == usd("100.00")
    assert is_proven(desk)


def test_a_payout_that_comes_back_after_it_was_paid_gives_the_house_its_part_back(desk):
    profitable(desk)
    withdrawals.approve_withdrawal(desk.session, ask(desk, 40_000), OFFICER)
    withdrawal_id = ask(desk, 100_000)
    withdrawals.approve_withdrawal(desk.session, withdrawal_id, OFFICER)
    withdrawals.submit_payout(desk.session, desk.connector, withdrawal_id)
    deadline = time.monotonic() + 10
    while desk.session.get_one(Withdrawal, withdrawal_id, populate_existing=True).state != "paid":
        assert time.monotonic() < deadline
        janitor.ask_about_withdrawal(desk.session, lambda _name: desk.connector, withdrawal_id)
    assert balance(desk, OWN) == usd("-400.00")
    refuse(desk, withdrawal_id)
    assert desk.session.get_one(Withdrawal, withdrawal_id).state == "returned"
    assert (balance(desk, OWN), balance(desk, CLIENTS)) == (usd("0.00"), usd("0.00"))
    assert balance(desk, chart.client_wallet(desk.client_id, "USD")) == usd("1000.00")
    assert is_proven(desk)


def refuse(desk, withdrawal_id: int) -> None:
    """The provider says that it could not pay."""
    desk.session.rollback()
    public_id = desk.session.get_one(Withdrawal, withdrawal_id).public_id
    desk.session.rollback()
    with unit_of_work(desk.session, SYSTEM) as unit:
        row = withdrawals.find_for_update(desk.session, str(public_id))
        withdrawals.apply_outcome(unit, row, Failed("expired_or_canceled_card"), None)


def test_two_withdrawals_of_one_client_at_once_do_not_both_count_on_the_same_money(desk):
    profitable(desk)
    ids = [ask(desk, 70_000), ask(desk, 70_000)]
    foreseen = funding.preview(desk.session, [desk.session.get_one(Withdrawal, number) for number in ids])
    assert [foreseen[number].of_house for number in ids] == [usd("0.00")] * 2  # each for itself
    desk.session.rollback()
    gate, errors = threading.Barrier(2), []

    def approve(withdrawal_id: int, officer: Actor) -> None:
        with desk.database.session() as session:
            gate.wait()
            try:
                withdrawals.approve_withdrawal(session, withdrawal_id, officer)
            except Exception as error:  # noqa: BLE001  # told below
                errors.append(error)

    threads = [threading.Thread(target=approve, args=pair) for pair in zip(ids, (OFFICER, OTHER_OFFICER), strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert balance(desk, OWN) == usd("-400.00")
    assert is_proven(desk)
