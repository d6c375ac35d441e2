import pytest

from ssmtunneld.sessions.policy import (
    GROWTH_PATIENCE,
    STALL_PATIENCE,
    Phase,
    SessionView,
    may_wait,
)

MOVING = SessionView(1, Phase.READY, 0.0, streams=9)
STUCK = SessionView(2, Phase.READY, 0.0, streams=9, stalled=True)
STARTING = SessionView(3, Phase.STARTING, 0.0)
RETIRING = SessionView(4, Phase.READY, 0.0, streams=9, retiring=True)


@pytest.mark.parametrize(
    ("views", "limit", "patience"),
    [
        pytest.param([MOVING], 2, GROWTH_PATIENCE, id="another may be started"),
        pytest.param([MOVING, STARTING], 2, GROWTH_PATIENCE, id="one is on its way"),
        pytest.param([MOVING, MOVING], 2, 0.0, id="there may be no more"),
        pytest.param([MOVING, RETIRING], 2, GROWTH_PATIENCE, id="one does not count"),
        pytest.param([STUCK], 2, STALL_PATIENCE, id="none moves"),
        pytest.param([STUCK, STUCK], 2, STALL_PATIENCE, id="none moves of a full pool"),
        pytest.param([STUCK, MOVING], 2, 0.0, id="one moves"),
        pytest.param([], 2, STALL_PATIENCE, id="there is none"),
    ],
)
def test_a_connection_waits_for_as_long_as_something_better_may_come(
    views, limit, patience
):
    times = (0.0, GROWTH_PATIENCE - 0.1, STALL_PATIENCE - 0.1, STALL_PATIENCE)
    for waited in times:
        assert may_wait(views, limit, waited) is (waited < patience)
