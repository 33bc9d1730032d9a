"""The mailbox keeps messages in files, newest first, and shows foreign HTML harmlessly."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from app.messaging.mailbox.pages import linked, with_new_tabs
from app.messaging.mailbox.store import Store


def mail(subject: str, text: str = "Text") -> bytes:
    return f"Subject: {subject}\r\nTo: a@example.com\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{text}\r\n".encode()


def test_messages_are_found_again_after_a_restart(tmp_path):
    store = Store(tmp_path / "mailbox")
    ids = [store.add(mail(f"Mail {number}"), "from@example.com", ["a@example.com"]) for number in range(3)]
    for again in (store, Store(tmp_path / "mailbox")):
        assert [message.id for message in again.newest()] == ids[::-1]
        found = again.find(ids[0])
        assert (found.subject, found.text, found.sender) == ("Mail 0", "Text\n", "from@example.com")


def test_the_oldest_go_when_there_are_too_many(tmp_path):
    store = Store(tmp_path, capacity=3)
    for number in range(5):
        store.add(mail(str(number)), "", ["a@example.com"])
    assert [message.subject for message in store.newest()] == ["4", "3", "2"]
    assert len(list(tmp_path.iterdir())) == 3


def test_addresses_are_compared_whole_and_in_any_case(tmp_path):
    store = Store(tmp_path)
    store.add(mail("one"), "", ["Layla@Example.com", "b@example.com"])
    assert [message.subject for message in store.newest("layla@example.COM")] == ["one"]
    assert store.newest("ayla@example.com") == []


def test_deleting_all_leaves_nothing(tmp_path):
    store = Store(tmp_path)
    store.add(mail("one"), "", ["a@example.com"])
    store.clear()
    assert store.newest() == []
    assert list(tmp_path.iterdir()) == []


def test_bytes_that_are_no_mail_are_kept(tmp_path):
    store = Store(tmp_path)
    id_ = store.add(b"\xff\xfe\x00 not a mail \r\n", "", ["a@example.com"])
    assert Store(tmp_path).find(id_).subject == ""


def test_many_at_once_are_all_kept(tmp_path):
    store = Store(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda number: store.add(mail(str(number)), "", ["a@example.com"]), range(60)))
    assert len(ids) == len(store.newest()) == len(list(tmp_path.iterdir())) == 60


def test_a_file_in_the_way_of_the_folder_is_an_error(tmp_path):
    (tmp_path / "mailbox").write_text("")
    with pytest.raises(OSError, match="mailbox"):
        Store(tmp_path / "mailbox")


def test_addresses_in_text_become_links_and_nothing_else():
    assert linked('<b> & http://127.0.0.1:8000/x?a=1&b=2 "') == (
        '&lt;b&gt; &amp; <a href="http://127.0.0.1:8000/x?a=1&amp;b=2" rel="noreferrer">'
        "http://127.0.0.1:8000/x?a=1&amp;b=2</a> &#34;"
    )
    assert linked("javascript:alert(1)") == "javascript:alert(1)"


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<html><HEAD lang=x><title>t", '<html><HEAD lang=x><base target="_blank"><title>t'),
        ("<p>no head", '<base target="_blank"><p>no head'),
    ],
)
def test_links_of_a_message_open_in_a_new_tab(html, expected):
    assert with_new_tabs(html) == expected
