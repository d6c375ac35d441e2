"""NOPs: how often, for whom. What they do is in ``test_session_idle.py``."""

import pytest

from ssmtunneld.protocol.handshake import Terms
from ssmtunneld.sessions.keepalive import AGENT_NOP_INTERVAL, KeepAlive
from tests.support.clockwork import virtual
from tests.support.fake_control import elapse


class FakePort:
    """Counts what it is asked for."""

    def __init__(self, streams=0):
        self.streams = streams
        self.nops = 0

    def nop(self):
        self.nops += 1


def _terms(*, needs_nop):
    return Terms(
        agent_version="3.3.987.0",
        properties={},
        mux=True,
        redials=False,
        needs_nop=needs_nop,
        understands_terminate=True,
    )


def _never():
    raise AssertionError("it is to live")


@pytest.mark.parametrize(
    ("keep_alive", "needs_nop", "interval"),
    [
        pytest.param(300.0, False, 300.0, id="for the service"),
        pytest.param(300.0, True, AGENT_NOP_INTERVAL, id="for the agent"),
    ],
)
@virtual
async def test_they_come_at_their_interval_until_stopped(
    keep_alive, needs_nop, interval
):
    nops, port = KeepAlive(keep_alive, _never), FakePort()
    nops.start(_terms(needs_nop=needs_nop), port)
    await elapse(10.5 * interval)
    assert port.nops == 10
    nops.stop()
    nops.stop()
    await elapse(10 * interval)
    assert port.nops == 10


@virtual
async def test_none_come_if_the_idle_timeout_is_to_be_respected():
    nops, port = KeepAlive(None, _never), FakePort()
    nops.start(_terms(needs_nop=False), port)
    await elapse(10_000)
    assert port.nops == 0


@virtual
async def test_an_agent_that_needs_them_gets_them_only_for_streams_then():
    ended = []
    nops, port = KeepAlive(None, lambda: ended.append(True)), FakePort(streams=1)
    nops.start(_terms(needs_nop=True), port)
    await elapse(3.5 * AGENT_NOP_INTERVAL)
    assert (port.nops, ended) == (3, [])
    port.streams = 0
    await elapse(AGENT_NOP_INTERVAL)
    assert (port.nops, ended) == (3, [True])
    nops.stop()


@virtual
async def test_starting_again_starts_the_interval_anew():
    nops, port = KeepAlive(10.0, _never), FakePort()
    nops.start(_terms(needs_nop=False), port)
    await elapse(9)
    nops.start(_terms(needs_nop=False), port)
    await elapse(9)
    assert port.nops == 0
    await elapse(2)
    assert port.nops == 1
    nops.stop()


@virtual
async def test_they_come_more_often_once_that_is_needed():
    nops, port = KeepAlive(300.0, _never), FakePort()
    nops.start(_terms(needs_nop=False), port)
    nops.shorten(24.0)
    nops.shorten(100.0)  # not less often
    await elapse(10.5 * 24.0)
    assert (port.nops, nops.interval) == (10, 24.0)
    nops.stop()


@virtual
async def test_what_sends_none_is_not_made_to():
    nops, port = KeepAlive(None, _never), FakePort()
    nops.start(_terms(needs_nop=False), port)
    nops.shorten(24.0)
    await elapse(1000)
    assert (port.nops, nops.interval) == (0, None)
