"""What can go wrong with registration, one-time links, passwords and profiles, in words for the client."""

from __future__ import annotations

from app.core.errors import N_, AppError, Forbidden, InvalidInput


class InvalidRegistration(InvalidInput):
    code = "clients.invalid_registration"
    message = N_("Please check the marked fields. You are not registered yet.")


class InvalidProfile(InvalidInput):
    code = "clients.invalid_profile"
    message = N_("Please check the marked fields. Nothing was saved.")


class InvalidPassword(InvalidInput):
    code = "clients.invalid_password"
    message = N_("Please check the marked fields. Your password is unchanged.")


class UnknownLink(AppError):
    """No link has this secret, or it was made for something else."""

    code = "clients.unknown_link"
    http_status = 404
    message = N_("This link is not complete. Please open it from the mail again, or copy it whole.")


class UsedLink(AppError):
    code = "clients.used_link"
    http_status = 410
    message = N_("This link was used already; it works once.")


class ExpiredLink(AppError):
    code = "clients.expired_link"
    http_status = 410
    message = N_("This link has expired. Please ask for a new one.")


class WrongCredentials(AppError):
    """Address or password is wrong; which of the two is not said, so that nobody learns who has an account."""

    code = "clients.wrong_credentials"
    http_status = 422
    message = N_("The mail address or the password is not right. Please try again, or ask for a new password.")


class AccessBlocked(Forbidden):
    """Said only to somebody who knew the right password."""

    code = "clients.access_blocked"
    message = N_("Your access is closed at the moment. Your money is where it was. Please write to us.")
