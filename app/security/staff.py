"""Staff sign-in and rights, on Flask-AppBuilder's security manager.

One rule differs from its own: a menu entry is shown to whoever may open the page behind it. A role of two permissions
therefore gives exactly two things, without separate "menu access" rows.
"""

from __future__ import annotations

from flask import current_app
from flask_appbuilder.menu import MenuItem
from flask_appbuilder.security.sqla.manager import SecurityManager


class StaffSecurityManager(SecurityManager):
    """Flask-AppBuilder's security manager with menus that follow the pages' own permissions."""

    def has_access(self, permission_name: str, view_name: str) -> bool:
        if permission_name != "menu_access":
            return bool(super().has_access(permission_name, view_name))
        item = current_app.appbuilder.menu.find(view_name)  # type: ignore[attr-defined]  # set by Flask-AppBuilder
        return item is not None and self._may_open(item)

    def get_user_menu_access(self, menu_names: list[str] | None = None) -> set[str]:
        return {name for name in menu_names or [] if self.has_access("menu_access", name)}

    def _may_open(self, item: MenuItem) -> bool:
        if item.childs:
            return any(self._may_open(child) for child in item.childs if child.name != "-")
        view = item.baseview
        if view is None:
            return False
        wanted = self._permission_of(view)
        return bool(super().has_access(wanted, view.class_permission_name))

    @staticmethod
    def _permission_of(view: object) -> str:
        """The permission of the page a menu entry opens: the view's default method."""
        method: str = getattr(view, "default_view", None) or "list"
        names: dict[str, str] = getattr(view, "method_permission_name", None) or {}
        return "can_" + names.get(method, method)

    def add_permissions_menu(self, view_menu_name: str) -> None:
        """Menus have no permissions of their own, so the role editor does not list any."""
