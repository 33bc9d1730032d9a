"""The development mailbox: an SMTP sink for every mail the house sends, and a page where people and tests read them.

Nothing leaves the machine. `run` is the process of `run.py up`; `Mailbox` is the same for tests, on free ports.
"""

from app.messaging.mailbox.server import Mailbox, run

__all__ = ["Mailbox", "run"]
