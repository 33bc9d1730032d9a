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


map_constraint("uq_introducing_broker_client_id", AlreadyIB)
map_constraint("uq_ib_link_code", LinkCodeTaken)
