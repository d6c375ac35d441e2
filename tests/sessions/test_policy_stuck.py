"""The choice of a session to replace in a full pool where none moves."""

from dataclasses import dataclass

import pytest

from ssmtunneld.sessions.policy import STUCK_TIME, find_stuck


@dataclass
class Watched:
    """A session that has been stuck for so many seconds."""

    number: int
    stuck: float
    retiring: bool = False

    def stuck_for(self, now):
        return now + self.stuck


OLD = Watched(1, STUCK_TIME + 1)
YOUNG = Watched(2, STUCK_TIME)
MOVING = Watched(3, STUCK_TIME - 0.1)
RETIRING = Watched(4, STUCK_TIME + 2, retiring=True)


@pytest.mark.parametrize(
    ("sessions", "limit", "found"),
    [
        pytest.param([YOUNG, OLD], 2, OLD, id="the longest of a full pool"),
        pytest.param([OLD], 2, None, id="another may be started"),
        pytest.param([OLD, MOVING], 2, None, id="one moves"),
        pytest.param([YOUNG, OLD, RETIRING], 2, OLD, id="one is on its way out"),
        pytest.param([OLD, RETIRING], 1, None, id="too many are on their way out"),
    ],
)
def test_a_session_is_replaced_if_the_pool_is_full_and_none_moves(
    sessions, limit, found
):
    assert find_stuck(sessions, limit, 0.0) is found
    assert find_stuck(sessions, limit, -STUCK_TIME) is None
