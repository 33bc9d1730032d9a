"""The built-in roles: lists of (permission, view). Applied by `run.py permissions`, compared in a test."""

from __future__ import annotations


def read(*views: str) -> list[tuple[str, str]]:
    """The right to list and open rows of generated screens."""
    return [(permission, view) for view in views for permission in ("can_list", "can_show")]


#: What everybody has: to see the own profile and change the own password.
OWN = [
    ("can_userinfo", "Staff"),
    ("resetmypassword", "Staff"),
    ("can_this_form_get", "Own password"),
    ("can_this_form_post", "Own password"),
]

#: To see exchange rates, what conversions cost, what was converted, and what the house's positions are worth.
EXCHANGE = [
    ("can_list", "Exchange rates"),
    ("can_list", "FX positions"),
    *read("FX pairs", "FX sources", "FX quotes"),
]

ROLES: dict[str, list[tuple[str, str]]] = {
    "KYC reviewer": [
        *OWN,
        *read("Clients"),
        ("can_list", "Documents"),
        ("can_review", "Documents"),
    ],
    "Payments officer": [
        *OWN,
        *read("Clients", "Deposits", "Transfers", "Callbacks"),
        *read("All withdrawals"),
        ("can_list", "Withdrawals"),
        ("can_decide", "Withdrawals"),
    ],
    "Compliance officer": [
        *OWN,
        *read(
            "Clients",
            "Deposits",
            "Transfers",
            "Trading accounts",
            "Deals",
            "Ledger accounts",
            "Ledger transactions",
            "Audit trail",
            "Events",
        ),
        ("can_list", "Chart of accounts"),
        *read("All withdrawals"),
        ("can_list", "Withdrawals"),
        ("can_list", "Documents"),
        ("can_review", "Documents"),
        ("can_list", "Ledger entries"),
        ("can_list", "Proofs"),
        ("can_list", "Client money"),
        ("can_pdf", "Statements"),
        *read("Ledger requests"),
        ("can_list", "Trading rules"),
        ("can_edit", "Trading rules"),
        *[(f"can_{right}", "Commission flags") for right in ("list", "decide", "set")],
        ("can_list", "Partner privacy"),
        ("can_edit", "Partner privacy"),
        ("can_list", "Client categories"),
        ("can_edit", "Client categories"),
        ("can_list", "Breaks"),
        ("can_list", "Foreign operations"),
        *EXCHANGE,
    ],
    "Finance officer": [
        *OWN,
        *read("Clients", "Deposits", "Transfers", "Trading accounts", "Deals", "Settlements"),
        *read("All withdrawals"),
        ("can_list", "Chart of accounts"),
        ("can_list", "Client money"),
        *read("Ledger accounts", "Ledger transactions"),
        ("can_list", "Ledger entries"),
        *read("Ledger requests"),
        ("can_propose", "Ledger requests"),
        ("can_decide", "Ledger requests"),
        ("can_list", "Bank statements"),
        ("can_import", "Bank statements"),
        ("can_show", "Statement lines"),
        ("can_match", "Statement lines"),
        ("can_list", "Proofs"),
        ("can_run", "Proofs"),
        ("can_acknowledge", "Proofs"),
        ("can_list", "Breaks"),
        ("can_explain", "Breaks"),
        ("can_adjust", "Breaks"),
        ("can_list", "Foreign operations"),
        ("can_review", "Foreign operations"),
        *EXCHANGE,
        ("can_propose", "Exchange rates"),
        ("can_decide", "Exchange rates"),
        ("can_list", "Commission plans"),
        ("can_decide", "Commission plans"),
        ("can_list", "Symbol groups"),
        ("can_list", "Commission desk"),
        ("can_list", "Partner moves"),
        ("can_decide", "Partner moves"),
        ("can_list", "IB terms"),
        ("can_decide", "IB terms"),
        ("can_list", "Commission flags"),
        *[(f"can_{right}", view) for view in ("Payout runs", "Payouts") for right in ("list", "propose", "decide")],
        ("can_list", "Payment terms"),
        ("can_edit", "Payment terms"),
    ],
    "Partner manager": [
        *OWN,
        *read("Clients", "Introducing brokers", "IB links", "Attributions", "Accruals", "Settlements"),
        *read("Plan periods"),
        ("can_list", "IB network"),
        ("can_list", "Client categories"),
        ("can_list", "Symbol groups"),
        ("can_edit", "Symbol groups"),
        ("can_list", "Payouts"),
        ("can_list", "Payment terms"),
        ("can_list", "Partner privacy"),
        ("can_list", "Partner policy"),
        ("can_edit", "Partner policy"),
        ("can_list", "Commission desk"),
        ("can_retry", "Commission desk"),
        *[
            (f"can_{right}", view)
            for view in ("Commission plans", "Partner moves", "IB terms")
            for right in ("list", "propose", "decide")
        ],
        ("can_list", "Commission flags"),
        ("can_decide", "Commission flags"),
    ],
    "Operator": [
        *OWN,
        *read("Servers", "Products", "Trading accounts", "Deals", "Positions", "Unknown operations", "Dead letters"),
        *read("Events", "Mails", "Failed jobs"),
        *[(f"can_{right}", "Connections") for right in ("list", "pause", "sweep", "resend", "replay", "retry")],
        ("can_list", "Proofs"),
        ("can_run", "Proofs"),
        ("can_acknowledge", "Proofs"),
        ("can_list", "Commission desk"),
        ("can_retry", "Commission desk"),
        *[(permission, view) for view in ("Servers", "Products") for permission in ("can_add", "can_edit")],
        ("check", "Products"),
        ("can_change", "Account changes"),
        ("can_bind", "Account changes"),
        ("can_list", "Trading rules"),
        ("can_list", "Login imports"),
        ("can_import", "Login imports"),
        *[(f"can_{right}", "Breaks") for right in ("list", "repair", "explain", "check")],
        ("can_list", "Foreign operations"),
        ("can_review", "Foreign operations"),
    ],
}
