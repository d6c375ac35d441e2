"""A message that is missing for good: noticed, and told from one that is only late."""

from dataclasses import replace

import pytest

from ssmtunneld.errors import StreamReset
from ssmtunneld.sessions.gap_detector import (
    PROBE_INTERVAL,
    PROOFS,
    UNPROVEN,
    GapDetector,
    GapFinding,
)
from ssmtunneld.sessions.policy import Policy
from tests.sessions.rig import check_alive, living_pool, now, until
from tests.sessions.samples import channel_statistics
from tests.support.clockwork import virtual
from tests.support.fake_control import elapse

WHOLE = channel_statistics(acknowledged=10)
BROKEN = replace(WHOLE, early=3)
SUSPECTED = PROBE_INTERVAL * PROOFS


def test_nothing_is_found_while_nothing_is_missing():
    hole = GapDetector(0.0)
    for second in range(10_000):
        assert hole.look(float(second), WHOLE, 7) is GapFinding.FLOWING


def test_what_is_repaired_message_by_message_is_not_lost():
    hole = GapDetector(0.0)
    for second in range(10_000):
        assert hole.look(float(second), BROKEN, second // 4) is GapFinding.FLOWING


def test_a_message_that_does_not_come_although_the_agent_answers_is_lost():
    hole = GapDetector(0.0)
    hole.look(0.0, BROKEN, 7)
    findings = [
        hole.look(float(second), replace(BROKEN, acknowledged=10 + second), 7)
        for second in range(1, int(SUSPECTED) + 1)
    ]
    assert findings.count(GapFinding.SUSPECT) == PROOFS - 1
    assert findings.index(GapFinding.LOST) == len(findings) - 1


def test_an_agent_that_does_not_answer_has_time():
    hole = GapDetector(0.0)
    hole.look(0.0, BROKEN, 7)
    findings = {hole.look(float(s), BROKEN, 7) for s in range(1, int(UNPROVEN))}
    assert findings == {GapFinding.FLOWING, GapFinding.SUSPECT}
    assert hole.look(UNPROVEN, BROKEN, 7) is GapFinding.LOST


def test_what_moves_again_has_all_the_time_again():
    hole = GapDetector(0.0)
    hole.look(0.0, BROKEN, 7)
    for moved, start in ((7, 0.0), (8, SUSPECTED - 1)):
        for second in range(1, int(SUSPECTED) - 1):
            heard = replace(BROKEN, acknowledged=10 + second)
            finding = hole.look(start + second, heard, moved)
            assert finding is not GapFinding.LOST


@virtual
async def test_connections_are_cut_and_the_session_replaced_when_a_message_is_lost():
    async with living_pool(Policy()) as rig:
        stream = await rig.open()
        agent = rig.control.newest.agent
        agent._next += 1  # sent, lost, and not recorded
        asked_at = now()
        await stream.send(b"never answered")
        with pytest.raises(StreamReset, match="lost a message"):
            await stream.receive()
        assert SUSPECTED <= now() - asked_at < SUSPECTED + 10
        await until(lambda: rig.journal.lines("session.ended"))
        (ended,) = rig.journal.lines("session.ended")
        assert ended["reason"] == "the agent has lost a message"
        await check_alive(await rig.open())
        await until(lambda: len(rig.control.alive) == 1)


@virtual
async def test_a_message_that_comes_late_cuts_nothing():
    async with living_pool(Policy()) as rig:
        stream = await rig.open()
        agent = rig.control.newest.agent
        late, agent._next = agent._next, agent._next + 1
        await stream.send(b"ping")
        await elapse(SUSPECTED - 10)
        agent._next, after = late, agent._next
        agent.say(b"\x01\x03\x00\x00\x00\x00\x00\x00")  # a NOP
        agent._next = after
        assert await stream.receive() == b"ping"
        await elapse(100)
        await check_alive(stream)
