"""The messages, one file each, so that they survive a restart; the oldest go when there are too many."""

from __future__ import annotations

import email
import json
import os
import re
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

CAPACITY = 500

_LINK = re.compile(r"https?://[^\s<>\"]+")


@dataclass(frozen=True)
class Message:
    """One mail as it was delivered: the envelope, the decoded parts, and the headers in their order."""

    id: str
    received_at: datetime
    sender: str
    recipients: tuple[str, ...]
    subject: str
    text: str
    html: str
    headers: tuple[tuple[str, str], ...]

    @property
    def links(self) -> list[str]:
        """Addresses in the text, in order, each once."""
        return list(dict.fromkeys(_LINK.findall(self.text)))

    def is_to(self, address: str) -> bool:
        return address.lower() in {recipient.lower() for recipient in self.recipients}


class Store:
    """Messages in a folder, newest first. Safe for several threads of one process."""

    def __init__(self, folder: Path, capacity: int = CAPACITY) -> None:
        """Read what is there. Raises OSError when the folder cannot be made or written."""
        self._folder, self._capacity, self._lock = folder, capacity, threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "cannot be written", str(folder))
        self._messages = {path.stem: _read(path) for path in sorted(folder.glob("*.json"))}

    def add(self, content: bytes, sender: str, recipients: list[str]) -> str:
        """Keep one mail and return its id."""
        with self._lock:
            moment = max([time.time_ns(), *(int(id_) + 1 for id_ in list(self._messages)[-1:])])
            path = self._folder / f"{moment:020}.json"
            mail = {"sender": sender, "recipients": recipients, "content": content.decode("utf-8", "surrogateescape")}
            draft = path.with_suffix(".part")
            draft.write_text(json.dumps(mail), encoding="ascii")
            draft.replace(path)
            self._messages[path.stem] = _read(path)
            for id_ in list(self._messages)[: -self._capacity]:
                self._drop(id_)
        return path.stem

    def newest(self, to: str | None = None) -> list[Message]:
        """All messages, or those to one address, newest first."""
        with self._lock:
            messages = list(self._messages.values())
        return [message for message in reversed(messages) if not to or message.is_to(to)]

    def find(self, id_: str) -> Message | None:
        with self._lock:
            return self._messages.get(id_)

    def clear(self) -> None:
        with self._lock:
            for id_ in list(self._messages):
                self._drop(id_)

    def _drop(self, id_: str) -> None:
        del self._messages[id_]
        (self._folder / f"{id_}.json").unlink(missing_ok=True)


def _read(path: Path) -> Message:
    mail = json.loads(path.read_text(encoding="ascii"))
    parsed = email.message_from_bytes(mail["content"].encode("utf-8", "surrogateescape"), policy=default)
    return Message(
        id=path.stem,
        received_at=datetime.fromtimestamp(int(path.stem) / 1e9, UTC),
        sender=mail["sender"],
        recipients=tuple(mail["recipients"]),
        subject=str(parsed["Subject"] or ""),
        text=_part(parsed, "plain"),
        html=_part(parsed, "html"),
        headers=tuple((name, str(value)) for name, value in parsed.items()),
    )


def _part(parsed: EmailMessage, kind: str) -> str:
    body = parsed.get_body((kind,))
    return "" if body is None else str(body.get_content()).replace("\r\n", "\n")
