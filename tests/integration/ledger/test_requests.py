"""Corrections of the ledger and closes of periods: proposed by one person, decided by another."""

from __future__ import annotations

import inspect
import threading
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import count
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import AppError, InvalidInput, NotFound, typed
from app.core.money import MAX_AMOUNT_MINOR, Money
from app.core.tables import AuditEntry, Event
from app.core.uow import unit_of_work
from app.ledger import adjustments, approvals, chart, close, period_review, posting, proofs, queries, requests, sources
from app.ledger.adjustments import DraftLeg
from app.ledger.errors import (
    IdempotencyConflict,
    InvalidPosting,
    NotPostable,
    NotYourRequest,
    OwnRequest,
    PeriodClosed,
    RefusedRequest,
    RequestDecided,
    ReversalRequested,
)
from app.ledger.requests import Evidence
from app.models.clients import Client
from app.models.controls import LedgerRequest, ProofRun
from app.models.ledger import Account, Entry, Transaction

PROPOSER, DECIDER, THIRD = Actor.staff(1001), Actor.staff(1002), Actor.staff(1003)
PROOF = Evidence("ab" * 32, "bank.pdf", "application/pdf")
FEES, BANK = "income:fees:USD", "bank:first:own_money:USD"
_numbers = count(1)


def propose(session: Session, *legs: DraftLeg, **changes):
    given = {
        "legs": legs or leg_pair("10.00"),
        "effective_at": now(),
        "reason": "The bank booked it twice.",
        "evidence": PROOF,
        "key": f"k-{next(_numbers)}",
        "actor": PROPOSER,
    }
    return requests.propose_adjustment(session, **{**given, **changes}).request_id


def leg_pair(amount, debit=BANK, credit=FEES):
    return DraftLeg(debit, "debit", amount), DraftLeg(credit, "credit", amount)


def refusal(session: Session, *legs: DraftLeg, **changes) -> dict[str, str]:
    """What is said, by field; and that nothing was stored or posted."""
    before = counts(session)
    with pytest.raises(RefusedRequest) as refused:
        propose(session, *legs, **changes)
    assert counts(session) == before
    assert refused.value.problems
    return refused.value.problems


def counts(session: Session):
    session.rollback()
    return [
        session.scalar(select(func.count()).select_from(table))
        for table in (LedgerRequest, Transaction, Entry, Account, Event, AuditEntry)
    ]


@pytest.fixture
def house(session):
    """A bank account of the house with 1,000 USD, its income, and a client's wallet with 100 USD."""
    bank, fees, clearing = chart.bank_own_money("first", "USD"), chart.fees("USD"), chart.psp_clearing("stripe", "USD")
    with unit_of_work(session, PROPOSER):
        client = add_client(session)
        wallet = chart.client_wallet(client.id, "USD")
        chart.open_accounts(session, bank, fees, wallet, clearing, chart.fees("JPY"), chart.bank_own_money("first", "JPY"))
        post(session, posting.debit(bank, usd("1000")), posting.credit(fees, usd("1000")))
        post(session, posting.debit(clearing, usd("100")), posting.credit(wallet, usd("100")), kind="deposit")
    return wallet


def add_client(session: Session) -> Client:
    client = Client(
        email=f"c{next(_numbers)}@example.com",
        password_hash="x",
        first_name="A",
        last_name="B",
        country="IT",
        terms_version="1",
        terms_accepted_at=now(),
    )
    session.add(client)
    session.flush()
    return client


def usd(amount: str) -> Money:
    return Money.parse(amount, "USD")


def post(session, *legs, kind="test", at=None) -> UUID:
    return posting.post(session, key=f"t-{next(_numbers)}", kind=kind, effective_at=at or now(), actor=PROPOSER, legs=legs)


def balance(session, code) -> str:
    return str(queries.balance(session, code).posted)


def stored(session, request_id: int) -> LedgerRequest:
    return session.get_one(LedgerRequest, request_id, populate_existing=True)


# ── adjustments ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_adjustment_is_posted_when_another_person_approves_it(session, house):
    at = now() - timedelta(hours=1)
    request_id = propose(session, effective_at=at, reason="  Two\nlines\u200f. ")
    request = stored(session, request_id)
    assert (request.status, request.kind, request.proposed_by, request.reason) == (
        "proposed",
        "adjustment",
        "staff:1001",
        "Two lines .",
    )
    assert (request.evidence_key, request.evidence_name, request.evidence_type) == (PROOF.key, PROOF.name, PROOF.media_type)
    assert balance(session, BANK) == "1000.00 USD"

    done = requests.approve(session, request_id, DECIDER)
    assert balance(session, BANK) == "1010.00 USD"
    txn = session.get_one(Transaction, done.txn_id)
    assert (txn.kind, txn.idempotency_key, txn.actor, txn.effective_at) == (
        "adjustment",
        f"ledger-request:{request_id}",
        "staff:1002",
        at,
    )
    assert txn.details == {"request_id": request_id, "reason": "Two lines ."}
    request = stored(session, request_id)
    assert (request.status, request.decided_by, request.txn_id) == ("approved", "staff:1002", txn.id)
    cause = sources.cause_of(session, txn)
    assert (cause.subject, cause.id) == ("ledger_request", request_id)
    events = session.scalars(select(Event).where(Event.subject_id == request_id).order_by(Event.id)).all()
    assert [event.type for event in events] == ["ledger_request.proposed", "ledger_request.approved"]
    audits = session.scalars(
        select(AuditEntry).where(AuditEntry.target == f"ledger_request:{request_id}").order_by(AuditEntry.id)
    ).all()
    assert [(entry.action, entry.actor) for entry in audits] == [
        ("ledger_request.proposed", "staff:1001"),
        ("ledger_request.approved", "staff:1002"),
    ]
    assert (audits[1].before["status"], audits[1].after["status"], audits[1].after["txn_id"]) == (
        "proposed",
        "approved",
        str(txn.id),
    )
    assert all(proof.holds for proof in proofs.prove(session))


def test_an_account_that_the_chart_knows_is_opened_with_the_approval(session, house):
    wallet = f"client:{house.client_id}:wallet:EUR"
    request_id = propose(session, *leg_pair("5", debit="fx:position:EUR", credit=wallet))
    assert session.scalar(select(Account).where(Account.code == wallet)) is None
    requests.approve(session, request_id, DECIDER)
    opened = session.scalars(select(Account).where(Account.code == wallet)).one()
    assert (opened.client_id, opened.balance) == (house.client_id, 500)


@pytest.mark.parametrize(
    ("field", "leg", "words"),
    [
        ("account", DraftLeg("", "debit", "1"), "Please name an account."),
        ("account", DraftLeg("client:999999999:wallet:USD", "debit", "1"), "There is no account client:999999999:wallet:USD"),
        ("account", DraftLeg("client:99999999999999999999:wallet:USD", "debit", "1"), "There is no account"),
        ("account", DraftLeg("client:07:wallet:USD", "debit", "1"), "There is no account"),
        ("account", DraftLeg("bank:frist:own_money:USD", "debit", "1"), "There is no account bank:frist:own_money:USD"),
        ("account", DraftLeg("mt:nowhere:1:balance:USD", "debit", "1"), "There is no account"),
        ("account", DraftLeg("income:trading:nowhere:USD", "debit", "1"), "There is no account"),
        ("account", DraftLeg("expense:psp_fees:nobody:USD", "debit", "1"), "There is no account"),
        ("account", DraftLeg("ib:12345678:commission:USD", "debit", "1"), "There is no account"),
        ("account", DraftLeg("income:fees:XXX1", "debit", "1"), "There is no account"),
        ("account", DraftLeg("income:fees:USD\x00", "debit", "1"), "There is no account"),
        ("account", DraftLeg("'; DROP TABLE ledger.txn; --", "debit", "1"), "There is no account"),
        ("account", DraftLeg("a" * 5_000, "debit", "1"), "There is no account"),
        ("account", DraftLeg("income:fees:CHF", "debit", "1"), "closed"),
        ("side", DraftLeg(BANK, "both", "1"), "debits or credits"),
        ("amount", DraftLeg(BANK, "debit", ""), "not a valid amount"),
        ("amount", DraftLeg(BANK, "debit", "ten"), "not a valid amount"),
        ("amount", DraftLeg(BANK, "debit", "NaN"), "not a valid amount"),
        ("amount", DraftLeg(BANK, "debit", "Infinity"), "not a valid amount"),
        ("amount", DraftLeg(BANK, "debit", "10^30"), "not a valid amount"),
        ("amount", DraftLeg(BANK, "debit", "1E30"), "not a valid amount"),
        ("amount", DraftLeg(BANK, "debit", "1" + "0" * 30), "too large"),
        ("amount", DraftLeg(BANK, "debit", "9" * 5_000), "not a valid amount"),
        ("amount", DraftLeg(BANK, "debit", "1,000.00"), "not a valid amount"),
        ("amount", DraftLeg(BANK, "debit", "1.005"), "USD has 2 decimals at most"),
        ("amount", DraftLeg("income:fees:JPY", "debit", "1.5"), "JPY has 0 decimals at most"),
        ("amount", DraftLeg(BANK, "debit", "0"), "greater than zero"),
        ("amount", DraftLeg(BANK, "debit", "0.00"), "greater than zero"),
        ("amount", DraftLeg(BANK, "debit", "-5"), "greater than zero"),
        ("amount", DraftLeg(BANK, "debit", "5 EUR"), "kept in USD, not in EUR"),
        ("amount", DraftLeg(BANK, "debit", Money(500, "EUR")), "kept in USD, not in EUR"),
        ("amount", DraftLeg(BANK, "debit", Decimal("NaN")), "not a valid amount"),
    ],
)
def test_what_is_wrong_with_one_leg_is_said_there(session, house, field, leg, words):
    with unit_of_work(session, PROPOSER):
        chart.open_account(session, chart.fees("CHF"))
        close.close_account(session, chart.fees("CHF"))
    problems = refusal(session, leg, DraftLeg(FEES, "credit", "1"))
    assert set(problems) == {f"legs-0-{field}"}
    assert words in problems[f"legs-0-{field}"]


def test_everything_that_is_wrong_is_said_at_once(session, house):
    problems = refusal(
        session,
        DraftLeg("nowhere:USD", "sideways", "0"),
        DraftLeg(BANK, "debit", "1.001"),
        DraftLeg(FEES, "credit", "2"),
        DraftLeg(FEES, "credit", "2"),
        effective_at=now() + timedelta(days=1),
        reason=" ",
        evidence=None,
    )
    assert set(problems) == {
        "legs-0-account",
        "legs-0-side",
        "legs-0-amount",
        "legs-1-amount",
        "legs-3-account",
        "effective_at",
        "reason",
        "evidence",
    }
    assert "row 3" in problems["legs-3-account"]
    assert "still to come" in problems["effective_at"]


def test_each_currency_must_balance_and_the_difference_is_named(session, house):
    problems = refusal(
        session, DraftLeg(BANK, "debit", "10"), DraftLeg(FEES, "credit", "12.50"), DraftLeg("income:fees:JPY", "credit", "7")
    )
    assert set(problems) == {"legs"}
    assert "USD does not balance: debits 10.00, credits 12.50, difference 2.50." in problems["legs"]
    assert "JPY does not balance: debits 0, credits 7, difference 7." in problems["legs"]
    biggest = str(Money(MAX_AMOUNT_MINOR, "USD").decimal)
    several = [f"psp:stripe:{name}:USD" for name in ("clearing", "payouts")]
    problems = refusal(session, *(DraftLeg(code, "debit", biggest) for code in (BANK, FEES, *several)))
    assert "difference 368934881474191032.28" in problems["legs"]


@pytest.mark.parametrize("number", [0, 1])
def test_one_leg_is_no_transaction(session, house, number):
    assert "two rows at least" in refusal(session, legs=[DraftLeg(BANK, "debit", "1")] * number)["legs"]


def test_201_legs_are_too_many_and_200_are_not(session, house):
    with unit_of_work(session, PROPOSER):
        specs = [chart.suspense(f"s{number}", "USD") for number in range(200)]
        chart.open_accounts(session, *specs)
    many = [DraftLeg(spec.code, "credit", "1") for spec in specs]
    assert "200 accounts at most" in refusal(session, DraftLeg(BANK, "debit", "200"), *many)["legs"]
    request_id = propose(session, DraftLeg(BANK, "debit", "199"), *many[:199])
    requests.approve(session, request_id, DECIDER)
    assert balance(session, BANK) == "1199.00 USD"


def test_a_closed_period_takes_no_adjustment(session, house):
    close.close_period(session, datetime(2026, 2, 1, tzinfo=UTC), actor=PROPOSER)
    session.commit()
    problems = refusal(session, effective_at=datetime(2026, 1, 31, 23, 59, tzinfo=UTC))
    assert "closed up to 2026-02-01 00:00 UTC" in problems["effective_at"]
    propose(session, effective_at=datetime(2026, 2, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    "moment", [None, datetime(2026, 1, 1), datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)]
)
def test_moments_that_are_none(session, house, moment):
    assert set(refusal(session, effective_at=moment)) == {"effective_at"}


@pytest.mark.parametrize("reason", ["", " \n\t", "x" * 1_001, "\u202e\x00"])
def test_reasons_that_say_nothing_or_too_much(session, house, reason):
    assert set(refusal(session, reason=reason)) == {"reason"}


# ── the same form twice ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_key_is_one_request_also_after_it_was_decided(session, house):
    at = now()
    first = propose(session, key="same", effective_at=at)
    newer = Evidence("cd" * 32, "again.pdf", "application/pdf")
    again = requests.propose_adjustment(
        session,
        legs=leg_pair("10"),
        effective_at=at,
        reason="The bank booked it twice.",
        evidence=newer,
        key="same",
        actor=PROPOSER,
    )
    assert (again.request_id, again.evidence_key) == (first, PROOF.key)
    requests.approve(session, first, DECIDER)
    assert propose(session, key="same", effective_at=at) == first
    assert session.scalar(select(func.count()).select_from(Event).where(Event.type == "ledger_request.proposed")) == 1


def test_a_used_key_with_other_content_is_refused_and_another_persons_key_is_another(session, house):
    at = now()
    first = propose(session, key="same", effective_at=at)
    for changed in ({"legs": leg_pair("11")}, {"reason": "Another one."}, {"effective_at": at - timedelta(minutes=1)}):
        with pytest.raises(IdempotencyConflict):
            propose(session, **{"key": "same", "effective_at": at, **changed})
    with pytest.raises(IdempotencyConflict):
        requests.propose_period_close(session, through=date(2026, 1, 31), reason="x", key="same", actor=PROPOSER)
    assert propose(session, key="same", actor=THIRD) != first
    with pytest.raises(InvalidPosting):
        propose(session, key="k" * 65)


# ── deciding ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_who_proposed_does_not_decide_in_code_nor_in_the_table(session, house):
    request_id = propose(session)
    for decide in (requests.approve, lambda *args: requests.reject(args[0], args[1], "no", args[2])):
        with pytest.raises(OwnRequest) as refused:
            decide(session, request_id, PROPOSER)
        assert refused.value.__cause__ is None  # said before anything was posted, not by the table
    assert stored(session, request_id).status == "proposed"
    for status in ("approved", "rejected"):
        with pytest.raises(IntegrityError, match="four_eyes") as met:
            session.execute(
                update(LedgerRequest)
                .where(LedgerRequest.id == request_id)
                .values(status=status, decided_by=str(PROPOSER), decided_at=now())
            )
        session.rollback()
        assert isinstance(typed(met.value), OwnRequest)


def test_the_table_refuses_a_request_that_is_inserted_as_decided_by_its_proposer(session):
    row = LedgerRequest(
        kind="adjustment",
        status="approved",
        reason="past the code",
        legs=[],
        effective_at=now(),
        idempotency_key="x",
        proposed_by=str(PROPOSER),
        decided_by=str(PROPOSER),
        decided_at=now(),
    )
    with pytest.raises(OwnRequest), unit_of_work(session, PROPOSER):
        session.add(row)


@pytest.mark.parametrize("status", ["approved", "rejected", "withdrawn"])
def test_who_comes_second_is_told_what_became_of_it(session, house, status):
    request_id = propose(session)
    decisions = {
        "approved": lambda: requests.approve(session, request_id, DECIDER),
        "rejected": lambda: requests.reject(session, request_id, "No.", DECIDER),
        "withdrawn": lambda: requests.withdraw(session, request_id, PROPOSER),
    }
    decisions[status]()
    before = counts(session)
    for actor, late in (
        (THIRD, requests.approve),
        (THIRD, lambda s, r, a: requests.reject(s, r, "late", a)),
        (PROPOSER, requests.withdraw),
    ):
        with pytest.raises(RequestDecided) as told:
            late(session, request_id, actor)
        word = {"approved": "approved", "rejected": "rejected", "withdrawn": "withdrew"}[status]
        assert word in str(told.value)
        assert ("staff:1001" if status == "withdrawn" else "staff:1002") in str(told.value)
    assert counts(session) == before


def test_rejecting_posts_nothing_and_needs_a_reason(session, house):
    request_id = propose(session)
    for reason in ("", "  ", "x" * 1_001):
        with pytest.raises(InvalidInput):
            requests.reject(session, request_id, reason, DECIDER)
    requests.reject(session, request_id, "Wrong account.", DECIDER)
    request = stored(session, request_id)
    assert (request.status, request.decision_reason, request.txn_id) == ("rejected", "Wrong account.", None)
    assert balance(session, BANK) == "1000.00 USD"


def test_only_the_proposer_withdraws(session, house):
    request_id = propose(session)
    with pytest.raises(NotYourRequest):
        requests.withdraw(session, request_id, DECIDER)
    requests.withdraw(session, request_id, PROPOSER)
    assert stored(session, request_id).decided_by == str(PROPOSER)
    with pytest.raises(NotFound):
        requests.withdraw(session, 2**60, PROPOSER)


def test_an_approval_that_finds_the_money_gone_leaves_the_request_waiting(session, house):
    request_id = propose(session, *leg_pair("80", debit=house.code))
    with unit_of_work(session, PROPOSER):
        post(session, posting.debit(house, usd("50")), posting.credit(chart.psp_clearing("stripe", "USD"), usd("50")))
    before = counts(session)
    with pytest.raises(NotPostable) as refused:
        requests.approve(session, request_id, DECIDER)
    assert refused.value.problems == {"legs": f"{house.code} has 50.00 USD available, and 80.00 USD would be taken."}
    assert counts(session) == before
    assert stored(session, request_id).status == "proposed"
    with unit_of_work(session, PROPOSER):
        post(session, posting.credit(house, usd("30")), posting.debit(chart.psp_clearing("stripe", "USD"), usd("30")))
    requests.approve(session, request_id, DECIDER)
    assert balance(session, house) == "0.00 USD"


def test_an_approval_that_comes_after_the_close_leaves_the_request_waiting(session, house):
    request_id = propose(session, effective_at=datetime(2026, 1, 15, tzinfo=UTC))
    close.close_period(session, datetime(2026, 2, 1, tzinfo=UTC), actor=THIRD)
    session.commit()
    with pytest.raises(NotPostable) as refused:
        requests.approve(session, request_id, DECIDER)
    assert "closed up to 2026-02-01" in refused.value.problems["effective_at"]
    assert stored(session, request_id).status == "proposed"


def test_an_account_closed_meanwhile_is_named_by_its_row(session, house):
    with unit_of_work(session, PROPOSER):
        chart.open_account(session, chart.suspense("first", "USD"))
    request_id = propose(session, *leg_pair("5", credit="suspense:first:USD"))
    close.close_account(session, "suspense:first:USD")
    session.commit()
    with pytest.raises(NotPostable) as refused:
        requests.approve(session, request_id, DECIDER)
    assert refused.value.problems == {"legs-1-account": "This account is closed."}


def test_an_amount_beyond_what_the_account_can_hold(session, house):
    request_id = propose(session, *leg_pair(str(Money(MAX_AMOUNT_MINOR, "USD").decimal)))
    with pytest.raises(NotPostable) as refused:
        requests.approve(session, request_id, DECIDER)
    assert "cannot hold this amount" in refused.value.problems["legs"]


# ── reversals ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def propose_reversal(session, txn_id, **changes):
    given = {
        "effective_at": now(),
        "reason": "Posted twice.",
        "evidence": PROOF,
        "key": f"k-{next(_numbers)}",
        "actor": PROPOSER,
    }
    return requests.propose_reversal(session, txn_id=txn_id, **{**given, **changes}).request_id


@pytest.fixture
def paid(session, house):
    with unit_of_work(session, PROPOSER):
        return post(session, posting.debit(house, usd("40")), posting.credit(chart.fees("USD"), usd("40")), kind="fee")


def test_a_reversal_is_the_mirror_image_linked_to_its_original(session, house, paid):
    request_id = propose_reversal(session, paid)
    mirror = approvals.legs_of(session, stored(session, request_id))
    assert {(leg.account, leg.side, str(leg.money)) for leg in mirror} == {
        (house.code, "credit", "40.00 USD"),
        (FEES, "debit", "40.00 USD"),
    }
    done = requests.approve(session, request_id, DECIDER)
    txn = session.get_one(Transaction, done.txn_id)
    assert (txn.kind, txn.reverses, txn.idempotency_key) == ("reversal", paid, f"ledger-request:{request_id}")
    assert balance(session, house) == "100.00 USD"
    assert sources.cause_of(session, txn).id == request_id


def test_a_reversal_is_asked_for_once(session, house, paid):
    first = propose_reversal(session, paid)
    with pytest.raises(RefusedRequest) as refused:
        propose_reversal(session, paid, actor=THIRD)
    assert "asked already" in refused.value.problems["txn_id"]
    past_the_code = LedgerRequest(
        kind="reversal", reason="x", reverses=paid, effective_at=now(), idempotency_key="y", proposed_by="staff:9"
    )
    with pytest.raises(ReversalRequested), unit_of_work(session, THIRD):
        session.add(past_the_code)
    requests.reject(session, first, "Not yet.", DECIDER)
    second = propose_reversal(session, paid)
    requests.approve(session, second, DECIDER)
    with pytest.raises(RefusedRequest) as refused:
        propose_reversal(session, paid)
    assert "reversed before" in refused.value.problems["txn_id"]


def test_what_cannot_be_reversed(session, house, paid):
    with pytest.raises(RefusedRequest) as refused:
        propose_reversal(session, uuid4(), evidence=None, reason="")
    assert set(refused.value.problems) == {"txn_id", "evidence", "reason"}
    with pytest.raises(RefusedRequest) as refused:
        propose_reversal(session, paid, effective_at=now() - timedelta(days=1))
    assert "not before it" in refused.value.problems["effective_at"]


def test_a_transaction_reversed_meanwhile_leaves_the_request_waiting(session, house, paid):
    request_id = propose_reversal(session, paid)
    posting.reverse(session, paid, key="other", actor=THIRD, at=now(), reason="refused by the provider")
    session.commit()
    with pytest.raises(NotPostable) as refused:
        requests.approve(session, request_id, DECIDER)
    assert "reversed before" in refused.value.problems["txn_id"]
    assert stored(session, request_id).status == "proposed"


def test_a_deposit_spent_meanwhile_cannot_be_taken_back(session, house):
    deposit = session.scalars(select(Transaction).where(Transaction.kind == "deposit")).one()
    request_id = propose_reversal(session, deposit.id)
    with unit_of_work(session, PROPOSER):
        post(session, posting.debit(house, usd("60")), posting.credit(chart.fees("USD"), usd("60")))
    mirror = adjustments.effects(session, approvals.legs_of(session, stored(session, request_id)))
    assert [leg.account for leg in mirror if leg.is_short] == [house.code]
    with pytest.raises(NotPostable) as refused:
        requests.approve(session, request_id, DECIDER)
    assert "has 40.00 USD available, and 100.00 USD would be taken" in refused.value.problems["legs"]


# ── closing a period ────────────────────────────────────────────────────────────────────────────────────────────────────


def propose_close(session, through=date(2026, 1, 31), **changes):
    given = {"reason": "January is reconciled.", "key": f"k-{next(_numbers)}", "actor": PROPOSER}
    return requests.propose_period_close(session, through=through, **{**given, **changes}).request_id


def test_a_period_is_closed_by_two(session, house):
    request_id = propose_close(session)
    assert stored(session, request_id).closed_through == datetime(2026, 2, 1, tzinfo=UTC)
    with pytest.raises(OwnRequest):
        requests.approve(session, request_id, PROPOSER)
    assert period_review.last_close(session) is None
    done = requests.approve(session, request_id, DECIDER)
    assert done.txn_id is None
    last = period_review.last_close(session)
    assert (last.closed_through, last.actor) == (datetime(2026, 2, 1, tzinfo=UTC), "staff:1002")
    with pytest.raises(PeriodClosed), unit_of_work(session, PROPOSER):
        post(
            session,
            posting.debit(BANK, usd("1")),
            posting.credit(FEES, usd("1")),
            at=datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC),
        )


@pytest.mark.parametrize("day", [None, date.max, datetime.now(UTC).date(), datetime.now(UTC).date() + timedelta(days=1)])
def test_a_day_that_is_not_over_is_not_closed(session, day):
    with pytest.raises(RefusedRequest) as refused:
        propose_close(session, day)
    assert set(refused.value.problems) == {"through"}


def test_a_period_is_closed_once_and_forward_only(session, house):
    first, second = propose_close(session), propose_close(session, date(2026, 1, 15))
    requests.approve(session, first, DECIDER)
    with pytest.raises(NotPostable) as refused:
        requests.approve(session, second, DECIDER)
    assert "closed already up to 2026-02-01" in refused.value.problems["through"]
    with pytest.raises(RefusedRequest):
        propose_close(session)
    propose_close(session, date(2026, 2, 1))


def test_open_requests_of_the_period_forbid_its_close(session, house):
    waiting = propose(session, effective_at=datetime(2026, 1, 20, tzinfo=UTC))
    with pytest.raises(RefusedRequest) as refused:
        propose_close(session)
    assert f"wait for a decision: {waiting}." in refused.value.problems["through"]
    requests.withdraw(session, waiting, PROPOSER)
    close_id = propose_close(session)
    late = propose(session, effective_at=datetime(2026, 1, 20, tzinfo=UTC))
    with pytest.raises(NotPostable):
        requests.approve(session, close_id, DECIDER)
    assert period_review.last_close(session) is None
    requests.approve(session, late, DECIDER)
    requests.approve(session, close_id, DECIDER)


def test_failed_proofs_forbid_a_close_and_missing_ones_are_a_warning(session, house):
    end = datetime(2026, 2, 1, tzinfo=UTC)
    assert [finding.code for finding in period_review.review(session, end).warnings] == ["proofs"]
    session.add(ProofRun(started_by="test", holds=False, finished_at=now()))
    session.commit()
    with pytest.raises(RefusedRequest) as refused:
        propose_close(session)
    assert "found something broken" in refused.value.problems["through"]
    session.add(ProofRun(started_by="test", holds=True, finished_at=now()))
    session.add(ProofRun(started_by="test"))  # one that is still running says nothing
    session.commit()
    assert period_review.review(session, end).findings == ()
    propose_close(session)


def test_a_position_that_nobody_can_value_forbids_a_close(session, house):
    position, wallet = chart.fx_position("KWD"), chart.client_wallet(house.client_id, "KWD")
    with unit_of_work(session, PROPOSER):
        chart.open_accounts(session, position, wallet)
        one = Money(1_000, "KWD")
        post(session, posting.debit(position, one), posting.credit(wallet, one), at=datetime(2026, 1, 10, tzinfo=UTC))
    with pytest.raises(RefusedRequest) as refused:
        propose_close(session)
    assert "no exchange rate for KWD" in refused.value.problems["through"]
    propose_close(session, date(2026, 1, 9))


def test_money_in_suspense_is_a_warning(session, house):
    with unit_of_work(session, PROPOSER):
        suspense = chart.suspense("first", "USD")
        chart.open_account(session, suspense)
        post(session, posting.debit(BANK, usd("3")), posting.credit(suspense, usd("3")))
    found = period_review.review(session, now()).warnings
    assert {finding.code: finding.data.get("count") for finding in found} == {"proofs": None, "suspense": 1}


def test_a_close_posts_the_result_of_the_fx_positions_in_the_same_unit(session, house, monkeypatch):
    """What the revaluation posts is its own subject; here, that it comes first and that both or neither happen."""
    calls = []

    def revalue(session, *, through, actor):
        calls.append((through, period_review.last_close(session)))
        post(session, posting.debit(BANK, usd("7")), posting.credit(FEES, usd("7")), at=through - timedelta(microseconds=1))

    monkeypatch.setattr("app.ledger.approvals.revaluation.post_result", revalue)
    request_id = propose_close(session)
    with monkeypatch.context() as broken:
        broken.setattr("app.ledger.approvals.close.close_period", lambda *_args, **_more: (_ for _ in ()).throw(PeriodClosed()))
        with pytest.raises(NotPostable):
            requests.approve(session, request_id, DECIDER)
    assert balance(session, BANK) == "1000.00 USD"
    requests.approve(session, request_id, DECIDER)
    assert balance(session, BANK) == "1007.00 USD"
    assert calls == [(datetime(2026, 2, 1, tzinfo=UTC), None)] * 2


# ── several at once, with real commits ──────────────────────────────────────────────────────────────────────────────────


def at_once(database, *steps) -> Counter[str]:
    """Run the steps from connections of their own, together; what came of each."""
    outcomes, start = [], threading.Barrier(len(steps))

    def run(step) -> None:
        with database.session() as session:
            start.wait(timeout=20)
            try:
                outcomes.append(step(session))
            except (AppError, DBAPIError) as error:
                outcomes.append(type(error).__name__)

    threads = [threading.Thread(target=run, args=(step,)) for step in steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    return Counter(outcomes)


@pytest.fixture
def books(database):
    with database.session() as session, unit_of_work(session, PROPOSER):
        bank, fees = chart.bank_own_money("first", "USD"), chart.fees("USD")
        chart.open_accounts(session, bank, fees)
        post(session, posting.debit(bank, usd("1000")), posting.credit(fees, usd("1000")))
    return database


def test_two_approvers_at_once_post_once(books):
    with books.session() as session:
        request_id = propose(session)
    approvers = [Actor.staff(number) for number in range(2001, 2009)]
    came = at_once(books, *[lambda session, who=who: requests.approve(session, request_id, who).status for who in approvers])
    assert came == {"approved": 1, "RequestDecided": 7}
    with books.session() as session:
        assert balance(session, BANK) == "1010.00 USD"


def test_approval_and_withdrawal_at_once_have_one_outcome(books):
    for _ in range(5):
        with books.session() as session:
            request_id = propose(session)
        came = at_once(
            books,
            lambda session, number=request_id: requests.approve(session, number, DECIDER).status,
            lambda session, number=request_id: requests.withdraw(session, number, PROPOSER).status,
        )
        assert came["RequestDecided"] == 1
        with books.session() as session:
            request = stored(session, request_id)
            assert (request.status == "approved") == (request.txn_id is not None) == (came["approved"] == 1)


def test_the_same_form_twice_at_once_is_one_request(books):
    at = now()
    came = at_once(books, *[lambda session: propose(session, key="same", effective_at=at)] * 8)
    assert sorted(came.values()) == [8]
    with books.session() as session:
        assert session.scalar(select(func.count()).select_from(LedgerRequest)) == 1
        assert session.scalar(select(func.count()).select_from(Event)) == 1


def test_two_ask_at_once_for_the_same_reversal(books):
    with books.session() as session:
        txn_id = session.scalars(select(Transaction.id)).one()
    came = at_once(
        books,
        *[
            lambda session, number=number: type(propose_reversal(session, txn_id, actor=Actor.staff(number))).__name__
            for number in (3001, 3002, 3003, 3004)
        ],
    )
    assert came["int"] == 1
    assert set(came) <= {"int", "ReversalRequested", "RefusedRequest"}


def test_a_close_and_postings_that_want_the_same_accounts_do_not_lock_each_other(books, monkeypatch):
    """A close revalues first: had it not held up the others, they would wait for its accounts and it for them."""

    def revalue(session, *, through, actor):
        session.execute(text("SELECT pg_sleep(0.2)"))
        post(session, posting.debit(BANK, usd("1")), posting.credit(FEES, usd("1")), at=through - timedelta(microseconds=1))

    monkeypatch.setattr("app.ledger.approvals.revaluation.post_result", revalue)
    with books.session() as session:
        request_id = propose_close(session)

    def pay(session):
        for _ in range(10):
            with unit_of_work(session, PROPOSER):
                chart.open_account(session, chart.suspense(f"s{next(_numbers)}", "USD"))
                post(session, posting.debit(BANK, usd("2")), posting.credit(FEES, usd("2")))
                post(session, posting.debit(FEES, usd("2")), posting.credit(BANK, usd("2")))
        return "paid"

    came = at_once(books, lambda session: requests.approve(session, request_id, DECIDER).status, *[pay] * 3)
    assert came == {"approved": 1, "paid": 3}
    with books.session() as session:
        assert all(proof.holds for proof in proofs.prove(session))
        assert balance(session, BANK) == "1001.00 USD"


# ── the chart ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_account_of_the_chart_is_found_by_its_code():
    given = {
        "client_id": 7,
        "ib_id": 3,
        "server": "demo-1",
        "login": 100234,
        "currency": "USD",
        "name": "first",
        "source": "first",
    }
    made = 0
    for function in vars(chart).values():
        if inspect.isfunction(function) and not function.__name__.startswith("_") and function.__module__ == chart.__name__:
            names = [
                name for name, one in inspect.signature(function).parameters.items() if one.default is inspect.Parameter.empty
            ]
            if function.__annotations__.get("return") == "AccountSpec" and set(names) <= set(given):
                spec = function(**{name: given[name] for name in names})
                assert chart.spec_of(spec.code) == spec, function.__name__
                made += 1
    assert made >= 19
    for code in (
        "",
        ":",
        "client:7:wallet:usd",
        "client:x:wallet:USD",
        "client:7:wallet",
        "income:fees:USD:",
        "client:７:wallet:USD",
    ):
        assert chart.spec_of(code) is None
