"""What can go wrong with commissions and may be seen by staff or an IB."""

from __future__ import annotations

from app.core.errors import N_, AppError, Conflict, InvalidInput, map_constraint


class InvalidPlan(InvalidInput):
    """A rules document is wrong. `problems` maps paths such as rules[0].rate to message ids."""

    code = "commissions.invalid_plan"
    message = N_("This plan cannot be used as it is. Please check the marked fields.")


class PlanNameTaken(Conflict):
    code = "commissions.plan_name_taken"
    message = N_("There is already a plan of this name.")


class VersionOverlap(Conflict):
    """A version must begin after every earlier one, and not before what has already been paid."""

    code = "commissions.version_overlap"
    message = N_("This version must begin after the version before it.")


class PlanNotYetValid(Conflict):
    code = "commissions.plan_not_yet_valid"
    message = N_("This plan has no rules that are valid on that day.")


class AssignmentOverlap(Conflict):
    code = "commissions.assignment_overlap"
    message = N_("The IB's plan already changes on or after that day.")


class TermsTooEarly(Conflict):
    code = "commissions.terms_too_early"
    message = N_("The IB's terms already change at or after that moment.")


class ReplacesAnother(Conflict):
    """What a proposal was compared with when somebody decided is not what it would replace by now."""

    code = "commissions.replaces_another"
    message = N_("What this would replace has changed since you opened the page. Look at what changes now, and decide again.")


class TermsWaiting(Conflict):
    code = "commissions.terms_waiting"
    message = N_("Other terms of this IB wait for a decision. Decide those first.")


class FlagDecided(Conflict):
    code = "commissions.flag_decided"
    message = N_("Somebody has decided about this already.")


class GroupCodeTaken(Conflict):
    code = "commissions.group_code_taken"
    message = N_("There is already a symbol group of this code.")


class GroupOverlap(Conflict):
    code = "commissions.group_overlap"
    message = N_("This group gets other symbols at that moment or later already.")


class SettlementIncomplete(AppError):
    """Some IBs could not be settled; the others were. `failed` lists (IB, currency, code of the error)."""

    code = "commissions.settlement_incomplete"
    http_status = 500
    message = N_("Some settlements failed. The others were posted.")


map_constraint("uq_plan_name", PlanNameTaken)
map_constraint("uq_ib_terms_current", TermsTooEarly)
map_constraint("uq_ib_terms_proposal_open", TermsWaiting)
map_constraint("uq_plan_version_plan_id_version", VersionOverlap)
map_constraint("uq_plan_version_plan_id_valid_from", VersionOverlap)
map_constraint("uq_ib_plan_current", AssignmentOverlap)
map_constraint("uq_symbol_group_code", GroupCodeTaken)
map_constraint("uq_symbol_group_version_group_id_valid_from", GroupOverlap)


class ReplayMoved(Conflict):
    """`state` says where the run is now."""

    code = "commissions.replay_moved"
    message = N_("This run has moved on in the meantime: %(state)s. Nothing was changed by you.")


class NothingToPay(Conflict):
    code = "commissions.nothing_to_pay"
    message = N_("There is nothing to pay out at this moment.")


class PayoutWaiting(Conflict):
    code = "commissions.payout_waiting"
    message = N_("A payout was asked for already and waits. Cancel it first to ask for another one.")


class PayoutDecided(Conflict):
    """`state` says what became of it."""

    code = "commissions.payout_decided"
    message = N_("This payout has moved on in the meantime: %(state)s.")


class AskedTwice(Conflict):
    code = "commissions.payout_key_reused"
    message = N_(
        "This request was made before, with other content, or was cancelled. Nothing was changed; please send it again."
    )


class ReversalWaiting(Conflict):
    code = "commissions.payout_reversal_waiting"
    message = N_("Somebody has already asked that this payout be taken back.")


class WalletEmptied(Conflict):
    """`missing`: how much of the payout is not in the wallet any more."""

    code = "commissions.wallet_emptied"
    message = N_("The wallet no longer has this money: %(missing)s is missing. Nothing was moved.")


map_constraint("uq_payout_requested", PayoutWaiting)
map_constraint("uq_payout_reversal_open", ReversalWaiting)
