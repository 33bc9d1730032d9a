"""Users and roles: Flask-AppBuilder's own screens, with every change in the audit trail and errors in plain words."""

from __future__ import annotations

from typing import Any

from flask_appbuilder import AppBuilder
from flask_appbuilder.security.api import SecurityApi
from flask_appbuilder.security.views import (
    ResetMyPasswordView,
    ResetPasswordView,
    RoleModelView,
    UserDBModelView,
    UserGroupModelView,
    UserInfoEditView,
)
from flask_babel import lazy_gettext as _l
from flask_login import current_user

from app.core.errors import N_, Conflict, InvalidInput, NotFound
from app.core.uow import unit_of_work
from app.security.roles import ROLES
from app.security.staff import StaffSecurityManager
from app.views.guarded import AuditedInterface, BackOfficeView, staff_actor


class StaffRoleView(BackOfficeView, RoleModelView):
    """The role editor: a role is a list of permissions on pages."""

    class_permission_name = "Roles"
    list_title, add_title, edit_title, show_title = _l("Roles"), _l("New role"), _l("Role"), _l("Role")
    description_columns = {"permissions": _l("Each permission opens one thing: the list of a page, one row, a decision.")}

    def check(self, item: Any) -> None:
        if not (item.name or "").strip():
            raise InvalidInput({"name": N_("A role needs a name.")})

    def check_delete(self, item: Any) -> None:
        manager = self.appbuilder.sm
        if item.name in (manager.auth_role_admin, manager.auth_role_public, *ROLES):
            raise Conflict(N_("This role is built in. Nothing was deleted."))
        if item.user:
            raise Conflict(N_("This role still has members. Give them another one first. Nothing was deleted."))


class StaffUserView(BackOfficeView, UserDBModelView):
    """Staff and their roles. Passwords are hashed before anything is saved, and never stand in the audit trail."""

    class_permission_name = "Staff"
    list_title, add_title, edit_title, show_title = _l("Staff"), _l("New staff member"), _l("Staff member"), _l("Staff member")

    def check(self, item: Any) -> None:
        if item.id is None:
            self.pre_add(item)
        else:
            self.pre_update(item)

    def check_delete(self, item: Any) -> None:
        if item.id == current_user.id:
            raise Conflict(N_("You cannot delete yourself. Nothing was deleted."))


class StaffGroupView(BackOfficeView, UserGroupModelView):
    """Groups give their roles to all their members, so they are audited like roles."""

    class_permission_name = "Groups"
    list_title, add_title, edit_title, show_title = _l("Groups"), _l("New group"), _l("Group"), _l("Group")

    def check(self, item: Any) -> None:
        if not (item.name or "").strip():
            raise InvalidInput({"name": N_("A group needs a name.")})

    def check_delete(self, item: Any) -> None:
        if item.users:
            raise Conflict(N_("This group still has members. Nothing was deleted."))


class OwnPasswordView(ResetMyPasswordView):
    """Everybody changes the own password here."""

    class_permission_name = "Own password"
    form_title = _l("Your password")


class StaffPasswordView(ResetPasswordView):
    """An administrator sets somebody's password."""

    class_permission_name = "Staff passwords"
    form_title = _l("New password")


class OwnNameView(UserInfoEditView):
    class_permission_name = "Own name"
    form_title = _l("Your name")


class ClosedSecurityAPI(SecurityApi):
    """No sign-in for tokens: nothing of ours takes them, and the limit of tries at the sign-in page does not hold there."""

    include_route_methods: set[str] = set()


class OfficeSecurityManager(StaffSecurityManager):
    """The security manager with our screens for users, roles and groups."""

    userdbmodelview = StaffUserView
    rolemodelview = StaffRoleView
    groupmodelview = StaffGroupView
    resetmypasswordview = OwnPasswordView
    resetpasswordview = StaffPasswordView
    userinfoeditview = OwnNameView
    security_api = ClosedSecurityAPI
    userstatschartview = None

    def __init__(self, appbuilder: Any) -> None:
        super().__init__(appbuilder)
        self.userdbmodelview.datamodel = AuditedInterface(self.user_model)
        self.rolemodelview.datamodel = AuditedInterface(self.role_model)
        self.groupmodelview.datamodel = AuditedInterface(self.group_model)

    def reset_password(self, userid: Any, password: str) -> None:
        """Set a staff member's password; who did it stands in the audit trail. Raises NotFound."""
        user = self.get_user_by_id(int(userid)) if str(userid).isdecimal() else None
        if user is None:
            raise NotFound()
        with unit_of_work(self.session, staff_actor()) as unit:
            unit.audit("ab_user.reset_password", f"ab_user:{user.id}")
            super().reset_password(user.id, password)


def name_menus(appbuilder: AppBuilder) -> None:
    """Our words for the library's own menu entries."""
    for name, label in {"List Users": _l("Staff"), "List Roles": _l("Roles"), "List Groups": _l("Groups")}.items():
        item = appbuilder.menu.find(name)
        if item is not None:
            item.label = label
