"""The IB's lines: filters, sums, pages, files; another IB's are not there."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from decimal import Decimal

import pytest
from sqlalchemy import select

from app.commissions.engine import Accrued
from app.commissions.lines import LineFilter, accrual_lines, line_sums
from app.commissions.units import Line, write_unit
from app.core.actor import Actor
from app.models.commissions import PlanVersion
from app.models.occasions import Occasion, OccasionTakenBack
from app.partners import privacy
from app.partners.privacy import Privacy
from app.portal import partner_lines
from tests.integration.commissions.brokerage import START
from tests.integration.portal.partner_house import partner_house


@pytest.fixture
def house(database, client_id):
    with database.session() as session:
        yield partner_house(session, client_id)


def rows(page: str) -> int:
    return len(re.findall(r"/portal/partner/lines/\d+", page))


def test_lines_are_found_by_what_they_are(signed_in, house):
    house.trade(house.own_account, "1", symbol="EURUSD")
    house.settle()
    house.trade(house.own_account, "2", symbol="XAUUSD")
    house.trade(house.sub_account, "3", symbol="XAUUSD")
    house.trade(house.other_account, "4", symbol="XAUUSD")
    page = signed_in.get("/portal/partner/lines").text
    assert rows(page) == 3
    assert "Carla O." in page
    assert "Dario" not in page
    for query, lines, total in (
        ("", 3, "27 USD"),
        ("symbol=XAUUSD", 2, "20 USD"),
        ("level=2", 1, "6 USD"),
        ("state=settled", 1, "7 USD"),
        ("state=unsettled", 2, "20 USD"),
        ("state=unsettled&symbol=EURUSD", 0, "—"),
        ("state=settled&level=1", 1, "7 USD"),
        ("rule=fx&from=2020-01-01", 3, "27 USD"),
        ("to=2020-01-01", 0, "—"),
        ("rule=other", 0, "—"),
    ):
        assert rows(signed_in.get(f"/portal/partner/lines?{query}").text) == lines, query
        assert total in signed_in.get(f"/portal/partner/lines/sums?{query}").text, query


def test_what_is_typed_wrong_is_said_and_finds_nothing(signed_in, house):
    house.trade(house.own_account)
    page = signed_in.get("/portal/partner/lines?level=x&state=lost").text
    assert "Please give a whole number." in page
    assert rows(page) == 0


def test_pages_go_on_where_the_last_one_ended(signed_in, house, monkeypatch):
    for _ in range(5):
        house.trade(house.own_account)
    monkeypatch.setattr(partner_lines, "PAGE", 2)
    seen, address = [], "/portal/partner/lines?symbol=EURUSD"
    while address:
        page = signed_in.get(address).text
        seen += re.findall(r"/portal/partner/lines/(\d+)", page)
        older = re.search(r'href="([^"]+)" rel="next"', page)
        address = older.group(1).replace("&amp;", "&") if older else ""
    assert len(seen) == len(set(seen)) == 5
    assert seen == sorted(seen, key=int, reverse=True)


def test_files_hold_the_lines_of_the_filter(signed_in, house):
    house.trade(house.own_account, "0.1", symbol="=SUM(A1)")
    house.trade(house.sub_account, "1", symbol="XAUUSD")
    house.trade(house.other_account, "4")
    (under, own) = csv.DictReader(io.StringIO(signed_in.get("/portal/partner/lines?export=csv").text.lstrip("\ufeff")))
    assert (own["Symbol"], own["Amount"], own["Client"], own["Lots"]) == ("'=SUM(A1)", "0.7", "Carla O.", "0.1")
    assert (under["Level"], under["Client"], under["Amount"]) == ("2", "", "2")
    answer = signed_in.get("/portal/partner/lines?export=xlsx&level=1")
    assert answer.headers["Content-Disposition"].endswith("commission-lines.xlsx")
    with zipfile.ZipFile(io.BytesIO(answer.data)) as book:
        sheet = book.read("xl/worksheets/sheet1.xml").decode()
    assert sheet.count("<row") == 2
    assert "<f>" not in sheet


def test_another_ibs_line_is_not_there(signed_in, house):
    house.trade(house.other_account)
    (foreign,) = accrual_lines(house.session, house.other_id)
    assert signed_in.get(f"/portal/partner/lines/{foreign.id}").status_code == 404
    assert rows(signed_in.get("/portal/partner/lines").text) == 0


@pytest.mark.parametrize("path", ["lines", "lines/live", "lines/sums", "lines?export=csv", "lines?export=xlsx"])
def test_a_client_who_is_no_ib_has_no_lines(signed_in, path):
    assert signed_in.get(f"/portal/partner/{path}").status_code == 404


def test_names_are_shown_as_the_house_allows(signed_in, house):
    house.trade(house.own_account)
    house.trade(house.sub_account)
    for policy, own, under in (
        (Privacy(names="full", shows_sub_clients=True), "Carla Own", "Dario Under"),
        (Privacy(names="number"), r"Client \d+", r"Client \d+"),
    ):
        privacy.set_privacy(house.session, policy, "test", Actor.staff(1))
        page = signed_in.get("/portal/partner/lines").text
        assert re.search(own, page)
        assert re.search(under, page)
        for one in accrual_lines(house.session, house.ib_id):
            shown = signed_in.get(f"/portal/partner/lines/{one.id}").text
            assert re.search(own if one.level == 1 else under, shown)
    assert "Carla" not in page


def test_sums_are_those_of_the_lines(house):
    for lots in ("0.01", "0.33", "2"):
        house.trade(house.own_account, lots)
    house.settle()
    house.trade(house.own_account, "1")
    lines = accrual_lines(house.session, house.ib_id)
    for wanted in (
        LineFilter(),
        LineFilter(state="settled"),
        LineFilter(state="unsettled"),
        LineFilter(state="settled", rule="fx"),
    ):
        fitting = [one for one in lines if wanted.state in ("", "settled" if one.settlement_id else "unsettled")]
        (found,) = line_sums(house.session, house.ib_id, wanted)
        assert found.amount == sum(one.amount for one in fitting)


def test_the_page_of_what_was_taken_back_says_why(signed_in, house):
    """Each of the three: the deposit, the lots, and the active clients of a month."""
    brokerage, session = house.brokerage, house.session
    explained = {
        "client": ({"deposit_id": 1, "needed": "200"}, "one from 200 USD"),
        "lots": ({"lots": "1", "needed": "3"}, "1 lots were closed in time, and the rule asks for 3"),
        "month": ({"active_clients": 1, "needed": 5}, "1 clients were active, and the rule asks for 5"),
    }
    version = session.scalars(select(PlanVersion).order_by(PlanVersion.id.desc())).first()
    for name, (facts, words) in explained.items():
        of = {"month": "2026-09"} if name == "month" else {"client_id": brokerage.client()}
        kind = "month" if name == "month" else "client"
        said = {"active_clients": 5, "first_deposit": "250.00", "currency": "USD"}
        named = {"kind": kind, "plan_id": version.plan_id, "rule": "fx", "ib_id": house.ib_id, "happened_at": START}
        occasion_id = brokerage.add(Occasion(**named, **of, facts=said))
        session.add(OccasionTakenBack(occasion_id=occasion_id, facts=facts))
        amount = Decimal(-400)
        made = Accrued(version.id, "fx", 1, house.ib_id, Decimal(0), amount, Decimal(1), amount, "USD", base=Decimal(-1))
        write_unit(session, None, None, [Line(None, "reverse", made, occasion_id)])
        brokerage.save()
        line = accrual_lines(session, house.ib_id)[0]
        page = " ".join(signed_in.get(f"/portal/partner/lines/{line.id}").text.split())
        assert "Taken back" in page
        assert words in page
