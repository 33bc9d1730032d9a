"""Lotwise, an open forex CRM. `create_app` puts the web application together; nothing runs on import."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import Flask
from werkzeug.routing import IntegerConverter

if TYPE_CHECKING:
    from config import Settings

ROOT = Path(__file__).resolve().parent.parent

#: Languages a page can be read in. The portal offers all; the value is the language's own name.
LANGUAGES = {
    "en": {"flag": "gb", "name": "English"},
    "ar": {"flag": "sa", "name": "العربية"},
}


class RowNumber(IntegerConverter):
    """<int:…> in an address: what a bigint column holds. A larger number leads nowhere."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"max": 2**63 - 1, **kwargs})


def create_app(settings: Settings) -> Flask:
    """The web application: back office, portal, API and provider callbacks over one database."""
    from app.core import money

    money.configure(settings.extra_currencies, settings.reporting_currency)
    app = Flask(__name__, static_folder="static", static_url_path="/assets")
    app.url_map.converters["int"] = RowNumber
    app.extensions["settings"] = settings
    init_config(app, settings)
    init_extensions(app, settings)
    init_surfaces(app)
    return app


def init_config(app: Flask, settings: Settings) -> None:
    """Flask's own configuration, derived from our settings."""
    from app.security import staff

    app.config.update(
        APP_NAME="Lotwise",
        SECRET_KEY=settings.secret_key,
        SQLALCHEMY_DATABASE_URI=settings.database_url,
        SQLALCHEMY_ENGINE_OPTIONS={"pool_size": 10, "max_overflow": 30, "pool_pre_ping": True, "hide_parameters": True},
        SESSION_COOKIE_NAME="lotwise_session",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=settings.secure_cookies,
        PERMANENT_SESSION_LIFETIME=8 * 3600,
        MAX_CONTENT_LENGTH=settings.upload_max_bytes + 1_000_000,
        MAX_FORM_MEMORY_SIZE=1_000_000,
        WTF_CSRF_TIME_LIMIT=8 * 3600,
        BABEL_DEFAULT_LOCALE="en",
        BABEL_DEFAULT_TIMEZONE="UTC",
        BABEL_TRANSLATION_DIRECTORIES=str(ROOT / "translations"),
        LANGUAGES=LANGUAGES,
        RATELIMIT_STORAGE_URI=settings.rate_limit_url,
        RATELIMIT_ENABLED=True,
        RATELIMIT_STRATEGY="fixed-window",
        RATELIMIT_SWALLOW_ERRORS=True,
        AUTH_RATE_LIMITED=True,
        AUTH_RATE_LIMIT="20 per minute",
        FAB_PASSWORD_COMPLEXITY_ENABLED=True,
        FAB_PASSWORD_COMPLEXITY_VALIDATOR=staff.check_password,
        FAB_UPDATE_PERMS=False,
        FAB_CREATE_DB=False,
        FAB_INDEX_VIEW="app.views.home.HomeView",
        FAB_ADD_SECURITY_PERMISSION_VIEW=False,
        FAB_ADD_SECURITY_VIEW_MENU_VIEW=False,
        FAB_ADD_SECURITY_PERMISSION_VIEWS_VIEW=False,
        FAB_SECURITY_MANAGER_CLASS="app.views.staff.OfficeSecurityManager",
    )


def init_extensions(app: Flask, settings: Settings) -> None:
    """Bind database, CSRF protection, rate limits and the server of queues to the application."""
    from app import models  # noqa: F401  all tables must be declared before the first query
    from app.extensions import csrf, db, limiter, redis_client

    db.init_app(app)
    csrf.init_app(app)
    limiter.init_app(app)
    app.extensions["redis_client"] = redis_client(settings.redis_url)
    if settings.trusted_proxies:
        from werkzeug.middleware.proxy_fix import ProxyFix

        count = settings.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=count, x_proto=count, x_host=count)  # type: ignore[method-assign]


def init_surfaces(app: Flask) -> None:
    """Register the back office, the portal, the API, the error pages and the security headers."""
    from app import api, portal, views
    from app.security import headers
    from app.surfaces import errors, formats

    headers.init_app(app)
    formats.init_app(app)
    with app.app_context():
        views.init_app(app)
    portal.init_app(app)
    api.init_app(app)
    errors.init_app(app)
    logging.getLogger("flask_appbuilder").setLevel(logging.WARNING)
    # It warns of every column that cannot be searched, such as JSON; the views name the columns to search by themselves.
    logging.getLogger("flask_appbuilder.models.filters").setLevel(logging.ERROR)
