"""A paid payout is taken back with four eyes, whole or not at all; statements stay as they were frozen."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from app.commissions import payables, payout_reversals, payout_runs, payout_statements, payouts
from app.commissions.accrual import accrue_deals
from app.commissions.errors import PayoutDecided, ReversalWaiting, WalletEmptied
from app.commissions.figures import totals
from app.core.clock import now
from app.core.errors import InvalidInput, NotFound
from app.core.money import Money
from app.core.uow import unit_of_work
from app.ledger import chart, posting, requests
from app.ledger.errors import NotYourRequest, OwnRequest, RequestDecided
from app.models.metatrader import TradingAccount
from app.models.payouts import Payout, PayoutStatement
from app.partners.privacy import Privacy, set_privacy
from app.partners.tree import place_ib
from tests.integration.commissions.brokerage import START, Brokerage
from tests.integration.commissions.earnings import FINANCE, OTHER, Earnings, nowhere


@pytest.fixture
def earnings(house: Brokerage) -> Earnings:
    return Earnings(house)


def usd(text: str) -> Money:
    return Money.parse(text, "USD")


def paid(earnings: Earnings, ib_id: int) -> Payout:
    """All that the IB has, paid into the wallet."""
    run = payout_runs.propose_run(earnings.session, until=now(), reason="r", actor=FINANCE)
    found = next(payout for payout in run.payouts if payout.ib_id == ib_id)
    decisions = {one.id: payout_runs.Decision("pay", "looked at") for one in run.payouts if one.warnings}
    payout_runs.approve_run(earnings.session, run.id, decisions=decisions, actor=OTHER)
    payouts.pay(earnings.session, found.id, nowhere)
    return found


def spend(earnings: Earnings, ib_id: int, amount: str) -> None:
    """The IB's money leaves the wallet."""
    with unit_of_work(earnings.session, FINANCE):
        wallet = chart.client_wallet(earnings.client_of(ib_id), "USD")
        fees = chart.fees("USD")
        chart.open_accounts(earnings.session, fees)
        posting.post(
            earnings.session, key="spent", kind="adjustment", effective_at=now(), actor=FINANCE,
            legs=[posting.debit(wallet, usd(amount)), posting.credit(fees, usd(amount))],
        )  # fmt: skip


def reverse(earnings: Earnings, payout: Payout) -> None:
    asked = payout_reversals.propose_reversal(earnings.session, payout.id, reason="wrong client", actor=FINANCE)
    payout_reversals.approve_reversal(earnings.session, asked.id, actor=OTHER)


def test_a_payout_is_taken_back_from_the_wallet(earnings: Earnings) -> None:
    ib_id = earnings.ib("3")
    payout = paid(earnings, ib_id)
    reverse(earnings, payout)
    assert (payout.state, earnings.wallet(ib_id), earnings.commission(ib_id)[0]) == ("reversed", usd("0"), usd("21.00"))
    (told,) = earnings.house.events("payout.reversed")
    assert (told.subject_id, told.payload["amount_minor"]) == (payout.id, 2100)
    assert earnings.breaks() == []
    with pytest.raises(PayoutDecided):
        payout_reversals.propose_reversal(earnings.session, payout.id, reason="again", actor=FINANCE)
    assert paid(earnings, ib_id).amount == usd("21.00")
    assert earnings.breaks() == []


def test_without_the_money_nothing_moves_and_it_says_how_much_is_missing(earnings: Earnings) -> None:
    ib_id = earnings.ib("3")
    payout = paid(earnings, ib_id)
    spend(earnings, ib_id, "6.50")
    asked = payout_reversals.propose_reversal(earnings.session, payout.id, reason="wrong client", actor=FINANCE)
    with pytest.raises(WalletEmptied) as refused:
        payout_reversals.approve_reversal(earnings.session, asked.id, actor=OTHER)
    assert refused.value.data == {"missing": "6.50 USD"}
    earnings.session.expire_all()
    assert (payout.state, asked.status, earnings.wallet(ib_id)) == ("paid", "proposed", usd("14.50"))


def test_four_eyes(earnings: Earnings) -> None:
    payout = paid(earnings, earnings.ib("3"))
    with pytest.raises(InvalidInput):
        payout_reversals.propose_reversal(earnings.session, payout.id, reason=" ", actor=FINANCE)
    asked = payout_reversals.propose_reversal(earnings.session, payout.id, reason="wrong", actor=FINANCE)
    with pytest.raises(OwnRequest):
        payout_reversals.approve_reversal(earnings.session, asked.id, actor=FINANCE)
    with pytest.raises(OwnRequest):
        payout_reversals.reject_reversal(earnings.session, asked.id, reason="no", actor=FINANCE)
    with pytest.raises(NotYourRequest):
        payout_reversals.withdraw_reversal(earnings.session, asked.id, actor=OTHER)
    payout_reversals.reject_reversal(earnings.session, asked.id, reason="it was right", actor=OTHER)
    with pytest.raises(RequestDecided):
        payout_reversals.approve_reversal(earnings.session, asked.id, actor=OTHER)
    again = payout_reversals.propose_reversal(earnings.session, payout.id, reason="still wrong", actor=FINANCE)
    payout_reversals.withdraw_reversal(earnings.session, again.id, actor=FINANCE)
    assert payout_reversals.waiting_reversal(earnings.session, payout.id) is None


def test_one_proposal_at_a_time(earnings: Earnings) -> None:
    payout = paid(earnings, earnings.ib("3"))
    payout_reversals.propose_reversal(earnings.session, payout.id, reason="wrong", actor=FINANCE)
    with pytest.raises(ReversalWaiting):
        payout_reversals.propose_reversal(earnings.session, payout.id, reason="wrong", actor=OTHER)


def test_claw_back_leaves_a_debt_that_is_carried_over(earnings: Earnings) -> None:
    """The payout is taken back, the deals behind it too: the IB owes nothing more, and nothing of it is paid again."""
    ib_id = earnings.ib()
    first, second = earnings.earn(ib_id, "2"), earnings.earn(ib_id, "1")
    payout = paid(earnings, ib_id)
    reverse(earnings, payout)
    earnings.lose(ib_id, first)
    earnings.lose(ib_id, second)
    assert payables.payable(earnings.session, ib_id, now()).available == usd("0")
    earnings.earn(ib_id, "1", settled=False)
    found = payables.payable(earnings.session, ib_id, now())
    assert (found.balance, found.owes, found.available) == (usd("21.00"), usd("14.00"), usd("7.00"))


def content(earnings: Earnings, payout: Payout) -> dict[str, Any]:
    return dict(payout_statements.document(earnings.session, payout.id).content)


def test_a_statement_explains_the_balance_from_one_payout_to_the_next(earnings: Earnings) -> None:
    ib_id = earnings.ib("3")
    first = content(earnings, paid(earnings, ib_id))
    earnings.earn(ib_id, "1.5")
    second_payout = paid(earnings, ib_id)
    second = content(earnings, second_payout)
    keys = ("opening", "payout", "closing")
    minor = [tuple(told[key]["amount_minor"] for key in keys) for told in (first, second)]
    assert minor == [(0, 2100, 0), (0, 1050, 0)]
    assert [(one["what"], one["change"]["amount_minor"]) for one in second["movements"]] == [
        ("Commission settled", 1050),
        ("Payout", -1050),
    ]
    (line,) = second["lines"]
    assert (line["rule"], line["client"], line["count"], line["lots"], line["amount"]) == ("fx", "Amira H.", 1, "1.5", "10.5")
    assert second["settled"] == {
        "carried_in": "0",
        "sums": [{"currency": "USD", "accrued": "10.5", "converted": "10.5"}],
        "posted": {"amount_minor": 1050, "currency": "USD"},
        "carried_out": "0",
    }


def test_what_is_left_and_what_was_taken_back_stands_in_the_next_statement(earnings: Earnings) -> None:
    ib_id = earnings.ib("3")
    reverse(earnings, paid(earnings, ib_id))
    earnings.earn(ib_id, "1")
    told = content(earnings, paid(earnings, ib_id))
    assert [(one["what"], one["change"]["amount_minor"]) for one in told["movements"]] == [
        ("Payout taken back", 2100),
        ("Commission settled", 700),
        ("Payout", -2800),
    ]
    assert (told["opening"]["amount_minor"], told["closing"]["amount_minor"]) == (0, 0)


def test_a_frozen_statement_stays_as_it_is(earnings: Earnings) -> None:
    ib_id = earnings.ib("3")
    payout = paid(earnings, ib_id)
    before = content(earnings, payout)
    payout_statements.keep_pdf(earnings.session, payout.id, b"%PDF first")
    payout_statements.keep_pdf(earnings.session, payout.id, b"%PDF second")
    reverse(earnings, payout)
    earnings.earn(ib_id, "1")
    kept = payout_statements.document(earnings.session, payout.id)
    assert (kept.content, kept.pdf) == (before, b"%PDF first")

    row = earnings.session.get_one(PayoutStatement, payout.id)
    row.pdf = b"%PDF forged"
    with pytest.raises(ValueError, match="not what was made"):
        payout_statements.document(earnings.session, payout.id)
    row.content = {**row.content, "name": "Somebody Else"}
    with pytest.raises(ValueError, match="not what was frozen"):
        payout_statements.document(earnings.session, payout.id)
    earnings.session.expunge(row)  # the application could not write this: see the next test


@pytest.mark.parametrize(
    "forbidden",
    [
        "UPDATE payout_statement SET content = '{}'",
        "UPDATE payout_statement SET last_version = 0",
        "DELETE FROM payout_statement",
        "UPDATE payout SET amount_minor = amount_minor + 1",
        "UPDATE payout SET currency = 'EUR'",
        "UPDATE payout SET destination = 'withdrawal'",
        "DELETE FROM payout",
        "DELETE FROM payout_reversal",
    ],
)
def test_what_was_paid_and_frozen_cannot_be_changed_by_the_application(earnings: Earnings, forbidden: str) -> None:
    paid(earnings, earnings.ib("3"))
    with pytest.raises(ProgrammingError, match="permission denied"), earnings.session.begin_nested():
        earnings.session.execute(text(forbidden))


def test_a_statement_names_clients_as_the_policy_of_privacy_does(earnings: Earnings) -> None:
    """A sub-IB's clients are no business of the IB above; its own have names, unless the policy shows numbers only."""
    shared = [{"key": "a", "component": "per_lot", "rate": "10", "levels": ["0.6", "0.4"]}]
    session, house = earnings.session, earnings.house
    low, top = house.ib(shared), house.ib(shared)
    place_ib(session, low, top, START, "joined", OTHER)
    below, own = house.brought(low), house.brought(top)
    accrue_deals(session, [house.deal(below), house.deal(own)])
    earnings.settle()
    told = content(earnings, paid(earnings, top))
    number = session.get_one(TradingAccount, below).client_id
    assert {line["client"] for line in told["lines"]} == {f"#{number}", "Amira H."}

    set_privacy(session, Privacy(names="number", shows_sub_clients=True), "wanted", OTHER)
    accrue_deals(session, [house.deal(own)])
    earnings.settle()
    (line,) = content(earnings, paid(earnings, top))["lines"]
    assert line["client"] == f"#{session.get_one(TradingAccount, own).client_id}"


def test_an_adjustment_that_was_taken_back_is_no_payout_that_was(earnings: Earnings) -> None:
    ib_id = earnings.ib("3")
    with unit_of_work(earnings.session, FINANCE):
        owed, fees = chart.ib_commission(ib_id, "USD"), chart.fees("USD")
        chart.open_accounts(earnings.session, fees)
        txn_id = posting.post(
            earnings.session, key="adjusted", kind="adjustment", effective_at=now(), actor=FINANCE,
            legs=[posting.debit(owed, usd("1")), posting.credit(fees, usd("1"))],
        )  # fmt: skip
        posting.reverse(earnings.session, txn_id, key="back", actor=FINANCE, at=now(), reason="wrong")
    told = content(earnings, paid(earnings, ib_id))
    assert [one["what"] for one in told["movements"]] == ["Commission settled", "Adjustment", "Other movement", "Payout"]


def test_a_payout_is_not_taken_back_past_its_page(earnings: Earnings) -> None:
    """Else it would count as paid, and be paid again."""
    payout = paid(earnings, earnings.ib("3"))
    (fault,) = requests.judge_reversal(earnings.session, payout.ledger_txn_id)
    assert "on its own page" in str(fault)


def test_what_an_adjustment_took_is_not_told_as_paid(earnings: Earnings) -> None:
    ib_id = earnings.ib("3")
    with unit_of_work(earnings.session, FINANCE):
        owed, fees = chart.ib_commission(ib_id, "USD"), chart.fees("USD")
        chart.open_accounts(earnings.session, fees)
        posting.post(
            earnings.session, key="adjusted", kind="adjustment", effective_at=now(), actor=FINANCE,
            legs=[posting.debit(owed, usd("1")), posting.credit(fees, usd("1"))],
        )  # fmt: skip
    (told,) = totals(earnings.session, ib_id)
    assert (told.settled, told.ledger_balance, told.paid) == (usd("21"), usd("20"), usd("0"))
    payout = paid(earnings, ib_id)
    assert totals(earnings.session, ib_id)[0].paid == usd("20")
    reverse(earnings, payout)
    assert totals(earnings.session, ib_id)[0].paid == usd("0")


def test_before_the_money_moved_there_is_no_statement(earnings: Earnings) -> None:
    earnings.ib("3")
    run = payout_runs.propose_run(earnings.session, until=now(), reason="r", actor=FINANCE)
    with pytest.raises(NotFound):
        payout_statements.document(earnings.session, run.payouts[0].id)
