"""Words for breaks: what each kind means, why it may be, and what to do about it."""

from __future__ import annotations

from flask_babel import lazy_gettext as _l

KINDS = {
    "deal_vanished": _l("Deal vanished"),
    "deal_differs": _l("Deal differs"),
    "deal_count": _l("Many deals differ"),
    "balance": _l("Balance differs"),
    "credit": _l("Credit differs"),
    "ghost_position": _l("Ghost position"),
    "missing_position": _l("Position missing"),
    "unknown_login": _l("Login without a client"),
    "login_vanished": _l("Login vanished"),
    "login_cleaned": _l("Login wiped"),
    "negative_balance": _l("Negative balance"),
}

STATES = {
    "open": _l("Open"),
    "repaired": _l("Repaired"),
    "explained": _l("Explained"),
    "gone": _l("Gone by itself"),
}
STATE_KINDS = {"open": "warning", "repaired": "success", "explained": "info", "gone": "neutral"}

CAUSES = {
    "in_numbers": _l("More vanished at once than people delete by hand"),
    "dealer_edit": _l("Edited at the server"),
    "archived_login": _l("The login is in the archive"),
    "in_flight": _l("A balance operation of ours has no answer yet"),
    "deals_differ": _l("Its deals differ, see there"),
    "server_drift": _l("At the server, the balance is not the sum of the deals"),
    "taken_over": _l("The login was taken over from elsewhere"),
    "wiped": _l("The server wiped all deals of a real login at once"),
    "not_imported": _l("Nobody has imported or bound it"),
    "no_stop_out": _l("Below zero without a stop-out"),
    "not_protected": _l("No rule of the client's country protects"),
    "stop_out": _l("Stop-out"),
    "fell_again": _l("Below zero again after it was restored"),
    "operation_failed": _l("The server refused to restore it"),
    "odd_amount": _l("More digits than the currency has"),
}

#: What the reader does about each kind.
ADVICE = {
    "deal_vanished": _l(
        "Repair asks the server once more; what is gone there becomes void here, with all that followed from it."
    ),
    "deal_differs": _l("Repair fetches the deal as it stands at the server; the difference is booked as a new revision."),
    "deal_count": _l("Look at the login at the server first. Repair makes the whole day what the server has."),
    "balance": _l("Repair reads the last week again. If that does not settle it, propose an adjustment with evidence."),
    "credit": _l("Credit stays outside the ledger. Find out who changed it at the server, then explain it."),
    "ghost_position": _l("Repair asks the server once more and removes the position here if it is closed there."),
    "missing_position": _l("Repair brings the position as the server has it."),
    "unknown_login": _l("Import or bind the login, or explain why it is nobody's."),
    "login_vanished": _l(
        "Repair archives the account here if the server has archived it. Otherwise ask who deleted the login."
    ),
    "login_cleaned": _l(
        "Ask who wiped the deals of a real login. Repair makes void here what the server has no more, with all that followed."
    ),
    "negative_balance": _l("Ask the client to pay, or have the dealing desk write it off at the server. Then explain it."),
}

#: What went wrong with a repair, where it is a code and not the server's own word.
FAILURES = {"still_there": _l("the difference is still there")}
