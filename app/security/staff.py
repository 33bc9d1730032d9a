"""Staff sign-in and rights, on Flask-AppBuilder's security manager.

Two things differ from its own. The rights of the person are read once per request, in one query. And a menu entry is shown
to whoever may open the page behind it: a role of two permissions gives exactly two things, without "menu access" rows.
"""

from __future__ import annotations

from flask import current_app, g, has_request_context
from flask_appbuilder.exceptions import PasswordComplexityValidationError
from flask_appbuilder.menu import MenuItem
from flask_appbuilder.security.sqla import models
from flask_appbuilder.security.sqla.manager import SecurityManager
from flask_babel import gettext
from flask_login import current_user
from sqlalchemy import select

from app.clients.passwords import password_problem


def check_password(password: str) -> None:
    """The rules for staff passwords: those that hold for clients. Raises the library's error with a sentence for the form."""
    problem = password_problem(password or "", "")
    if problem:
        raise PasswordComplexityValidationError(gettext(problem))


class StaffSecurityManager(SecurityManager):
    """Flask-AppBuilder's security manager with rights read once, and menus that follow the pages' own permissions."""

    def has_access(self, permission_name: str, view_name: str) -> bool:
        """Whether the signed-in person may do this. Nobody signed in may do nothing."""
        if permission_name == "menu_access":
            item = current_app.appbuilder.menu.find(view_name)  # type: ignore[attr-defined]  # set by Flask-AppBuilder
            return item is not None and self._may_open(item)
        return (permission_name, view_name) in self._rights()

    def get_user_menu_access(self, menu_names: list[str] | None = None) -> set[str]:
        return {name for name in set(menu_names or []) if self.has_access("menu_access", name)}

    def add_permissions_menu(self, view_menu_name: str) -> None:
        """Menus have no permissions of their own, so the role editor does not list any."""

    def _rights(self) -> frozenset[tuple[str, str]]:
        """All (permission, view) pairs of the signed-in person's roles, own and of groups; read once per request."""
        if not has_request_context() or not current_user or not current_user.is_authenticated or not current_user.is_active:
            return frozenset()
        if "staff_rights" not in g:
            role_ids = [role.id for role in self.get_user_roles(current_user)]
            rows = self.session.execute(
                select(models.Permission.name, models.ViewMenu.name)
                .select_from(models.PermissionView)
                .join(models.Permission)
                .join(models.ViewMenu)
                .join(models.assoc_permissionview_role)
                .where(models.assoc_permissionview_role.c.role_id.in_(role_ids))
            )
            g.staff_rights = frozenset((row[0], row[1]) for row in rows)
        rights: frozenset[tuple[str, str]] = g.staff_rights
        return rights

    def _may_open(self, item: MenuItem) -> bool:
        if item.childs:
            return any(self._may_open(child) for child in item.childs if child.name != "-")
        view = item.baseview
        if view is None:
            return False
        method: str = getattr(view, "default_view", None) or "list"
        renamed: dict[str, str] = getattr(view, "method_permission_name", None) or {}
        name = renamed.get(method) or getattr(getattr(view, method, None), "_permission_name", method)
        return (f"can_{name}", view.class_permission_name) in self._rights()
