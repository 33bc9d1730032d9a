"""Statements beside the ledger: stored whole or not at all, matched once, suspense booked once, differences aged."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import func, select, text

from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import AppError, InvalidInput, NotFound
from app.core.money import Money
from app.core.tables import AuditEntry, Event
from app.core.uow import unit_of_work
from app.ledger import (
    chart,
    close,
    errors,
    external,
    external_ageing,
    external_entries,
    external_import,
    posting,
    queries,
)
from app.ledger.external_matching import Line
from app.models.clients import Client
from app.models.controls import ExternalLine, ExternalStatement
from app.models.ledger import Transaction
from app.models.payments import Deposit, Withdrawal

VECTORS = Path(__file__).parents[2] / "vectors" / "statements"
BANK, STRIPE = "bank:first:client_money", "psp:stripe:clearing"
NORA, OMAR = Actor.staff(11), Actor.staff(12)
TODAY = now().astimezone(UTC).date()


@dataclass
class Desk:
    """Short words for what the tests do, on one session."""

    book: Any

    @property
    def session(self) -> Any:
        return self.book.session

    def open(self) -> None:
        with unit_of_work(self.session, NORA):
            self.book.open(
                chart.bank_client_money("first", "USD"), chart.psp_clearing("stripe", "USD"), chart.client_wallet(7, "USD")
            )

    def receive(self, amount: str, *, key: str | None = None, days: int = 0, account: str = BANK, **metadata: Any) -> Any:
        """Money that our books say came to an account of ours (or left it, with a minus)."""
        money, wallet = Money.parse(amount, "USD"), chart.client_wallet(7, "USD")
        outside = f"{account}:USD"
        legs = [posting.debit(outside, abs(money)), posting.credit(wallet, abs(money))]
        if money.amount_minor < 0:
            legs = [posting.credit(outside, abs(money)), posting.debit(wallet, abs(money))]
        at = min(datetime.combine(TODAY - timedelta(days=days), time(12), UTC), now())
        with unit_of_work(self.session, NORA):
            return self.book.post(*legs, key=key, kind="receipt", at=at, metadata=metadata)

    def take(self, *rows: tuple[Any, ...], account: str = BANK, salt: str = "") -> external_import.Imported:
        """Import lines of (days ago, reference, amount[, currency])."""
        return external_import.import_statement(
            self.session,
            account=account,
            format_name="csv",
            file_name="march.csv",
            content=as_csv(*rows, salt=salt),
            actor=NORA,
        )

    def lines(self, statement_id: int) -> list[ExternalLine]:
        query = select(ExternalLine).where(ExternalLine.statement_id == statement_id).order_by(ExternalLine.line)
        return list(self.session.scalars(query.execution_options(populate_existing=True)))

    def line(self, *row: Any, account: str = BANK) -> ExternalLine:
        return self.lines(self.take(row, account=account, salt=uuid.uuid4().hex).statement_id)[0]

    def entry(self, txn_id: Any, account: str = BANK) -> tuple[int, int]:
        """Account's id and version of a transaction's entry there."""
        row = self.session.execute(
            text(
                "SELECT e.account_id, e.account_version FROM ledger.entry e JOIN ledger.account a ON a.id = e.account_id"
                " WHERE e.txn_id = :txn AND a.code = :code"
            ),
            {"txn": txn_id, "code": f"{account}:USD"},
        ).one()
        return row[0], row[1]


def as_csv(*rows: tuple[Any, ...], salt: str = "") -> bytes:
    head = "date,reference,amount,currency,description"
    body = [f"{TODAY - timedelta(days=row[0])},{row[1]},{row[2]},{row[3] if len(row) > 3 else 'USD'},{salt}" for row in rows]
    return "\n".join([head, *body]).encode()


@pytest.fixture
def desk(book) -> Desk:
    made = Desk(book)
    made.open()
    return made


def stored(session) -> tuple[int, int]:
    return (
        session.scalar(select(func.count()).select_from(ExternalStatement)),
        session.scalar(select(func.count()).select_from(ExternalLine)),
    )


# ── Import ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_accounts_that_a_statement_can_be_of(desk):
    desk.book.open(chart.bank_own_money("first", "EUR"), chart.psp_payouts("stripe", "USD"), chart.suspense("first", "USD"))
    assert external.outside_accounts(desk.session) == [BANK, "bank:first:own_money", STRIPE]
    assert external.is_outside(STRIPE)
    assert not external.is_outside("client:7:wallet")


def test_a_preview_says_what_an_import_stores_and_stores_nothing(desk):
    content = as_csv((3, "a", "100.00"), (1, "b", "-40.50"), (2, "c", "7", "JPY"))
    seen = external_import.preview_statement(desk.session, account=BANK, format_name="csv", content=content)
    assert (seen.line_count, seen.known_count) == (3, 0)
    assert (seen.first, seen.last) == (TODAY - timedelta(days=3), TODAY - timedelta(days=1))
    assert [(total.currency, total.line_count, str(total.received), str(total.sent)) for total in seen.totals] == [
        ("JPY", 1, "7 JPY", "0 JPY"),
        ("USD", 2, "100.00 USD", "-40.50 USD"),
    ]
    assert [movement.reference for movement in seen.sample] == ["a", "b", "c"]
    assert stored(desk.session) == (0, 0)
    done = external_import.import_statement(
        desk.session, account=BANK, format_name="csv", file_name="/tmp/x/bank\x00 march.csv", content=content, actor=NORA
    )
    statement = desk.session.get_one(ExternalStatement, done.statement_id)
    assert (statement.account_code, statement.file_name, statement.imported_by) == (BANK, "bank march.csv", "staff:11")
    assert statement.sha256 == seen.sha256
    assert [(line.line, line.reference, str(line.amount)) for line in desk.lines(statement.id)] == [
        (1, "a", "100.00 USD"),
        (2, "b", "-40.50 USD"),
        (3, "c", "7 JPY"),
    ]
    audit = desk.session.scalars(select(AuditEntry).where(AuditEntry.action == "external_statement.import")).one()
    assert audit.after["lines"] == 3
    assert desk.session.scalars(select(Event.payload).where(Event.type == "statement.imported")).one()["account"] == BANK


def test_the_same_file_is_refused_and_leads_to_the_first_import(desk):
    first = desk.take((1, "a", "1.00"))
    for account in (BANK, STRIPE):
        with pytest.raises(errors.StatementKnown) as refused:
            desk.take((1, "a", "1.00"), account=account)
        assert refused.value.statement_id == first.statement_id
    assert stored(desk.session) == (1, 1)


@pytest.mark.parametrize("name", ["nasty.csv", "latin1.csv", "open_quote.csv", "empty.csv", "columns_twice.csv"])
def test_nothing_is_stored_of_a_file_with_a_problem(desk, name):
    content = (VECTORS / name).read_bytes()
    with pytest.raises(errors.StatementRefused) as refused:
        external_import.import_statement(
            desk.session, account=BANK, format_name="csv", file_name=name, content=content, actor=NORA
        )
    assert refused.value.problem_count == len(refused.value.problems) > 0
    assert stored(desk.session) == (0, 0)
    assert desk.session.scalars(select(AuditEntry)).all() == []


@pytest.mark.parametrize(
    ("account", "format_name", "field"),
    [
        ("bank:none:client_money", "csv", "account"),
        ("client:7:wallet", "csv", "account"),
        ("", "csv", "account"),
        (BANK + ":USD", "csv", "account"),
        (BANK, "mt940", "format"),
    ],
)
def test_only_known_accounts_and_formats(desk, account, format_name, field):
    with pytest.raises(InvalidInput) as refused:
        external_import.preview_statement(desk.session, account=account, format_name=format_name, content=as_csv((1, "a", "1")))
    assert list(refused.value.problems) == [field]


def test_lines_that_an_earlier_file_has_are_left_out_as_often_as_it_has_them(desk):
    desk.take((5, "a", "1.00"), (4, "fee", "-1.00"), (4, "fee", "-1.00"))
    later = desk.take((4, "fee", "-1.00"), (4, "fee", "-1.00"), (4, "fee", "-1.00"), (3, "b", "2.00"), (5, "a", "1.01"))
    assert (later.line_count, later.known_count) == (3, 2)
    assert sorted((line.reference, line.amount_minor) for line in desk.lines(later.statement_id)) == [
        ("a", 101),
        ("b", 200),
        ("fee", -100),
    ]
    other_account = desk.take((5, "a", "1.00"), account=STRIPE, salt="x")
    assert (other_account.line_count, other_account.known_count) == (1, 0)
    with pytest.raises(errors.StatementRefused, match="imported before, with other files"):
        desk.take((5, "a", "1.00"), salt="other words")


def test_fifty_thousand_lines_are_stored_and_matched(desk):
    desk.receive("1.23", key="deposit:bank:REF-49999", days=2)
    done = desk.take(*((2, f"REF-{number}", "1.23") for number in range(50_000)))
    assert done.line_count == 50_000
    assert external.match_lines(desk.session, done.statement_id) == external.Matched(1, 49_999)
    with pytest.raises(errors.StatementRefused, match="stands below"):
        desk.take(*((2, f"REF-{number}", "1.23") for number in range(50_001)))


# ── Matching ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_lines_are_matched_by_reference_amount_direction_and_day(desk):
    by_metadata = desk.receive("100.00", days=2, provider_reference="po_111111")
    by_key = desk.receive("-40.00", key="settlement:BANK-REF-7", days=6)
    done = desk.take(
        (2, "PO_111111", "100.00"),
        (3, "bank-ref-7", "-40.00"),
        (2, "po_111111", "-100.00"),
        (2, "po_111111", "100.01"),
        (2, "po_111112", "100.00"),
        (2, "po_111111", "100.00", "EUR"),
    )
    assert external.match_lines(desk.session, done.statement_id) == external.Matched(2, 4)
    lines = desk.lines(done.statement_id)
    assert [(line.account_id, line.account_version) for line in lines[:2]] == [desk.entry(by_metadata), desk.entry(by_key)]
    assert {line.matched_by for line in lines[:2]} == {"system:match_statements"}
    assert [line.matched_at for line in lines[2:]] == [None] * 4
    assert external.match_lines(desk.session, done.statement_id) == external.Matched(0, 4)
    events = desk.session.scalars(select(Event.payload).where(Event.type == "statement.matched")).all()
    assert events == [{"lines": 2, "open": 4}]


def test_a_day_outside_the_window_is_for_people(desk):
    desk.receive("100.00", key="a:REF-00001", days=10)
    done = desk.take((6, "REF-00001", "100.00"))
    assert external.match_lines(desk.session, done.statement_id).count == 0


def test_entries_that_come_later_are_found_when_matched_again(desk):
    done = desk.take((2, "po_222222", "5.00"), (2, "po_333333", "6.00"))
    assert external.match_lines(desk.session, done.statement_id).count == 0
    desk.receive("5.00", days=1, provider_reference="po_222222")
    assert external.match_open(desk.session) == 1
    assert external.match_open(desk.session) == 0
    with pytest.raises(NotFound):
        external.match_lines(desk.session, 10**9)


def test_payments_are_known_by_what_their_provider_calls_them(desk):
    """The ledger has our ids; the rows of deposits and withdrawals know the provider's."""
    session, clearing, wallet = desk.session, chart.psp_clearing("stripe", "USD"), chart.client_wallet(7, "USD")
    payouts, fees = chart.psp_payouts("stripe", "USD"), chart.psp_fees("stripe", "USD")
    with unit_of_work(session, NORA):
        desk.book.open(payouts, fees)
        client = Client(
            email="nadia@example.com", password_hash="x", first_name="N", last_name="K", country="AE", terms_version="1"
        )
        client.terms_accepted_at = now()
        session.add(client)
        session.flush()
        deposit = Deposit(
            public_id=uuid.uuid4(),
            client_id=client.id,
            connector="stripe",
            amount_minor=100_000,
            currency="USD",
            state="settled",
            idempotency_key="a",
            provider_reference="cs_1",
            payment_reference="pi_1",
            settled_minor=100_000,
        )
        session.add(deposit)
        session.flush()
        thousand, fee, back = (Money.parse(amount, "USD") for amount in ("1000", "29.30", "200"))
        desk.book.post(
            posting.debit(clearing, thousand),
            posting.credit(wallet, thousand),
            key=f"deposit:stripe:{deposit.public_id}",
            at=datetime(2026, 3, 2, tzinfo=UTC),
            metadata={"deposit_id": deposit.id, "provider_reference": "cs_1"},
        )
        desk.book.post(
            posting.debit(fees, fee),
            posting.credit(clearing, fee),
            key=f"deposit-fee:stripe:{deposit.public_id}",
            at=datetime(2026, 3, 3, tzinfo=UTC),
            metadata={"deposit_id": deposit.id},
        )
        taken = desk.book.post(posting.debit(wallet, back), posting.credit(payouts, back), kind="withdrawal")
        withdrawal = Withdrawal(
            public_id=uuid.uuid4(),
            client_id=client.id,
            connector="stripe",
            deposit_id=deposit.id,
            amount_minor=20_000,
            currency="USD",
            state="returned",
            idempotency_key="b",
            hold_id=uuid.uuid4(),
            requested_by="client:1",
            provider_reference="re_1",
            capture_txn_id=taken,
        )
        session.add(withdrawal)
        session.flush()
        paid = desk.book.post(
            posting.debit(payouts, back),
            posting.credit(clearing, back),
            key=f"withdrawal:{withdrawal.public_id}:paid",
            at=datetime(2026, 3, 3, tzinfo=UTC),
            metadata={"withdrawal_id": withdrawal.id, "provider_reference": None},
        )
        posting.reverse(
            session,
            paid,
            key=f"withdrawal:{withdrawal.public_id}:returned",
            actor=NORA,
            at=datetime(2026, 3, 6, tzinfo=UTC),
            reason="returned",
        )
    done = external_import.import_statement(
        session,
        account=STRIPE,
        format_name="stripe_balance",
        file_name="stripe.csv",
        content=(VECTORS / "stripe_balance.csv").read_bytes(),
        actor=NORA,
    )
    assert external.match_lines(session, done.statement_id) == external.Matched(3, 3)
    assert [line.matched_at is not None for line in desk.lines(done.statement_id)] == [True, True, True, False, False, False]
    back_again = external_import.import_statement(
        session,
        account=STRIPE,
        format_name="csv",
        file_name="returned.csv",
        content=b"date,reference,amount,currency\n2026-03-06,re_1,200.00,USD\n",
        actor=NORA,
    )
    assert external.match_lines(session, back_again.statement_id) == external.Matched(1, 0)


# ── By hand ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_amount_and_day_are_proposed_and_a_person_confirms(desk):
    txn = desk.receive("100.00", days=3, key="a:ours-0001")
    desk.receive("100.00", days=20)
    line = desk.line(2, "SEPA 9", "100.00")
    assert external.match_lines(desk.session, line.statement_id).count == 0
    statement = desk.session.get_one(ExternalStatement, line.statement_id)
    wanted = [Line(line.id, line.booked_on, line.reference, line.amount)]
    (found,) = external_entries.proposals_for(desk.session, statement, wanted)[line.id]
    assert (found.is_only, found.entry.key) == (True, desk.entry(txn))
    version = found.entry.version
    external.match_by_hand(desk.session, line_id=line.id, account_version=version, actor=NORA, reason=" The same  wire. ")
    (line,) = desk.lines(line.statement_id)
    assert ((line.account_id, line.account_version), line.matched_by) == (desk.entry(txn), "staff:11")
    audit = desk.session.scalars(select(AuditEntry).where(AuditEntry.action == "external_line.match")).one()
    assert (audit.target, audit.reason) == (f"external_line:{line.id}", "The same wire.")
    assert audit.after["txn"] == str(txn)
    with pytest.raises(errors.LineMatched) as refused:
        external.match_by_hand(desk.session, line_id=line.id, account_version=version, actor=OMAR, reason="mine")
    assert refused.value.data["by"] == "staff:11"
    external.unmatch(desk.session, line_id=line.id, actor=OMAR, reason="Not the same after all.")
    with pytest.raises(errors.LineNotMatched):
        external.unmatch(desk.session, line_id=line.id, actor=OMAR, reason="again")
    undone = desk.session.scalars(select(AuditEntry).where(AuditEntry.action == "external_line.unmatch")).one()
    assert undone.before["matched_by"] == "staff:11"
    assert desk.lines(line.statement_id)[0].matched_at is None


def test_a_search_by_hand(desk):
    far, near = desk.receive("100.00", days=40, key="wire:ABC-777"), desk.receive("100.00", days=8, key="wire:100%_x")
    other = desk.receive("99.00", days=2, note="abc-777 less one")
    line = desk.line(2, "x", "100.00")
    statement = desk.session.get_one(ExternalStatement, line.statement_id)

    def found(words=""):
        return [entry.txn_id for entry in external_entries.search(desk.session, statement, line, words)]

    assert found() == [near, far]
    assert found("abc-777") == [other, far]
    assert found("100%_x") == [near]
    assert found("\x00nothing' OR 1=1 --") == []
    version = desk.entry(near)[1]
    external.match_by_hand(desk.session, line_id=line.id, account_version=version, actor=NORA, reason="Late wire.")
    assert found() == [far]


def test_what_cannot_be_matched_by_hand(desk):
    first, other = desk.receive("100.00", days=2), desk.receive("-100.00", days=2)
    foreign = desk.receive("100.00", days=2, account=STRIPE)
    desk.receive("100.00", days=2, account=STRIPE)
    line, second = desk.line(2, "x", "100.00"), desk.line(2, "y", "100.00")

    def refusal(line_id, version, reason="because"):
        with pytest.raises(AppError) as refused:
            external.match_by_hand(desk.session, line_id=line_id, account_version=version, actor=NORA, reason=reason)
        return type(refused.value)

    version = desk.entry(first)[1]
    assert refusal(line.id, desk.entry(other)[1]) is errors.EntryDiffers
    assert desk.entry(foreign, STRIPE)[1] == version  # the number alone names no entry of another account
    for wrong in (0, -1, 10**6, 2**63, 10**30):
        assert refusal(line.id, wrong) is NotFound
    assert refusal(10**9, version) is NotFound
    for reason in ("", "  ", "\x07"):
        assert refusal(line.id, version, reason) is InvalidInput
    external.match_by_hand(desk.session, line_id=line.id, account_version=version, actor=NORA, reason="yes")
    assert refusal(second.id, version) is errors.EntryMatched
    euros = desk.line(2, "z", "100.00", "EUR")
    assert refusal(euros.id, version) is NotFound


# ── Suspense ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_receipt_that_nobody_knows_is_put_into_suspense_once(desk):
    line = desk.line(5, "MYSTERY", "250.00")
    before = queries.balance(desk.session, f"{BANK}:USD").posted
    txn = external.to_suspense(desk.session, line_id=line.id, actor=NORA)
    assert queries.balance(desk.session, f"{BANK}:USD").posted - before == Money.parse("250", "USD")
    assert queries.balance(desk.session, "suspense:first:USD").posted == Money.parse("250", "USD")
    header = desk.session.get_one(Transaction, txn)
    assert (header.kind, header.idempotency_key) == ("suspense_receipt", f"external-line:{line.id}")
    assert header.effective_at == datetime.combine(line.booked_on, time(12), UTC)
    assert header.details["external_reference"] == "MYSTERY"
    (line,) = desk.lines(line.statement_id)
    assert (line.account_id, line.account_version) == desk.entry(txn)
    assert desk.session.scalars(select(AuditEntry).where(AuditEntry.action == "external_line.suspense")).one().after == {
        "account": "suspense:first:USD",
        "amount_minor": 25_000,
        "txn": str(txn),
    }
    with pytest.raises(errors.LineMatched):
        external.to_suspense(desk.session, line_id=line.id, actor=OMAR)
    with pytest.raises(errors.SuspenseStands):
        external.unmatch(desk.session, line_id=line.id, actor=OMAR, reason="it was a deposit")
    assert desk.book.broken_proofs() == []


def test_a_reversed_suspense_receipt_can_be_matched_otherwise_but_not_suspended_again(desk):
    line = desk.line(5, "MYSTERY", "250.00")
    txn = external.to_suspense(desk.session, line_id=line.id, actor=NORA)
    with unit_of_work(desk.session, OMAR):
        posting.reverse(desk.session, txn, key="undo", actor=OMAR, at=now(), reason="it was a deposit")
    external.unmatch(desk.session, line_id=line.id, actor=NORA, reason="It was a deposit.")
    with pytest.raises(errors.SuspenseReversed):
        external.to_suspense(desk.session, line_id=line.id, actor=NORA)
    version = desk.entry(desk.receive("250.00", days=5))[1]
    external.match_by_hand(desk.session, line_id=line.id, account_version=version, actor=NORA, reason="The deposit.")
    assert external_ageing.aged(desk.session).entries == ()


def test_money_that_left_is_no_receipt(desk):
    line = desk.line(5, "MYSTERY", "-250.00")
    with pytest.raises(errors.NotAReceipt):
        external.to_suspense(desk.session, line_id=line.id, actor=NORA)
    with pytest.raises(NotFound):
        external.to_suspense(desk.session, line_id=10**9, actor=NORA)
    assert queries.find_balance(desk.session, "suspense:first:USD") is None


def test_a_receipt_of_a_closed_period_is_booked_where_the_open_books_begin(desk):
    line = desk.line(20, "LATE", "10.00")
    through = datetime.combine(TODAY - timedelta(days=10), time(), UTC)
    with unit_of_work(desk.session, NORA):
        close.close_period(desk.session, through, actor=NORA)
    txn = external.to_suspense(desk.session, line_id=line.id, actor=NORA)
    assert desk.session.get_one(Transaction, txn).effective_at == through
    assert desk.session.get_one(Transaction, txn).details["booked_on"] == line.booked_on.isoformat()


def test_a_receipt_in_a_currency_without_account_opens_it(desk):
    line = desk.line(1, "YEN", "5000", "JPY", account=STRIPE)
    external.to_suspense(desk.session, line_id=line.id, actor=NORA)
    assert str(queries.balance(desk.session, "suspense:stripe:JPY").posted) == "5000 JPY"
    assert str(queries.balance(desk.session, "psp:stripe:clearing:JPY").posted) == "5000 JPY"


# ── Ageing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def shown(rows):
    return [
        (row.account, row.is_receipt, [(bucket.count, bucket.amount.amount_minor) for bucket in row.buckets]) for row in rows
    ]


def test_open_lines_are_aged_by_account_and_direction(desk):
    assert external_ageing.aged(desk.session) == external_ageing.Ageing(TODAY, (), (), (), ())
    days = (0, 3, 4, 7, 8, 30, 31, 400)
    desk.take(*((day, f"r{day}", "1.00") for day in days), (5, "out", "-9.00"), (5, "yen", "70", "JPY"))
    made = external_ageing.aged(desk.session, TODAY)
    assert shown(made.lines) == [
        (f"{BANK}:JPY", True, [(0, 0), (1, 70), (0, 0), (0, 0)]),
        (f"{BANK}:USD", True, [(2, 200)] * 4),
        (f"{BANK}:USD", False, [(0, 0), (1, -900), (0, 0), (0, 0)]),
    ]
    assert (made.lines[1].count, str(made.lines[1].amount)) == (8, "8.00 USD")
    assert made.lines[1].oldest == TODAY - timedelta(days=400)
    assert [(one.age_days, one.reference) for one in external_ageing.differences(desk.session, "line", limit=2)] == [
        (400, "r400"),
        (31, "r31"),
    ]


def test_entries_without_a_line_are_open_on_the_days_that_statements_cover(desk):
    for day in (50, 20, 10, 2):
        desk.receive("1.00", days=day, key=f"k:{day:06d}")
    desk.take((20, "r", "7.00"), (5, "k:000010", "1.00"))
    made = external_ageing.aged(desk.session)
    assert shown(made.entries) == [(f"{BANK}:USD", True, [(0, 0), (0, 0), (2, 200), (0, 0)])]
    (first, _) = external_ageing.differences(desk.session, "entry")
    assert (first.reference, first.words, first.age_days) == ("k:000020", "receipt", 20)
    assert first.txn_id is not None


def test_a_transaction_and_its_reversal_cancel_each_other_when_the_outside_saw_neither(desk):
    txn = desk.receive("1.00", days=6, key="k:wrong1")
    with unit_of_work(desk.session, OMAR):
        at = datetime.combine(TODAY - timedelta(days=5), time(12), UTC)
        posting.reverse(desk.session, txn, key="k:undone", actor=OMAR, at=at, reason="typing")
    line = desk.line(9, "cover", "7.00")
    desk.take((1, "cover", "8.00"))
    assert external_ageing.aged(desk.session).entries == ()
    seen = desk.line(6, "k:wrong1", "1.00")
    external.match_lines(desk.session, seen.statement_id)
    assert [one.reference for one in external_ageing.differences(desk.session, "entry")] == ["k:undone"]
    assert line.matched_at is None


def test_suspense_is_cleared_oldest_first(desk):
    lines = [desk.line(day, f"s{day}", "100.00") for day in (40, 10, 1)]
    for line in lines:
        external.to_suspense(desk.session, line_id=line.id, actor=NORA)
    with unit_of_work(desk.session, OMAR):
        money = Money.parse("150", "USD")
        wallet = chart.client_wallet(7, "USD")
        desk.book.post(posting.debit("suspense:first:USD", money), posting.credit(wallet, money), kind="adjustment")
    made = external_ageing.aged(desk.session)
    assert shown(made.suspense) == [("suspense:first:USD", True, [(1, 10_000), (0, 0), (1, 5_000), (0, 0)])]
    assert made.suspense[0].oldest == TODAY - timedelta(days=10)
    left = list(external_ageing.differences(desk.session, "suspense"))
    assert [(one.reference, str(one.amount), one.line_id) for one in left] == [
        ("s10", "50.00 USD", lines[1].id),
        ("s1", "100.00 USD", lines[2].id),
    ]
    with unit_of_work(desk.session, OMAR):
        desk.book.post(posting.debit("suspense:first:USD", money), posting.credit(wallet, money), kind="adjustment")
    assert external_ageing.aged(desk.session).suspense == ()
    with unit_of_work(desk.session, OMAR):
        desk.book.post(posting.debit("suspense:first:USD", money), posting.credit(wallet, money), kind="adjustment")
    assert [(code, str(below)) for code, below in external_ageing.aged(desk.session).overdrawn] == [
        ("suspense:first:USD", "-150.00 USD")
    ]


# ── Two at once ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def at_once(database, book_of):
    """Run one function in several threads that start together; returns the results and refusals."""

    def run(work, threads=6):
        start = Barrier(threads)

        def one(number):
            with database.session() as session:
                start.wait(timeout=30)
                try:
                    return work(session, number)
                except AppError as error:
                    return error

        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(one, range(threads)))

    return run


@pytest.fixture
def busy(database, book_of):
    with database.session() as session:
        made = Desk(book_of(session))
        made.open()
        yield made


def test_one_of_six_people_matches_a_line(busy, at_once):
    versions = [busy.entry(busy.receive("5.00", days=1))[1] for _ in range(6)]
    line = busy.line(1, "x", "5.00")
    line_id, statement_id = line.id, line.statement_id
    busy.session.rollback()
    results = at_once(
        lambda session, number: external.match_by_hand(
            session, line_id=line_id, account_version=versions[number], actor=Actor.staff(number + 1), reason="mine"
        )
    )
    assert results.count(None) == 1
    winner = f"staff:{results.index(None) + 1}"
    assert all(isinstance(lost, errors.LineMatched) and lost.data["by"] == winner for lost in results if lost is not None)
    assert busy.lines(statement_id)[0].account_version == versions[results.index(None)]


def test_one_of_six_lines_gets_the_entry(busy, at_once):
    version = busy.entry(busy.receive("5.00", days=1))[1]
    lines = [busy.line(1, f"x{number}", "5.00").id for number in range(6)]
    busy.session.rollback()
    results = at_once(
        lambda session, number: external.match_by_hand(
            session, line_id=lines[number], account_version=version, actor=NORA, reason="mine"
        )
    )
    assert results.count(None) == 1
    assert all(isinstance(lost, errors.EntryMatched) for lost in results if lost is not None)


def test_the_constraint_speaks_the_same_words_as_the_check(busy):
    """Were the lock ever missed, the database still has one line for one entry."""
    account_id, version = busy.entry(busy.receive("5.00", days=1))
    lines = [busy.line(1, f"x{number}", "5.00").id for number in range(2)]

    def take_both():
        with unit_of_work(busy.session, NORA):
            for line_id in lines:
                line = busy.session.get_one(ExternalLine, line_id)
                line.account_id, line.account_version, line.matched_at = account_id, version, now()

    with pytest.raises(errors.EntryMatched):
        take_both()


def test_six_put_one_receipt_into_suspense_and_it_is_booked_once(busy, at_once):
    line_id = busy.line(2, "x", "5.00").id
    busy.session.rollback()
    results = at_once(lambda session, number: external.to_suspense(session, line_id=line_id, actor=NORA))
    assert sum(isinstance(result, uuid.UUID) for result in results) == 1
    assert sum(isinstance(result, errors.LineMatched) for result in results) == 5
    assert str(queries.balance(busy.session, "suspense:first:USD").posted) == "5.00 USD"
    assert busy.book.broken_proofs() == []


def test_six_imports_of_one_file_store_it_once(busy, at_once):
    content = as_csv((1, "a", "1.00"), (1, "b", "2.00"))
    accounts = [BANK, STRIPE] * 3

    def take(session, number):
        return external_import.import_statement(
            session, account=accounts[number], format_name="csv", file_name="a.csv", content=content, actor=NORA
        )

    results = at_once(take)
    assert sum(isinstance(result, external_import.Imported) for result in results) == 1
    assert sum(isinstance(result, errors.StatementKnown) for result in results) == 5
    assert stored(busy.session) == (1, 2)


def test_machine_and_people_share_lines_without_losing_any(busy, at_once):
    versions = [busy.entry(busy.receive("5.00", days=1, provider_reference=f"po_00000{number}"))[1] for number in range(6)]
    statement_id = busy.take(*((1, f"po_00000{number}", "5.00") for number in range(6))).statement_id
    lines = [line.id for line in busy.lines(statement_id)]
    busy.session.rollback()

    def work(session, number):
        if number % 2:
            return external.match_lines(session, statement_id).count
        return external.match_by_hand(
            session, line_id=lines[number], account_version=versions[(number + 1) % 6], actor=NORA, reason="mine"
        )

    results = at_once(work)
    assert all(result is None or isinstance(result, int | errors.LineMatched | errors.EntryMatched) for result in results)
    external.match_lines(busy.session, statement_id)
    made = busy.lines(statement_id)
    taken = [line.account_version for line in made if line.matched_at is not None]
    assert len(taken) == len(set(taken))
    by_hand = sum(result is None for result in results)
    assert by_hand + sum(line.matched_by == "system:match_statements" for line in made) == len(taken)


def test_dates_are_days(desk):
    assert desk.line(0, "today", "1.00").booked_on == TODAY
    assert isinstance(desk.line(0, "today 2", "1.00").booked_on, date)
