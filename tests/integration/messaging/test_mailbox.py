"""The mailbox over its real doors: SMTP in, pages and JSON out."""

from __future__ import annotations

import os
import smtplib
import socket
import subprocess
import sys
from email.message import EmailMessage
from urllib.parse import urljoin

import httpx
import pytest

from app import ROOT
from app.messaging.mailbox import Mailbox


def deliver(mailbox: Mailbox, to: str = "layla@example.com", subject: str = "Hello", html: str = "<p>Hello</p>") -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "house@example.com", to, subject
    message.set_content("See http://127.0.0.1:8000/portal/verify/abc and <script>alert(1)</script>\n")
    message.add_alternative(html, subtype="html")
    with smtplib.SMTP("127.0.0.1", mailbox.smtp_port, timeout=10) as smtp:
        smtp.send_message(message)


@pytest.fixture
def http(mailbox):
    with httpx.Client(base_url=mailbox.url, trust_env=False) as client:
        yield client


def test_a_mail_is_listed_and_read(mailbox, http):
    assert "No mails yet" in http.get("/").text
    deliver(mailbox, subject="أكّد عنوان بريدك")
    deliver(mailbox, to="omar@example.com", subject="Second")
    listed = http.get("/messages.json").json()
    assert [(mail["subject"], mail["to"]) for mail in listed] == [
        ("Second", ["omar@example.com"]),
        ("أكّد عنوان بريدك", ["layla@example.com"]),
    ]
    (mine,) = http.get("/messages.json", params={"to": "layla@example.com"}).json()
    whole = http.get(f"/messages/{mine['id']}.json").json()
    assert whole["links"] == ["http://127.0.0.1:8000/portal/verify/abc"]
    assert whole["html"] == "<p>Hello</p>\n"
    assert ["Subject", "أكّد عنوان بريدك"] in whole["headers"]
    page = http.get("/").text
    assert page.index("Second") < page.index("أكّد")
    page = http.get(f"/messages/{mine['id']}").text
    assert '<a href="http://127.0.0.1:8000/portal/verify/abc"' in page
    assert "&lt;script&gt;" in page


def test_foreign_html_is_kept_in_a_box(mailbox, http):
    deliver(mailbox, html="<script>alert(1)</script><img src=http://tracker.example/x><a href=http://127.0.0.1/>go</a>")
    (mail,) = http.get("/messages.json").json()
    body = http.get(f"/messages/{mail['id']}/body.html")
    policy = body.headers["Content-Security-Policy"]
    assert policy.startswith("sandbox allow-popups")
    assert "script" not in policy
    assert "default-src 'none'" in policy
    assert body.text.startswith('<base target="_blank">')
    page = http.get(f"/messages/{mail['id']}")
    assert 'sandbox="allow-popups allow-popups-to-escape-sandbox"' in page.text
    assert "script" not in page.headers["Content-Security-Policy"]
    assert "unsafe-inline" not in page.headers["Content-Security-Policy"]


def test_deleting_is_for_this_page_alone(mailbox, http):
    deliver(mailbox)
    assert http.post("/clear", headers={"Origin": "https://elsewhere.example"}).status_code == 403
    assert len(http.get("/messages.json").json()) == 1
    assert http.get("/clear").status_code == 405
    answer = http.post("/clear", headers={"Origin": mailbox.url})
    assert (answer.status_code, urljoin(mailbox.url, answer.headers["Location"])) == (303, mailbox.url + "/")
    assert http.get("/messages.json").json() == []


@pytest.mark.parametrize(
    "path", ["/messages/1", "/messages/1.json", "/messages/1/body.html", "/messages/..%2f..%2fsecrets.json", "/x"]
)
def test_what_is_not_there_is_not_found(http, path):
    answer = http.get(path)
    assert answer.status_code == 404
    assert "not here" in answer.text


def test_mails_outlive_a_restart(tmp_path):
    with Mailbox(tmp_path) as first:
        deliver(first)
    with Mailbox(tmp_path, smtp_port=first.smtp_port, http_port=first.http_port) as second:
        assert len(httpx.get(f"{second.url}/messages.json", trust_env=False).json()) == 1
        deliver(second)
        assert len(httpx.get(f"{second.url}/messages.json", trust_env=False).json()) == 2


def test_stopping_does_not_wait_for_an_open_conversation(tmp_path):
    mailbox = Mailbox(tmp_path).start()
    with socket.create_connection(("127.0.0.1", mailbox.smtp_port), timeout=10) as idle:
        assert idle.recv(3) == b"220"
        mailbox.stop()
    mailbox.stop()


@pytest.mark.parametrize("which", ["smtp_port", "http_port"])
def test_a_taken_port_is_one_clear_line(tmp_path, which):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        offset = 4 if which == "smtp_port" else 3
        port = taken.getsockname()[1] - offset
        code = (
            "from types import SimpleNamespace; from pathlib import Path; from app.messaging.mailbox import run;"
            f"run(SimpleNamespace(is_production=False, var_dir=Path({str(tmp_path)!r}), port={port}))"
        )
        ended = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stderr.startswith("The mailbox cannot start on ports")
    assert ended.stderr.count("\n") == 1
