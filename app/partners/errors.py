"""What can go wrong with introducing brokers and may be seen by staff or an IB."""

from __future__ import annotations

from app.core.errors import N_, Conflict, InvalidInput, map_constraint


class AlreadyIB(Conflict):
    code = "partners.already_ib"
    message = N_("This client is an introducing broker already.")


class LinkCodeTaken(Conflict):
    code = "partners.link_code_taken"
    message = N_("Another link has this code.")


class TooManyLinks(Conflict):
    code = "partners.too_many_links"
    message = N_("An introducing broker can have 100 links at most.")


class InvalidLink(InvalidInput):
    code = "partners.invalid_link"


class NotApprovedYet(Conflict):
    code = "partners.not_approved_yet"
    message = N_("Please have your documents approved first; then you can become a partner.")


class InvitationNeeded(Conflict):
    code = "partners.invitation_needed"
    message = N_("At present partners come by invitation of a partner only.")


class InvitationOver(Conflict):
    code = "partners.invitation_over"
    message = N_("This invitation was used, taken back or has expired. Please ask for another one.")


class AgreementChanged(Conflict):
    code = "partners.agreement_changed"
    message = N_("The agreement has changed meanwhile. Please read it again.")


class ApplicationWaiting(Conflict):
    code = "partners.application_waiting"
    message = N_("You have applied already. We look at it and tell you.")


class ApplicationDecided(Conflict):
    code = "partners.application_decided"
    message = N_("This application has been decided meanwhile.")


class AgreementKnown(Conflict):
    code = "partners.agreement_known"
    message = N_("An agreement with this version was published before.")


class TooManyInvitations(Conflict):
    code = "partners.too_many_invitations"
    message = N_("You have 50 open invitations. Take some back first.")


class CircleOfIBs(Conflict):
    code = "partners.circle"
    message = N_("An introducing broker cannot stand below itself or below its own branch.")


class OwnDownline(Conflict):
    code = "partners.own_downline"
    message = N_("A client cannot belong to an introducing broker of their own branch.")


class MoveTooEarly(Conflict):
    code = "partners.move_too_early"
    message = N_("This moment lies before the present place began. Choose a later one.")


class NothingToMove(Conflict):
    code = "partners.nothing_to_move"
    message = N_("This is the present place already.")


class NoClientsToMove(Conflict):
    code = "partners.no_clients_to_move"
    message = N_(
        "No client of this introducing broker can move there from that moment on: it had none then, or only those above it."
    )


class MoveWaiting(Conflict):
    code = "partners.move_waiting"
    message = N_("Another move of the same waits for a decision. Decide that one first.")


class MovedMeanwhile(Conflict):
    code = "partners.moved_meanwhile"
    message = N_("It has been moved since this was proposed. Withdraw or reject this and propose it anew.")


class MoveNotCancellable(Conflict):
    code = "partners.move_not_cancellable"
    message = N_(
        "Only an approved move can be cancelled, and only until a minute before its moment. Propose a move back instead."
    )


class MoveBuiltUpon(Conflict):
    """A later move begins where this one leads. `data` has its number as `later`, where there is one."""

    code = "partners.move_built_upon"
    message = N_("What this move changes was changed again from a later moment on. It cannot be cancelled any more.")
    named = N_("Move %(later)s builds on this one. Cancel that one first.")


class RemindedLately(Conflict):
    code = "partners.reminded_lately"
    message = N_("They were asked within the last 24 hours. Please wait before you remind them.")


class NothingToChange(Conflict):
    code = "partners.nothing_to_change"
    message = N_("This holds already. Nothing was changed.")


map_constraint("uq_introducing_broker_client_id", AlreadyIB)
map_constraint("uq_ib_link_code", LinkCodeTaken)
map_constraint("ib_parent_circle", CircleOfIBs)
map_constraint("ib_parent_overlap", MoveTooEarly)
map_constraint("uq_ib_parent_current", MoveTooEarly)
map_constraint("attribution_own_downline", OwnDownline)
for _subject in ("client", "ib", "clients"):
    map_constraint(f"uq_partner_move_open_{_subject}", MoveWaiting)
map_constraint("uq_ib_application_pending", ApplicationWaiting)
map_constraint("uq_partner_agreement_version", AgreementKnown)
