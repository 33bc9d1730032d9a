"""Template filters and globals: money, lots, moments, locale and text direction."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Context, Decimal

from babel.dates import format_timedelta
from babel.numbers import format_decimal
from flask import Flask, g, has_request_context, request, session
from flask_babel import format_date, format_datetime, get_locale, gettext
from markupsafe import Markup

from app.core.clock import now
from app.core.money import Money, exponent

LOT_UNITS = Decimal(100_000_000)


def current_locale() -> str:
    locale = get_locale()
    return str(locale) if locale else "en"


def text_direction() -> str:
    """The direction of this page's locale: rtl or ltr."""
    locale = get_locale()
    return locale.text_direction if locale else "ltr"


def translated(words: object) -> str:
    """A message that a value holds, in the reader's language; what is no message of ours, such as words people typed, as it is.

    Templates use `_` for texts of their own only: it takes its text for markup and for a pattern with % in it.
    """
    text = str(words)
    return gettext(text) if text else ""


def number(value: Decimal, digits: int) -> str:
    """A number with exactly `digits` decimals, the locale's grouping and Latin digits, as statements and servers have them."""
    pattern = "#,##0." + "0" * digits if digits else "#,##0"
    text = format_decimal(
        abs(value), format=pattern, locale=current_locale(), numbering_system="latn", decimal_quantization=False
    )
    return f"\N{MINUS SIGN}{text}" if value < 0 else text


def money(amount: Money | None) -> str:
    """As in 1,234.50 USD: every decimal the currency has, the code after the amount."""
    if amount is None:
        return "—"
    return f"{number(amount.decimal, exponent(amount.currency))} {amount.currency}"


def minor(amount_minor: int | None, currency: str) -> str:
    """Like `money`, from whole minor units and a currency code."""
    return "—" if amount_minor is None else money(Money(amount_minor, currency))


def decimals(value: Decimal | None, digits: int = 2) -> str:
    return "—" if value is None else number(value, digits)


def exact(value: Decimal | None) -> str:
    """All digits that matter and no more: 0.7000000000 shows as 0.7."""
    if value is None:
        return "—"
    plain = value.normalize()
    return number(plain, max(0, -int(plain.as_tuple().exponent)))


def rate(value: Decimal | None, digits: int = 8) -> str:
    """An exchange rate to read, not to count by: so many significant digits at most."""
    return "—" if value is None else exact(Context(prec=digits).plus(value))


def lots(volume: int | None) -> str:
    """Lots from a volume in 1/100000000 lot."""
    return "—" if volume is None else number(Decimal(volume) / LOT_UNITS, 2)


def when(moment: datetime | None) -> str:
    """A moment in UTC, short, in the reader's language."""
    return "—" if moment is None else format_datetime(moment.astimezone(UTC), "d MMM y, HH:mm")


def day(value: date | None) -> str:
    """A day without its year, short, in the reader's language."""
    return "—" if value is None else format_date(value, "d MMM", rebase=False)


def full_day(value: date | None) -> str:
    """A day with its year, in the reader's language; in a sentence it is not broken across lines."""
    return "—" if value is None else format_date(value, "d MMM y", rebase=False).replace(" ", "\N{NO-BREAK SPACE}")


def iso(moment: datetime | None) -> str:
    return "" if moment is None else moment.astimezone(UTC).isoformat(timespec="seconds")


def ago(moment: datetime | None) -> Markup | str:
    """How long ago, with the exact time on hover."""
    if moment is None:
        return "—"
    words = format_timedelta(moment - now(), add_direction=True, locale=current_locale(), threshold=1.2)
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(iso(moment), when(moment), words)


def select_locale() -> str:
    """The language of this request: chosen by ?lang=, kept in the session, else the client's own, else the browser's."""
    from app import LANGUAGES

    if not has_request_context():
        return "en"
    chosen = request.args.get("lang") or request.args.get("_l_")
    if chosen in LANGUAGES:
        session["locale"] = chosen
    if session.get("locale") in LANGUAGES:
        return str(session["locale"])
    client = g.get("client")
    if client is not None and client.language in LANGUAGES:
        return str(client.language)
    if request.path.startswith("/portal"):
        return request.accept_languages.best_match(list(LANGUAGES)) or "en"
    return "en"


def init_app(app: Flask) -> None:
    for function in (translated, money, minor, decimals, exact, rate, lots, when, day, full_day, iso, ago, number):
        app.add_template_filter(function)
    app.add_template_global(text_direction)
    app.add_template_global(current_locale)
    app.add_template_global(now, "utc_now")
