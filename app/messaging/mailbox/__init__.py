"""The development mailbox."""

from __future__ import annotations

import email
import json
import threading
from email import policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from aiosmtpd.controller import Controller


def run(settings: Any) -> None:
    messages: list[dict[str, Any]] = []

    class Sink:
        async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
            parsed = email.message_from_bytes(envelope.content, policy=policy.default)
            body = parsed.get_body(("plain",))
            text = body.get_content() if body else ""
            messages.append({"id": str(len(messages) + 1), "to": envelope.rcpt_tos, "subject": parsed["subject"], "text": text})
            return "250 OK"

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if parts.path == "/messages.json":
                to = parse_qs(parts.query).get("to", [""])[0]
                answer: Any = [m for m in reversed(messages) if not to or to in m["to"]]
            else:
                answer = next((m for m in messages if parts.path == f"/messages/{m['id']}.json"), {})
            data = json.dumps(answer).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_a: Any) -> None:
            pass

    controller = Controller(Sink(), hostname="127.0.0.1", port=settings.port + 4)
    controller.start()
    threading.Thread(target=ThreadingHTTPServer(("127.0.0.1", settings.port + 3), Page).serve_forever, daemon=True).start()
    threading.Event().wait()
