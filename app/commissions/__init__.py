"""What IBs earn: plans as versioned data, a pure engine, accruals per deal, settlements into the ledger, explanations."""
