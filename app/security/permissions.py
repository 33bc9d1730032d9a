"""Permissions and roles as code: created once per deployment by command, compared in a test, never at start-up."""

from __future__ import annotations

import logging

from flask import Flask
from flask_appbuilder.security.sqla.models import Role

from app.core.actor import Actor
from app.core.errors import AppError
from app.core.uow import unit_of_work
from app.extensions import appbuilder, db
from app.security.roles import ROLES


class UnknownPermission(AppError):
    code = "security.unknown_permission"


def sync(app: Flask) -> dict[str, int]:
    """Create the permissions of all views and set the built-in roles to what the code says.

    Roles made by administrators are left alone. Returns the number of permissions per built-in role.
    """
    with app.app_context():
        manager = appbuilder.sm
        # It warns of every page that has a permission name of its own instead of its class name; all of ours have.
        logging.getLogger("flask_appbuilder.security.sqla.manager").setLevel(logging.ERROR)
        for name in (manager.auth_role_admin, manager.auth_role_public):
            manager.add_role(name)
        appbuilder.add_permissions(update_perms=True)
        appbuilder.security_cleanup()
        counts = {}
        with unit_of_work(db.session(), Actor.system("permissions")) as unit:
            for name, wanted in ROLES.items():
                role = manager.find_role(name) or Role(name=name)
                found = [manager.find_permission_view_menu(permission, view) for permission, view in wanted]
                missing = [pair for pair, permission in zip(wanted, found, strict=True) if permission is None]
                if missing:
                    raise UnknownPermission(f"Role {name} names permissions that no view has: {missing}")
                before = sorted(str(permission) for permission in role.permissions)
                role.permissions = found
                unit.session.add(role)
                after = sorted(str(permission) for permission in found)
                if before != after:
                    unit.audit("role.sync", f"ab_role:{name}", before={"permissions": before}, after={"permissions": after})
                counts[name] = len(found)
        return counts
