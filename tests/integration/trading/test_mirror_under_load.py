"""The mirror beside everything else that moves the same money: no deadlock, and every figure as the server has it."""

from __future__ import annotations

import random
import threading
import time
import uuid
from dataclasses import replace
from decimal import Decimal

from sqlalchemy import select

from app.core.actor import Actor
from app.core.clock import now
from app.core.money import Money
from app.core.uow import unit_of_work
from app.ledger import chart
from app.metatrader import booking, commands, mirror
from app.metatrader.servertime import server_zone
from app.models.ledger import Account
from app.models.metatrader import Deal
from app.models.payments import Deposit, Withdrawal
from app.payments import transfers, withdrawals
from app.payments.connector import Failed, Settled
from tests.integration.trading.house import SYSTEM, House, in_threads
from tests.unit.metatrader.samples import DEAL

ZONE = server_zone("GMT+2/EU")
ROUNDS = 12


def book(session, server_id: int, deals) -> None:
    with unit_of_work(session, SYSTEM) as unit:
        booking.lock_server(session, server_id)
        moments = [ZONE.to_utc(deal.server_time_ms) for deal in deals]
        reports = [
            booking.DealReport(deal, moment.utc, moment.utc_offset_min) for deal, moment in zip(deals, moments, strict=True)
        ]
        booking.book_deals(unit, server_id, reports)


def payable(house: House, amount_minor: int) -> None:
    """A settled payment that withdrawals can be paid back to; the wallet's money comes from elsewhere."""
    with unit_of_work(house.session, SYSTEM):
        house.session.add(
            Deposit(
                public_id=uuid.uuid4(), client_id=house.client_id, connector="stripe", amount_minor=amount_minor,
                currency="USD", state="settled", idempotency_key=str(uuid.uuid4()), payment_reference="pi_1",
                settled_minor=amount_minor, settled_at=now(),
            )
        )  # fmt: skip


def test_mirror_transfers_withdrawals_and_booking_at_once(house):
    accounts = [(account.id, account.login) for account in (house.add_account() for _ in range(4))]
    house.bring_money(house.client_id, 1_000_000)
    payable(house, 5_000_000)
    is_over, server_id = threading.Event(), house.server_id

    def deals_of(step: int):
        """New results for every account, and corrections of the last ones."""
        chance = random.Random(step)
        made = []
        for index, (_, login) in enumerate(accounts):
            for revision_of in (step, step - 1) if step else (step,):
                deal = replace(
                    DEAL, ticket=9_000_000 + revision_of * 10 + index, login=login, swap=Decimal(0), commission=Decimal(0),
                    profit=Decimal(chance.randint(-900, 900)).scaleb(-2), modification_flags=step - revision_of,
                )  # fmt: skip
                made.append(deal)
        chance.shuffle(made)
        return made

    def booker() -> None:
        with house.database.session() as session:
            for step in range(ROUNDS):
                book(session, server_id, deals_of(step))

    def mirrorer() -> None:
        with house.database.session() as session:
            while not is_over.is_set():
                mirror.mirror_deals(session)

    def mover(number: int) -> None:
        with house.database.session() as session, house.connect() as platform:
            for step in range(ROUNDS):
                account_id, _ = accounts[(step + number) % len(accounts)]
                made = transfers.request_transfer(
                    session, client_id=house.client_id, trading_account_id=account_id, direction="to_account",
                    amount=Money(1_000 + step, "USD"), key=f"{number}:{step}", actor=SYSTEM,
                )  # fmt: skip
                operation_id = made.operation_id
                # The other mover may have one in flight for the same login: then the resolver sends this one later.
                deadline = time.monotonic() + 30
                while commands.send_operation(session, platform, operation_id) == "new" and time.monotonic() < deadline:
                    time.sleep(0.01)
                with unit_of_work(session, SYSTEM) as unit:
                    transfers.follow_operation(unit, operation_id)

    def payer(number: int) -> None:
        """Withdrawals beyond what was brought are paid, refused, or come back after they were paid."""
        officer = Actor.staff(number)
        with house.database.session() as session:
            for step in range(ROUNDS):
                made = withdrawals.request_withdrawal(
                    session, client_id=house.client_id, amount=Money(20_000, "USD"), key=f"w{number}:{step}",
                    actor=Actor.client(house.client_id),
                )  # fmt: skip
                withdrawal_id, public_id = made.id, str(made.public_id)
                withdrawals.approve_withdrawal(session, withdrawal_id, officer)
                with unit_of_work(session, SYSTEM):
                    session.get_one(Withdrawal, withdrawal_id).state = "submitting"
                outcomes = [
                    [Settled(Money(20_000, "USD"), "re")],
                    [Failed("x")],
                    [Settled(Money(20_000, "USD"), "re"), Failed("x")],
                ]
                for outcome in outcomes[step % 3]:
                    with unit_of_work(session, SYSTEM) as unit:
                        row = withdrawals.find_for_update(session, public_id)
                        withdrawals.apply_outcome(unit, row, outcome, None)

    def all_but_the_mirror() -> None:
        try:
            in_threads(booker, lambda: mover(0), lambda: mover(1), lambda: payer(1), lambda: payer(2))
        finally:
            is_over.set()

    in_threads(all_but_the_mirror, mirrorer)
    house.drain()
    mirror.mirror_deals(house.session)
    house.prove()
    assert house.count(Deal, Deal.is_current, Deal.ledger_txn_id.is_(None)) == 0
    for _, login in accounts:
        current = (Deal.login == login, Deal.is_current)
        at_server = sum(house.session.scalars(select(Deal.profit + Deal.swap + Deal.commission + Deal.fee).where(*current)))
        assert house.mirrored(login).decimal == at_server
    paid = house.session.scalars(select(Withdrawal.amount_minor).where(Withdrawal.state == "paid")).all()
    moved = house.session.scalar(
        select(Account.balance).where(Account.code == chart.client_wallet(house.client_id, "USD").code)
    )
    assert len(paid) == 2 * ROUNDS // 3
    assert moved == 1_000_000 - sum(paid) - 2 * sum(1_000 + step for step in range(ROUNDS))
