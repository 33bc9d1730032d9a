"""The state machines: every pair is listed or refused, and no order of events loses or invents money."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.money import Money
from app.payments.connector import EXPIRED, Failed, NotSent, Pending, Settled, Unknown
from app.payments.state import (
    DEPOSIT,
    TRANSFER,
    TRANSFER_TO_ACCOUNT,
    TRANSFER_TO_WALLET,
    WITHDRAWAL,
    IllegalMove,
    Machine,
    advance,
    event_of,
)

MACHINES = {
    "deposit": DEPOSIT,
    "withdrawal": WITHDRAWAL,
    "to_account": TRANSFER_TO_ACCOUNT,
    "to_wallet": TRANSFER_TO_WALLET,
}
NEWS = ("pend", "settle", "fail", "expire", "lose", "not_sent")

machine = pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)


@machine
def test_every_pair_is_listed_or_refused(machine: Machine):
    for state, event in itertools.product(machine.states, machine.events | {"no_such_event"}):
        if (state, event) in machine.moves:
            assert advance(machine, state, event) in machine.states
        else:
            with pytest.raises(IllegalMove) as refused:
                advance(machine, state, event)
            assert refused.value.data == {"machine": machine.name, "state": state, "event": event}


@machine
def test_an_unknown_state_is_refused(machine: Machine):
    with pytest.raises(IllegalMove):
        advance(machine, "lost_in_space", "settle")


@machine
def test_every_state_is_reached_from_the_first(machine: Machine):
    reached = {machine.initial}
    for _ in machine.states:
        reached |= {target for (state, _), target in machine.moves.items() if state in reached}
    assert reached == machine.states


@machine
def test_names_fit_the_columns(machine: Machine):
    assert all(len(name) <= 20 for name in machine.states)


@machine
def test_hearing_the_same_twice_changes_nothing_more(machine: Machine):
    """Providers repeat themselves: the second time, every word but "submit" and its like is late news or refused."""
    for (state, event), target in machine.moves.items():
        if event in NEWS and event not in {"not_sent", "fail"}:
            assert machine.moves.get((target, event), target) == target, (state, event)


@machine
def test_unresolved_states_wait_for_a_word_from_outside(machine: Machine):
    assert machine.unresolved <= machine.states
    for state in machine.unresolved:
        assert advance(machine, state, "settle") != state
        assert advance(machine, state, "lose") in machine.unresolved


def test_the_first_states():
    assert DEPOSIT.initial == "created"
    assert {WITHDRAWAL.initial, TRANSFER_TO_ACCOUNT.initial, TRANSFER_TO_WALLET.initial} == {"requested"}
    assert TRANSFER == {"to_account": TRANSFER_TO_ACCOUNT, "to_wallet": TRANSFER_TO_WALLET}


@given(st.lists(st.sampled_from(["pend", "lose", "not_sent", "settle"]), max_size=12))
def test_a_settled_deposit_stays_settled_whatever_comes_late(events: list[str]):
    state = "settled"
    for event in events:
        state = advance(DEPOSIT, state, event)
    assert state == "settled"


@given(st.permutations(["pend", "lose", "settle", "pend", "settle"]))
def test_a_deposit_settles_in_any_order_of_true_news(events: list[str]):
    state = DEPOSIT.initial
    for event in events:
        state = advance(DEPOSIT, state, event)
    assert state == "settled"


@pytest.mark.parametrize("given_up", ["failed", "expired"])
def test_money_that_arrives_after_giving_up_still_counts(given_up: str):
    assert advance(DEPOSIT, given_up, "settle") == "settled"


@pytest.mark.parametrize("event", ["fail", "expire"])
def test_a_settled_deposit_cannot_fail(event: str):
    with pytest.raises(IllegalMove):
        advance(DEPOSIT, "settled", event)


@pytest.mark.parametrize(
    ("machine", "first"), [(WITHDRAWAL, "submitting"), (TRANSFER_TO_ACCOUNT, "sending"), (TRANSFER_TO_WALLET, "sending")]
)
def test_no_answer_is_never_a_failure(machine: Machine, first: str):
    """Money whose fate is unknown is neither given back nor sent again until somebody knows."""
    state = advance(machine, first, "lose")
    assert state == "unknown"
    assert advance(machine, state, "not_sent") == "unknown"
    for event in ("submit", "send", "approve", "hold"):
        with pytest.raises(IllegalMove):
            advance(machine, state, event)


def test_what_was_certainly_not_sent_may_be_sent_again():
    assert advance(WITHDRAWAL, "submitting", "not_sent") == "approved"
    assert advance(TRANSFER_TO_ACCOUNT, "sending", "not_sent") == "held"
    assert advance(TRANSFER_TO_WALLET, "sending", "not_sent") == "requested"


def test_only_one_officer_and_only_one_worker():
    assert advance(WITHDRAWAL, "requested", "approve") == "approved"
    for state, event in itertools.product(["approved", "rejected", "cancelled"], ["approve", "reject", "cancel"]):
        with pytest.raises(IllegalMove):
            advance(WITHDRAWAL, state, event)
    with pytest.raises(IllegalMove):
        advance(WITHDRAWAL, "submitting", "submit")


def test_a_paid_withdrawal_that_fails_came_back():
    assert advance(WITHDRAWAL, "paid", "fail") == "returned"
    with pytest.raises(IllegalMove):
        advance(WITHDRAWAL, "failed", "settle")


def test_to_an_account_the_money_is_held_first():
    with pytest.raises(IllegalMove):
        advance(TRANSFER_TO_ACCOUNT, "requested", "send")
    assert advance(TRANSFER_TO_WALLET, "requested", "send") == "sending"


@pytest.mark.parametrize(
    ("outcome", "event"),
    [
        (Settled(Money(1, "USD")), "settle"),
        (Failed("card_declined"), "fail"),
        (Failed(EXPIRED), "expire"),
        (Pending("new_word"), "pend"),
        (Unknown("timeout"), "lose"),
        (NotSent("no_connection"), "not_sent"),
    ],
)
def test_each_outcome_has_its_word(outcome, event: str):
    assert event_of(outcome) == event
    assert (DEPOSIT.initial, event) in DEPOSIT.moves
