"""What can go wrong with a command to a trading server, told apart by what may be done next.

NotSent         nothing reached the server: sending again is safe
UnknownOutcome  the command may have been carried out: look before anything is sent again
ServerBusy      refused for now: wait and try again
AccessDenied    our manager account may not do this: somebody has to mend it
NotKnown        the server does not know the login, ticket, group or symbol
BusinessError   refused by a rule, for good: the reason is for the person who asked
NotOffered      one of these: a thing that servers of this kind do not have
BadAnswer       the server answered a read with something we do not understand
"""

from __future__ import annotations

from typing import Any

from app.core.errors import N_, AppError


class PlatformError(AppError):
    """The root. `retcode` is the server's own number where it gave one; `detail` is for the log, never for a client."""

    code = "platform.error"
    http_status = 502
    message = N_("The trading server could not do this.")

    def __init__(self, message: str | None = None, *, retcode: int | None = None, detail: str = "", **data: Any) -> None:
        super().__init__(message, **data)
        self.retcode = retcode
        self.detail = detail


class Unreachable(PlatformError):
    """The server cannot be reached, or it dropped the connection while we only read."""

    code = "platform.unreachable"
    http_status = 503
    message = N_("The trading server cannot be reached at the moment. Please try again in a few minutes.")


class NotSent(Unreachable):
    """The command was certainly not carried out: it never left us, or the server refused to read it."""

    code = "platform.not_sent"
    message = N_("The trading server cannot be reached at the moment. Nothing was sent and nothing was changed.")


class CommandsPaused(NotSent):
    """Staff let no commands out to this server at the moment. What waits goes out when they resume."""

    code = "platform.commands_paused"
    message = N_("Nothing is sent to the trading server at the moment. Your request is kept and carried out later.")


class UnknownOutcome(PlatformError):
    """The command went out and no clear answer came back. It must not be sent again before its trace was looked for."""

    code = "platform.unknown_outcome"
    http_status = 504
    message = N_("The trading server did not confirm this in time. We are checking what happened; please do not repeat it.")


class ServerBusy(PlatformError):
    """The server refuses for now, without having done anything."""

    code = "platform.busy"
    http_status = 503
    message = N_("The trading server is busy. Please try again in a moment.")


class AccessDenied(PlatformError):
    """Our manager account was not let in, or lacks the right for this command."""

    code = "platform.access_denied"
    http_status = 502
    message = N_("The trading server does not allow us to do this. Our support has to look at it.")


class NotKnown(PlatformError):
    code = "platform.not_known"
    http_status = 404
    message = N_("The trading server does not know this account.")


class BadAnswer(PlatformError):
    """An answer that breaks the protocol, to a command that changes nothing."""

    code = "platform.bad_answer"
    http_status = 502
    message = N_("The trading server gave an answer that we do not understand.")


class BusinessError(PlatformError):
    """Refused by a rule of the server; asking again changes nothing. The message depends on the return code."""

    code = "platform.refused"
    http_status = 422
    message = N_("The trading server refused this (code %(retcode)s).")

    def __init__(self, retcode: int, detail: str = "") -> None:
        super().__init__(_MESSAGES.get(retcode), retcode=retcode, detail=detail)
        self.data = {"retcode": retcode}


class NotOffered(BusinessError):
    """This kind of trading server has no such thing."""

    code = "platform.not_offered"

    def __init__(self, detail: str = "") -> None:
        super().__init__(_NOT_SUPPORTED, detail)


_NOT_SUPPORTED = 12002
_MESSAGES = {
    3: N_("The trading server found a value that it does not accept."),
    14: N_("The trading server has more than it can send at once. Please ask for less."),
    3002: N_("The trading server has no account numbers left."),
    3004: N_("This account number is already taken."),
    3006: N_("The password does not meet the trading server's rules."),
    3007: N_("The trading server has no room for more accounts."),
    3008: N_("The account has open trades."),
    3009: N_("The two groups belong to different trading servers."),
    3010: N_("The two groups have different currencies."),
    4005: N_("The amount is above the trading server's limit."),
    10017: N_("Trading is disabled for this account."),
    10018: N_("The market is closed."),
    10019: N_("There is not enough free money on the trading account."),
    _NOT_SUPPORTED: N_("This trading server cannot do this."),
}
