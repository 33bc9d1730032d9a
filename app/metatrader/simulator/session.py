"""The server's side of the Web API sign-in. One of these lives and dies with one TCP connection."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from app.metatrader.platforms import mt5_auth
from app.metatrader.simulator.exchange import Refused

MANAGER_LOGIN = 1000
OLDEST_BUILD = 484
ANSWER_WITHIN_S = 10.0
BUILD = "4000"


class ApiSession:
    """What one connection has proven so far."""

    def __init__(self, password: str, timer: Callable[[], float] = time.monotonic) -> None:
        self._password = password
        self._timer = timer
        self._challenge: bytes | None = None
        self._challenged_at = 0.0
        self._heard_at = timer()
        self.is_open = False

    def was_idle_for_s(self) -> float:
        """Seconds since it was last asked this; asking begins the next silence."""
        heard_at, self._heard_at = self._heard_at, self._timer()
        return self._heard_at - heard_at

    def start(self, query: Mapping[str, str]) -> dict[str, str]:
        """auth/start: hand out a challenge. Refused: 3, 1010 old client, 1024 wrong type, 1001 no such manager."""
        self.is_open = False
        version = query.get("version", "")
        if not version.isdigit() or not query.get("agent") or " " in query["agent"]:
            raise Refused(3)
        if int(version) < OLDEST_BUILD:
            raise Refused(1010)
        if query.get("type") != "manager":
            raise Refused(1024)
        if query.get("login") != str(MANAGER_LOGIN):
            raise Refused(1001)
        self._challenge = mt5_auth.new_challenge()
        self._challenged_at = self._timer()
        return {"version_access": BUILD, "srv_rand": self._challenge.hex()}

    def answer(self, query: Mapping[str, str]) -> dict[str, str]:
        """auth/answer: judge the client's proof and give ours. Refused: 3, 1001 when wrong, late or not asked for."""
        challenge, self._challenge = self._challenge, None
        try:
            theirs = bytes.fromhex(query.get("cli_rand", ""))
        except ValueError:
            raise Refused(3) from None
        if len(theirs) != mt5_auth.RANDOM_BYTES:
            raise Refused(3)
        is_late = self._timer() - self._challenged_at > ANSWER_WITHIN_S
        if challenge is None or is_late or not mt5_auth.is_answer(self._password, challenge, query.get("srv_rand_answer", "")):
            raise Refused(1001)
        self.is_open = True
        return {
            "version_access": BUILD,
            "version_trade": BUILD,
            "cli_rand_answer": mt5_auth.answer(self._password, theirs),
        }
