"""The MT4 bridge's HTTPS face: commands with a bearer secret, and the control interface of the double."""

from __future__ import annotations

import hmac
import ssl
import threading
from urllib.parse import urlsplit

from app.metatrader.platforms import mt4_retcodes, mt5_retcodes
from app.metatrader.simulator.books import Refused
from app.metatrader.simulator.faults import AFTERWARDS, Fault, Misread
from app.metatrader.simulator.listening import Connection, Cut, Listener, cut
from app.metatrader.simulator.mt4 import codes
from app.metatrader.simulator.mt4.bridge import Bridge, Reply
from app.metatrader.simulator.mt4.control import Control, answer

#: Who signs in to the control interface, with the bridge's secret.
MANAGER_LOGIN = 1


class BridgeServer(Listener):
    """`password` is the bridge's secret. `stopping` ends what faults make wait."""

    def __init__(
        self,
        address: tuple[str, int],
        tls: ssl.SSLContext,
        password: str,
        bridge: Bridge,
        control: Control,
        stopping: threading.Event,
    ) -> None:
        self.password = password
        self.bridge = bridge
        self.control = control
        self.stopping = stopping
        super().__init__(address, tls, Handler)


class Handler(Connection):
    """One connection."""

    server: BridgeServer

    def do_GET(self) -> None:  # noqa: N802  # http.server names it
        self._serve()

    def do_POST(self) -> None:  # noqa: N802  # http.server names it
        self._serve()

    def _serve(self) -> None:
        path = urlsplit(self.path).path
        try:
            body = self.body()
            if path.startswith("/v1/"):
                self._command(path, body)
            elif path.startswith("/sim/"):
                self._sim(path.removeprefix("/sim/"), body)
            else:
                self._refuse(404, codes.ERROR, "not found")
        except Refused as error:
            self._refuse(400, error.retcode, error.text if isinstance(error, Misread) else "")
        except Cut:
            self.close_connection = True
            cut(self.connection)

    def _command(self, path: str, body: object) -> None:
        given = self.headers.get("Authorization", "")  # http.server reads headers as Latin-1
        if not hmac.compare_digest(given.encode("latin-1", "replace"), f"Bearer {self.server.password}".encode()):
            self._refuse(401, codes.ERROR, "the secret is wrong")
            return
        if self.command != "POST":
            self._refuse(404, codes.ERROR, "commands are posted")
            return
        fault = self.server.control.faults.take(path)
        self._before(fault)
        if fault and fault.kind == "http_503":
            reply = Reply(503, {"code": str(codes.NO_CONNECT), "name": codes.name(codes.NO_CONNECT)})
        else:
            id_ = self.headers.get("X-Request-Id", "")
            reply = self.server.bridge.answer(path.removeprefix("/v1/"), body, id_, fault)
        self._afterwards(fault)
        self.answer(reply.status, reply.content, is_garbled=fault is not None and fault.kind == "garble")

    def _before(self, fault: Fault | None) -> None:
        if fault and fault.kind == "drop":
            raise Cut
        if fault and fault.kind == "slow":
            self.server.stopping.wait(fault.seconds)

    def _afterwards(self, fault: Fault | None) -> None:
        if fault and fault.kind == "silent":
            self.server.stopping.wait(fault.seconds)
        if fault and fault.kind in AFTERWARDS - {"garble"}:
            raise Cut

    def _sim(self, name: str, body: object) -> None:
        """The control interface: basic authentication with the manager's login and the secret."""
        if not self.is_signed(MANAGER_LOGIN, self.server.password):
            self._refuse(401, codes.ERROR, "sign in with the manager's login and the secret")
            return
        result = answer(self.server.control, self.command, name, body)
        if result is None:
            self._refuse(404, codes.ERROR, "not found")
        else:
            self.answer(200, result)

    def _refuse(self, status: int, code: int, reason: str) -> None:
        """`retcode` and `error` are how the control interface of the MT5 simulator says it, with MT5's number of the same."""
        same = mt5_retcodes.NOT_FOUND if code == codes.BAD_ACCOUNT_INFO else mt4_retcodes.REFUSED.get(code, code)
        words = {"code": str(code), "name": codes.name(code), "reason": reason}
        self.answer(status, {**words, "retcode": f"{same} {mt5_retcodes.name(same)}", "error": reason})
