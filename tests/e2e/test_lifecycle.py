"""The life of a client, step by step, each step by its own person in a browser of their own, on the real processes.

Run it with SCREENSHOTS=folder to get a picture of each step.
"""

from __future__ import annotations

import io
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Brokerage, Person

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PASSWORD = "demo-Lotwise-1"
MAIL = "noura@example.com"
CLIENT_PASSWORD = "harbour-violet-lantern"
People = Callable[..., Person]


def picture(words: str) -> bytes:
    """A JPEG that a phone might have taken of a document."""
    image = Image.new("RGB", (900, 600), "#e8ecf2")
    ImageDraw.Draw(image).text((60, 60), words, fill="#1b2430", font_size=42)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


class Lifecycle:
    """The people, their pages and what they remember from step to step."""

    def __init__(self, brokerage: Brokerage, person: People, screenshots: Path | None) -> None:
        self.brokerage, self.person, self.screenshots = brokerage, person, screenshots
        self.staff_pages: dict[str, Page] = {}
        self.client = person(width=1280).page
        self.number = 0

    def shot(self, page: Page, name: str, *, phone: bool = True) -> None:
        """Keep a picture of this step; portal pages also as a phone shows them."""
        self.number += 1
        if self.screenshots is None:
            return
        page.screenshot(path=self.screenshots / f"{self.number:02}-{name}-1280.png")
        if phone:
            size = page.viewport_size
            page.set_viewport_size({"width": 390, "height": 844})
            page.screenshot(path=self.screenshots / f"{self.number:02}-{name}-390.png")
            page.set_viewport_size(size)

    def staff(self, user: str) -> Page:
        """The page of a signed-in staff member."""
        if user not in self.staff_pages:
            page = self.person().page
            page.goto(f"{self.brokerage.url}/login/")
            page.fill("[name=username]", user)
            page.fill("[name=password]", PASSWORD)
            page.press("[name=password]", "Enter")
            expect(page).to_have_url(f"{self.brokerage.url}/")
            self.staff_pages[user] = page
        return self.staff_pages[user]

    def open(self, page: Page, path: str) -> None:
        answer = page.goto(self.brokerage.url + path)
        assert answer is not None
        assert answer.status == 200, (path, answer.status)

    # ── the steps ──────────────────────────────────────────────────────────────────────────────────────────────────

    def registers_in_arabic_through_an_ib_link(self) -> None:
        page = self.client
        self.open(page, "/portal/register?ib=WELCOME&lang=ar")
        assert page.get_attribute("html", "dir") == "rtl"
        page.fill("[name=first_name]", "نورة")
        page.fill("[name=last_name]", "الحربي")
        page.fill("[name=email]", MAIL)
        page.fill("[name=password]", CLIENT_PASSWORD)
        page.select_option("[name=country]", "AE")
        page.fill("[name=birth_date]", "1990-04-12")
        self.shot(page, "register-arabic")
        page.check("[name=terms]")
        page.click("form button.btn-primary")
        expect(page).to_have_url(re.compile("check-mail"))
        self.shot(page, "check-mail")

    def verifies_the_mail_address_once(self) -> None:
        page = self.client
        link = self.brokerage.link_in_mail(MAIL, rf"{re.escape(self.brokerage.url)}/portal/verify/[\w-]+")
        page.goto(link)
        page.click("form button.btn-primary")
        page.wait_for_load_state()
        assert "/verify/" not in page.url
        again = self.person().page
        again.goto(link)
        if again.locator("form button.btn-primary").count():
            again.locator("form button.btn-primary").first.click()
            again.wait_for_load_state()
        assert "/verify/" in again.url
        self.shot(again, "link-used-up")

    def signs_in_in_english(self) -> None:
        page = self.client
        self.open(page, "/portal/sign-in?lang=en")
        if "/sign-in" in page.url:
            page.fill("[name=email]", MAIL)
            page.fill("[name=password]", CLIENT_PASSWORD)
            page.click("form:has([name=password]) button.btn-primary")
        expect(page).to_have_url(f"{self.brokerage.url}/portal/")
        assert page.get_attribute("html", "dir") == "ltr"
        self.shot(page, "home-next-step")

    def sends(self, kind: str, words: str) -> None:
        page = self.client
        self.open(page, "/portal/documents")
        page.set_input_files(
            f"#proof-{kind} input[type=file]", {"name": f"{kind}.jpg", "mimeType": "image/jpeg", "buffer": picture(words)}
        )
        page.click(f"#proof-{kind} form button[type=submit]")
        expect(page.locator(f"#proof-{kind}")).to_contain_text("We check it")

    def reviewer_decides(self, kind: str, reason: str = "") -> None:
        page = self.staff("kyc")
        self.open(page, "/documents/")
        self.shot(page, "document-queue", phone=False)
        page.locator("tr", has_text="نورة").filter(has_text=kind).get_by_role("link", name="Review").click()
        expect(page.locator("img.review-image, .review-document img")).to_be_visible()
        assert page.locator(".review-document img").evaluate("image => image.naturalWidth") == 900
        self.shot(page, "document-review", phone=False)
        if reason:
            page.get_by_role("button", name="Reject …").click()
            page.fill("dialog[open] [name=reason]", reason)
            page.locator("dialog[open]").get_by_role("button", name="Reject document").click()
        else:
            page.get_by_role("button", name="Approve document").click()
        page.wait_for_url("**/documents/")

    def reads_the_rejection(self, reason: str) -> None:
        page = self.client
        expect(page.locator("#proof-address")).to_contain_text(reason)
        self.shot(page, "document-rejected")
        mail = self.brokerage.link_in_mail(MAIL, re.escape(reason))
        assert mail == reason

    def opens_an_account(self) -> int:
        page = self.client
        self.open(page, "/portal/accounts/open")
        page.get_by_label("Standard", exact=False).first.check()
        page.select_option("[name=leverage]", "100")
        self.shot(page, "open-account")
        page.locator("main form").get_by_role("button", name="Open account").click()
        page.wait_for_url(re.compile(r"/portal/accounts/\d+$"))
        expect(page.get_by_role("button", name="Show password once")).to_be_visible()
        self.account_path = page.url.removeprefix(self.brokerage.url)
        self.shot(page, "account-opened")
        page.get_by_role("button", name="Show password once").click()
        password = page.locator("dd code").nth(1).inner_text()
        login = int(page.locator("dd code").nth(0).inner_text())
        assert len(password) >= 8
        self.shot(page, "password-once")
        self.open(page, self.account_path)
        expect(page.get_by_role("button", name="Show password once")).to_have_count(0)
        return login

    def deposits(self, amount: str) -> None:
        page = self.client
        self.open(page, "/portal/money/deposit")
        page.fill("[name=amount]", amount)
        self.shot(page, "deposit")
        page.get_by_role("button", name="Go to payment").click()
        page.wait_for_url(re.compile(rf"127.0.0.1:{self.brokerage.port + 2}/"))
        self.shot(page, "stripe-checkout")
        page.fill("[name=number]", "4242 4242 4242 4242")
        page.fill("[name=expiry]", "12/40")
        page.fill("[name=cvc]", "123")
        page.get_by_role("button", name=re.compile("^Pay ")).click()
        page.wait_for_url(re.compile("/portal/money/deposit/done"))
        self.shot(page, "deposit-done")
        self.open(page, "/portal/money/")
        expect(page.locator(".key-figure-value").first).to_have_text("1,000.00 USD")

    def provider_repeats_itself(self) -> None:
        """The same webhook again and again changes nothing."""
        sandbox = f"http://127.0.0.1:{self.brokerage.port + 2}"
        events = httpx.get(f"{sandbox}/sandbox/state").json()["events"]
        for event in events:
            for _ in range(2):
                httpx.post(f"{sandbox}/sandbox/resend/{event['id']}", headers={"Origin": sandbox}).raise_for_status()
        self.open(self.client, "/portal/money/")
        expect(self.client.locator(".key-figure-value").first).to_have_text("1,000.00 USD")

    def moves_to_the_account(self, amount: str) -> None:
        page = self.client
        self.open(page, "/portal/money/transfer")
        page.fill("[name=amount]", amount)
        self.shot(page, "transfer")
        page.locator("main form").get_by_role("button", name="Move money").click()
        page.wait_for_url("**/portal/money/")
        expect(page.locator("tr", has_text="To trading account")).to_contain_text("Done")
        expect(page.locator(".key-figure-value").first).to_have_text("400.00 USD")
        self.shot(page, "money-after-transfer")

    def trades(self, login: int) -> None:
        """The page stands open while the account trades; balance and history appear without a reload."""
        page = self.client
        self.open(page, self.account_path)
        expect(page.locator(".key-figure-value").first).to_have_text("600.00 USD")
        page.evaluate("window.notReloaded = true")
        self.brokerage.trade(login, "EURUSD", "buy", "0.10")
        expect(page.locator("main")).to_contain_text("closes")
        assert page.evaluate("window.notReloaded")
        expect(page.locator(".key-figure-value").first).not_to_have_text("600.00 USD")
        self.shot(page, "account-after-trading")

    def ib_sees_the_commission(self) -> None:
        ib = self.ib = self.person().page
        self.open(ib, "/portal/sign-in?lang=en")
        ib.fill("[name=email]", "ib@demo.lotwise.example")
        ib.fill("[name=password]", PASSWORD)
        ib.click("form:has([name=password]) button.btn-primary")
        ib.wait_for_url("**/portal/")
        self.open(ib, "/portal/partner/")
        row = ib.locator("tr", has_text="نورة")
        expect(row).to_contain_text("0.1 × 7")
        expect(row).to_contain_text("0.7 USD")
        expect(row).to_contain_text("Accrued")
        self.shot(ib, "ib-accrued")
        row.get_by_role("link").click()
        expect(ib.locator("main")).to_contain_text("Standard IB, version 1")
        self.shot(ib, "ib-why")
        self.brokerage.run("task", "settle_commissions")
        self.open(ib, "/portal/partner/")
        expect(ib.locator("tr", has_text="نورة")).to_contain_text("Settled")
        expect(ib.locator("main")).to_contain_text("ledger balance 0.70 USD")
        self.shot(ib, "ib-settled")

    def asks_for_a_withdrawal(self, amount: str) -> None:
        page = self.client
        self.open(page, "/portal/money/withdraw")
        page.fill("[name=amount]", amount)
        self.shot(page, "withdraw")
        page.get_by_role("button", name="Ask for withdrawal").click()
        page.wait_for_url("**/portal/money/")
        expect(page.locator("tr", has_text="Withdrawal").filter(has_text=f"{amount}.00")).to_contain_text("Waiting for review")
        self.shot(page, "withdrawal-waiting")

    def two_officers_approve_at_once(self) -> None:
        pages = [self.staff(user) for user in ("officer", "officer2")]
        for page in pages:
            self.open(page, "/withdrawals/")
            page.locator("tr", has_text="نورة").get_by_role("link", name="Decide").click()
        self.shot(pages[0], "withdrawal-decision", phone=False)
        for page in pages:
            page.get_by_role("button", name="Approve 300.00 USD …").click()
        self.shot(pages[0], "withdrawal-dialog", phone=False)
        # Both forms are sent before either answer is read.
        for page in pages:
            page.evaluate("setTimeout(() => document.querySelector('dialog[open] form').requestSubmit(), 50)")
        said = []
        for page in pages:
            expect(page.locator("[data-toast], .banner").first).to_be_visible()
            said.append(page.locator("body").inner_text())
        assert sum("Approved: 300.00 USD" in text for text in said) == 1, said
        assert sum("Your click changed nothing" in text for text in said) == 1, said
        loser = pages[0] if "Your click changed nothing" in said[0] else pages[1]
        self.shot(loser, "second-officer", phone=False)

    def is_paid_out_once(self) -> None:
        page = self.client
        self.open(page, "/portal/money/")
        expect(page.locator("tr", has_text="Withdrawal")).to_contain_text("Paid out")
        expect(page.locator(".key-figure-value").first).to_have_text("100.00 USD")
        self.shot(page, "paid-out")
        state = httpx.get(f"http://127.0.0.1:{self.brokerage.port + 2}/sandbox/state").json()
        refunds = [refund for refund in state["refunds"] if refund["status"] == "succeeded"]
        assert [refund["amount"] for refund in refunds] == [30_000]

    # ── the same on MetaTrader 4 ───────────────────────────────────────────────────────────────────────────────────────

    def opens_an_account_on_mt4(self) -> int:
        page = self.client
        self.open(page, "/portal/accounts/open")
        page.get_by_label("Standard MT4").check()
        page.select_option("[name=leverage]", "100")
        self.shot(page, "mt4-open-account")
        page.locator("main form").get_by_role("button", name="Open account").click()
        page.wait_for_url(re.compile(r"/portal/accounts/\d+$"))
        expect(page.get_by_role("button", name="Show password once")).to_be_visible()
        self.mt4_path = page.url.removeprefix(self.brokerage.url)
        page.get_by_role("button", name="Show password once").click()
        login = int(page.locator("dd code").nth(0).inner_text())
        assert len(page.locator("dd code").nth(1).inner_text()) >= 8
        expect(page.locator("main")).to_contain_text("MetaTrader 4")
        self.shot(page, "mt4-password-once")
        return login

    def moves_on_mt4(self, login: int, direction: str, amount: str, words: str, wallet: str) -> None:
        page = self.client
        self.open(page, "/portal/money/transfer")
        page.check(f"[name=direction][value={direction}]")
        account = page.locator("[name=account] option", has_text=str(login)).get_attribute("value")
        page.select_option("[name=account]", account)
        page.fill("[name=amount]", amount)
        self.shot(page, f"mt4-{direction}")
        page.locator("main form").get_by_role("button", name="Move money").click()
        page.wait_for_url("**/portal/money/")
        expect(page.locator("tr", has_text=words).filter(has_text=f"{amount}.00").first).to_contain_text("Done")
        expect(page.locator(".key-figure-value").first).to_have_text(wallet)

    def trades_on_mt4(self, login: int) -> None:
        page = self.client
        self.open(page, self.mt4_path)
        expect(page.locator(".key-figure-value").first).to_have_text("60.00 USD")
        page.evaluate("window.notReloaded = true")
        self.mt4_order = self.brokerage.trade(login, "GBPUSD", "sell", "0.02", on_mt4=True)["trades"][0]["order"]
        expect(page.locator("main")).to_contain_text("closes")
        assert page.evaluate("window.notReloaded")
        expect(page.locator(".key-figure-value").first).not_to_have_text("60.00 USD")
        expect(page.locator("tr", has_text="closes")).to_contain_text(self.mt4_order)
        self.shot(page, "mt4-account-after-trading")

    def ib_sees_the_commission_of_mt4(self) -> None:
        """By itself, on the page that is open since MT5's was settled. It is not settled here: a minute is settled once."""
        row = self.ib.locator("tr", has_text="GBPUSD")
        expect(row).to_contain_text("0.02 × 7")
        expect(row).to_contain_text("0.14 USD")
        expect(row).to_contain_text(f"{self.mt4_order} GBPUSD")
        self.shot(self.ib, "mt4-ib-accrued")

    def withdraws_what_mt4_gave_back(self) -> None:
        self.asks_for_a_withdrawal("50")
        page = self.staff("officer")
        self.open(page, "/withdrawals/")
        page.locator("tr", has_text="نورة").get_by_role("link", name="Decide").click()
        page.get_by_role("button", name="Approve 50.00 USD …").click()
        page.locator("dialog[open]").get_by_role("button", name="Approve").click()
        self.open(self.client, "/portal/money/")
        expect(self.client.locator("tr", has_text="Withdrawal").filter(has_text="50.00")).to_contain_text("Paid out")
        expect(self.client.locator(".key-figure-value").first).to_have_text("30.00 USD")
        self.shot(self.client, "mt4-paid-out")

    def compliance_reads_the_statement(self, folder: Path) -> None:
        self.brokerage.run("task", "mirror_deals")
        page = self.staff("compliance")
        self.open(page, "/clientview/list/")
        page.locator("tr", has_text="نورة").get_by_role("link").first.click()
        self.shot(page, "client-page", phone=False)
        client_id = re.search(r"/show/(\d+)", page.url)
        assert client_id
        answer = page.request.get(f"{self.brokerage.url}/statements/{client_id.group(1)}.pdf?language=en")
        assert answer.headers["content-type"] == "application/pdf"
        pdf = folder / "statement.pdf"
        pdf.write_bytes(answer.body())
        words = subprocess.run(["pdftotext", "-layout", str(pdf), "-"], capture_output=True, text=True, check=True).stdout
        for figure in ("1,000.00", "600.00", "300.00", "100.00", "Lotwise-MT4-Demo", "60.00", "30.00"):
            assert figure in words, words
        assert "differ" not in words.lower(), words
        if self.screenshots:
            subprocess.run(["pdftoppm", "-png", "-r", "80", str(pdf), str(self.screenshots / "statement")], check=True)

    def administrator_makes_a_narrow_role(self) -> None:
        page = self.staff("admin")
        self.open(page, "/roles/add")
        page.fill("[name=name]", "Clerk")
        for permission in ("can list on Clients", "can list on Deals"):
            self.choose(page, "permissions", permission)
        self.shot(page, "role-editor", phone=False)
        page.get_by_role("button", name="Save").click()
        page.wait_for_url("**/roles/list/**")
        self.open(page, "/users/add")
        for name, value in {
            "first_name": "Carla", "last_name": "Clerk", "username": "clerk", "email": "clerk@example.com",
            "password": PASSWORD, "conf_password": PASSWORD,
        }.items():  # fmt: skip
            page.fill(f"[name={name}]", value)
        if not page.is_checked("[name=active]"):
            page.check("[name=active]")
        self.choose(page, "roles", "Clerk")
        page.get_by_role("button", name="Save").click()
        page.wait_for_url("**/users/list/**")

    @staticmethod
    def choose(page: Page, field: str, words: str) -> None:
        """Choose an option of a select with search, as a person types and clicks."""
        page.locator(f"#{field} + .select2-container").click()
        page.keyboard.type(words)
        page.locator(".select2-results__option", has_text=re.compile(f"^{words}$")).click()

    def clerk_sees_two_things(self) -> None:
        page = self.staff("clerk")
        self.open(page, "/")
        links = [
            link
            for link in page.locator("#rail a").evaluate_all("links => links.map(link => new URL(link.href).pathname)")
            if link != "/"
        ]
        assert sorted(links) == ["/clientview/list/", "/dealview/list/"]
        self.shot(page, "clerk", phone=False)
        for path in ("/clientview/list/", "/dealview/list/"):
            self.open(page, path)
        for path in (
            "/clientview/show/1",
            "/depositview/list/",
            "/withdrawals/",
            "/documents/",
            "/users/list/",
            "/roles/list/",
            "/auditview/list/",
        ):
            answer = page.request.get(self.brokerage.url + path, max_redirects=0)
            assert answer.status in (302, 403, 404), path


def test_lifecycle(brokerage: Brokerage, person: People, screenshots: Path | None, tmp_path: Path) -> None:
    life = Lifecycle(brokerage, person, screenshots)
    reason = "The bill is older than six months. Please send a newer one."
    life.registers_in_arabic_through_an_ib_link()
    life.verifies_the_mail_address_once()
    life.signs_in_in_english()
    life.sends("identity", "PASSPORT  NOURA ALHARBI")
    life.sends("address", "ELECTRICITY BILL 2024")
    life.reviewer_decides("Identity")
    life.reviewer_decides("Address", reason)
    life.reads_the_rejection(reason)
    life.sends("address", "ELECTRICITY BILL 2026")
    life.reviewer_decides("Address")
    login = life.opens_an_account()
    life.deposits("1,000")
    life.provider_repeats_itself()
    life.moves_to_the_account("600")
    life.trades(login)
    life.ib_sees_the_commission()
    life.asks_for_a_withdrawal("300")
    life.two_officers_approve_at_once()
    life.is_paid_out_once()
    mt4_login = life.opens_an_account_on_mt4()
    life.moves_on_mt4(mt4_login, "to_account", "60", "To trading account", "40.00 USD")
    life.trades_on_mt4(mt4_login)
    life.ib_sees_the_commission_of_mt4()
    life.moves_on_mt4(mt4_login, "to_wallet", "40", "From trading account", "80.00 USD")
    life.withdraws_what_mt4_gave_back()
    life.compliance_reads_the_statement(tmp_path)
    life.administrator_makes_a_narrow_role()
    life.clerk_sees_two_things()
