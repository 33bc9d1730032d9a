"""The Web API commands that the simulator knows: path → function from a call to its answer."""

from __future__ import annotations

from app.metatrader.simulator.commands.calculations import CALCULATIONS
from app.metatrader.simulator.commands.call import Command
from app.metatrader.simulator.commands.catalogue import CATALOGUE
from app.metatrader.simulator.commands.daily import DAILY
from app.metatrader.simulator.commands.orders import ORDERS
from app.metatrader.simulator.commands.trading import TRADING
from app.metatrader.simulator.commands.users import USERS

COMMANDS: dict[str, Command] = {**USERS, **TRADING, **ORDERS, **CALCULATIONS, **DAILY, **CATALOGUE}

#: Commands that exist on a real server and that our manager may not use: refused with 403 while the session lives on.
FORBIDDEN = frozenset(
    {
        *(f"{subject}/{change}" for subject in ("deal", "position", "order", "history") for change in ("update", "delete")),
        "group/add",
        "group/delete",
        "time/set",
        "book/subscribe",
    }
)
