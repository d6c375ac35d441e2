"""One session in the status document."""

from dataclasses import replace

import pytest

from ssmtunneld.observe.status import session_status
from ssmtunneld.sessions.policy import Phase
from tests.observe.test_status import member, terms


@pytest.mark.parametrize(
    ("phase", "word"),
    [
        (Phase.STARTING, "starting"),
        (Phase.READY, "ready"),
        (Phase.RESUMING, "resuming"),
    ],
)
def test_a_phase_is_a_word(phase, word):
    assert session_status(member(phase), 9.0).phase == word


def test_age_and_rate_are_rounded():
    found = session_status(member(traffic=1234.6), 12.34)
    assert (found.age, found.rate) == (7.3, 1235)


@pytest.mark.parametrize("mux", [True, False])
def test_an_agent_is_known_by_its_terms(mux):
    found = session_status(member(agreed=terms(mux=mux)), 9.0)
    assert found.agent == "3.3.987.0"
    assert found.mode == ("mux" if mux else "basic")


def test_before_the_handshake_nothing_is_known_of_the_agent():
    found = session_status(replace(member(), session_id=None), 9.0)
    assert (found.session_id, found.agent, found.mode) == (None, None, None)
