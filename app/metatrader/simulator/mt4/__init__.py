"""An MT4 server with its bridge, on this machine: for development, tests and the demo. docs/metatrader.md describes it.

machine.py       the whole, started and stopped; process.py runs it for the command line
server.py        HTTPS; bridge.py the rule for commands that change something, request_log.py what was sent, commands.py the
                 commands, control.py the control interface, faults.py codes.py
engine.py        the trading engine: books.py trading.py pending.py nightly.py logins.py are its parts, valuation.py its
                 arithmetic; prices, certificates, faults and the way of events are those of the MT5 simulator
trader.py        the people who trade, dealer.py who corrects them
book.py          what it remembers; telling.py the events it tells, asked.py those that it is asked for; reporting.py and
                 report.py its report database
"""

from app.metatrader.simulator.mt4.engine import MT4Engine
from app.metatrader.simulator.mt4.machine import SERVER_CODE, TIME_ZONE, MT4Simulator
from app.metatrader.simulator.mt4.process import Options, run

__all__ = ["SERVER_CODE", "TIME_ZONE", "MT4Engine", "MT4Simulator", "Options", "run"]
