"""Stripe's form parameters: `line_items[0][price_data][currency]=usd` to nested values, checked against a schema.

The check is strict, as Stripe's is: an unknown parameter is an error, so a mistake in the connector shows up here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

TEXT, MAP = "text", "map"

#: What the API takes, as far as the sandbox knows it. A list of one schema stands for a list of such values.
SESSION_SCHEMA: dict[str, Any] = {
    "mode": TEXT,
    "client_reference_id": TEXT,
    "metadata": MAP,
    "payment_intent_data": {"metadata": MAP, "description": TEXT},
    "allowed_payment_method_types": [TEXT],
    "line_items": [
        {
            "quantity": TEXT,
            "price_data": {"currency": TEXT, "unit_amount": TEXT, "product_data": {"name": TEXT, "description": TEXT}},
        }
    ],
    "adaptive_pricing": {"enabled": TEXT},
    "success_url": TEXT,
    "cancel_url": TEXT,
    "locale": TEXT,
    "customer_email": TEXT,
    "expires_at": TEXT,
    "expand": [TEXT],
}
REFUND_SCHEMA: dict[str, Any] = {
    "payment_intent": TEXT,
    "charge": TEXT,
    "amount": TEXT,
    "reason": TEXT,
    "metadata": MAP,
    "expand": [TEXT],
}
REFUND_LIST_SCHEMA: dict[str, Any] = {"payment_intent": TEXT, "limit": TEXT, "expand": [TEXT]}
RETRIEVE_SCHEMA: dict[str, Any] = {"expand": [TEXT]}


class Problem(Exception):
    """An answer in Stripe's error shape. `saved` says whether Stripe keeps it under the idempotency key."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        kind: str = "invalid_request_error",
        saved: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.saved = saved
        fields = {"message": message, "type": kind, "code": code, "param": param}
        self.body = {"error": {key: value for key, value in fields.items() if value is not None}}


def decode(pairs: Iterable[tuple[str, str]], schema: dict[str, Any]) -> dict[str, Any]:
    """Nested parameters from form pairs. Raises Problem for a parameter the schema does not have."""
    tree: dict[str, Any] = {}
    for name, value in pairs:
        keys = [re.split(r"\[", name, maxsplit=1)[0], *re.findall(r"\[([^\]]*)\]", name)]
        node = tree
        for key in keys[:-1]:
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                raise Problem(400, f"Invalid parameter: {name}", code="parameter_invalid", param=name)
        # "expand[]=a&expand[]=b" and "expand[0]=a" mean the same.
        node[keys[-1] or str(len(node))] = value
    shaped: dict[str, Any] = _shaped(tree, schema, "")
    return shaped


def _shaped(value: Any, schema: Any, name: str) -> Any:
    if schema == TEXT or not isinstance(value, dict):
        if schema != TEXT or isinstance(value, dict):
            raise Problem(400, f"Invalid value for {name}", code="parameter_invalid", param=name)
        return value
    if schema == MAP:
        return _metadata(value, name)
    if isinstance(schema, list):
        items = sorted(value.items(), key=lambda item: int(item[0]) if item[0].isdigit() else 0)
        return [_shaped(item, schema[0], f"{name}[{index}]") for index, item in items]
    for key in value:
        if key not in schema:
            param = f"{name}[{key}]" if name else key
            raise Problem(400, f"Received unknown parameter: {param}", code="parameter_unknown", param=param)
    return {key: _shaped(item, schema[key], f"{name}[{key}]" if name else key) for key, item in value.items()}


def _metadata(value: dict[str, Any], name: str) -> dict[str, str]:
    fits = len(value) <= 50 and all(
        isinstance(text, str) and len(key) <= 40 and len(text) <= 500 for key, text in value.items()
    )
    if not fits:
        raise Problem(400, "Metadata is limited to 50 keys of 40 and values of 500 characters.", param=name)
    return value


def required(params: dict[str, Any], name: str) -> Any:
    """A parameter that must be there. `name` may be nested: "price_data.currency"."""
    value: Any = params
    for key in name.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    if value in (None, ""):
        param = re.sub(r"\.(\w+)", r"[\1]", name)
        raise Problem(400, f"Missing required param: {param}.", code="parameter_missing", param=param)
    return value


def whole(text: str, param: str, least: int = 1) -> int:
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise Problem(400, f"Invalid integer: {text[:40]}", code="parameter_invalid_integer", param=param)
    value = int(text)
    if value < least:
        message = f"This value must be greater than or equal to {least}."
        raise Problem(400, message, code="parameter_invalid_integer", param=param)
    return value


def address(text: str, param: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc or len(text) > 5000:
        raise Problem(400, "Not a valid URL", code="url_invalid", param=param)
    return text
