"""The control interface of the trading servers that run on this machine for development, as the back office speaks to it."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.errors import N_, AppError
from app.metatrader.platforms import mt5_retcodes
from app.models.metatrader import Server
from config import Settings

TIMEOUT_S = 5.0
LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})

#: What a refusal means, by its number; others are named as MetaTrader names them.
REFUSALS = {
    3: N_("The simulated server did not understand this. Nothing was changed."),
    13: N_("The simulated server knows no such account, symbol or deal, or this price only follows from others."),
    3004: N_("This account is not archived."),
    3008: N_("Something is open on this account. Close it first."),
    10014: N_("This volume is not possible: from 0.01 to 100 lots, in steps of 0.01."),
    10017: N_("This account may not trade."),
    10018: N_("The market of this symbol is closed now."),
    10019: N_("The free money of this account is not enough for it."),
}


class SimulatorAway(AppError):
    code = "simulator.away"
    http_status = 503
    message = N_("The simulated server does not answer. Is it running?")


class SimulatorRefused(AppError):
    """The simulated server understood, and said no."""

    code = "simulator.refused"
    http_status = 422
    message = N_("The simulated server refused this: %(reason)s.")


@dataclass(frozen=True)
class SimulatedServer:
    """One simulated server: where it is, and how we prove that we may."""

    code: str
    name: str
    url: str
    login: int
    password: str
    ca_file: str
    is_mt4: bool = False

    @property
    def balance_command(self) -> str:
        """The path of the command that moves money."""
        return "/v1/balance" if self.is_mt4 else "/api/trade/balance"

    def __repr__(self) -> str:
        return f"SimulatedServer({self.code!r}, {self.url!r})"

    def get(self, what: str) -> dict[str, Any]:
        """Raises SimulatorAway."""
        return self._ask("GET", what, None)

    def post(self, what: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Raises SimulatorAway, SimulatorRefused."""
        return self._ask("POST", what, body)

    def _ask(self, method: str, what: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        try:
            trust = ssl.create_default_context(cafile=self.ca_file)
            with httpx.Client(
                verify=trust, auth=(str(self.login), self.password), timeout=TIMEOUT_S, trust_env=False
            ) as client:
                response = client.request(method, f"{self.url.rstrip('/')}/sim/{what}", json=body)
            answer = response.json()
        except (OSError, httpx.HTTPError, ValueError):
            raise SimulatorAway from None
        if response.status_code == httpx.codes.BAD_REQUEST:
            raise _refusal(answer)
        if response.status_code != httpx.codes.OK or not isinstance(answer, dict):
            raise SimulatorAway
        return answer


def simulated_servers(session: Session, settings: Settings) -> list[SimulatedServer]:
    """The trading servers of ours whose address is on this machine. Whether one is there shows when it is asked."""
    rows = session.scalars(select(Server).where(Server.is_active).order_by(Server.id))
    return [_simulated(row, settings) for row in rows if urlsplit(row.url).hostname in LOCAL]


def _simulated(row: Server, settings: Settings) -> SimulatedServer:
    secrets = settings.server_secrets(row.code)
    return SimulatedServer(row.code, row.name, row.url, row.manager_login, secrets.password, secrets.ca_file, row.is_mt4)


def _refusal(answer: Mapping[str, Any]) -> AppError:
    number = str(answer.get("retcode", "")).partition(" ")[0]
    retcode = int(number) if number.isdigit() else 3
    if retcode in REFUSALS:
        return SimulatorRefused(REFUSALS[retcode])
    return SimulatorRefused(reason=mt5_retcodes.name(retcode))
