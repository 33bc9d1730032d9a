"""Files of banks and payment providers, turned into movements. Pure: bytes in, lines and problems out.

A format is one function from the bytes of a file to `Decoded`, registered in FORMATS. It reports everything that is wrong
with a file, not only the first thing, each with the line in the file; when anything is wrong, nothing of it counts.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from app.core.errors import N_
from app.core.money import InvalidMoney, Money

MAX_BYTES = 5_000_000
MAX_LINES = 50_000
LONGEST_REFERENCE = 200
LONGEST_DESCRIPTION = 1_000
#: Problems beyond these are counted, not kept: a file in a wrong format has one on every line.
MAX_PROBLEMS = 500
EARLIEST = date(2000, 1, 1)


@dataclass(frozen=True)
class Movement:
    """One line of a statement; a positive amount came to us, a negative one left."""

    booked_on: date
    reference: str
    amount: Money
    description: str = ""


@dataclass(frozen=True)
class Problem:
    """What is wrong at a line of the file (1 is the header): a message id with its values, see core.errors."""

    line: int
    message: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Decoded:
    """What stands in a file. `problem_count` may be more than the problems listed."""

    movements: tuple[Movement, ...]
    problems: tuple[Problem, ...] = ()
    problem_count: int = 0


#: `today` is the latest day that a movement may have.
Decoder = Callable[[bytes, date], Decoded]


@dataclass(frozen=True)
class Format:
    """A kind of file by the name it is chosen by. `columns` are those it must have, for the form's hint."""

    label: str
    decode: Decoder
    columns: str


class Wrong(Exception):
    """A row, or the whole file, that cannot be read: the message id, and its values. `line` when the raiser knows it."""

    def __init__(self, message: str, line: int | None = None, **data: Any) -> None:
        super().__init__(message)
        self.message, self.line, self.data = message, line, data


def decode_csv(content: bytes, today: date) -> Decoded:
    """Our own plain form: date, reference, amount, currency and perhaps description, in any order, by comma or semicolon.

    ISO dates, amounts as plain decimals with a sign where money left.
    """

    def read(row: Mapping[str, str]) -> Iterator[Movement]:
        amount = read_amount(row["amount"], row["currency"])
        if not amount:
            raise Wrong(N_("The amount is zero."))
        yield Movement(
            read_day(row["date"], today),
            read_reference(row["reference"]),
            amount,
            read_text(row.get("description", ""), LONGEST_DESCRIPTION),
        )

    return _decode(content, ("date", "reference", "amount", "currency"), ("description",), read)


def decode_stripe_balance(content: bytes, today: date) -> Decoded:
    """Stripe's "Balance change from activity", itemized (report type balance_change_from_activity.itemized.3).

    Amounts are in major units, currencies in small letters, `net` is `gross` less `fee`. What is kept of a payment as the
    fee is a movement of its own, as it is in our books. A charge is named by its payment intent, all else by its object.
    Columns: https://docs.stripe.com/reports/report-types/balance
    """
    needed = ("balance_transaction_id", "created_utc", "currency", "gross", "fee", "net", "reporting_category", "source_id")

    def read(row: Mapping[str, str]) -> Iterator[Movement]:
        gross, fee, net = (read_amount(row[name], row["currency"]) for name in ("gross", "fee", "net"))
        if gross - fee != net:
            raise Wrong(N_("Gross less fee is not net."))
        payment = row.get("payment_intent_id", "") if row["reporting_category"] == "charge" else ""
        reference = read_reference(payment or row["source_id"] or row["balance_transaction_id"])
        booked_on = read_day(row["created_utc"], today)
        words = read_text(f"{row['reporting_category']} {row.get('description', '')}", LONGEST_DESCRIPTION)
        if gross:
            yield Movement(booked_on, reference, gross, words)
        if fee:
            yield Movement(booked_on, reference, -fee, read_text(f"fee {words}", LONGEST_DESCRIPTION + 4))

    return _decode(content, needed, ("description", "payment_intent_id"), read)


FORMATS: dict[str, Format] = {
    "csv": Format(N_("CSV: date, reference, amount, currency, description"), decode_csv, "date, reference, amount, currency"),
    "stripe_balance": Format(
        N_("Stripe: balance change from activity, itemized"),
        decode_stripe_balance,
        "balance_transaction_id, created_utc, currency, gross, fee, net, reporting_category, source_id, payment_intent_id",
    ),
}


def read_day(text: str, today: date) -> date:
    """The day of an ISO date or moment. Raises Wrong for anything else, for days to come and for those of another age."""
    try:
        day = datetime.fromisoformat(text).date()
    except ValueError:
        raise Wrong(N_("“%(value)s” is not a date such as 2026-03-31."), value=_short(text)) from None
    if day > today:
        raise Wrong(N_("%(value)s is in the future."), value=day.isoformat())
    if day < EARLIEST:
        raise Wrong(N_("%(value)s is too long ago."), value=day.isoformat())
    return day


def read_amount(text: str, currency: str) -> Money:
    """A plain decimal with a sign in this currency, exact. Raises Wrong."""
    if not currency:
        raise Wrong(N_("The currency is empty."))
    try:
        return Money.parse(text, currency.upper())
    except InvalidMoney as error:
        if error.message == InvalidMoney.message:
            raise Wrong(N_("“%(value)s” is not a plain amount such as -1234.50."), value=_short(text)) from None
        raise Wrong(error.message, **error.data) from None


def read_reference(text: str) -> str:
    """What the bank or provider calls the movement. Raises Wrong when it is empty."""
    reference = read_text(text, LONGEST_REFERENCE)
    if not reference:
        raise Wrong(N_("The reference is empty."))
    return reference


def read_text(text: str, longest: int) -> str:
    """The text on one line. Raises Wrong for one that is too long or holds signs that no screen shows."""
    line = " ".join(text.split())
    if len(line) > longest:
        raise Wrong(N_("A text is longer than %(longest)s characters."), longest=longest)
    if not line.isprintable():
        raise Wrong(N_("A text holds signs that cannot be shown."))
    return line


def latest_day(moment: datetime) -> date:
    """The latest day that has begun anywhere on Earth at a moment: banks date by their own clock."""
    return (moment + timedelta(hours=14)).date()


def _decode(
    content: bytes,
    needed: Sequence[str],
    optional: Sequence[str],
    read: Callable[[Mapping[str, str]], Iterator[Movement]],
) -> Decoded:
    """Read every row of a CSV file with `read`, collecting what is wrong with each."""
    movements: list[Movement] = []
    problems: list[Problem] = []
    count, line = 0, 1
    try:
        rows = _rows(content)
        line, header = next(rows, (1, []))
        names = [name.strip().casefold() for name in header]
        _check_header(names, needed, optional)
        for number, (line, row) in enumerate(rows, start=1):
            if number > MAX_LINES:
                raise Wrong(N_("The file has more than %(most)s lines. Split it by days."), most=MAX_LINES)
            if not any(cell.strip() for cell in row):
                continue
            try:
                if len(row) != len(names):
                    message = N_("%(found)s columns stand here, and %(expected)s in the first line.")
                    raise Wrong(message, found=len(row), expected=len(names))
                movements += read({name: cell.strip() for name, cell in zip(names, row, strict=True)})
            except Wrong as wrong:
                count += 1
                if len(problems) < MAX_PROBLEMS:
                    problems.append(Problem(line, wrong.message, wrong.data))
        if not movements and not count:
            raise Wrong(N_("The file has no lines after the first one."))
    except Wrong as wrong:
        return Decoded((), (*problems, Problem(wrong.line or line, wrong.message, wrong.data)), count + 1)
    return Decoded(() if count else tuple(movements), tuple(problems), count)


def _rows(content: bytes) -> Iterator[tuple[int, list[str]]]:
    """The rows with the line each begins at. Raises Wrong for what is no CSV at all."""
    if len(content) > MAX_BYTES:
        raise Wrong(N_("The file is larger than %(most)s MB. Split it by days."), most=MAX_BYTES // 1_000_000)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Wrong(N_("The file is not UTF-8 text from here on. Save it as “CSV UTF-8”."), line=line) from None
    first = text.partition("\n")[0]
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=";" if first.count(";") > first.count(",") else ",", strict=True
    )
    begins = 1
    try:
        for row in reader:
            yield begins, row
            begins = reader.line_num + 1
    except csv.Error:
        raise Wrong(N_("A quotation mark is open or out of place here or further down."), line=begins) from None


def _check_header(names: list[str], needed: Sequence[str], optional: Sequence[str]) -> None:
    missing = [name for name in needed if name not in names]
    if missing:
        raise Wrong(N_("The first line names no column %(names)s."), names=", ".join(missing))
    twice = [name for name, count in Counter(names).items() if count > 1 and name in (*needed, *optional)]
    if twice:
        raise Wrong(N_("The first line names a column twice: %(names)s."), names=", ".join(twice))


def _short(text: str) -> str:
    """What somebody wrote, short and printable enough to be shown back."""
    shown = "".join(sign if sign.isprintable() else "?" for sign in text[:41])
    return shown if len(text) <= 40 else shown[:40] + "…"
