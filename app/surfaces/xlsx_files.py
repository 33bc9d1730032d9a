"""Tables as XLSX files: the same rows as in CSV, with numbers and moments that a spreadsheet can count with."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal

import xlsxwriter
from flask import Response, send_file
from xlsxwriter.format import Format
from xlsxwriter.worksheet import Worksheet

from app.core.errors import N_, InvalidInput
from app.core.money import Money
from app.surfaces.csv_files import Cell, csv_file

MIMETYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

#: Written while the browser waits, some 10,000 rows a second; a CSV file has no bound.
MOST_ROWS = 100_000
_COLUMN_WIDTH = 18


class TooManyRows(InvalidInput):
    code = "table.too_many_rows"
    message = N_("These are too many rows for an XLSX file. Narrow the filter, or take the CSV file.")


def xlsx_file(name: str, head: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Response:
    """An answer with the table as a file. Moments are in UTC; texts are never formulas; a spreadsheet keeps 15 digits.

    Raises TooManyRows for more than MOST_ROWS.
    """
    file = io.BytesIO()
    with xlsxwriter.Workbook(file, {"constant_memory": True}) as book:
        sheet = book.add_worksheet()
        bold, moment = book.add_format({"bold": True}), book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        sheet.freeze_panes(1, 0)
        sheet.set_column(0, max(0, len(head) - 1), _COLUMN_WIDTH)
        for column, title in enumerate(head):
            sheet.write_string(0, column, title, bold)
        for number, row in enumerate(rows, 1):
            if number > MOST_ROWS:
                raise TooManyRows
            for column, value in enumerate(row):
                _write(sheet, number, column, value, moment)
    file.seek(0)
    return send_file(file, mimetype=MIMETYPE, as_attachment=True, download_name=f"{name}.xlsx")


def _write(sheet: Worksheet, row: int, column: int, value: Cell, moment: Format) -> None:
    if value is None:
        return
    if isinstance(value, datetime):
        sheet.write_datetime(row, column, value.astimezone(UTC).replace(tzinfo=None), moment)
    elif isinstance(value, Money):
        sheet.write_number(row, column, value.decimal)
    elif isinstance(value, (int, Decimal)):
        sheet.write_number(row, column, value)
    else:
        sheet.write_string(row, column, value)


def table_file(kind: str, name: str, head: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Response:
    """The table as a file of a kind that Filters.wanted_file names: xlsx or csv."""
    return xlsx_file(name, head, rows) if kind == "xlsx" else csv_file(name, head, rows)
