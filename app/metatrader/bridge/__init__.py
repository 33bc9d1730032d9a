"""The bridge: a program for a Windows host beside an MT5 server, on MetaQuotes' own `mt5manager` package.

manager.py    one connection of the Manager API; the only place that imports the Windows package
sinks.py      what the API calls back: copies fields, enqueues, returns
records.py    the API's objects as records of the port
worker.py     turns what came in into canonical events and writes them down
outbox.py     the SQLite file that keeps events until Redis has them
publisher.py  carries the outbox to Redis
requests.py   what may be asked of a bridge: the request side of the contract
backfill.py   the second process: answers requests on a connection of its own
asking.py     the asker's end of a request, on our side of the network
settings.py   bridge.toml and the environment
program.py    puts the two processes together

Everything but the import in manager.py runs and is tested on any system. docs/metatrader-bridge.md is the contract, and
the operator's guide.
"""
