"""The ledger: every balance of the house and its clients, double entry, provable.

`chart` names the accounts, `posting` moves money, `holds` reserves it, `close` shuts accounts and periods, `queries` reads
balances and statements, `proofs` shows that all of it adds up. No other package writes ledger tables. docs/ledger.md
explains the sign rules and shows a recipe for each movement.
"""
