"""Registering, verifying, signing in and out, and forgetting the password, page by page."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

from sqlalchemy import func, select, update

from app.clients import onboarding
from app.clients.passwords import verify_password
from app.core.actor import Actor
from app.core.clock import now
from app.models.clients import Client, PortalSession
from app.partners import links
from tests.integration.portal.conftest import PASSWORD

FORM = {
    "first_name": "Amira",
    "last_name": "Haddad",
    "email": "amira@example.com",
    "password": PASSWORD,
    "country": "AE",
    "birth_date": "1990-05-17",
    "terms": "y",
}


def clients(database):
    with database.session() as session:
        return session.scalars(select(Client).order_by(Client.id)).all()


def link(database, client_id, purpose, ttl=timedelta(hours=1)):
    with database.session() as session:
        return onboarding.issue_token(session, client_id, purpose, ttl)


# Registration


def test_a_visitor_registers(visitor, database, facts):
    answer = visitor.post("/portal/register", FORM)
    assert (answer.status_code, answer.location) == (302, "/portal/check-mail")
    (client,) = clients(database)
    assert (client.email, client.language, client.status) == ("amira@example.com", "en", "registered")
    page = visitor.get("/portal/check-mail").text
    assert "amira@example.com" in page
    assert facts("client.registered")[0].payload == {"touches": [], "promo_code": ""}
    assert visitor.secret is None  # registering is not signing in


def test_in_arabic_the_page_is_mirrored_and_the_language_is_kept(visitor, database):
    page = visitor.get("/portal/register?lang=ar").text
    assert 'dir="rtl"' in page
    assert 'lang="ar"' in page
    assert "الإمارات العربية المتحدة" in page
    visitor.post("/portal/register", {**FORM, "first_name": "أميرة", "last_name": "حداد"})
    (client,) = clients(database)
    assert (client.full_name, client.language) == ("أميرة حداد", "ar")


def test_all_problems_at_once_and_the_input_is_kept(visitor, database):
    wrong = {
        **FORM,
        "first_name": 'Jo"><script>',
        "email": "nobody",
        "password": "short",
        "country": "XX",
        "birth_date": "31.12.1990",
    }
    answer = visitor.post("/portal/register", {key: value for key, value in wrong.items() if key not in ("terms", "last_name")})
    assert answer.status_code == 422
    for words in (
        "A name is written with letters",
        "Please enter your last name.",
        "Please enter a mail address such as",
        "at least 10 characters",
        "Please choose the country",
        "Please enter a date",
        "Please read the terms",
    ):
        assert words in answer.text, words
    assert 'value="nobody"' in answer.text
    assert "<script>" not in answer.text.replace("<script src", "").replace("<script defer", "").replace(
        '<script type="module"', ""
    )
    assert 'value="short"' not in answer.text
    assert clients(database) == []


def test_too_young(visitor, database):
    answer = visitor.post("/portal/register", {**FORM, "birth_date": "2024-01-01"})
    assert answer.status_code == 422
    assert "at least 18 years old" in answer.text
    assert clients(database) == []


def test_a_known_address_gets_the_same_answer(visitor, another, database, facts, client_id):
    first = visitor.post("/portal/register", {**FORM, "email": "new@example.com"})
    second = another.post("/portal/register", {**FORM, "password": "mallory was here"})
    assert (first.status_code, first.location) == (second.status_code, second.location)
    pages = [
        browser.get("/portal/check-mail").text.replace(email, "").partition("<main")[2].partition('name="csrf_token"')[0]
        for browser, email in ((visitor, "new@example.com"), (another, "amira@example.com"))
    ]
    assert pages[0] == pages[1]
    assert [fact.client_id for fact in facts("client.register_repeated")] == [client_id]
    assert verify_password(clients(database)[0].password_hash, PASSWORD)


STRANGE = (
    {"first_name": "x" * 100_000},
    {"email": "\x00"},
    {"birth_date": "99999-99-99"},
    {"birth_date": "0000-00-00"},
    {"country": "\u202e"},
    {"first_name": ["a", "b"]},
    {"ib": "'; DROP TABLE client; --", "email": "no"},
)


def test_strange_input_is_answered_with_words(visitor, database):
    for strange in STRANGE:
        answer = visitor.post("/portal/register", {**FORM, "last_name": "", **strange})
        assert answer.status_code == 422
        assert "Traceback" not in answer.text
    assert clients(database) == []


def test_bytes_that_are_no_text(visitor, database):
    token = visitor.token("/portal/register")
    body = b"csrf_token=" + token.encode() + b"&email=%ff%fe&first_name=%c3%28"
    answer = visitor.http.post("/portal/register", data=body, content_type="application/x-www-form-urlencoded")
    assert answer.status_code == 422
    assert clients(database) == []


def test_the_ib_s_link_is_kept_while_the_visitor_looks_around(visitor, database, facts):
    with database.session() as session:
        ib_client = onboarding.register_client(
            session, **{key: value for key, value in FORM.items() if key not in ("birth_date", "terms", "email")},
            email="ib@example.com", language="en", terms_version="1", actor_address="",
        )  # fmt: skip
        ib = links.make_ib(session, ib_client.client_id, "USD", Actor.staff(1))
        links.create_link(session, ib.id, "Website", Actor.staff(1), code="ALPHA8")
    visitor.get("/portal/register?ib=ALPHA8")
    cookie = visitor.http.get_cookie("lotwise_ib", path="/portal")
    assert (cookie.path, cookie.http_only, cookie.same_site) == ("/portal", True, "Lax")
    visitor.get("/portal/sign-in")
    visitor.get("/portal/register?ib=ALPHA8")
    visitor.post("/portal/register", {**FORM, "ib": "ALPHA8"}, page="/portal/register")
    assert {code for code, _ in facts("client.registered")[-1].payload["touches"]} == {"ALPHA8"}
    with database.session() as session:
        assert links.links_of(session, ib.id)[0].visits == 1


def test_without_cookies_the_form_carries_the_code(visitor, facts):
    page = visitor.get("/portal/register?ib=ALPHA8")
    assert 'value="ALPHA8"' in page.text
    visitor.http.delete_cookie("lotwise_ib", path="/portal")
    visitor.post("/portal/register", {**FORM, "ib": "ALPHA8"}, page="/portal/register")
    assert [code for code, _ in facts("client.registered")[-1].payload["touches"]] == ["ALPHA8"]


def test_visits_that_somebody_else_wrote_count_for_nothing(visitor, facts):
    visitor.http.set_cookie("lotwise_ib", '[["FORGED1",1790000000]].x', path="/portal")
    visitor.post("/portal/register", FORM, page="/portal/register")
    assert facts("client.registered")[-1].payload == {"touches": [], "promo_code": ""}


def test_an_unknown_promotion_code_is_said_and_loses_nothing(visitor, database):
    answer = visitor.post("/portal/register", {**FORM, "promo_code": "NOBODY1"}, page="/portal/register")
    assert answer.status_code == 422
    assert "Nobody here has this code" in answer.text
    assert FORM["email"] in answer.text
    assert clients(database) == []


def test_a_code_that_is_none_makes_no_cookie(visitor):
    for code in ("<script>", "a" * 500, "x;y", "\x00", ""):
        assert visitor.get("/portal/register", query_string={"ib": code}).status_code == 200
        assert visitor.http.get_cookie("lotwise_ib", path="/portal") is None


def test_many_registrations_from_one_place_are_slowed(visitor, database):
    token = visitor.token("/portal/register")
    answers = [visitor.bare_post("/portal/register", {"csrf_token": token, "email": f"{n}@x"}).status_code for n in range(31)]
    assert answers == [422] * 30 + [429]


# Verification


def test_opening_the_link_does_not_use_it_and_pressing_the_button_does(visitor, database, make_client):
    client_id = make_client(verified=False)
    path = f"/portal/verify/{link(database, client_id, 'verify_email')}"
    for _ in range(3):
        assert visitor.get(path).status_code == 200
        assert visitor.http.head(path).status_code == 200
    assert clients(database)[0].email_verified_at is None
    answer = visitor.post(path)
    assert (answer.status_code, answer.location) == (302, "/portal/sign-in")
    assert "Your mail address is confirmed." in visitor.get("/portal/sign-in").text
    assert clients(database)[0].status == "verified"
    for again in (visitor.get(path), visitor.bare_post(path, {"csrf_token": visitor.token("/portal/sign-in")})):
        assert again.status_code == 410
        assert "This link was used already" in again.text
        assert "If it was you, your mail address is confirmed." in again.text
        assert 'href="/portal/sign-in"' in again.text


def test_who_is_signed_in_already_goes_on_to_the_start_page(visitor, database, make_client):
    client_id = make_client(verified=False)
    visitor.sign_in()
    assert visitor.post(f"/portal/verify/{link(database, client_id, 'verify_email')}").location == "/portal/"
    assert "Send two documents" in visitor.get("/portal/").text


def test_expired_and_unknown_links_say_what_they_are(visitor, database, make_client):
    client_id = make_client(verified=False)
    expired = visitor.get(f"/portal/verify/{link(database, client_id, 'verify_email', timedelta(seconds=-1))}")
    assert expired.status_code == 410
    assert "This link has expired" in expired.text
    assert "/portal/check-mail" in expired.text
    for secret in ("x", "%00", "%ff", "a" * 3000):
        unknown = visitor.get(f"/portal/verify/{secret}")
        assert unknown.status_code == 404
        assert "This link is not complete" in unknown.text


def test_another_verification_mail(visitor, facts, make_client):
    client_id = make_client(verified=False)
    for email in ("amira@example.com", "nobody@example.com"):
        answer = visitor.post("/portal/check-mail", {"email": email})
        assert (answer.status_code, answer.location) == (302, "/portal/check-mail")
    assert [fact.client_id for fact in facts("client.verification_requested")] == [client_id]


# Sign-in


def test_sign_in_gives_a_cookie_for_the_portal_only(visitor, client_id):
    answer = visitor.sign_in()
    assert (answer.status_code, answer.location) == (302, "/portal/")
    (header,) = [value for value in answer.headers.getlist("Set-Cookie") if value.startswith("lotwise_portal=")]
    assert "HttpOnly" in header
    assert "SameSite=Lax" in header
    assert "Path=/portal" in header
    assert "Secure" not in header  # this test's address is http; with https the attribute is set
    assert visitor.get("/portal/").status_code == 200


def test_over_https_the_cookie_is_secure(visitor, client_id, app):
    app.extensions["settings"] = replace(app.extensions["settings"], base_url="https://portal.example.com")
    (header,) = [value for value in visitor.sign_in().headers.getlist("Set-Cookie") if value.startswith("lotwise_portal=")]
    assert "Secure" in header


def test_wrong_password_and_unknown_address_look_the_same(visitor, client_id):
    answers = [
        visitor.sign_in(email, password)
        for email, password in (("amira@example.com", "wrong password"), ("nobody@example.com", PASSWORD))
    ]
    assert [answer.status_code for answer in answers] == [422, 422]
    texts = [answer.text.partition('role="alert"')[2].partition("</form>")[0].partition("value=")[0] for answer in answers]
    assert texts[0] == texts[1]
    assert "is not right" in texts[0]
    assert visitor.secret is None


def test_a_planted_cookie_is_replaced_and_a_former_one_ends(visitor, another, client_id):
    planted = "p" * 43
    visitor.http.set_cookie("lotwise_portal", planted, path="/portal")
    visitor.sign_in()
    first = visitor.secret
    assert first != planted
    another.http.set_cookie("lotwise_portal", planted, path="/portal")
    assert another.get("/portal/").status_code == 302
    visitor.post("/portal/sign-in", {"email": "amira@example.com", "password": PASSWORD}, page="/portal/profile")
    assert visitor.secret != first
    another.http.set_cookie("lotwise_portal", first, path="/portal")
    assert another.get("/portal/").status_code == 302


def test_the_form_token_of_before_does_not_work_after(visitor, client_id):
    token = visitor.token("/portal/sign-in")
    visitor.sign_in()
    assert visitor.bare_post("/portal/profile", {"csrf_token": token}).status_code == 400


def test_only_failures_count_towards_the_limit_of_an_account(visitor, another, client_id, make_client):
    make_client("omar@example.com")
    for _ in range(12):
        assert visitor.sign_in().status_code == 302
        visitor.post("/portal/sign-out", page="/portal/")
    assert [visitor.sign_in(password="wrong").status_code for _ in range(11)] == [422] * 10 + [429]
    assert another.sign_in(" AMIRA@example.com ").status_code == 429  # the account, from wherever
    assert another.sign_in("omar@example.com").status_code == 302  # and no other account


def test_sign_in_leads_back_to_where_one_wanted(visitor, client_id):
    assert visitor.get("/portal/profile?x=1").location == "/portal/sign-in?next=/portal/profile?x%3D1"
    answer = visitor.post(
        "/portal/sign-in?next=/portal/documents",
        {"email": "amira@example.com", "password": PASSWORD, "next": "/portal/documents"},
    )
    assert answer.location == "/portal/documents"


ELSEWHERE = (
    "https://evil.example/portal/",
    "//evil.example/portal/",
    "/\\evil.example",
    "/portal//evil",
    "/portal/../users/",
    "javascript:alert(1)",
    "\x00",
    "/portal\\@evil.example",
    "/users/",
    "/portal/sign-out",
    "http:///portal/",
    "http://[",
    "/portal/\r\nX: y",
)


def test_sign_in_leads_nowhere_else(visitor, client_id):
    for target in ELSEWHERE:
        answer = visitor.post("/portal/sign-in", {"email": "amira@example.com", "password": PASSWORD, "next": target})
        assert (answer.status_code, answer.location) == (302, "/portal/"), target
        visitor.post("/portal/sign-out", page="/portal/")


def test_sign_out_ends_the_session_on_the_server(visitor, another, client_id):
    visitor.sign_in()
    secret = visitor.secret
    assert visitor.get("/portal/sign-out").status_code == 405
    assert visitor.post("/portal/sign-out", page="/portal/").location == "/portal/sign-in"
    assert visitor.secret is None
    another.http.set_cookie("lotwise_portal", secret, path="/portal")
    assert another.get("/portal/").status_code == 302


def test_idle_and_old_sessions_are_over(visitor, database, client_id):
    for values in ({"last_seen_at": now() - timedelta(hours=3)}, {"expires_at": now() - timedelta(seconds=1)}):
        visitor.sign_in()
        assert visitor.get("/portal/").status_code == 200
        with database.session() as session:
            session.execute(update(PortalSession).values(**values))
            session.commit()
        assert visitor.get("/portal/").status_code == 302


def test_what_pages_fetch_by_themselves_is_no_sign_of_life(signed_in, database):
    long_ago = now() - timedelta(minutes=30)
    with database.session() as session:
        session.execute(update(PortalSession).values(last_seen_at=long_ago))
        session.commit()
    assert signed_in.get("/portal/overview", headers={"HX-Request": "true"}).status_code == 200
    with database.session() as session:
        assert session.scalars(select(PortalSession.last_seen_at)).one() == long_ago
    signed_in.get("/portal/")
    with database.session() as session:
        assert session.scalars(select(PortalSession.last_seen_at)).one() > long_ago


def test_a_blocked_client_is_out_at_once(signed_in, another, database):
    with database.session() as session:
        session.execute(update(Client).values(status="blocked"))
        session.commit()
    assert signed_in.get("/portal/").status_code == 302
    answer = another.sign_in()
    assert answer.status_code == 403
    assert "Your access is closed" in answer.text


# A forgotten password


def test_forgetting_the_password_tells_nobody_who_has_an_account(visitor, facts, client_id):
    answers = [visitor.post("/portal/forgot", {"email": email}) for email in ("amira@example.com", "nobody@example.com")]
    assert [answer.status_code for answer in answers] == [200, 200]
    amira, nobody = (re.sub(r'"X-CSRFToken": "[^"]*"', "", answer.text) for answer in answers)  # signed with its second
    assert amira.replace("amira@", "") == nobody.replace("nobody@", "")
    assert [fact.client_id for fact in facts("client.password_reset_requested")] == [client_id]


def test_a_new_password_by_mail(visitor, signed_in, database, client_id):
    path = f"/portal/reset/{link(database, client_id, 'reset_password')}"
    assert visitor.get(path).status_code == 200
    refused = visitor.post(path, {"password": "short"})
    assert refused.status_code == 422
    assert "at least 10 characters" in refused.text
    answer = visitor.post(path, {"password": "another four words"})
    assert (answer.status_code, answer.location) == (302, "/portal/sign-in")
    assert signed_in.get("/portal/").status_code == 302
    assert visitor.get(path).status_code == 410
    assert visitor.sign_in(password="another four words").status_code == 302


def test_mails_to_one_account_are_limited(visitor, another, client_id):
    assert [visitor.post("/portal/forgot", {"email": "amira@example.com"}).status_code for _ in range(6)] == [200] * 5 + [429]
    assert another.post("/portal/forgot", {"email": "amira@example.com"}).status_code == 429


# Forms without a token


FORMS = (
    "register", "check-mail", "verify/x", "sign-in", "sign-out", "forgot", "reset/x", "profile", "profile/password",
    "profile/sessions/1/revoke", "documents/identity",
)  # fmt: skip


def test_without_the_form_s_token_nothing_happens(signed_in, database):
    for path in FORMS:
        answer = signed_in.bare_post(f"/portal/{path}", {"email": "x@example.com", "password": PASSWORD})
        assert answer.status_code == 400, path
        assert "Nothing was changed" in answer.text
    assert signed_in.get("/portal/").status_code == 200
    with database.session() as session:
        assert session.scalar(select(func.count()).select_from(PortalSession)) == 1


def test_pages_hold_no_inline_script_or_style(signed_in):
    for path in ("", "documents", "profile", "register", "sign-in", "terms", "check-mail", "forgot"):
        answer = signed_in.get(f"/portal/{path}")
        assert " style=" not in answer.text
        assert "<style" not in answer.text
        assert " onclick=" not in answer.text
        policy = answer.headers["Content-Security-Policy"]
        assert "unsafe" not in policy.partition("script-src")[2]
        assert "style-src 'self';" in policy
        assert answer.headers["Cache-Control"] == "no-store"
