"""Tables as files: what a spreadsheet reads is what was written, and no text becomes a formula."""

from __future__ import annotations

import io
import re
import zipfile
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from flask import Flask

from app.core.money import Money
from app.surfaces import xlsx_files
from app.surfaces.csv_files import csv_file
from app.surfaces.xlsx_files import TooManyRows, xlsx_file

HEAD = ["Client", "Amount", "At"]
ROWS = [["=1+1", Money(123_450, "USD"), datetime(2026, 7, 1, 12, tzinfo=UTC)], ["Amira H.", Decimal("0.7000000000"), None]]


@pytest.fixture(autouse=True)
def request_context():
    with Flask(__name__).test_request_context():
        yield


def sheet(body: bytes) -> str:
    with zipfile.ZipFile(io.BytesIO(body)) as book:
        return book.read("xl/worksheets/sheet1.xml").decode()


def cells(body: bytes) -> list[str]:
    return re.findall(r"<(?:v|t)[^>]*>([^<]*)</", sheet(body))


def test_xlsx_holds_texts_numbers_and_moments():
    answer = xlsx_file("clients", HEAD, ROWS)
    answer.direct_passthrough = False
    assert answer.headers["Content-Disposition"] == "attachment; filename=clients.xlsx"
    *texts, amount, moment, name, rate = cells(answer.get_data())
    assert [*texts, name] == ["Client", "Amount", "At", "=1+1", "Amira H."]
    assert [Decimal(figure) for figure in (amount, moment, rate)] == [Decimal("1234.5"), Decimal("46204.5"), Decimal("0.7")]
    assert "<f>" not in sheet(answer.get_data())


def test_csv_marks_what_a_spreadsheet_would_compute():
    answer = csv_file("clients", HEAD, ROWS)
    assert answer.get_data(as_text=True).splitlines()[1:] == ["'=1+1,1234.50,2026-07-01T12:00:00+00:00", "Amira H.,0.7,"]


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
def test_csv_marks_every_sign_that_begins_a_formula_also_the_wide_ones(sign):
    (row,) = csv_file("clients", ["Client"], [[f"{sign}1+1"]]).get_data(as_text=True).split("Client\r\n")[1:]
    assert row.lstrip('"').startswith("'")


def test_xlsx_refuses_more_rows_than_can_be_waited_for(monkeypatch):
    monkeypatch.setattr(xlsx_files, "MOST_ROWS", 1)
    with pytest.raises(TooManyRows):
        xlsx_file("clients", HEAD, ROWS)
