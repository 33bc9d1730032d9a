"""The simulator's HTTPS server: real TLS, HTTP/1.1 with kept-alive connections, a Web API session per connection."""

from __future__ import annotations

import json
import ssl
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

from app.metatrader.platforms import mt5_retcodes
from app.metatrader.simulator.commands import COMMANDS, FORBIDDEN
from app.metatrader.simulator.commands.call import Call, Partial
from app.metatrader.simulator.control import Control, answer
from app.metatrader.simulator.exchange import Refused
from app.metatrader.simulator.faults import AFTERWARDS, Fault, Misread
from app.metatrader.simulator.listening import IDLE_S, Connection, Cut, Listener, cut
from app.metatrader.simulator.session import MANAGER_LOGIN, ApiSession


class SimulatorServer(Listener):
    """Every connection gets a Web API session of its own."""

    def __init__(self, address: tuple[str, int], tls: ssl.SSLContext, password: str, control: Control) -> None:
        self.password = password
        self.control = control
        super().__init__(address, tls, Handler)


class Handler(Connection):
    """One connection."""

    server: SimulatorServer

    def setup(self) -> None:
        super().setup()
        self.session = ApiSession(self.server.password, self.server.control.habits.timer)

    def do_GET(self) -> None:  # noqa: N802  # http.server names it
        self._serve()

    def do_POST(self) -> None:  # noqa: N802  # http.server names it
        self._serve()

    def _serve(self) -> None:
        url = urlsplit(self.path)
        try:
            body = self.body()
            if url.path.startswith("/api/"):
                self._api(url.path.removeprefix("/api/"), _query(url.query), body)
            elif url.path.startswith("/sim/"):
                self._sim(url.path.removeprefix("/sim/"), body)
            else:
                self.answer(404, {"error": "not found"})
        except Refused as error:
            why = {"error": error.text} if isinstance(error, Misread) else {}
            self.answer(400, {"retcode": f"{error.retcode} {mt5_retcodes.name(error.retcode)}", **why})
        except Cut:
            self.close_connection = True
            cut(self.connection)

    def _api(self, command: str, query: dict[str, str], body: Any) -> None:
        if self.session.was_idle_for_s() > IDLE_S:  # by the sessions' clock, which may not be that of the socket
            raise Cut
        if command in ("auth/start", "auth/answer"):
            handshake = self.session.start if command == "auth/start" else self.session.answer
            self._reply(lambda: handshake(query), is_envelope=True)
            return
        if not self.session.is_open or command in FORBIDDEN:
            self.answer(403, {"retcode": "8 ERR_PERMISSIONS"})
            return
        if command == "test/access":
            self.answer(200, {"retcode": "0 Done"})
            return
        if command == "quit":
            self.close_connection = True
            self.answer(200, {"retcode": "0 Done"})
            return
        fault = self.server.control.faults.take(f"/api/{command}")
        if self._hit_before(fault):
            return
        known = COMMANDS.get(command)
        if known is None:
            self.answer(404, {"retcode": "13 ERR_NOTFOUND"})
            return
        if not isinstance(body, dict | None):
            raise Refused(3)
        fields = {str(name): value if isinstance(value, str) else json.dumps(value) for name, value in (body or {}).items()}
        control = self.server.control
        call = Call(control.exchange, control.users, control.habits, query, fields)
        content = self._carry_out(lambda: known(call))
        if fault and fault.kind == "silent":
            control.stop.wait(fault.seconds)
        if fault and fault.kind in ("execute_then_drop", "silent"):
            raise Cut
        self.answer(200, content, is_garbled=fault is not None and fault.kind == "garble")

    def _hit_before(self, fault: Fault | None) -> bool:
        """Whether a fault has already answered instead of the command."""
        if fault is None or fault.kind in AFTERWARDS:
            return False
        if fault.kind == "drop":
            raise Cut
        if fault.kind == "slow":
            time.sleep(fault.seconds)
            return False
        if fault.kind == "http_503":
            self.answer(503, {"error": "service unavailable"})
        else:
            self.answer(200, {"retcode": f"{fault.code} {mt5_retcodes.name(fault.code)}"})
        return True

    def _reply(self, work: Any, *, is_envelope: bool = False) -> None:
        self.answer(200, self._carry_out(work, is_envelope=is_envelope))

    def _carry_out(self, work: Any, *, is_envelope: bool = False) -> dict[str, Any]:
        """The command's answer with its return code; what a rule refuses is an answer too."""
        try:
            result = work()
        except Refused as error:
            return {"retcode": f"{error.retcode} {mt5_retcodes.name(error.retcode)}"}
        done: dict[str, Any] = {"retcode": "0 Done"}
        if result is None:
            return done
        if isinstance(result, Partial):
            return {"retcode": f"{result.retcode} {mt5_retcodes.name(result.retcode)}", "answer": result.answer}
        is_wrapped = is_envelope or (isinstance(result, dict) and "answer" in result)
        return {**done, **result} if is_wrapped else {**done, "answer": result}

    def _sim(self, name: str, body: Any) -> None:
        """The control interface: basic authentication with the manager's login and password."""
        if not self.is_signed(MANAGER_LOGIN, self.server.password):
            self.answer(401, {"error": "sign in with the manager's login and password"})
            return
        result = answer(self.server.control, self.command, name, body)
        self.answer(404 if result is None else 200, {"error": "not found"} if result is None else result)


def _query(text: str) -> dict[str, str]:
    """Query parameters, each once. Refused(3) for repeated ones and for what is not UTF-8."""
    try:
        parsed = parse_qs(text, keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError:
        raise Refused(3) from None
    if any(len(values) > 1 for values in parsed.values()):
        raise Refused(3)
    return {name: values[0] for name, values in parsed.items()}
