"""Staff at the screens of the back office, with the form token that every change needs."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app.security import permissions

PASSWORD = "demo-Lotwise-1"
_TOKEN = re.compile(r'name="csrf_token"[^>]*value="([^"]+)"')


@dataclass
class Desk:
    """One browser in front of the back office; `token` is good for every form."""

    http: FlaskClient
    token: str = ""

    def get(self, path: str, **more) -> TestResponse:
        return self.http.get(path, **more)

    def post(self, path: str, data: dict | None = None, **more) -> TestResponse:
        return self.http.post(path, data={**(data or {}), "csrf_token": self.token}, **more)


@pytest.fixture
def sign_in(app: Flask):
    """sign_in("Admin") → a desk of somebody with that role; sign_in(None) → a stranger's."""
    permissions.sync(app)

    def signed_in(role: str | None) -> Desk:
        desk = Desk(app.test_client())
        desk.token = _TOKEN.search(desk.get("/login/").text).group(1)
        if role is not None:
            name = role.lower().replace(" ", "-")
            with app.app_context():
                manager = app.appbuilder.sm
                manager.add_user(name, "Some", "Body", f"{name}@example.com", manager.find_role(role), password=PASSWORD)
            assert desk.post("/login/", {"username": name, "password": PASSWORD}).status_code == 302
        return desk

    return signed_in
