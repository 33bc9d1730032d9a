"""The server's side of the sign-in: ten seconds, one try per challenge."""

from __future__ import annotations

import pytest

from app.metatrader.platforms import mt5_auth
from app.metatrader.simulator.exchange import Refused
from app.metatrader.simulator.session import ApiSession

START = {"version": "4000", "agent": "Lotwise", "login": "1000", "type": "manager"}
OURS = bytes(range(16))


class Timer:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def timer():
    return Timer()


@pytest.fixture
def session(timer):
    return ApiSession("Password1", timer)


def answer(session, challenge, password="Password1"):
    return session.answer({"srv_rand_answer": mt5_auth.answer(password, bytes.fromhex(challenge)), "cli_rand": OURS.hex()})


def test_both_sides_prove_themselves(session, timer):
    challenge = session.start(START)["srv_rand"]
    timer.now = 9.9
    result = answer(session, challenge)
    assert session.is_open
    assert mt5_auth.is_answer("Password1", OURS, result["cli_rand_answer"])


def test_too_late(session, timer):
    challenge = session.start(START)["srv_rand"]
    timer.now = 10.1
    with pytest.raises(Refused):
        answer(session, challenge)
    assert not session.is_open


def test_wrong_password_and_no_second_try(session):
    challenge = session.start(START)["srv_rand"]
    with pytest.raises(Refused):
        answer(session, challenge, "Password2")
    with pytest.raises(Refused):
        answer(session, challenge)
    assert not session.is_open


def test_starting_anew_closes_the_session(session):
    answer(session, session.start(START)["srv_rand"])
    session.start(START)
    assert not session.is_open


@pytest.mark.parametrize(
    ("change", "retcode"),
    [
        ({"version": "483"}, 1010),
        ({"version": "x"}, 3),
        ({"agent": ""}, 3),
        ({"agent": "two words"}, 3),
        ({"type": "client"}, 1024),
        ({"login": "1001"}, 1001),
    ],
)
def test_refused_starts(session, change, retcode):
    with pytest.raises(Refused) as caught:
        session.start({**START, **change})
    assert caught.value.retcode == retcode


@pytest.mark.parametrize("random", ["", "00", "zz" * 16, "00" * 17])
def test_bad_client_randoms(session, random):
    challenge = session.start(START)["srv_rand"]
    proof = mt5_auth.answer("Password1", bytes.fromhex(challenge))
    with pytest.raises(Refused):
        session.answer({"srv_rand_answer": proof, "cli_rand": random})
