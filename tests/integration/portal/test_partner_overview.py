"""The IB's start page: sums, the funnel, the course by day, settlements; and that it hears of what changes."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from app.commissions import accrual, figures, publishing
from app.commissions.lines import accrual_lines, first_id_since
from app.commissions.progress import Standing
from app.commissions.tiers import Band
from app.core.clock import now
from app.core.money import Money
from app.models.clients import Client
from app.models.partners import IBLink, IBLinkDay
from app.models.payments import Deposit
from app.partners import funnel
from app.portal import live, partner
from tests.integration.commissions.brokerage import STAFF, START
from tests.integration.portal.partner_house import partner_house

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
TWO_RULES = [
    {"key": "fx", "component": "per_lot", "rate": "7.00"},
    {"key": "each", "component": "per_deal", "rate": "1.00", "currency": "EUR"},
]


@pytest.fixture
def house(database, client_id):
    with database.session() as session:
        yield partner_house(session, client_id)


def test_the_start_page_says_where_the_ib_stands(signed_in, house):
    house.trade(house.own_account, "1")
    house.settle()
    house.trade(house.own_account, "0.5")
    house.trade(house.other_account, "9")
    page = signed_in.get("/portal/partner/").text
    for wanted in ("3.5 USD", "7.00\u00a0USD", "Newest commission", "Carla O.", "10.5 USD in 30 days", "Next settlement"):
        assert wanted.replace("\u00a0", " ") in page.replace("\u2066", "").replace("\u2069", ""), wanted
    assert "1.50" in page  # lots this month
    settlement = re.search(r"/portal/partner/lines\?settlement=\d+", page).group()
    assert len(set(re.findall(r"/portal/partner/lines/\d+", signed_in.get(settlement).text))) == 1
    for part in ("figures", "course", "stand"):
        assert "<html" not in signed_in.get(f"/portal/partner/live/{part}?days=90").text
    assert "in 365 days" in signed_in.get("/portal/partner/live/course?days=all").text
    assert 'hx-get="/portal/partner/live/course?days=all" hx-trigger="load"' in signed_in.get("/portal/partner/?days=all").text
    assert "in 30 days" in signed_in.get("/portal/partner/?days=x").text


def test_before_anything_happened_the_page_says_what_to_do(signed_in, house):
    page = signed_in.get("/portal/partner/").text
    assert "Share your link" in page
    assert "Nothing settled yet" in page


def test_lots_of_a_deal_count_once_and_a_reversal_takes_them_back(house):
    session, brokerage = house.session, house.brokerage
    ib = brokerage.ib(TWO_RULES)
    account = brokerage.brought(ib)
    deal = house.trade(account, "2")
    (day,) = figures.by_day(session, ib, LONG_AGO, now() + timedelta(minutes=1))
    assert (day.lots, day.amounts) == (2, {"EUR": Decimal(1), "USD": Decimal(14)})
    revised = brokerage.revise(deal, "0.5")
    brokerage.save()
    accrual.accrue_deals(session, [deal, revised])
    (day,) = figures.by_day(session, ib, LONG_AGO, now() + timedelta(minutes=1))
    assert (day.lots, day.amounts) == (Decimal("0.5"), {"EUR": Decimal(1), "USD": Decimal("3.5")})
    assert figures.by_day(session, ib, LONG_AGO, LONG_AGO + timedelta(days=1)) == []


def test_sums_of_settled_and_paid(house):
    house.trade(house.own_account, "1")
    house.settle()
    house.trade(house.own_account, "2")
    (total,) = figures.totals(house.session, house.ib_id)
    assert (total.unsettled, total.settled, total.paid) == (14, Money(700, "USD"), Money(0, "USD"))
    (one,) = figures.waiting(house.session, house.ib_id, now())
    assert (one.currency, one.amount, one.every, one.settles_at) == ("USD", 14, "minutes", None)
    assert [row.amount_minor for row in figures.settlements(house.session, house.ib_id)] == [700]


@pytest.mark.parametrize(
    ("every", "settles_at"),
    [
        ("hour", datetime(2026, 12, 31, 14, tzinfo=UTC)),
        ("day", datetime(2027, 1, 1, tzinfo=UTC)),
        ("week", datetime(2027, 1, 4, tzinfo=UTC)),
        ("month", datetime(2027, 1, 1, tzinfo=UTC)),
    ],
)
def test_when_a_rhythm_settles_next(every, settles_at):
    assert figures._next(every, datetime(2026, 12, 31, 13, 30, tzinfo=UTC)) == settles_at


def test_the_funnel_counts_how_far_clients_have_come(house):
    session, brokerage = house.session, house.brokerage
    people = [brokerage.client() for _ in range(4)]
    for person in people:
        brokerage.brought(house.ib_id, client_id=person, since=now() - timedelta(days=5))
    for person in people[:3]:
        session.get(Client, person).email_verified_at = now()
    session.get(Client, people[0]).approved_at = now()
    session.add(
        Deposit(
            public_id="0b5f0a3e-6f0c-4a57-9d7a-0a3f3c0f7d11",
            client_id=people[0],
            connector="stripe",
            amount_minor=1,
            currency="USD",
            state="settled",
            idempotency_key="k",
            settled_minor=1,
            settled_at=now(),
        )
    )
    link = IBLink(ib_id=house.ib_id, code="VISITS", visits=20)
    session.add(link)
    session.flush()
    session.add_all(IBLinkDay(link_id=link.id, day=(now() - timedelta(days=ago)).date(), visits=ago) for ago in (1, 7, 10, 11))
    brokerage.save()
    house.trade(house.own_account)
    steps = funnel.funnel(session, house.ib_id, now() - timedelta(days=10))
    assert [(step.key, step.number) for step in steps] == [
        ("visits", 18),
        ("registered", 4),
        ("verified", 3),
        ("approved", 1),
        ("deposited", 1),
        ("traded", 0),
    ]
    assert [step.percent for step in steps] == [None, Decimal("22.2"), 75, Decimal("33.3"), 100, 0]
    every = funnel.funnel(session, house.ib_id, None)
    assert [(step.key, step.number) for step in every][:2] == [("visits", 20), ("registered", 5)]
    assert (every[1].percent, every[-1].number) == (25, 1)
    assert funnel.counts(session, house.ib_id, LONG_AGO) == (5, 1)
    assert funnel.counts(session, house.ib_id, now()) == (5, 0)


def test_bars_are_drawn_also_where_nobody_came_by_a_link(signed_in, house):
    course = signed_in.get("/portal/partner/live/course?days=all").text
    widths = [Decimal(width) for width in re.findall(r'class="day-chart-bar" width="([\d.]+)"', course)[:6]]
    assert widths[0] == 0, "no visits"
    assert max(widths) == 100


def test_what_happens_to_an_ib_reaches_its_pages():
    for fact in ("commission.accrued", "commission.settled", "ib.client_joined", "ib.placed"):
        assert "commission" in live.topics_of(fact)


def test_first_id_since_bounds_what_is_read(house):
    for _ in range(5):
        house.trade(house.own_account)
    ids = [line.id for line in accrual_lines(house.session, house.ib_id)]
    assert first_id_since(house.session, house.ib_id, LONG_AGO) <= min(ids)
    assert first_id_since(house.session, house.ib_id, now() + timedelta(days=1)) == max(ids)
    assert first_id_since(house.session, house.other_id, now()) == 0


def test_tiers_and_caps_say_what_is_missing(signed_in, house):
    tiered = {
        "key": "gold",
        "component": "per_lot",
        "tiers": {
            "measure": "lots",
            "period": "month",
            "mode": "marginal",
            "bands": [{"from": "0", "rate": "5"}, {"from": "10", "rate": "6.5"}],
        },
        "caps": {"day": "500"},
    }
    plan_id = publishing.create_plan(house.session, "Tiers", "USD", STAFF)
    publishing.publish_version(house.session, plan_id, [tiered], START, STAFF)
    publishing.assign_plan(house.session, house.ib_id, plan_id, now() - timedelta(minutes=1), STAFF)
    house.trade(house.own_account, "4", done_at=now())
    page = signed_in.get("/portal/partner/live/stand").text
    assert "pays now at the rate 5 USD" in page
    assert "more until the rate is 6.5" in page
    assert re.search(r"\b6\b[^<]*more until", page)
    assert "20 / 500 USD" in page


def test_the_position_of_an_ib_above_is_not_shown(signed_in, house, monkeypatch):
    band = Band(Decimal(0), Decimal(5))
    above = Standing("Above", house.other_id, "gold", "USD", "USD", (), "Lots", "lots", None, None, Decimal(777), band)
    monkeypatch.setattr(partner.progress, "standing", lambda *_: [above])
    page = signed_in.get("/portal/partner/live/stand").text
    assert "pays now at the rate 5 USD" in page
    assert "777" not in page
