"""The hosted checkout page: a card form for an open session, without a line of script."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import Blueprint, Response, abort, g, make_response, redirect, render_template, request

from app.core import clock
from app.payments.sandbox import cards, payments
from app.payments.sandbox.house import House
from app.payments.sandbox.objects import Thing, words

_EXAMPLE = {"expiry": "12 / 34", "cvc": "123"}


def blueprint(house: House) -> Blueprint:
    pages, store = Blueprint("checkout", __name__, url_prefix="/c/pay"), house.store

    def page(session: Thing, form: dict[str, str], problems: dict[str, str], status: int = 200) -> Response:
        # Browsers hold the redirect after a form to the form's policy, so it names where the form may lead.
        g.form_targets = _origin(session["success_url"])
        rendered = render_template(
            "checkout.html",
            session=session,
            merchant=house.merchant,
            product=store.get(f"note_{session['id']}")["name"],
            amount=words(session["amount_total"], session["currency"]),
            form=form,
            problems=problems,
            test_cards=[(number, cards.grouped(number), hint) for number, (_, hint) in cards.TEST_CARDS.items()],
        )
        return make_response(rendered, status)

    def find(session_id: str) -> Thing:
        session = store.find(session_id)
        if session is None or session["object"] != "checkout.session":
            abort(404)
        return session

    @pages.get("/<session_id>")
    def show(session_id: str) -> Response:
        number = cards.digits(request.args.get("card", ""))
        form = {"number": cards.grouped(number), **_EXAMPLE} if number in cards.TEST_CARDS else {}
        return page(find(session_id), form, {})

    @pages.post("/<session_id>")
    def pay(session_id: str) -> Response:
        form = {field: request.form.get(field, "")[:40] for field in ("number", "expiry", "cvc")}
        problems = cards.check(form["number"], form["expiry"], form["cvc"], clock.now().date())
        # One transaction over look and pay: a second click finds the session complete.
        with store.transaction():
            session = find(session_id)
            if session["status"] == "expired":
                return page(session, {}, {}, 410)
            if session["status"] == "open":
                if problems:
                    return page(session, form, problems, 422)
                verdict = payments.pay(store, session_id, cards.digits(form["number"]), house.delays.delayed_payment_s)
                if verdict.result == "declined":
                    house.wake()
                    return page(session, {**form, "cvc": ""}, {"card": verdict.message}, 402)
        house.wake()
        target = session["success_url"].replace("{CHECKOUT_SESSION_ID}", session_id)
        return make_response(redirect(target, 303))

    return pages


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
