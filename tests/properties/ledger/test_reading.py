"""Balances and statements by effective moment agree with plain sums, in whatever order things were posted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from app.core.actor import Actor
from app.core.money import Money
from app.ledger import chart, posting, proofs, queries
from app.models.ledger import Entry

ACTOR = Actor.system("test")
START = datetime(2026, 3, 2, tzinfo=UTC)
#: Seconds after START: many close together, some far away, some the same.
SECONDS = st.one_of(st.integers(0, 700), st.integers(0, 4), st.integers(0, 200_000))
#: How many transactions go in together; 1 goes through `post`.
BATCHES = st.lists(st.lists(st.tuples(SECONDS, st.integers(1, 500)), min_size=1, max_size=4), min_size=1, max_size=12)


@given(batches=BATCHES, moments=st.lists(SECONDS, min_size=1, max_size=6), page=st.integers(1, 5))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_as_if_all_entries_were_summed(session, batches, moments, page):
    savepoint = session.begin_nested()
    wallet, clearing = chart.client_wallet(1, "USD"), chart.psp_clearing("stripe", "USD")
    chart.open_accounts(session, wallet, clearing)
    model: list[tuple[datetime, int]] = []
    for number, batch in enumerate(batches):
        made = []
        for index, (seconds, amount) in enumerate(batch):
            at = START + timedelta(seconds=seconds)
            legs = [posting.debit(clearing, Money(amount, "USD")), posting.credit(wallet, Money(amount, "USD"))]
            made.append(posting.Posting(f"reading:{number}:{index}", "test", at, ACTOR, legs))
            model.append((at, amount))
        if len(made) == 1:
            one = made[0]
            posting.post(session, key=one.key, kind=one.kind, effective_at=one.effective_at, actor=ACTOR, legs=one.legs)
        else:
            posting.post_many(session, made)

    for seconds in moments:
        at = START + timedelta(seconds=seconds)
        wanted = Money(sum(amount for moment, amount in model if moment < at), "USD")
        assert queries.balance_as_of(session, wallet, at) == wanted
        assert queries.balance_as_of(session, clearing, at) == wanted

    from_, to = sorted((START + timedelta(seconds=moments[0]), START + timedelta(seconds=moments[-1] + 1)))
    whole = queries.statement(session, wallet, from_, to)
    lines, place = [], None
    while True:
        part = queries.statement_page(session, wallet, from_, to, after=place, limit=page)
        assert part.opening == (lines[-1].balance if lines else whole.opening)
        assert len(part.lines) <= page
        lines += part.lines
        place = part.next
        if place is None:
            break
    assert tuple(lines) == whole.lines

    through, wanted = datetime(1900, 1, 1, tzinfo=UTC), []
    entries = select(Entry.effective_at, Entry.lateness).join(Entry.account).filter_by(code=wallet.code)
    for at, lateness in session.execute(entries.order_by(Entry.account_version)):
        wanted.append((lateness, 0 if at >= through else 1 if at >= through - timedelta(minutes=5) else 2))
        through = max(through, at)
    assert all(found == right for found, right in wanted)
    assert [found for proof in proofs.prove(session) for found in proof.breaks] == []
    savepoint.rollback()
    session.expire_all()
