"""Statements of banks and providers as the people of the money desk use them: real requests, real commits."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from app.core.actor import Actor
from app.core.clock import now
from app.core.money import Money
from app.core.tables import Event
from app.core.uow import unit_of_work
from app.jobs.handlers import HANDLERS
from app.ledger import chart, posting
from app.models.controls import ExternalLine, ExternalStatement
from app.models.ledger import Entry, Transaction
from tests.integration.views.conftest import LIBRARY_WARNINGS

pytestmark = LIBRARY_WARNINGS

VECTORS = Path(__file__).parents[2] / "vectors" / "statements"
FINANCE = "Finance officer"
BANK = "bank:test:client_money"
START = "/bank-statements/"
IMPORT = "/bank-statements/import"
TODAY = now().astimezone(UTC).date()


def as_csv(*rows):
    head = "date,reference,amount,currency,description"
    return "\n".join(
        [head, *(f"{TODAY - timedelta(days=day)},{name},{amount},USD,{note}" for day, name, amount, note in rows)]
    ).encode()


def upload(browser, content, *, account=BANK, kind="csv", name="march.csv"):
    file = (io.BytesIO(content), name) if content is not None else (io.BytesIO(b""), "")
    answer = browser.http.post(
        IMPORT,
        data={"csrf_token": browser.token(IMPORT), "account": account, "format": kind, "file": file},
        content_type="multipart/form-data",
    )
    answer.request.environ["wsgi.input"].close()  # a large body lies in a file, which the test client leaves open
    return answer


def hidden(page):
    return dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', page))


def take(office, *rows):
    """Import lines of (days ago, reference, amount, description); returns the statement's number and its lines."""
    browser = office.browser(FINANCE)
    page = upload(browser, as_csv(*rows))
    assert page.status_code == 200, page.text
    done = browser.http.post("/bank-statements/import/store", data=hidden(page.text))
    assert done.status_code == 302
    number = int(re.search(r"/bank-statements/(\d+)", done.headers["Location"])[1])
    with office.session() as session:
        lines = session.scalars(select(ExternalLine.id).where(ExternalLine.statement_id == number).order_by(ExternalLine.line))
        return number, list(lines)


def receive(office, amount, *, days=1, key=None):
    """An entry on the bank's account; returns the transaction's id and the entry's version."""
    bank, wallet = chart.bank_client_money("test", "USD"), chart.client_wallet(office.client_id, "USD")
    money = Money.parse(amount, "USD")
    with office.session() as session:
        with unit_of_work(session, Actor.system("test")):
            txn = posting.post(
                session,
                key=key or f"wire:number-{office.number()}",
                kind="adjustment",
                effective_at=min(datetime.combine(TODAY - timedelta(days=days), time(12), UTC), now()),
                actor=Actor.system("test"),
                legs=[posting.debit(bank, money), posting.credit(wallet, money)],
            )
        return txn, session.scalars(select(Entry.account_version).where(Entry.txn_id == txn, Entry.debit > 0)).one()


def amount_of(office):
    """An amount that no other test has, so that nothing of theirs fits."""
    return f"{10_000 + office.number()}.37"


def counts(office):
    with office.session() as session:
        return (
            session.scalar(select(func.count()).select_from(ExternalStatement)),
            session.scalar(select(func.count()).select_from(ExternalLine)),
        )


def test_only_the_money_desk_sees_statements(office):
    for role in ("KYC reviewer", "Payments officer", "Operator", "Partner manager"):
        for path in (START, IMPORT, "/bank-statements/ageing", "/bank-statements/lines/1"):
            assert office.browser(role).get(path).status_code in (302, 403)
    assert office.browser(FINANCE).get(START).status_code == 200


def test_a_file_is_looked_at_then_stored_and_matched(office):
    browser, amount = office.browser(FINANCE), amount_of(office)
    key = f"wire:REF-{office.number()}-0001"
    txn, _ = receive(office, amount, key=key)
    name = key.partition(":")[2]
    content = as_csv((1, name, amount, "Wire & <b>co</b>"), (0, "unknown-1", "-3.50", "Charge"))
    before = counts(office)
    page = upload(browser, content)
    assert page.status_code == 200
    assert "Nothing is stored yet." in page.text
    assert "Import 2 lines" in page.text
    assert "Wire &amp; &lt;b&gt;co&lt;/b&gt;" in page.text
    assert counts(office) == before
    done = browser.http.post("/bank-statements/import/store", data=hidden(page.text), follow_redirects=True)
    assert "2 lines imported: 1 matched, 1 open." in done.text
    assert counts(office) == (before[0] + 1, before[1] + 2)
    assert "unknown-1" in done.text
    assert str(txn) not in done.text  # the open ones only
    number = re.search(r"Statement (\d+)", done.text)[1]
    every = browser.get(f"/bank-statements/{number}").text
    assert str(txn) in every
    assert "System: match statements" in every
    listed = browser.get(START).text
    assert "march.csv" in listed
    assert "1 open" in listed
    assert office.audited("external_statement.import")[-1].address.startswith("192.0.2.")


def test_a_large_file_is_matched_by_a_job(office):
    key, amount = f"wire:LARGE-{office.number()}-1", amount_of(office)
    receive(office, amount, key=key)
    browser, name = office.browser(FINANCE), key.partition(":")[2]
    content = as_csv((1, name, amount, ""), *((1, f"{name}-{row}", "0.01", "") for row in range(2_000)))
    done = browser.http.post("/bank-statements/import/store", data=hidden(upload(browser, content).text), follow_redirects=True)
    assert "2001 lines imported. They are matched in the background." in done.text
    number = int(re.search(r"Statement (\d+)", done.text)[1])
    with office.session() as session:
        event = session.scalars(select(Event).where(Event.type == "statement.imported", Event.subject_id == number)).one()
        HANDLERS["match_statement"].function(session, event, office.database.settings)
        lines = select(func.count(ExternalLine.matched_at)).where(ExternalLine.statement_id == number)
        assert session.scalar(lines) == 1


def test_the_same_file_leads_to_its_first_import(office):
    rows = ((2, f"same-{office.number()}", "4.00", ""),)
    number, _ = take(office, *rows)
    before = counts(office)
    page = upload(office.browser(FINANCE), as_csv(*rows))
    assert page.status_code == 409
    assert "This very file was imported before." in page.text
    assert f'href="/bank-statements/{number}"' in page.text
    assert counts(office) == before


def test_known_lines_are_left_out_and_said(office):
    name = f"overlap-{office.number()}"
    take(office, (3, name, "4.00", ""))
    browser = office.browser(FINANCE)
    page = upload(browser, as_csv((3, name, "4.00", ""), (2, f"{name}-b", "5.00", "")))
    assert "1 lines are left out" in page.text
    assert "Import 1 lines" in page.text
    refused = upload(browser, as_csv((3, name, "4.00", "worded otherwise")))
    assert refused.status_code == 422
    assert "All lines of this file were imported before" in refused.text


def test_everything_wrong_with_a_file_is_listed_by_line_and_the_choice_is_kept(office):
    before = counts(office)
    page = upload(office.browser(FINANCE), (VECTORS / "nasty.csv").read_bytes())
    assert page.status_code == 422
    assert "23 problems in this file" in page.text
    for words in ("is in the future", "The reference is empty.", "The amount is zero.", "Unknown currency QQQ."):
        assert words in page.text
    assert f'selected value="{BANK}"' in page.text
    assert counts(office) == before


@pytest.mark.parametrize(
    ("given", "status", "words"),
    [
        ({"content": None}, 422, "Please choose a file."),
        ({"content": b""}, 422, "names no column"),
        ({"content": b"\x00" * 5_000}, 422, "names no column"),
        ({"content": b"\xff\xfe\x00"}, 422, "not UTF-8"),
        ({"content": b"date,reference\n" + b"x" * 5_000_001}, 422, "larger than 5 MB"),
        ({"content": as_csv((1, "a", "1", "")), "account": "bank:other:client_money"}, 422, "Not a valid choice"),
        ({"content": as_csv((1, "a", "1", "")), "kind": "mt940"}, 422, "Not a valid choice"),
        ({"content": as_csv((1, "a", "92233720368547758.07", ""), (1, "b", "1", ""))}, 422, "too large"),
    ],
)
def test_bad_uploads_are_refused_in_words(office, given, status, words):
    before = counts(office)
    page = upload(office.browser(FINANCE), **given)
    assert page.status_code == status
    assert words in page.text
    assert counts(office) == before


def test_more_than_the_server_takes_is_refused_before_it_is_read(office):
    answer = office.browser(FINANCE).http.post(
        IMPORT,
        input_stream=io.BytesIO(b"x" * 12_000_000),
        content_type="multipart/form-data; boundary=x",
        content_length=12_000_000,
    )
    assert answer.status_code == 413
    assert "The file is too large." in answer.text


def test_a_preview_that_is_gone_or_somebody_elses_stores_nothing(office):
    browser, before = office.browser(FINANCE), counts(office)
    first = hidden(upload(browser, as_csv((1, f"x-{office.number()}", "1.00", ""))).text)
    second = hidden(upload(browser, as_csv((1, f"y-{office.number()}", "1.00", ""))).text)
    for given in (first, first | {"sha256": "0" * 64}, {"csrf_token": first["csrf_token"]}):
        answer = browser.http.post("/bank-statements/import/store", data=given, follow_redirects=True)
        assert "Please choose the file again." in answer.text
    admin = office.browser("Admin")
    others = admin.http.post(
        "/bank-statements/import/store", data=second | {"csrf_token": admin.token(IMPORT)}, follow_redirects=True
    )
    assert "Please choose the file again." in others.text
    for wrong in ({"account": "client:1:wallet"}, {"format_name": "mt940"}):
        assert browser.http.post("/bank-statements/import/store", data=second | wrong).status_code == 422
    assert counts(office) == before
    assert browser.http.post("/bank-statements/import/store", data=second).status_code == 302
    again = browser.http.post("/bank-statements/import/store", data=second, follow_redirects=True)
    assert "Please choose the file again." in again.text
    assert counts(office) == (before[0] + 1, before[1] + 1)


def test_a_proposal_is_confirmed_with_one_click_and_the_second_person_is_told(office):
    amount = amount_of(office)
    txn, version = receive(office, amount, days=2)
    number, (line,) = take(office, (1, f"SEPA {office.number()}", amount, ""))
    browser, admin = office.browser(FINANCE), office.browser("Admin")
    page = browser.get(f"/bank-statements/{number}?show=open").text
    assert "Same amount, near day" in page
    given = {"entry": str(version), "reason": "Proposed: the only entry with this amount near this day."}
    assert f'name="entry" value="{version}"' in page
    done = browser.post(f"/bank-statements/lines/{line}/match", given, page=f"/bank-statements/{number}")
    assert "Line 1 is matched." in done.text
    assert office.row(ExternalLine, line).account_version == version
    assert office.audited("external_line.match")[-1].reason == given["reason"]
    late = admin.post(f"/bank-statements/lines/{line}/match", given, page=START)
    assert "Finance officer matched this line before you." in late.text
    shown = browser.get(f"/bank-statements/lines/{line}").text
    assert str(txn) in shown
    assert "Take the match back" in shown


def test_matching_by_hand_needs_an_entry_and_a_reason_and_keeps_both(office):
    amount = amount_of(office)
    _, version = receive(office, amount, days=30)
    number, (line, other) = take(office, (1, "late", amount, ""), (1, "late too", amount, ""))
    path, browser = f"/bank-statements/lines/{line}", office.browser(FINANCE)
    assert "No entry found" in browser.get(f"/bank-statements/{number}").text
    assert f'value="{version}"' in browser.get(path).text
    for entry in ("", "x", "-1", "9" * 30, "١"):
        page = browser.post(f"{path}/match", {"entry": entry, "reason": "typed at length"}, page=path)
        assert page.status_code == 422
        assert "Please choose the entry." in page.text
        assert "typed at length" in page.text
    page = browser.post(f"{path}/match", {"entry": str(version), "reason": " "}, page=path)
    assert page.status_code == 422
    assert "Please give the reason in a sentence." in page.text
    assert re.search(rf'value="{version}"[^>]*checked', page.text)
    for entry in ("999999999", str(2**63), "0"):
        page = browser.post(f"{path}/match", {"entry": entry, "reason": "because"}, page=path)
        assert page.status_code == 200
        assert "We could not find this." in page.text
    assert office.row(ExternalLine, line).matched_at is None
    browser.post(f"{path}/match", {"entry": str(version), "reason": "The bank was slow."}, page=path)
    assert office.row(ExternalLine, line).matched_by.startswith("staff:")
    second = browser.post(
        f"/bank-statements/lines/{other}/match",
        {"entry": str(version), "reason": "also"},
        page=f"/bank-statements/lines/{other}",
    )
    assert "matched with another line before you" in second.text
    undone = browser.post(f"{path}/unmatch", {"reason": ""}, page=path)
    assert "Please give the reason in a sentence." in undone.text
    undone = browser.post(f"{path}/unmatch", {"reason": "It was another one."}, page=path)
    assert "The match is taken back" in undone.text
    assert office.row(ExternalLine, line).matched_at is None
    assert office.audited("external_line.unmatch")[-1].reason == "It was another one."


def test_a_search_shows_what_was_booked_with_another_amount(office):
    name = f"order-{office.number()}-77"
    txn, _ = receive(office, "12.00", days=3, key=f"wire:{name}")
    _, (line,) = take(office, (1, "no name", amount_of(office), ""))
    browser, path = office.browser(FINANCE), f"/bank-statements/lines/{line}"
    assert str(txn) not in browser.get(path).text
    found = browser.get(f"{path}?q={name}").text
    assert str(txn) in found
    assert "Another amount" in found
    assert "Match with the chosen entry" not in found
    for words in ("%25", "%00", "'", "x" * 500, "%F0%9F%92%B6"):
        assert browser.get(f"{path}?q={words}").status_code == 200


def test_a_receipt_goes_into_suspense_and_from_there_by_adjustment(office):
    amount = amount_of(office)
    number, (line,) = take(office, (40, f"mystery-{office.number()}", amount, "Who is this?"))
    browser, path = office.browser(FINANCE), f"/bank-statements/lines/{line}"
    assert "Put this receipt into suspense?" in browser.get(path).text
    done = browser.post(f"{path}/suspense", page=path)
    assert "are in suspense until somebody knows" in done.text
    again = browser.post(f"{path}/suspense", page=path)
    assert "Finance officer matched this line before you." in again.text
    with office.session() as session:
        txn = session.scalars(select(Transaction).where(Transaction.idempotency_key == f"external-line:{line}")).one()
        assert txn.kind == "suspense_receipt"
    refused = browser.post(f"{path}/unmatch", {"reason": "no"}, page=path)
    assert "Ask for the reversal of that transaction first." in refused.text
    page = browser.get("/bank-statements/ageing").text
    assert "Who is this?" in page
    assert "suspense:test:USD" in page
    link = re.search(r'href="(/ledger/requests/adjustment\?[^"]+)"', browser.get(path).text)[1].replace("&amp;", "&")
    form = browser.get(link)
    assert form.status_code == 200
    assert "suspense:test:USD" in form.text
    assert amount in form.text
    assert office.audited("external_line.suspense")[-1].target == f"external_line:{line}"
    assert "All matched" in browser.get(f"/bank-statements/{number}").text


def test_money_that_left_is_not_put_into_suspense(office):
    _, (line,) = take(office, (2, f"charge-{office.number()}", "-7.50", ""))
    browser, path = office.browser(FINANCE), f"/bank-statements/lines/{line}"
    page = browser.get(path).text
    assert "Put into suspense" not in page
    assert "legs-1-account=bank:test:client_money:USD" in page.replace("%3A", ":")
    assert "Only money that came in" in browser.post(f"{path}/suspense", page=path).text
    assert office.row(ExternalLine, line).matched_at is None


def test_entries_that_come_later_are_found_when_matched_again(office):
    key, amount = f"wire:LATER-{office.number()}-1", amount_of(office)
    number, _ = take(office, (1, key.partition(":")[2], amount, ""))
    receive(office, amount, key=key)
    browser = office.browser(FINANCE)
    done = browser.post(f"/bank-statements/lines/of/{number}/match", page=f"/bank-statements/{number}")
    assert "1 more lines matched, 0 open." in done.text
    assert "Match again" not in browser.get(f"/bank-statements/{number}").text


def test_what_is_open_by_age_and_as_a_file(office):
    name = f"=old-{office.number()}"
    _, (line,) = take(office, (35, name, "123.45", "@note"))
    browser = office.browser(FINANCE)
    page = browser.get("/bank-statements/ageing").text
    assert "Over 30 days" in page
    file = browser.get("/bank-statements/ageing?export=csv")
    assert file.mimetype == "text/csv"
    rows = list(csv.DictReader(io.StringIO(file.text.removeprefix("\ufeff"))))
    (row,) = [row for row in rows if row["line"] == str(line)]
    assert (row["kind"], row["account"], row["age_days"], row["amount"], row["currency"]) == (
        "line",
        f"{BANK}:USD",
        "35",
        "123.45",
        "USD",
    )
    assert row["reference"] == f"'{name}"
    assert row["description"] == "'@note"


def test_long_statements_are_read_page_by_page(office):
    start = office.number()
    number, _ = take(office, *((1, f"page-{start}-{row}", "0.01", "") for row in range(120)))
    browser = office.browser(FINANCE)
    seen, path = [], f"/bank-statements/{number}?show=open"
    while path:
        page = browser.get(path).text
        seen += re.findall(rf"page-{start}-(\d+)", re.sub(r"(?s)<dialog.*?</dialog>", "", page))
        following = re.search(r'href="([^"]+)" rel="next"', page)
        path = following[1].replace("&amp;", "&") if following else None
    assert seen == [str(row) for row in range(120)]


@pytest.mark.parametrize(
    "path",
    [
        "/bank-statements/999999999",
        f"/bank-statements/{10**30}",
        "/bank-statements/lines/999999999",
        f"/bank-statements/lines/{10**30}",
    ],
)
def test_numbers_of_nothing_are_not_found(office, path):
    assert office.browser(FINANCE).get(path).status_code == 404
    if "lines" in path:
        for verb in ("match", "suspense", "unmatch"):
            answer = office.browser(FINANCE).http.post(
                f"{path}/{verb}", data={"csrf_token": office.browser(FINANCE).token(START), "entry": "1", "reason": "x"}
            )
            assert answer.status_code in (302, 404)


@pytest.mark.parametrize("query", ["before=x", "before=-1", f"before={10**30}", "before=1"])
def test_addresses_of_lists_may_be_anything(office, query):
    assert office.browser(FINANCE).get(f"{START}?{query}").status_code == 200


@pytest.mark.parametrize("query", ["show=all", "after=x", f"after={10**30}", "show=matched&after=999999"])
def test_addresses_of_lines_may_be_anything(office, query):
    number, _ = take(office, (1, f"any-{office.number()}", "1.00", ""))
    assert office.browser(FINANCE).get(f"/bank-statements/{number}?{query}").status_code == 200
