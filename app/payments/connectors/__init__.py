"""The connectors by name. To add one, see docs/connectors.md."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from app.core.errors import N_, NotFound
from app.payments.connector import Connector

#: Name (as in the tables and in /callbacks/<name>) to module. Modules load only when used: some SDKs are heavy.
_MODULES = {"stripe": "app.payments.connectors.stripe"}

NAMES = tuple(_MODULES)


class UnknownConnector(NotFound):
    code = "payments.unknown_connector"
    message = N_("There is no such payment method.")


def load(name: str, settings: Any) -> Connector:
    """The connector of this name, set up from `settings` (each module says in `connect` which of them it reads).

    Raises UnknownConnector. Cheap, but connections to the provider live as long as the object: keep one per process.
    """
    if name not in _MODULES:
        raise UnknownConnector()
    connector: Connector = import_module(_MODULES[name]).connect(settings)
    return connector
