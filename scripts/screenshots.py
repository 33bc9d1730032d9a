"""Takes the README's pictures from a running demo: `python scripts/screenshots.py [http://127.0.0.1:8000]`.

Signs in as the demo's people, opens one page of each surface, and writes PNG files to docs/pictures.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "pictures"
PASSWORD = "demo-Lotwise-1"


def portal(browser: Browser, base: str, user: str, language: str, width: int, height: int) -> Page:
    page = browser.new_context(viewport={"width": width, "height": height}).new_page()
    page.goto(f"{base}/portal/sign-in?lang={language}")
    page.fill("[name=email]", f"{user}@demo.lotwise.example")
    page.fill("[name=password]", PASSWORD)
    page.click("form:has([name=password]) button.btn-primary")
    page.wait_for_url("**/portal/")
    return page


def office(browser: Browser, base: str, user: str) -> Page:
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    page.goto(f"{base}/login/")
    page.fill("[name=username]", user)
    page.fill("[name=password]", PASSWORD)
    page.press("[name=password]", "Enter")
    page.wait_for_url(f"{base}/")
    return page


def keep(page: Page, name: str) -> None:
    page.wait_for_load_state()
    page.wait_for_timeout(300)
    page.screenshot(path=PICTURES / f"{name}.png")
    print(f"docs/pictures/{name}.png")


def main(base: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        raise SystemExit("There is no chromium; install Debian's package chromium.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        client = portal(browser, base, "elena", "en", 1280, 800)
        client.goto(f"{base}/portal/accounts/")
        client.locator("main a.card").first.click()
        keep(client, "portal")
        keep(portal(browser, base, "layla", "ar", 390, 800), "portal-arabic")
        partner = portal(browser, base, "ib", "en", 1280, 800)
        partner.goto(f"{base}/portal/partner/")
        keep(partner, "partner")
        staff = office(browser, base, "compliance")
        staff.goto(f"{base}/clientview/show/2")
        keep(staff, "office")
        with tempfile.TemporaryDirectory() as folder:
            pdf = Path(folder) / "statement.pdf"
            pdf.write_bytes(staff.request.get(f"{base}/statements/2.pdf?language=en").body())
            subprocess.run(["pdftoppm", "-png", "-r", "70", "-singlefile", str(pdf), str(PICTURES / "statement")], check=True)
        print("docs/pictures/statement.png")
        browser.close()


if __name__ == "__main__":
    main((sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000").rstrip("/"))
