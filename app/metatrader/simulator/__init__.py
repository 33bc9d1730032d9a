"""A MetaTrader 5 server that runs on this machine: for development, tests and the demo. docs/metatrader.md describes it.

machine.py       the whole, started and stopped; process.py runs it for the command line, life.py is its background life
server.py        HTTPS, sessions bound to connections, the control interface; session.py certificates.py faults.py control.py
commands/        the Web API's commands
exchange.py      the trading engine: books.py trading.py orders.py nightly.py edits.py logins.py are its parts, pricing.py and
                 valuation.py its arithmetic, market.py hours.py instruments.py its prices; users.py its people's records
trader.py        the people who trade; crowd.py many of them, filling.py a history of theirs, load.py what load costs
store.py         what it remembers, rows.py how; journal.py and publisher.py the events it tells
"""

from app.metatrader.simulator.machine import SERVER_CODE, TIME_ZONE, Simulator
from app.metatrader.simulator.process import Options, run

__all__ = ["SERVER_CODE", "TIME_ZONE", "Options", "Simulator", "run"]
