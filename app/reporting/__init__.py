"""Statements and reports: what stands in them, as data, and their rendering as PDF from the folders under reports/."""
