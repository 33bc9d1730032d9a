"""Clients who were won, and months: paid once, as tree and plan stood when the last condition came true."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from sqlalchemy import func, select, update

from app.commissions import backlog, figures, publishing
from app.commissions.accrual import accrue_server
from app.commissions.explain import explain_accrual
from app.commissions.lines import LineFilter, LineSum, accrual_lines, line_sums
from app.commissions.occasions import accrue_occasions
from app.commissions.overrides import Instead, Overrides
from app.commissions.paid_months import active_clients
from app.commissions.reasons import Reason
from app.commissions.settlement import settle_all
from app.core.clock import now
from app.core.money import Money
from app.core.uow import unit_of_work
from app.ledger import chart, posting, rates
from app.models.clients import Client
from app.models.commissions import Accrual, PlanVersion
from app.models.ib_terms import IBTerms
from app.models.metatrader import Deal, TradingAccount
from app.models.occasions import Occasion, OccasionTakenBack
from app.models.partners import Attribution, IBParent, IntroducingBroker
from app.models.payments import Deposit
from app.models.replays import ReplayRun
from tests.conftest import tamper
from tests.integration.commissions.brokerage import STAFF, START, Brokerage, without_plan

REGISTERED = now() - timedelta(days=20)
WON = {"key": "won", "component": "cpa", "rate": "400", "conditions": {"first_deposit": "200", "lots": "3", "within_days": 15}}
MONTH = {"key": "fixed", "component": "retainer", "rate": "1500", "conditions": {"active_clients": 1}}


@pytest.fixture
def winner(house: Brokerage) -> int:
    return house.ib([WON])


def client_of(
    house: Brokerage,
    ib_id: int,
    *,
    approved: int | None = 1,
    deposit: str = "250",
    closed: str = "3",
    currency: str = "USD",
    registered: datetime = REGISTERED,
) -> int:
    """A client who registered 20 days ago, was approved and paid in on these days, and closed lots on day 5."""
    account = house.brought(ib_id, since=min(START, registered))
    client_id = house.session.scalar(select(TradingAccount.client_id).where(TradingAccount.id == account)) or 0
    approved_at = registered + timedelta(days=approved) if approved is not None else None
    changes = {"created_at": registered, "approved_at": approved_at}
    house.session.execute(update(Client).where(Client.id == client_id).values(**changes))
    if deposit:
        minor = Money.parse(deposit, currency).amount_minor
        house.add(
            Deposit(
                public_id=uuid4(),
                client_id=client_id,
                connector="stripe",
                amount_minor=minor,
                currency=currency,
                state="settled",
                idempotency_key=uuid4().hex,
                settled_minor=minor,
                settled_at=registered + timedelta(days=2),
            )
        )
    if closed:
        house.deal(account, closed, done_at=registered + timedelta(days=5))
    house.save()
    return client_id


def test_a_client_is_won_once_and_the_ib_sees_why(house: Brokerage, winner: int) -> None:
    client_id = client_of(house, winner)

    assert accrue_occasions(house.session, now()) == 1
    assert accrue_occasions(house.session, now()) == 0

    (line,) = accrual_lines(house.session, winner)
    assert (line.amount, line.occasion, line.ticket, line.client_id) == (Decimal(400), "client", None, client_id)
    explained = explain_accrual(house.session, line.id, winner)
    assert explained.occasion is not None
    assert explained.occasion.happened_at == REGISTERED + timedelta(days=5)
    assert explained.occasion.facts["first_deposit"] == "250.00"
    assert [step.value for step in explained.steps][-1] == Decimal(400)
    (settled,) = settle_all(house.session, now() + timedelta(minutes=1))
    assert settled.amount == Money(40000, "USD")


@pytest.mark.parametrize(
    "short", [{"approved": None}, {"deposit": "199"}, {"closed": "2.99"}, {"deposit": ""}, {"approved": 16}]
)
def test_what_did_not_come_true_in_time_pays_nothing(house: Brokerage, winner: int, short: dict[str, str]) -> None:
    client_of(house, winner, **short)
    assert accrue_occasions(house.session, now()) == 0


def test_a_new_version_does_not_pay_the_same_client_again(house: Brokerage, winner: int) -> None:
    client_of(house, winner)
    assert accrue_occasions(house.session, now()) == 1
    publishing.publish_version(house.session, house.ids["plan"], [WON | {"rate": "900"}], now() + timedelta(minutes=1), STAFF)
    assert accrue_occasions(house.session, now() + timedelta(days=1)) == 0


def test_a_rule_of_another_name_does_not_pay_the_same_client_again(house: Brokerage, winner: int) -> None:
    client_id = client_of(house, winner)
    assert accrue_occasions(house.session, now()) == 1
    more = WON | {"key": "more", "conditions": {"lots": "4"}}
    publishing.publish_version(house.session, house.ids["plan"], [more], now() - timedelta(minutes=1), STAFF)
    account = house.session.scalar(select(TradingAccount.id).where(TradingAccount.client_id == client_id))
    house.deal(account, "4", done_at=now())
    fresh = client_of(house, winner, registered=now() - timedelta(minutes=1), approved=0, deposit="", closed="")
    house.deal(house.account(fresh), "4", done_at=now())
    house.save()

    accrue_occasions(house.session, now())

    paid = select(Occasion.client_id, Occasion.rule).order_by(Occasion.id)
    assert house.session.execute(paid).all() == [(client_id, "won"), (fresh, "more")]


def test_both_stages_of_a_plan_are_paid_also_when_a_new_version_comes_between(house: Brokerage) -> None:
    stages = [
        WON | {"key": "first", "conditions": {"lots": "1"}},
        WON | {"key": "second", "rate": "100", "conditions": {"lots": "4"}},
    ]
    ib_id = house.ib(stages)
    client_id = client_of(house, ib_id)
    assert accrue_occasions(house.session, now()) == 1
    later = [stages[0], stages[1] | {"rate": "150"}]
    publishing.publish_version(house.session, house.ids["plan"], later, now() - timedelta(minutes=1), STAFF)
    account = house.session.scalar(select(TradingAccount.id).where(TradingAccount.client_id == client_id))
    house.deal(account, "1", done_at=now())
    house.save()

    assert accrue_occasions(house.session, now()) == 1

    assert house.amounts(ib_id) == [("accrue", Decimal(400)), ("accrue", Decimal(150))]


def test_a_deposit_without_a_rate_waits_where_staff_see_it(house: Brokerage, winner: int) -> None:
    client_id = client_of(house, winner, currency="EUR")
    small = client_of(house, winner, currency="EUR", closed="1")

    assert accrue_occasions(house.session, now()) == 0
    ((waiting, message),) = backlog.waiting_occasions(house.session)
    assert (waiting.client_id, waiting.ib_id, waiting.reason) == (client_id, winner, Reason.NO_RATE)
    assert message == "There is no exchange rate for the day of the first deposit."

    day = REGISTERED + timedelta(days=1)
    rates.record(house.session, [rates.Observation("manual", "EUR", "USD", Decimal("0.9"), day)])
    house.save()
    assert accrue_occasions(house.session, now()) == 1
    assert backlog.waiting_occasions(house.session) == []
    (line,) = accrual_lines(house.session, winner)
    assert (line.client_id, small != client_id) == (client_id, True)


def test_what_a_deleted_deal_made_true_is_taken_back_once_and_paid_again_once(house: Brokerage, winner: int) -> None:
    client_id = client_of(house, winner)
    assert accrue_occasions(house.session, now()) == 1
    deal = house.session.scalars(select(Deal)).one()

    house.revise(deal.id, "3", is_void=True, done_at=deal.done_at)
    house.save()
    assert accrue_occasions(house.session, now()) == 1
    assert accrue_occasions(house.session, now()) == 0
    assert house.amounts(winner) == [("accrue", Decimal(400)), ("reverse", Decimal(-400))]
    assert [row.facts for row in house.session.scalars(select(OccasionTakenBack))] == [{"lots": "0", "needed": "3"}]
    assert settle_all(house.session, now() + timedelta(minutes=1)) == []

    house.deal(deal.trading_account_id, "3", done_at=REGISTERED + timedelta(days=6))
    house.save()
    assert accrue_occasions(house.session, now()) == 1
    assert accrue_occasions(house.session, now()) == 0
    rows = house.session.scalars(select(Occasion).order_by(Occasion.id)).all()
    assert [(row.client_id, row.times) for row in rows] == [(client_id, 1), (client_id, 2)]
    assert sum(amount for _, amount in house.amounts(winner)) == 400


def test_a_client_stays_won_while_other_deals_are_enough(house: Brokerage, winner: int) -> None:
    client_id = client_of(house, winner)
    account = house.session.scalar(select(TradingAccount.id).where(TradingAccount.client_id == client_id))
    house.deal(account, "3", done_at=REGISTERED + timedelta(days=9))
    house.save()
    assert accrue_occasions(house.session, now()) == 1
    first = house.session.scalars(select(Deal).order_by(Deal.done_at)).first()
    assert first is not None
    house.revise(first.id, "3", is_void=True, done_at=first.done_at)
    house.save()
    assert accrue_occasions(house.session, now()) == 0


def since(house: Brokerage, moment: datetime) -> None:
    """Let all plans have held from then on."""
    for table in ("ib_plan", "plan_version"):
        tamper(house.session, f"UPDATE {table} SET valid_from = '{moment.isoformat()}'")


def test_after_a_long_standstill_nobody_is_forgotten(house: Brokerage, winner: int) -> None:
    long_ago = now() - timedelta(days=900)
    since(house, long_ago)
    house.save()
    assert accrue_occasions(house.session, now() - timedelta(days=850)) == 0
    client_of(house, winner, registered=now() - timedelta(days=800))
    assert accrue_occasions(house.session, now()) == 1


def test_what_is_deleted_years_later_is_taken_back(house: Brokerage, winner: int) -> None:
    long_ago = now() - timedelta(days=900)
    since(house, long_ago)
    client_of(house, winner, registered=now() - timedelta(days=800))
    house.save()
    assert accrue_occasions(house.session, now()) == 1

    deal = house.session.scalars(select(Deal)).one()
    house.revise(deal.id, "3", is_void=True, done_at=deal.done_at)
    house.save()

    assert accrue_occasions(house.session, now() + timedelta(hours=1)) == 1
    assert house.amounts(winner) == [("accrue", Decimal(400)), ("reverse", Decimal(-400))]


def test_whoever_gets_a_won_client_later_is_not_paid_for_it(house: Brokerage, winner: int) -> None:
    client_id = client_of(house, winner)
    assert accrue_occasions(house.session, now()) == 1
    other = house.ib([WON | {"conditions": {"first_deposit": "1"}}])
    moved = REGISTERED + timedelta(days=3)
    mine = Attribution.client_id == client_id
    house.session.execute(update(Attribution).where(mine).values(valid_to=moved))
    house.add(Attribution(client_id=client_id, ib_id=other, source="manual", valid_from=moved))
    house.save()
    assert accrue_occasions(house.session, now()) == 0


def test_the_ib_of_the_moment_counts(house: Brokerage, winner: int) -> None:
    client_id = client_of(house, winner)
    other = house.ib([WON])
    moved = REGISTERED + timedelta(days=4)
    house.session.execute(update(Attribution).where(Attribution.client_id == client_id).values(valid_to=moved))
    house.add(Attribution(client_id=client_id, ib_id=other, source="manual", valid_from=moved))
    house.save()

    assert accrue_occasions(house.session, now()) == 1

    assert list(house.session.scalars(select(Accrual.ib_id))) == [other]


def test_a_deal_is_not_paid_by_a_rule_for_clients(house: Brokerage, winner: int) -> None:
    client_of(house, winner)
    assert accrue_server(house.session, house.server_id) == 0
    assert house.session.scalar(select(func.count()).select_from(Accrual)) == 0


def test_a_month_is_paid_once_when_it_is_over(house: Brokerage) -> None:
    ib_id = house.ib([MONTH])
    house.deal(house.brought(ib_id), done_at=datetime(2026, 9, 10, tzinfo=UTC))
    idle = house.ib([MONTH])
    since(house, START)
    house.save()
    in_september = datetime(2026, 9, 30, 23, tzinfo=UTC)

    assert accrue_occasions(house.session, in_september) == 0
    assert accrue_occasions(house.session, in_september + timedelta(hours=2)) == 1
    assert accrue_occasions(house.session, in_september + timedelta(days=3)) == 0

    (line,) = accrual_lines(house.session, ib_id)
    assert (line.amount, line.occasion, line.month, line.client_id) == (Decimal(1500), "month", "2026-09", None)
    row = house.session.scalars(select(Occasion)).one()
    assert (row.ib_id, row.facts["active_clients"]) == (ib_id, 1)
    assert accrual_lines(house.session, idle) == []


IN_OCTOBER = datetime(2026, 10, 2, tzinfo=UTC)


def with_a_month(house: Brokerage) -> int:
    """An IB with a retainer, and one client who traded in September."""
    ib_id = house.ib([MONTH])
    house.deal(house.brought(ib_id), done_at=datetime(2026, 9, 10, tzinfo=UTC))
    since(house, START)
    house.save()
    return ib_id


def test_a_month_is_paid_by_one_plan_also_where_another_should_have_held(house: Brokerage) -> None:
    ib_id = with_a_month(house)
    assert accrue_occasions(house.session, IN_OCTOBER) == 1
    other = publishing.create_plan(house.session, "Other", "USD", STAFF)
    publishing.publish_version(house.session, other, [MONTH | {"rate": "900"}], START, STAFF)
    house.add(replay(Overrides(IN_OCTOBER, plans=(Instead(ib_id, other, START),))))
    house.save()
    assert accrue_occasions(house.session, IN_OCTOBER) == 0
    assert house.amounts(ib_id) == [("accrue", Decimal(1500))]


def test_a_month_that_lost_its_clients_is_taken_back_and_paid_again(house: Brokerage) -> None:
    ib_id = with_a_month(house)
    assert accrue_occasions(house.session, IN_OCTOBER) == 1
    deal = house.session.scalars(select(Deal)).one()
    house.revise(deal.id, "1", is_void=True, done_at=deal.done_at)
    house.save()
    assert accrue_occasions(house.session, IN_OCTOBER) == 1
    house.deal(deal.trading_account_id, done_at=datetime(2026, 9, 11, tzinfo=UTC))
    house.save()
    assert accrue_occasions(house.session, IN_OCTOBER) == 1
    assert accrue_occasions(house.session, IN_OCTOBER) == 0
    assert [amount for _, amount in house.amounts(ib_id)] == [1500, -1500, 1500]


def test_terms_of_ones_own_count_for_a_month(house: Brokerage) -> None:
    ib_id = with_a_month(house)
    house.add(IBTerms(ib_id=ib_id, valid_from=START, multiplier=Decimal("1.5"), set_by="staff:1", reason="Agreed"))
    house.save()
    assert accrue_occasions(house.session, IN_OCTOBER) == 1
    assert house.amounts(ib_id) == [("accrue", Decimal(2250))]


def test_an_ib_who_is_no_longer_active_is_paid_for_the_month_before(house: Brokerage) -> None:
    ib_id = with_a_month(house)
    house.session.execute(update(IntroducingBroker).values(is_active=False))
    house.save()
    assert accrue_occasions(house.session, IN_OCTOBER) == 1
    assert house.amounts(ib_id) == [("accrue", Decimal(1500))]


def deposits(house: Brokerage, client_id: int, **values: object) -> None:
    """Change all deposits of a client."""
    house.session.execute(update(Deposit).where(Deposit.client_id == client_id).values(**values))
    house.save()


def paid_in(house: Brokerage, client_id: int, amount: str, day: int) -> int:
    minor = Money.parse(amount, "USD").amount_minor
    made = house.add(
        Deposit(
            public_id=uuid4(),
            client_id=client_id,
            connector="stripe",
            amount_minor=minor,
            currency="USD",
            state="settled",
            idempotency_key=uuid4().hex,
            settled_minor=minor,
            settled_at=REGISTERED + timedelta(days=day),
        )
    )
    house.save()
    return made


def test_what_a_client_withdraws_was_paid_in_all_the_same(house: Brokerage, winner: int) -> None:
    deposits(house, client_of(house, winner), state="refunded_part", refunded_minor=1000)
    assert accrue_occasions(house.session, now()) == 1
    deposits(house, client_of(house, winner), state="refunded", refunded_minor=25000)
    assert accrue_occasions(house.session, now()) == 1


def test_a_deposit_charged_back_takes_it_back_until_the_client_pays_in_again(house: Brokerage, winner: int) -> None:
    client_id = client_of(house, winner)
    assert accrue_occasions(house.session, now()) == 1
    deposits(house, client_id, state="charged_back")

    assert [accrue_occasions(house.session, now()) for _ in range(2)] == [1, 0]
    assert house.amounts(winner) == [("accrue", Decimal(400)), ("reverse", Decimal(-400))]
    explained = explain_accrual(house.session, accrual_lines(house.session, winner)[0].id, winner)
    assert explained.taken_back is not None
    assert explained.taken_back.facts == {"deposit_id": explained.occasion.facts["deposit_id"], "needed": "200"}

    paid_in(house, client_id, "300", 10)
    assert [accrue_occasions(house.session, now()) for _ in range(2)] == [1, 0]
    assert [amount for _, amount in house.amounts(winner)] == [400, -400, 400]


def test_another_deposit_within_the_days_keeps_a_client_won(house: Brokerage, winner: int) -> None:
    client_id = client_of(house, winner)
    first = house.session.scalar(select(Deposit.id))
    paid_in(house, client_id, "500", 3)
    assert accrue_occasions(house.session, now()) == 1
    house.session.execute(update(Deposit).where(Deposit.id == first).values(state="charged_back"))
    house.save()
    assert accrue_occasions(house.session, now()) == 0


def test_a_deposit_whose_posting_was_reversed_takes_it_back_years_later(house: Brokerage, winner: int) -> None:
    client_id, money = client_of(house, winner), Money.parse("250", "USD")
    owed, wallet = chart.psp_clearing("stripe", "USD"), chart.client_wallet(client_id, "USD")
    with unit_of_work(house.session, STAFF):
        chart.open_accounts(house.session, owed, wallet)
        legs = [posting.debit(owed, money), posting.credit(wallet, money)]
        booked = posting.post(house.session, key="d", kind="deposit", effective_at=now(), actor=STAFF, legs=legs)
    deposits(house, client_id, ledger_txn_id=booked)
    much_later = now() + timedelta(days=3000)
    assert accrue_occasions(house.session, much_later) == 1
    with unit_of_work(house.session, STAFF):
        posting.reverse(house.session, booked, key="r", actor=STAFF, at=now(), reason="charged back")

    assert [accrue_occasions(house.session, much_later) for _ in range(2)] == [1, 0]

    assert [amount for _, amount in house.amounts(winner)] == [400, -400]


def test_country_and_documents_that_change_later_take_nothing_back(house: Brokerage, winner: int) -> None:
    client_id = client_of(house, winner)
    assert accrue_occasions(house.session, now()) == 1
    house.session.execute(update(Client).where(Client.id == client_id).values(country="DE", approved_at=None))
    house.save()
    assert accrue_occasions(house.session, now()) == 0


def test_who_waits_for_a_rate_is_not_given_to_the_next_ib(house: Brokerage, winner: int) -> None:
    client_id = client_of(house, winner, currency="EUR")
    next_one = house.ib([WON | {"conditions": {"approved": False, "lots": "5"}}])
    moved = REGISTERED + timedelta(days=7)
    house.session.execute(update(Attribution).where(Attribution.client_id == client_id).values(valid_to=moved))
    house.add(Attribution(client_id=client_id, ib_id=next_one, source="manual", valid_from=moved))
    account = house.session.scalar(select(TradingAccount.id).where(TradingAccount.client_id == client_id))
    house.deal(account, "2", done_at=REGISTERED + timedelta(days=9))
    house.save()

    assert accrue_occasions(house.session, now()) == 0

    assert [one.ib_id for one, _ in backlog.waiting_occasions(house.session)] == [winner]
    day = REGISTERED + timedelta(days=1)
    rates.record(house.session, [rates.Observation("manual", "EUR", "USD", Decimal("0.9"), day)])
    house.save()
    assert accrue_occasions(house.session, now()) == 1
    assert list(house.session.scalars(select(Accrual.ib_id))) == [winner]


def test_a_client_of_nobody_whom_a_replay_gives_to_an_ib_is_won(house: Brokerage, winner: int) -> None:
    client_id = client_of(house, winner)
    other = house.client()
    house.session.execute(update(Client).where(Client.id == other).values(created_at=REGISTERED, approved_at=REGISTERED))
    house.session.execute(update(TradingAccount).where(TradingAccount.client_id == client_id).values(client_id=other))
    house.session.execute(update(Deposit).values(client_id=other))
    house.add(replay(Overrides(now(), clients=(Instead(other, winner, START),))))
    house.save()
    assert accrue_occasions(house.session, now()) == 1
    assert house.session.scalar(select(Occasion.client_id)) == other


def test_a_version_that_cannot_be_read_stops_nobody_else(house: Brokerage, winner: int) -> None:
    client_of(house, winner)
    assert accrue_occasions(house.session, now()) == 1
    tamper(house.session, """UPDATE plan_version SET rules = jsonb_set(rules, '{0,rate}', '"lots of it"')""")
    other = house.ib([WON])
    client_of(house, other)
    assert accrue_occasions(house.session, now()) == 1
    assert house.amounts(other) == [("accrue", Decimal(400))]


def replay(overrides: Overrides) -> ReplayRun:
    """One that was posted."""
    return ReplayRun(
        since=START,
        until=overrides.until,
        overrides=overrides.document(),
        status="posted",
        reason="test",
        proposed_by="staff:1",
        decided_by="staff:2",
        decided_at=now(),
    )


def test_a_month_is_not_paid_again_by_a_rule_of_another_name(house: Brokerage) -> None:
    ib_id = with_a_month(house)
    assert accrue_occasions(house.session, IN_OCTOBER) == 1
    publishing.publish_version(house.session, house.ids["plan"], [MONTH | {"key": "x"}], now() + timedelta(days=1), STAFF)
    version_id = house.session.scalar(select(func.max(PlanVersion.id))) or 0
    house.add(replay(Overrides(IN_OCTOBER, versions=(Instead(house.ids["plan"], version_id, START),))))
    house.save()
    assert accrue_occasions(house.session, IN_OCTOBER) == 0
    assert house.amounts(ib_id) == [("accrue", Decimal(1500))]


def test_months_are_made_up_for_however_long_the_job_stood_still(house: Brokerage) -> None:
    ib_id = house.ib([MONTH | {"conditions": {}}])
    assert accrue_occasions(house.session, START + timedelta(days=40)) == 1
    assert accrue_occasions(house.session, datetime(2027, 2, 1, tzinfo=UTC)) == 12
    assert len(accrual_lines(house.session, ib_id)) == 13


def test_lines_of_a_client_are_those_of_winning_it_too(house: Brokerage, winner: int) -> None:
    wanted = LineFilter(client_id=client_of(house, winner))
    client_of(house, winner)
    assert accrue_occasions(house.session, now()) == 2
    assert [line.client_id for line in accrual_lines(house.session, winner, wanted=wanted)] == [wanted.client_id]
    assert line_sums(house.session, winner, wanted) == [LineSum("USD", Decimal(400))]


def test_what_an_ib_gets_of_a_client_won_below_it_came_from_that_branch(house: Brokerage) -> None:
    upper = house.ib([WON | {"levels": ["0.75", "0.25"]}])
    left, right = house.ib(), house.ib()
    for below in (left, right):
        without_plan(house.session, below)
        house.add(IBParent(ib_id=below, parent_id=upper, valid_from=START, set_by="test", reason="test"))
    for below in (left, left, right):
        client_of(house, below)
    assert accrue_occasions(house.session, now()) == 3
    brought = figures.from_branches(house.session, upper, 1, [left, right], now() - timedelta(days=1))
    assert {below: [one.amount for one in of] for below, of in brought.items()} == {left: [200], right: [100]}


def test_active_clients_of_several_branches_are_counted_each_for_itself(house: Brokerage) -> None:
    upper, lower, idle = house.ib(), house.ib(), house.ib()
    house.add(IBParent(ib_id=lower, parent_id=upper, valid_from=START, set_by="test", reason="test"))
    for ib_id in (upper, lower, lower):
        account = house.brought(ib_id)
        for day in (3, 30):
            house.deal(account, done_at=datetime(2026, 9, day, tzinfo=UTC))
    house.deal(house.brought(upper), done_at=datetime(2026, 10, 1, tzinfo=UTC))
    house.brought(idle)
    house.save()

    end = datetime(2026, 10, 1, tzinfo=UTC)
    assert active_clients(house.session, [upper, lower, idle], end) == {upper: 3, lower: 2}
