"""One session's trials, with a driver that says nothing by itself."""

import pytest

from ssmtunneld.base.log import get_log
from ssmtunneld.sessions.message_sizes import AgentKind, MessageSizes
from ssmtunneld.sessions.size_trial import HURRIED_TIMEOUT, TIMEOUT, SizeTrial
from tests.support.clockwork import virtual
from tests.support.fake_control import elapse

KIND = AgentKind("3.3.1.0", "example.com")


class Mute:
    """A driver whose messages are never acknowledged."""

    def __init__(self):
        self.sent = []
        self.closed = []

    def send_awaited(self, payload, _arrived):
        self.sent.append(len(payload))
        return True

    def close(self, error):
        self.closed.append(error)


def trial_of(driver, sizes):
    return SizeTrial(
        driver,
        sizes,
        KIND,
        limit=lambda: 8192,
        allowed=lambda: True,
        done=lambda: None,
        log=get_log(),
    )


@pytest.mark.parametrize(
    ("hurried", "timeout", "next_one"),
    [(False, TIMEOUT, None), (True, HURRIED_TIMEOUT, 4096)],
)
@virtual
async def test_silence_refuses_a_size_but_not_if_there_was_little_time(
    hurried, timeout, next_one
):
    driver, sizes = Mute(), MessageSizes(lambda: 0.0)
    trial = trial_of(driver, sizes)
    trial.begin()
    if hurried:
        trial.hurry()
    await elapse(timeout - 0.1)
    assert trial.under_way
    await elapse(0.2)
    assert (driver.sent, trial.under_way, len(driver.closed)) == ([4096], False, 1)
    assert sizes.begin(KIND, 8192) == next_one
