"""The speed of the commission engine, of accrual and of settlement."""
