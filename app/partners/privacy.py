"""What an introducing broker may see of its clients: a policy of the house, and names as it shows them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.actor import Actor
from app.core.errors import N_, InvalidInput
from app.core.uow import unit_of_work
from app.models.clients import Client
from app.models.partner_privacy import PartnerPrivacy
from app.partners.attribution import short_name
from app.partners.errors import NothingToChange

#: That policies are never changed; repeatable, run after migrations.
SQL = Path(__file__).parent / "sql" / "privacy.sql"

#: How a client is called: with the full name, with the last name's initial, or by number only.
NAMES = ("full", "short", "number")


@dataclass(frozen=True)
class Privacy:
    """The policy. The defaults hold until staff have decided something else."""

    names: str = "short"
    shows_email: bool = False
    shows_balance: bool = False
    shows_lots: bool = True
    shows_sub_clients: bool = False

    def name(self, client: Client, *, is_own: bool = True) -> str:
        """What the IB reads for this client; empty where the policy gives no name. `is_own`: not a sub-IB's client."""
        if self.names == "number" or not (is_own or self.shows_sub_clients):
            return ""
        return client.full_name if self.names == "full" else short_name(client)

    def ib_name(self, ib_id: int, client: Client) -> str:
        """What an IB reads for an IB below it, who is a client, too: the initial at most; the IB's number without names."""
        return f"#{ib_id}" if self.names == "number" else short_name(client)


def current_privacy(session: Session) -> Privacy:
    """The policy that holds now."""
    row = session.scalar(select(PartnerPrivacy).order_by(PartnerPrivacy.id.desc()).limit(1))
    return Privacy(**{field.name: getattr(row, field.name) for field in fields(Privacy)}) if row else Privacy()


def privacy_history(session: Session, limit: int = 50) -> list[PartnerPrivacy]:
    """The policies so far, the newest first."""
    return list(session.scalars(select(PartnerPrivacy).order_by(PartnerPrivacy.id.desc()).limit(limit)))


def set_privacy(session: Session, wanted: Privacy, reason: str, actor: Actor) -> None:
    """Have this policy hold from now on, on every page and in every file at once.

    Raises InvalidInput without a reason or with a wrong choice, and NothingToChange. Emits partner_privacy.changed.
    """
    said = " ".join(reason.split())
    problems: dict[str, str] = {}
    if not said:
        problems["reason"] = N_("Please give a reason.")
    if wanted.names not in NAMES:
        problems["names"] = N_("Please choose one of the list.")
    if problems:
        raise InvalidInput(problems)
    with unit_of_work(session, actor) as unit:
        before = current_privacy(session)
        if wanted == before:
            raise NothingToChange
        row = PartnerPrivacy(**asdict(wanted), set_by=str(actor), reason=said)
        session.add(row)
        session.flush()
        unit.audit(
            "partner_privacy.changed", f"partner_privacy:{row.id}", before=asdict(before), after=asdict(wanted), reason=said
        )
        unit.emit("partner_privacy.changed", subject_id=row.id, **asdict(wanted))
