"""What a client keeps current: language, telephone, address, password."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.clients.errors import InvalidPassword, InvalidProfile
from app.clients.passwords import hash_password, password_problem, set_password, verify_password
from app.core.actor import Actor
from app.core.errors import N_
from app.core.uow import unit_of_work
from app.models.clients import Client

_PHONE = re.compile(r"\+[0-9 ()./-]{6,31}")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z]{2,4})?")

#: Digits and plus sign as Arabic and Persian keyboards type them.
_DIGITS = str.maketrans("٠١٢٣٤٥٦٧٨٩۰۱۲۳۴۵۶۷۸۹＋", "01234567890123456789+")


@dataclass(frozen=True)
class Profile:
    language: str
    phone: str
    address: str


def update_profile(session: Session, *, client_id: int, language: str, phone: str, address: str, actor: Actor) -> Profile:
    """Save language, telephone and address. Emits client.profile_changed with the names of what changed, if anything did.

    Raises InvalidProfile with every problem at once.
    """
    phone = " ".join(phone.translate(_DIGITS).split())
    lines = (" ".join(line.split()) for line in address.splitlines())
    wanted = Profile(language, phone, "\n".join(line for line in lines if line))
    problems: dict[str, str] = {}
    if not _LANGUAGE.fullmatch(language):
        problems["language"] = N_("Please choose a language.")
    if phone and (not _PHONE.fullmatch(phone) or not 7 <= sum(sign.isdigit() for sign in phone) <= 15):
        problems["phone"] = N_("Please enter the number with its country code, such as +44 20 7946 0958.")
    if len(wanted.address) > 300:
        problems["address"] = N_("An address has 300 characters at most.")
    elif not wanted.address.replace("\n", "").isprintable():
        problems["address"] = N_("Please write the address with letters and digits only.")
    if problems:
        raise InvalidProfile(problems)
    with unit_of_work(session, actor) as unit:
        client = session.get_one(Client, client_id, with_for_update=True)
        changed = [name for name, value in vars(wanted).items() if getattr(client, name) != value]
        for name in changed:
            setattr(client, name, getattr(wanted, name))
        if changed:
            unit.emit("client.profile_changed", subject_id=client_id, client_id=client_id, fields=changed)
    return wanted


def change_password(
    session: Session, *, client_id: int, current: str, password: str, keep_session_id: int | None, actor: Actor
) -> None:
    """Replace the password by somebody who knows the old one; every browser but `keep_session_id` is signed out.

    Raises InvalidPassword. Emits client.password_changed.
    """
    with unit_of_work(session, actor) as unit:
        client = session.get_one(Client, client_id, with_for_update=True)
        problems: dict[str, str] = {}
        if not verify_password(client.password_hash, current):
            problems["current"] = N_("This is not your present password.")
        problem = password_problem(password, client.email)
        if problem:
            problems["password"] = problem
        elif password == current:
            problems["password"] = N_("Please choose another password than the present one.")
        if problems:
            raise InvalidPassword(problems)
        set_password(unit, client, hash_password(password), keep_session_id=keep_session_id)
