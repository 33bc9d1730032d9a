"""The MetaTrader link: commands to trading servers, and the events that come back.

platform.py    the port: what every trading server can do for us, and the records it hands back
codes.py       MetaTrader's numbers by name
fields.py      strict reading and writing of a record's text fields
errors.py      what can go wrong with a command, by what may be done next
platforms/     one adapter per way to reach a server
events.py      the canonical event: one contract for every source of events
stream.py      its transport on Redis streams
servertime.py  the server's wall clock and UTC
simulator/     a trading server that runs here, for development, tests and the demo

docs/metatrader.md describes the contract and how to add a platform or a source.
"""
