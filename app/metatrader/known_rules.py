"""Trading rules that are known to us, as a start: an operator's own counsel has to confirm each before it is relied on.

The cap of a rule is that of the account, which is the law's highest one (major currency pairs); what lower caps it has for
other instruments is set per symbol at the trading server. Where no number could be confirmed there is no rule here:
no cap is known for Seychelles, Mauritius, Vanuatu and South Africa.
"""

from __future__ import annotations

from datetime import date, timedelta

from app.metatrader.rules import Draft

#: The member states of the European Union.
EUROPEAN_UNION = (
    *("AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU"),
    *("IE", "IT", "LT", "LU", "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK"),
)

KNOWN_RULES = (
    # Cyprus: directive DI87-09 of 27 September 2019; other states took the same measures over from ESMA.
    Draft("ESMA retail", EUROPEAN_UNION, 30, protects_negative_balance=True, valid_from=date(2019, 9, 27)),
    # COBS 22.5, PS19/18.
    Draft("FCA retail", ("GB",), 30, protects_negative_balance=True, valid_from=date(2019, 8, 1)),
    # Instrument 2020/986, extended to 23 May 2027; that day still counts.
    Draft(
        "ASIC retail",
        ("AU",),
        30,
        protects_negative_balance=True,
        valid_from=date(2021, 3, 29),
        valid_until=date(2027, 5, 23) + timedelta(days=1),
    ),
    # Securities Industry (Contracts for Differences) Rules 2020: at least 0.5 % margin. The day is that of most reports.
    Draft("SCB Bahamas", ("BS",), 200, protects_negative_balance=True, valid_from=date(2021, 2, 26)),
    # S.I. 119 of 2024: a retail client's liability ends with the money on the account. It names no highest leverage.
    Draft("FSA Seychelles", ("SC",), None, protects_negative_balance=True, valid_from=date(2024, 12, 31)),
)
