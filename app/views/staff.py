"""Users and roles: Flask-AppBuilder's own screens, with every change in the audit trail and errors in plain words."""

from __future__ import annotations

from typing import Any

from flask_appbuilder import AppBuilder
from flask_appbuilder.security.views import RoleModelView, UserDBModelView
from flask_babel import lazy_gettext as _l

from app.core.errors import N_, InvalidInput
from app.security.staff import StaffSecurityManager
from app.views.guarded import AuditedInterface, BackOfficeView


class StaffRoleView(BackOfficeView, RoleModelView):
    """The role editor: a role is a list of permissions on pages."""

    class_permission_name = "Roles"
    list_title, add_title, edit_title, show_title = _l("Roles"), _l("New role"), _l("Role"), _l("Role")
    description_columns = {"permissions": _l("Each permission opens one thing: the list of a page, one row, a decision.")}

    def check(self, item: Any) -> None:
        if not (item.name or "").strip():
            raise InvalidInput({"name": N_("A role needs a name.")})


class StaffUserView(BackOfficeView, UserDBModelView):
    """Staff and their roles. Passwords are hashed before anything is saved, and never stand in the audit trail."""

    class_permission_name = "Staff"
    list_title, add_title, edit_title, show_title = _l("Staff"), _l("New staff member"), _l("Staff member"), _l("Staff member")

    def check(self, item: Any) -> None:
        if item.id is None:
            self.pre_add(item)
        else:
            self.pre_update(item)


class OfficeSecurityManager(StaffSecurityManager):
    """The security manager with our screens for users and roles."""

    userdbmodelview = StaffUserView
    rolemodelview = StaffRoleView
    userstatschartview = None

    def __init__(self, appbuilder: Any) -> None:
        super().__init__(appbuilder)
        self.userdbmodelview.datamodel = AuditedInterface(self.user_model)
        self.rolemodelview.datamodel = AuditedInterface(self.role_model)


def name_menus(appbuilder: AppBuilder) -> None:
    """Our words for the library's own menu entries."""
    for name, label in {"List Users": _l("Staff"), "List Roles": _l("Roles"), "List Groups": _l("Groups")}.items():
        item = appbuilder.menu.find(name)
        if item is not None:
            item.label = label
