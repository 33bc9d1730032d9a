"""How deposits, withdrawals and transfers may move from state to state: tables, and one function that reads them.

Pure: no database, no clock. The caller keeps the state in a column and changes it with an UPDATE that names the state
it expects.

What a provider or trading server says comes in as one of six words, the same for all machines (`event_of`):

    pend       it knows the attempt and has not decided
    settle     done, money moved
    fail       the final no
    expire     nobody paid in time
    lose       no answer: it may or may not have acted
    not_sent   the call certainly did nothing

A pair that is listed with the state it starts from changes nothing: news that is late or repeated. A pair that is not
listed is a contradiction and is refused: the resolver then asks the provider again, and at last a person.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from app.core.errors import N_, Conflict
from app.payments.connector import EXPIRED, Failed, NotSent, Outcome, Pending, Settled, Unknown


@dataclass(frozen=True)
class Machine:
    """The allowed moves of one kind of payment: `moves[state, event]` is the next state."""

    name: str
    initial: str
    moves: Mapping[tuple[str, str], str]
    unresolved: frozenset[str]  # states in which somebody outside still owes us a word: the janitor asks

    @property
    def states(self) -> frozenset[str]:
        return frozenset(self.moves.values()) | {state for state, _ in self.moves} | {self.initial}

    @property
    def events(self) -> frozenset[str]:
        return frozenset(event for _, event in self.moves)


class IllegalMove(Conflict):
    """This event cannot happen in this state. Nothing was changed."""

    code = "payments.illegal_move"
    message = N_("This is not possible any more: it has moved on in the meantime. Nothing was changed.")


def advance(machine: Machine, state: str, event: str) -> str:
    """The state after `event`; the same state when the event brings nothing new. Raises IllegalMove for any other pair."""
    try:
        return machine.moves[state, event]
    except KeyError:
        raise IllegalMove(machine=machine.name, state=state, event=event) from None


def event_of(outcome: Outcome) -> str:
    """The word for an outcome, as the machines know it."""
    if isinstance(outcome, Failed) and outcome.code == EXPIRED:
        return "expire"
    return _WORDS[type(outcome)]


_WORDS: dict[type[Outcome], str] = {Settled: "settle", Failed: "fail", Pending: "pend", Unknown: "lose", NotSent: "not_sent"}


def _table(rows: Mapping[str, Mapping[str, str]]) -> dict[tuple[str, str], str]:
    return {(state, event): target for state, row in rows.items() for event, target in row.items()}


def _late(state: str, *events: str) -> dict[str, str]:
    """Events that may still arrive in a state and change nothing there."""
    return dict.fromkeys(events, state)


_HEARSAY = ("pend", "lose", "not_sent")

#: Money that arrives after we gave up still arrived: failed and expired deposits can settle.
#: "refund_none", "refund_part" and "refund_all" say how much of the deposit is refunded in sum after the latest news.
DEPOSIT = Machine(
    name="deposit",
    initial="created",
    unresolved=frozenset({"created", "pending", "unknown"}),
    moves=_table(
        {
            "created": {
                "pend": "pending",
                "settle": "settled",
                "fail": "failed",
                "expire": "expired",
                "lose": "unknown",
                "not_sent": "created",
            },
            # A question that gets no answer does not make a known attempt unknown.
            "pending": {**_late("pending", *_HEARSAY), "settle": "settled", "fail": "failed", "expire": "expired"},
            # An earlier call may have got through, so a later one that was not sent settles nothing.
            "unknown": {
                **_late("unknown", "lose", "not_sent"),
                "pend": "pending",
                "settle": "settled",
                "fail": "failed",
                "expire": "expired",
            },
            "failed": {**_late("failed", *_HEARSAY, "fail", "expire"), "settle": "settled"},
            "expired": {**_late("expired", *_HEARSAY, "fail", "expire"), "settle": "settled"},
            "settled": {
                **_late("settled", *_HEARSAY, "settle", "refund_none"),
                "refund_part": "refunded_part",
                "refund_all": "refunded",
                "charge_back": "charged_back",
            },
            "refunded_part": {
                **_late("refunded_part", *_HEARSAY, "settle", "refund_part"),
                "refund_none": "settled",
                "refund_all": "refunded",
                "charge_back": "charged_back",
            },
            "refunded": {
                **_late("refunded", *_HEARSAY, "settle", "refund_all"),
                "refund_none": "settled",
                "refund_part": "refunded_part",
                "charge_back": "charged_back",
            },
            "charged_back": {**_late("charged_back", *_HEARSAY, "settle", "charge_back"), "win_back": "settled"},
        }
    ),
)

#: "submitting" is written before the provider is called, so only one worker calls; found after a crash it counts as lost.
#: A refund that the provider had paid and then reports as failed came back to us: "returned".
WITHDRAWAL = Machine(
    name="withdrawal",
    initial="requested",
    unresolved=frozenset({"submitting", "unknown", "pending"}),
    moves=_table(
        {
            "requested": {"approve": "approved", "reject": "rejected", "cancel": "cancelled"},
            "approved": {"submit": "submitting"},
            "rejected": {},
            "cancelled": {},
            "submitting": {"pend": "pending", "settle": "paid", "fail": "failed", "lose": "unknown", "not_sent": "approved"},
            "unknown": {**_late("unknown", "lose", "not_sent"), "pend": "pending", "settle": "paid", "fail": "failed"},
            "pending": {**_late("pending", *_HEARSAY), "settle": "paid", "fail": "failed"},
            "paid": {**_late("paid", *_HEARSAY, "settle"), "fail": "returned"},
            "failed": _late("failed", *_HEARSAY, "fail"),
            "returned": _late("returned", *_HEARSAY, "settle", "fail"),
        }
    ),
)

_SENDING = {"settle": "done", "fail": "failed", "lose": "unknown"}
_TRANSFER_ENDS: dict[str, Mapping[str, str]] = {
    "unknown": {**_late("unknown", "lose", "not_sent"), "settle": "done", "fail": "failed"},
    "done": {**_late("done", *_HEARSAY, "settle"), "compensate": "compensated"},
    "failed": _late("failed", *_HEARSAY, "fail"),
    "compensated": _late("compensated", *_HEARSAY, "settle", "compensate"),
}

#: Wallet to trading account: the money is held in the ledger before the server is asked.
#: "compensate" is a counter-operation at the server that took back what was done.
TRANSFER_TO_ACCOUNT = Machine(
    name="transfer",
    initial="requested",
    unresolved=frozenset({"sending", "unknown"}),
    moves=_table(
        {
            "requested": {"hold": "held", "fail": "failed"},
            "held": {"send": "sending", "fail": "failed"},
            "sending": {**_SENDING, "not_sent": "held"},
            **_TRANSFER_ENDS,
        }
    ),
)

#: Trading account to wallet: the server gives first, the ledger books after; there is nothing to hold.
TRANSFER_TO_WALLET = Machine(
    name="transfer",
    initial="requested",
    unresolved=frozenset({"sending", "unknown"}),
    moves=_table(
        {"requested": {"send": "sending", "fail": "failed"}, "sending": {**_SENDING, "not_sent": "requested"}, **_TRANSFER_ENDS}
    ),
)

#: By the transfer's direction column.
TRANSFER = {"to_account": TRANSFER_TO_ACCOUNT, "to_wallet": TRANSFER_TO_WALLET}
