"""The ledger's mirror: what stands at the server stands in the ledger, and each deal knows why."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import insert, select, update

from app.core.clock import now
from app.core.money import Money
from app.core.uow import unit_of_work
from app.ledger import chart, close, queries
from app.metatrader import booking, commands, mirror
from app.metatrader.servertime import server_zone
from app.metatrader.simulator.exchange import Refused
from app.models.ledger import Account, Entry, Transaction
from app.models.metatrader import Deal, Product, TradingAccount
from app.models.payments import Transfer
from app.payments import transfers
from tests.integration.trading.house import SYSTEM, House, add_server, in_threads
from tests.unit.metatrader.samples import DEAL

TRADING = chart.mt_trading_counter("sim", "USD")
SUSPENSE = chart.suspense("mt-sim", "USD")
ZONE = server_zone("GMT+2/EU")


def usd(text: str) -> Money:
    return Money.parse(text, "USD")


def book(house: House, *deals, deleted: bool = False) -> None:
    """Book deals directly, as a source would report them."""
    with unit_of_work(house.session, SYSTEM) as unit:
        booking.lock_server(house.session, house.server_id)
        moments = [ZONE.to_utc(deal.server_time_ms) for deal in deals]
        booking.book_deals(
            unit,
            house.server_id,
            [
                booking.DealReport(deal, moment.utc, moment.utc_offset_min, is_deleted=deleted)
                for deal, moment in zip(deals, moments, strict=True)
            ],
        )


def trade(login: int, ticket: int, profit: str, **changes):
    fields = {"swap": Decimal(0), "commission": Decimal(0), **changes}
    return replace(DEAL, ticket=ticket, login=login, profit=Decimal(profit), **fields)


def balance(login: int, ticket: int, profit: str, **changes):
    return trade(login, ticket, profit, **{"action": 2, "symbol": "", "comment": "by hand", **changes})


def mirror_all(house: House) -> int:
    house.session.rollback()
    count = mirror.mirror_deals(house.session)
    house.prove()
    return count


def carrier(house: House, ticket: int, revision: int = 1):
    """The transaction that a revision says it is carried by."""
    house.session.rollback()
    return house.session.scalars(select(Deal.ledger_txn_id).where(Deal.ticket == ticket, Deal.revision == revision)).one()


def legs(house: House, txn_id) -> dict[str, int]:
    rows = house.session.execute(
        select(Account.code, (Entry.credit - Entry.debit).label("change"))
        .join(Account, Account.id == Entry.account_id)
        .where(Entry.txn_id == txn_id)
    )
    return {row.code: row.change for row in rows}


def transfer(house: House, account, amount_minor: int, direction: str = "to_account") -> Transfer:
    """A transfer, followed to its end."""
    made = transfers.request_transfer(
        house.session, client_id=house.client_id, trading_account_id=account.id, direction=direction,
        amount=Money(amount_minor, account.currency), key=f"{direction}:{amount_minor}", actor=SYSTEM,
    )  # fmt: skip
    house.send(made.operation_id)
    with unit_of_work(house.session, SYSTEM) as unit:
        transfers.follow_operation(unit, made.operation_id)
    return made


def test_results_go_against_the_trading_account(house):
    account = house.add_account(login=1)
    book(house, trade(1, 10, "0", commission=Decimal("-3.50")), trade(1, 11, "-25.00", swap=Decimal("-1.20")))
    assert mirror_all(house) == 2
    assert house.mirrored(1) == usd("-29.70")
    txn = carrier(house, 10)
    assert txn == carrier(house, 11)
    assert legs(house, txn) == {"mt:sim:1:balance:USD": -2970, TRADING.code: 2970}
    kept = house.session.get_one(Transaction, txn)
    assert (kept.kind, kept.details) == ("deal_results", {"deals": 2, "server": "sim"})
    assert account.currency == "USD"


def test_a_second_run_posts_nothing(house):
    house.add_account(login=1)
    book(house, trade(1, 10, "5.00"), trade(1, 11, "0.00"))
    assert mirror_all(house) == 2
    before = house.count(Transaction)
    assert mirror_all(house) == 0
    assert house.count(Transaction) == before
    assert carrier(house, 11) == mirror.NOTHING_POSTED


def test_results_that_cancel_out_are_carried_all_the_same(house):
    house.add_account(login=1)
    house.add_account(login=2)
    book(house, trade(1, 10, "5.00"), trade(2, 11, "-5.00"), trade(1, 12, "3.00"), trade(1, 13, "-3.00"))
    assert mirror_all(house) == 4
    assert legs(house, carrier(house, 12)) == {"mt:sim:1:balance:USD": 500, "mt:sim:2:balance:USD": -500}
    house.add_account(login=3)
    book(house, trade(3, 14, "1.00"), trade(3, 15, "-1.00"))
    assert mirror_all(house) == 2
    assert carrier(house, 14) == mirror.NOTHING_POSTED


def test_an_edit_posts_the_difference_only(house):
    house.add_account(login=1)
    book(house, trade(1, 10, "5.00"))
    mirror_all(house)
    book(house, trade(1, 10, "7.50", modification_flags=1))
    assert mirror_all(house) == 1
    assert house.mirrored(1) == usd("7.50")
    assert legs(house, carrier(house, 10, 2)) == {"mt:sim:1:balance:USD": 250, TRADING.code: -250}


def test_an_edit_before_the_first_run(house):
    house.add_account(login=1)
    book(house, trade(1, 10, "5.00"), trade(1, 10, "7.50", modification_flags=1))
    assert mirror_all(house) == 1
    assert house.mirrored(1) == usd("7.50")
    book(house, trade(1, 10, "8.00", modification_flags=2), trade(1, 10, "9.00", modification_flags=3))
    mirror_all(house)
    assert house.mirrored(1) == usd("9.00")
    assert carrier(house, 10, 1) is None
    assert carrier(house, 10, 3) is None


@pytest.mark.parametrize("how", ["deleted", "cancelled"])
def test_a_void_trade_takes_its_result_back_from_where_it_went(house, how):
    house.add_account(login=1)
    deal = trade(1, 10, "5.00")
    book(house, deal)
    mirror_all(house)
    if how == "deleted":
        book(house, deal, deleted=True)
    else:
        book(house, replace(deal, action=14))
    mirror_all(house)
    assert house.mirrored(1) == usd("0.00")
    assert house.ledger(TRADING) == usd("0.00")
    assert house.ledger(SUSPENSE) == usd("0.00")


def test_a_deal_that_was_void_from_the_start(house):
    house.add_account(login=1)
    book(house, trade(1, 10, "5.00"), deleted=True)
    assert mirror_all(house) == 1
    assert house.mirrored(1) == usd("0.00")


def test_operations_that_are_not_ours_wait_in_suspense(house):
    house.add_account(login=1)
    book(house, balance(1, 10, "100.00"), trade(1, 11, "-1.00"), balance(1, 12, "-30.00"))
    mirror_all(house)
    assert house.mirrored(1) == usd("69.00")
    assert house.ledger(SUSPENSE) == -usd("70.00")  # we owe the client what nobody has accounted for
    assert house.session.get_one(Transaction, carrier(house, 10)).kind == "unmatched_balance_operation"
    book(house, balance(1, 10, "100.00"), deleted=True)
    mirror_all(house)
    assert house.ledger(SUSPENSE) == usd("30.00")


def test_credit_demo_and_strangers_stay_outside(house):
    house.add_account(login=1)
    house.add_account(login=2, product="demo")
    book(house, trade(1, 10, "50.00", action=3), trade(2, 11, "9.00"), trade(3, 12, "4.00"))
    assert mirror_all(house) == 2
    assert house.count(Transaction) == 0
    assert [carrier(house, ticket) for ticket in (10, 11, 12)] == [mirror.NOTHING_POSTED, mirror.NOTHING_POSTED, None]


def test_currencies_are_kept_apart(house):
    house.add_account(login=1)
    house.add_account(login=2, product="eur")
    book(house, trade(1, 10, "5.00"), trade(2, 11, "7.00"))
    mirror_all(house)
    assert (house.mirrored(1), house.mirrored(2, "EUR")) == (usd("5.00"), Money(700, "EUR"))


def test_amounts_that_the_ledger_cannot_hold_stop_nobody_else(house):
    for login in (1, 2):
        house.add_account(login=login)
    book(house, trade(1, 10, "0.005"), trade(2, 11, "5.00"), trade(1, 12, "1.00"))
    with pytest.raises(mirror.UnpostableDeals, match="1"):
        mirror_all(house)
    assert (house.mirrored(1), house.mirrored(2)) == (usd("0.00"), usd("5.00"))
    book(house, trade(1, 10, "0.01", modification_flags=1))
    mirror_all(house)
    assert house.mirrored(1) == usd("1.01")


def add_accounts(house: House, count: int) -> None:
    """Active accounts with the logins 1 to count, which the server does not know."""
    product = house.session.scalars(select(Product).where(Product.code == "std")).one()
    with unit_of_work(house.session, SYSTEM):
        house.session.execute(
            insert(TradingAccount),
            [
                {
                    "client_id": house.client_id, "product_id": product.id, "server_id": house.server_id, "login": login,
                    "currency": "USD", "leverage": 100, "status": "active", "token": f"A-{login:013d}",
                }
                for login in range(1, count + 1)
            ],
        )  # fmt: skip


def test_more_logins_than_a_transaction_can_hold(house):
    count = 450
    add_accounts(house, count)
    book(house, *[trade(login, 1000 * part + login, f"{login}.{part}0") for part in (1, 2) for login in range(1, count + 1)])
    assert mirror_all(house) == 2 * count
    assert house.count(Transaction) == 3
    assert house.count(Deal, Deal.ledger_txn_id.is_(None)) == 0
    sizes = Counter(house.session.scalars(select(Entry.txn_id)))
    assert sorted(sizes.values()) == [53, 200, 200]
    assert (house.mirrored(1), house.mirrored(450)) == (usd("2.30"), usd("900.30"))
    assert house.ledger(TRADING) == -usd(f"{2 * sum(range(1, count + 1)) + Decimal('0.3') * count}")


def test_a_transfers_deal_is_carried_by_the_transfers_transaction(house):
    account = house.add_account()
    house.bring_money(house.client_id, 100_000)
    moved = transfer(house, account, 60_000)
    house.drain()
    assert mirror_all(house) == 1
    assert house.mirrored(account.login) == usd("600.00")
    assert carrier(house, house.at_server(account.login)[0].ticket) == house.session.get_one(Transfer, moved.id).ledger_txn_id


def test_a_transfer_that_is_not_posted_yet_is_waited_for(house):
    account = house.add_account()
    house.bring_money(house.client_id, 100_000)
    made = transfers.request_transfer(
        house.session, client_id=house.client_id, trading_account_id=account.id, direction="to_account",
        amount=usd("10.00"), key="k", actor=SYSTEM,
    )  # fmt: skip
    house.send(made.operation_id)
    house.drain()
    assert mirror_all(house) == 0
    with unit_of_work(house.session, SYSTEM) as unit:
        transfers.follow_operation(unit, made.operation_id)
    assert mirror_all(house) == 1
    assert house.mirrored(account.login) == usd("10.00")


def test_a_transfers_deal_that_the_dealer_changes_or_deletes(house):
    """The ledger follows the server; the difference waits in suspense."""
    account = house.add_account()
    house.bring_money(house.client_id, 100_000)
    transfer(house, account, 60_000)
    ticket = house.at_server(account.login)[0].ticket
    house.drain()
    mirror_all(house)
    house.edit(ticket, profit=Decimal("590.00"), comment="mended by hand")
    house.drain()
    mirror_all(house)
    assert (house.mirrored(account.login), house.ledger(SUSPENSE)) == (usd("590.00"), usd("10.00"))
    house.delete(ticket)
    house.drain()
    mirror_all(house)
    assert (house.mirrored(account.login), house.ledger(SUSPENSE)) == (usd("0.00"), usd("600.00"))


def test_a_transfers_deal_whose_first_news_is_its_deletion(house):
    account = house.add_account()
    house.bring_money(house.client_id, 100_000)
    transfer(house, account, 60_000)
    (deal,) = house.at_server(account.login)
    house.delete(deal.ticket)
    book(house, deal, deleted=True)
    mirror_all(house)
    assert (house.mirrored(account.login), house.ledger(SUSPENSE)) == (usd("0.00"), usd("600.00"))


def test_exactly_one_login_more_than_a_transaction_can_hold(house):
    count = mirror.LOGINS_PER_RUN + 1
    add_accounts(house, count)
    book(house, *[trade(login, login, "1.00") for login in range(1, count + 1)])
    assert mirror_all(house) == count
    assert sorted(Counter(house.session.scalars(select(Entry.txn_id))).values()) == [2, 200]


def at(house: House, ticket: int, revision: int = 1) -> datetime:
    """When the transaction that carries a revision is effective."""
    return house.session.get_one(Transaction, carrier(house, ticket, revision)).effective_at


def moment(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}+00:00")


def wall(text: str) -> int:
    """What the server's clock shows at a moment in UTC, in its milliseconds."""
    return ZONE.wall_ms(moment(text))


def done(login: int, ticket: int, profit: str, text: str, **changes):
    return trade(login, ticket, profit, server_time_ms=wall(text), **changes)


def test_a_days_results_land_on_their_day(house):
    house.add_account(login=1)
    book(
        house,
        done(1, 10, "5.00", "2026-03-02 23:10:00"),
        done(1, 11, "7.00", "2026-03-02 23:59:59"),
        done(1, 12, "-1.00", "2026-03-03 00:00:00"),
    )
    assert mirror_all(house) == 3
    assert (carrier(house, 10), at(house, 10)) == (carrier(house, 11), moment("2026-03-02 23:59:59"))
    assert at(house, 12) == moment("2026-03-03 00:00:00")
    account = chart.mt_balance("sim", 1, "USD")
    assert queries.balance_as_of(house.session, account, moment("2026-03-03 00:00:00")) == usd("12.00")
    assert queries.balance_as_of(house.session, TRADING, moment("2026-03-03 00:00:00")) == usd("-12.00")


def test_nothing_is_effective_in_the_future(house):
    house.add_account(login=1)
    book(house, done(1, 10, "5.00", f"{now() + timedelta(hours=2):%Y-%m-%d %H:%M:%S}"))
    mirror_all(house)
    assert at(house, 10) <= now()


def test_results_that_come_after_their_day_was_closed(house):
    house.add_account(login=1)
    house.add_account(login=2)
    with unit_of_work(house.session, SYSTEM):
        close.close_period(house.session, moment("2026-03-03 00:00:00"), actor=SYSTEM)
    begun = now()
    book(
        house,
        done(1, 10, "5.00", "2026-03-02 23:00:00"),
        done(2, 11, "6.00", "2026-02-01 12:00:00"),
        done(1, 12, "7.00", "2026-03-03 00:00:00"),
    )
    assert mirror_all(house) == 3
    assert begun <= at(house, 10) <= now()
    late = house.session.get_one(Transaction, carrier(house, 10))
    assert late.id == carrier(house, 11)
    assert late.details == {"deals": 2, "server": "sim", "late": True}
    assert at(house, 12) == moment("2026-03-03 00:00:00")
    assert house.mirrored(1) == usd("12.00")


def test_a_correction_counts_from_when_it_was_heard_of(house):
    """Until then the balance stood otherwise, at the server, too."""
    house.add_account(login=1)
    begun = now()
    book(house, done(1, 10, "5.00", "2026-03-02 12:00:00"), done(1, 11, "2.00", "2026-03-02 13:00:00"))
    mirror_all(house)
    book(house, done(1, 10, "6.00", "2026-03-02 12:00:00", modification_flags=1))
    book(house, done(1, 11, "2.00", "2026-03-02 13:00:00"), deleted=True)
    mirror_all(house)
    assert at(house, 10) == moment("2026-03-02 13:00:00")
    assert begun - timedelta(seconds=5) <= at(house, 10, 2) <= now()
    assert carrier(house, 11, 2) == carrier(house, 10, 2)
    account = chart.mt_balance("sim", 1, "USD")
    assert queries.balance_as_of(house.session, account, moment("2026-03-03 00:00:00")) == usd("7.00")
    assert house.mirrored(1) == usd("6.00")


def test_a_run_that_is_repeated_is_the_same_transaction(house):
    """Posting and marking are one transaction. Were the marks lost all the same, nothing would move again."""
    add_accounts(house, 300)
    book(house, *[trade(login, login, f"{login}.00") for login in range(1, 301)])
    mirror_all(house)
    before = {login: carrier(house, login) for login in (1, 150, 300)}
    with house.database.owner_session() as owner:
        owner.execute(update(Deal).values(ledger_txn_id=None))
        owner.commit()
    assert mirror_all(house) == 300
    assert {login: carrier(house, login) for login in (1, 150, 300)} == before
    assert (house.count(Transaction), house.mirrored(300)) == (2, usd("300.00"))


def test_an_account_that_the_ledger_refuses_stops_nobody_else(house):
    add_accounts(house, 9)
    book(house, trade(4, 40, "1.00"), trade(4, 41, "-1.00", server_time_ms=wall("2026-01-05 10:00:00")))
    mirror_all(house)
    with unit_of_work(house.session, SYSTEM):
        close.close_account(house.session, chart.mt_balance("sim", 4, "USD"))
    book(house, *[trade(login, login, "2.00") for login in range(1, 10)])
    with pytest.raises(mirror.UnpostableDeals, match=r"logins \[4\]"):
        mirror_all(house)
    house.prove()
    assert [house.mirrored(login) for login in (1, 4, 9)] == [usd("2.00"), usd("0.00"), usd("2.00")]
    assert house.count(Deal, Deal.ledger_txn_id.is_(None)) == 1


def test_the_same_login_at_another_server_is_another_account(house):
    house.add_account(login=1)
    other_id = add_server(house.session, house.simulator, "other")
    product = house.session.scalars(select(Product).where(Product.code == "other-std")).one()
    with unit_of_work(house.session, SYSTEM):
        house.session.add(
            TradingAccount(
                client_id=house.client_id, product_id=product.id, server_id=other_id, login=1, currency="USD", leverage=100,
                status="active", token="A-other", opened_at=now(),
            )
        )  # fmt: skip
    book(house, trade(1, 10, "0.001"))
    house.server_id = other_id
    book(house, trade(1, 10, "3.00"))
    with pytest.raises(mirror.UnpostableDeals):
        mirror_all(house)
    assert house.ledger(chart.mt_balance("other", 1, "USD")) == usd("3.00")
    assert house.ledger(chart.mt_trading_counter("other", "USD")) == usd("-3.00")


def test_what_a_stop_out_left_below_zero_is_written_off(house):
    house.add_account(login=1)
    book(house, trade(1, 10, "-80.00"), trade(1, 11, "80.00", action=19, symbol="", comment="so compensation"))
    mirror_all(house)
    assert house.mirrored(1) == usd("0.00")
    assert house.ledger(chart.negative_balance_expense("USD")) == usd("80.00")
    assert house.ledger(SUSPENSE) == usd("0.00")


@pytest.mark.parametrize(
    ("purpose", "other"), [("repair", SUSPENSE), ("negative_balance", chart.negative_balance_expense("USD"))]
)
def test_operations_of_ours_that_are_no_transfers(house, purpose, other):
    """Nobody else posts them, so the mirror does not wait for anybody."""
    login = house.add_account().login
    with unit_of_work(house.session, SYSTEM) as unit:
        operation = commands.create_operation(
            unit, server_id=house.server_id, login=login, amount=usd("25.00"), prefix="N", purpose=purpose
        )
        token = operation.token
    book(house, balance(login, 1, "25.00", comment=token))
    house.session.rollback()
    assert house.session.scalars(select(Deal.is_ours)).one()
    mirror_all(house)
    assert house.mirrored(login) == usd("25.00")
    assert abs(house.ledger(other)) == usd("25.00")
    assert mirror_all(house) == 0


def test_what_a_login_did_before_it_was_taken_over_is_in_its_opening_balance(house):
    login = house.add_account().login
    with unit_of_work(house.session, SYSTEM):
        account = house.session.scalars(select(TradingAccount)).one()
        account.origin, account.opened_at = "imported", ZONE.to_utc(DEAL.server_time_ms).utc
    book(house, trade(login, 1, "100.00"), trade(login, 2, "7.00", server_time_ms=DEAL.server_time_ms + 1))
    mirror_all(house)
    assert house.mirrored(login) == usd("7.00")
    # What is corrected afterwards was otherwise in the opening balance, and counts.
    book(house, trade(login, 1, "90.00"))
    mirror_all(house)
    assert house.mirrored(login) == usd("-3.00")


def test_the_mirror_knows_whose_money_it_is(house):
    house.add_account(login=1)
    book(house, trade(1, 10, "5.00"))
    mirror_all(house)
    assert [account.code for account in queries.client_balances(house.session, house.client_id)] == ["mt:sim:1:balance:USD"]


def test_two_runs_at_once(house):
    for login in range(1, 21):
        house.add_account(login=login)
    book(house, *[trade(login, login, "1.00") for login in range(1, 21)])

    def run():
        with house.database.session() as session:
            return mirror.mirror_deals(session)

    assert sum(in_threads(*[run] * 4)) == 20
    house.prove()
    assert house.ledger(TRADING) == -usd("20.00")


@pytest.mark.parametrize("seed", [1, 2])
def test_after_a_wild_day_the_ledger_stands_where_the_server_stands(house, seed):
    """Trades, partial closes, edits, deletions, operations by hand, transfers both ways, mirrored at odd moments."""
    chance = random.Random(seed)
    accounts = [house.add_account(product=product) for product in ("std", "std", "ecn", "eur", "demo")]
    house.bring_money(house.client_id, 10_000_000)
    house.bring_money(house.client_id, 10_000_000, "EUR")
    for account in accounts:
        if account.product.is_demo:
            house.simulator.exchange.balance_operation(account.login, 2, Decimal(10_000), "demo")
        else:
            transfer(house, account, 1_000_000 + account.login)
    exchange = house.simulator.exchange
    for step in range(120):
        account = chance.choice(accounts)
        deals = house.at_server(account.login)
        act = chance.random()
        try:
            if act < 0.5:
                exchange.open(account.login, chance.choice(["EURUSD", "USDJPY", "EURGBP"]), chance.choice([0, 1]), 10_000_000)
            elif act < 0.75 and (positions := house.simulator.store.positions(account.login)):
                exchange.close(chance.choice(positions).ticket, chance.choice([None, 5_000_000]))
            elif act < 0.82:
                house.edit(chance.choice(deals).ticket, profit=Decimal(chance.randint(-5_000, 5_000)).scaleb(-2))
            elif act < 0.88:
                house.delete(chance.choice(deals).ticket)
            elif act < 0.94:
                exchange.balance_operation(account.login, chance.choice([2, 3, 5]), Decimal(chance.randint(1, 99)), "by hand")
            elif not account.product.is_demo:
                transfer(house, account, 1_000 + step, chance.choice(["to_account", "to_account", "to_wallet"]))
        except (Refused, transfers.NotEnoughOnAccount, IndexError):
            pass
        exchange.market.advance()
        if chance.random() < 0.15:
            house.drain()
            mirror_all(house)
    house.drain()
    mirror_all(house)
    for account in accounts:
        house.session.refresh(account)
        at_server = house.simulator.exchange.state(account.login).balance
        assert account.balance == at_server
        if account.product.is_demo:
            assert queries.find_balance(house.session, chart.mt_balance("sim", account.login, "USD")) is None
        else:
            assert house.mirrored(account.login, account.currency).decimal == at_server
    assert mirror_all(house) == 0
    assert house.count(Deal, Deal.is_current, Deal.ledger_txn_id.is_(None)) == 0
    assert house.count(Deal, Deal.revision > 1) > 3
