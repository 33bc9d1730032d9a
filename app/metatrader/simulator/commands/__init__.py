"""The Web API commands that the simulator knows: path → function from a call to its answer."""

from __future__ import annotations

from app.metatrader.simulator.commands.call import Command
from app.metatrader.simulator.commands.catalogue import CATALOGUE
from app.metatrader.simulator.commands.trading import TRADING
from app.metatrader.simulator.commands.users import USERS

COMMANDS: dict[str, Command] = {**USERS, **TRADING, **CATALOGUE}

#: Commands that exist on a real server and that our manager may not use: refused with 403 while the session lives on.
FORBIDDEN = frozenset({"user/delete", "deal/update", "deal/delete", "position/update", "position/delete", "book/subscribe"})
