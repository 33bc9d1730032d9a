"""Staff identity lives in Flask-AppBuilder's own tables (ab_*); importing them here puts them into the metadata."""

from flask_appbuilder.security.sqla import models as _staff

__all__ = ["User"]

User = _staff.User
