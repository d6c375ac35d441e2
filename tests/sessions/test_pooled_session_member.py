"""Reactions of a pool to sessions that do not move."""

import pytest

from ssmtunneld.errors import StreamReset
from ssmtunneld.sessions.policy import Policy
from ssmtunneld.sessions.pooled_session import SILENT_TIME, STALL_TIME, STUCK_TIME
from tests.sessions.rig import basic, check_alive, living_pool, now, until
from tests.support.clockwork import virtual
from tests.support.fake_agent import AgentNature
from tests.support.fake_control import RESUME, elapse

ONE = Policy(max_sessions=1)
DEAF = AgentNature(deaf=True)


@virtual
async def test_the_only_session_there_may_be_is_replaced_when_it_does_not_move():
    async with living_pool(ONE) as rig:
        stuck = await rig.open()
        rig.control.newest.agent.nature = DEAF
        await stuck.send(b"never heard")
        await elapse(STALL_TIME + STUCK_TIME + 5)
        await check_alive(await rig.open())
        assert [view.retiring for view in rig.views] == [True, False]
        (retired,) = rig.journal.lines("session.retired")
        assert retired["why"].startswith("nothing moves")


@virtual
async def test_a_connection_that_comes_meanwhile_waits_for_the_other_session():
    async with living_pool(ONE) as rig:
        stuck = await rig.open()
        rig.control.newest.agent.nature = DEAF
        await stuck.send(b"never heard")
        await until(lambda: any(view.stalled for view in rig.views))
        asked_at = now()
        await check_alive(await rig.open())
        assert now() - asked_at < SILENT_TIME + 2


@virtual
async def test_those_that_never_move_cannot_have_one_session_after_the_other():
    async with living_pool(Policy(max_sessions=2)) as rig:
        for _ in range(10):
            rig.control.service.agent = AgentNature()
            stream = await rig.pool.open_stream(60)
            for session in rig.control.alive:
                session.agent.nature = DEAF
            await stream.send(b"never heard")
            await elapse(30)
        assert len(rig.control.alive) == 4


@virtual
async def test_a_session_that_moves_again_stays():
    async with living_pool(ONE) as rig:
        stream = await rig.open()
        rig.control.newest.agent.nature = DEAF
        await stream.send(b"heard late")
        await elapse(STALL_TIME)
        # Its next repetition is heard before the session counts as stuck.
        rig.control.newest.agent.nature = AgentNature()
        assert await stream.receive() == b"heard late"
        await elapse(30)
        await check_alive(stream)
        assert not rig.journal.lines("session.retired")


@virtual
async def test_a_basic_session_is_not_closed_before_its_last_bytes_have_arrived():
    async with living_pool(Policy(), basic()) as rig:
        stream = await rig.open()
        remote = rig.control.newest
        echoes = []
        remote.agent.say = lambda payload, _type=0: echoes.append(payload)
        release = rig.control.hold(RESUME)
        remote.lose_wire()
        await stream.send(b"the last words")
        await stream.aclose()
        await elapse(20)
        release()
        await until(lambda: not remote.alive)
        assert echoes == [b"the last words"]


@virtual
async def test_a_basic_stream_is_cut_not_ended_when_the_tunnel_is_stopped():
    async with living_pool(Policy(), basic()) as rig:
        stream = await rig.open()
        await rig.pool.stop()
        with pytest.raises(StreamReset):
            await stream.receive()
