"""Money in and out: deposits, withdrawals and transfers over payment connectors."""
