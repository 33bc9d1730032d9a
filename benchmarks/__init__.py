"""Benchmarks: `run.py bench NAME` measures, compares with a limit in the same run, and writes one form (form.py).

A benchmark is a module here with a function `measure(run: form.Run) -> None`; its name is the module's. It brings what it
is measured beside (SQL, scripts) in its folder. CI runs each with --small, for correctness only.
"""
