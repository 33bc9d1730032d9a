"""A MetaTrader 5 server that runs on this machine: for development, tests and the demo. docs/metatrader.md describes it.

machine.py       the whole, started and stopped; `run` is the process
server.py        HTTPS, sessions bound to connections, the control interface; session.py certificates.py faults.py control.py
commands/        the Web API's commands
exchange.py      the trading engine; pricing.py and valuation.py its arithmetic, market.py its prices, users.py its logins
trader.py        the people who trade
store.py         what it remembers; journal.py the events it publishes
"""

from app.metatrader.simulator.machine import SERVER_CODE, TIME_ZONE, Simulator, run

__all__ = ["SERVER_CODE", "TIME_ZONE", "Simulator", "run"]
