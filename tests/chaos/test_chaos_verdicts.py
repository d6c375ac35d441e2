"""Verdicts on connections whose client may have been told that its session is over."""

from dataclasses import dataclass
from random import Random
from types import SimpleNamespace

import pytest

from tests.chaos.accounting import Judge
from tests.chaos.adversary import Adversary
from tests.chaos.client import Errand, Outcome, Result


@dataclass(eq=False)
class Session:
    """What an emulator knows of a session."""

    id: str
    websockets: int = 1
    attached: bool = True
    over: bool = False
    output: str = ""


@pytest.fixture
async def sessions():
    return [Session("old")]


@pytest.fixture
async def adversary(sessions):
    return Adversary(SimpleNamespace(sessions=sessions), Random(1), lambda: None)


def _reset(session_id):
    result = Result(Errand(1), 0.0, 1.0, Outcome.RESET, received=1)
    result.session = session_id
    return result


def _resume(session):
    session.websockets += 1


def _lose(session):
    session.attached = False


def _end(session):
    session.over = True


@pytest.mark.parametrize("change", [_resume, _lose, _end])
@pytest.mark.parametrize("is_new", [True, False])
async def test_whose_client_may_have_asked_for_a_token_is_in_doubt(
    change, is_new, sessions, adversary
):
    adversary.doubt()
    sessions += [Session("new"), Session("untouched")]
    change(sessions[is_new])
    adversary.end_doubt()
    assert adversary.doubtful == {sessions[is_new].id}


async def test_all_connections_of_one_that_was_told_so_are_excused(adversary):
    adversary.doubtful = {"a", "b"}
    adversary.told_so = 1
    judge = Judge(adversary, 15.0)
    verdicts = [judge.verdict(_reset(session_id)) for session_id in "aabaca"]
    assert [verdict is None for verdict in verdicts] == [
        *(True, True, False, True, False, True)
    ]


@pytest.mark.parametrize(
    ("received", "output", "excused"),
    [
        (0, "Unable to connect to specified port: dial tcp", True),
        (0, "The agent was restarted.", False),
        (1, "Unable to connect to specified port: dial tcp", False),
    ],
)
async def test_a_basic_session_whose_agent_was_refused_excuses_who_heard_nothing(
    received, output, excused, sessions, adversary
):
    sessions[0].output = output
    result = Result(Errand(1), 0.0, 1.0, Outcome.RESET, received=received)
    result.session = "old"
    assert (Judge(adversary, 15.0).excuse(result) == "refused") is excused
