"""A dead agent is told from one that a destination blocks."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmtunneld.errors import AccessDenied, StreamReset
from ssmtunneld.sessions.policy import Policy
from ssmtunneld.sessions.session import SessionSettings
from ssmtunneld.sessions.silence import (
    BLOCKED_INTERVAL,
    BLOCKED_TIME,
    PROOFS,
    QUIET_TIME,
    SILENT_TIME,
    SUSPECT_TIME,
    Answer,
    Signs,
    SilenceWatch,
    Step,
)
from tests.sessions.rig import check_alive, living_pool, now, until
from tests.support.clockwork import virtual
from tests.support.fake_control import STATUS, elapse

CALM = Signs(
    listening=True,
    streams=1,
    silent_for=0.0,
    quiet_for=0.0,
    delivered=7,
    suspected=False,
)
STALL_TIMEOUT = 900.0
DENIED = AccessDenied(STATUS, "AccessDeniedException", "no")


def silent(seconds):
    return replace(CALM, silent_for=seconds, quiet_for=seconds)


def steps(watch, until, signs=silent, *, answer=None, start=1):
    """Return what a silence of ``until`` seconds asks for, second by second."""
    found = []
    for second in range(start, until + 1):
        step = watch.look(float(second), signs(float(second)), STALL_TIMEOUT)
        found.append(step)
        if step is Step.ASK_SERVICE and answer is not None:
            watch.note(answer)
    return found


def test_nothing_is_asked_while_the_agent_talks():
    assert set(steps(SilenceWatch(0.0), 10_000, lambda _: CALM)) == {Step.NOTHING}


def test_an_agent_that_has_said_nothing_for_a_while_is_asked_again_and_again():
    watch = SilenceWatch(0.0)
    found = steps(watch, 100, lambda second: replace(CALM, quiet_for=second))
    assert found.count(Step.ASK_AGENT) == 100 // QUIET_TIME
    assert set(found) == {Step.ASK_AGENT, Step.NOTHING}


def test_an_agent_without_streams_is_left_alone():
    unused = lambda second: replace(CALM, streams=0, quiet_for=second)  # noqa: E731 - two words
    assert set(steps(SilenceWatch(0.0), 1000, unused)) == {Step.NOTHING}


def test_an_agent_without_streams_is_asked_once_another_is_silent():
    watch = SilenceWatch(0.0)
    signs = replace(CALM, streams=0, quiet_for=SUSPECT_TIME, suspected=True)
    assert watch.look(100.0, signs, STALL_TIMEOUT) is Step.ASK_AGENT
    assert watch.look(101.0, signs, STALL_TIMEOUT) is Step.NOTHING


def test_where_the_idle_timeout_counts_the_agent_is_asked_once_after_its_last_word():
    watch = SilenceWatch(0.0, respects_idle=True)
    found = steps(watch, 1000, lambda second: replace(CALM, quiet_for=second))
    assert found.count(Step.ASK_AGENT) == 1
    more = replace(CALM, quiet_for=QUIET_TIME, delivered=8)
    assert watch.look(2000.0, more, STALL_TIMEOUT) is Step.ASK_AGENT


def test_an_agent_that_owes_an_answer_is_not_asked_for_another():
    signs = replace(silent(1.0), quiet_for=QUIET_TIME)
    assert SilenceWatch(0.0).look(60.0, signs, STALL_TIMEOUT) is Step.NOTHING


def test_the_service_is_asked_about_a_silent_agent_and_one_answer_at_a_time():
    found = steps(SilenceWatch(0.0), 100)
    assert found.count(Step.ASK_SERVICE) == 1
    assert found.index(Step.ASK_SERVICE) + 1 == SILENT_TIME


def test_an_agent_that_the_service_has_lost_is_given_up_after_two_answers():
    watch = SilenceWatch(0.0)
    found = steps(watch, 21, answer=Answer.NOT_CONNECTED)
    assert found.count(Step.ASK_SERVICE) == PROOFS
    assert found[-1] is Step.GIVE_UP


def test_an_agent_that_comes_back_between_two_answers_is_kept():
    watch = SilenceWatch(0.0)
    steps(watch, 10, answer=Answer.NOT_CONNECTED)
    steps(watch, 20, answer=Answer.CONNECTED, start=11)
    assert Step.GIVE_UP not in steps(watch, 30, answer=Answer.NOT_CONNECTED, start=21)


def test_a_connected_agent_is_never_given_up_and_asked_about_less_and_less():
    watch = SilenceWatch(0.0)
    found = steps(watch, 3600, answer=Answer.CONNECTED)
    assert Step.GIVE_UP not in found
    often = BLOCKED_TIME / SILENT_TIME
    assert found.count(Step.ASK_SERVICE) <= often + 3600 / BLOCKED_INTERVAL


def test_without_an_answer_the_time_decides():
    found = steps(SilenceWatch(0.0), 901, answer=Answer.UNKNOWN)
    assert found.index(Step.GIVE_UP) + 1 == STALL_TIMEOUT


def test_a_new_silence_begins_with_nothing_held_against_it():
    watch = SilenceWatch(0.0)
    steps(watch, 10, answer=Answer.NOT_CONNECTED)
    watch.look(11.0, CALM, STALL_TIMEOUT)
    assert watch.answer is None
    later = [watch.look(20.0 + n, silent(9.0 + n), STALL_TIMEOUT) for n in range(3)]
    assert later == [Step.NOTHING, Step.ASK_SERVICE, Step.NOTHING]


def test_time_in_which_nobody_listens_does_not_count():
    watch = SilenceWatch(0.0)
    unheard = replace(silent(5000.0), listening=False)
    assert watch.look(5000.0, unheard, STALL_TIMEOUT) is Step.NOTHING
    assert watch.look(5001.0, silent(5001.0), STALL_TIMEOUT) is Step.NOTHING
    assert watch.silence(5001.0, silent(5001.0)) == 1.0


@given(
    looks=st.lists(
        st.tuples(
            st.floats(0.1, 50),
            st.floats(0, 2000),
            st.booleans(),
            st.sampled_from([Answer.CONNECTED, Answer.UNKNOWN]),
        )
    )
)
def test_nothing_is_given_up_early_unless_the_service_has_lost_it(looks):
    watch, time = SilenceWatch(0.0), 0.0
    for elapsed, silence, listening, answer in looks:
        time += elapsed
        signs = replace(silent(min(silence, time)), listening=listening)
        step = watch.look(time, signs, STALL_TIMEOUT)
        if step is Step.ASK_SERVICE:
            watch.note(answer)
        if step is Step.GIVE_UP:
            assert listening
            assert signs.silent_for >= STALL_TIMEOUT
            assert watch.answer is not Answer.CONNECTED


# Whole pools.

ONE = Policy(warm=1, max_sessions=1)


def stop_agents(rig, *, connected=False):
    rig.control.connected = connected
    rig.control.service.agent.deaf = True


async def hear_reset(stream, patience):
    async with SecondsUpTo(patience):
        with pytest.raises(StreamReset):
            await stream.receive()


class SecondsUpTo:
    """Fails if its block takes longer."""

    def __init__(self, seconds):
        self._seconds = seconds

    async def __aenter__(self):
        self._began = now()

    async def __aexit__(self, *_):
        assert now() - self._began <= self._seconds


@pytest.mark.parametrize("idle", [0.0, 60.0])
@virtual
async def test_connections_of_a_stopped_agent_are_reset_and_new_ones_served(idle):
    async with living_pool() as rig:
        stream = await rig.open()
        await elapse(idle)
        stop_agents(rig)
        await hear_reset(stream, 60)
        assert rig.journal.lines("agent.silent")[0]["service"] == Answer.NOT_CONNECTED
        rig.control.service.agent.deaf = False
        rig.control.connected = True
        await check_alive(await rig.pool.open_stream(60))


@virtual
async def test_spares_of_a_stopped_agent_are_noticed_with_it():
    async with living_pool(Policy(warm=3)) as rig:
        await rig.until_ready(3)
        stream = await rig.open()
        before = [s.session_id for s in rig.control.alive]
        stop_agents(rig)
        await stream.send(b"hello")
        await hear_reset(stream, 60)
        await until(lambda: not {s.session_id for s in rig.control.alive} & {*before})


@virtual
async def test_a_destination_that_does_not_read_for_ten_minutes_keeps_its_connection():
    async with living_pool() as rig:
        stream = await rig.open()
        blocked = rig.control.newest.agent.nature
        stop_agents(rig, connected=True)
        await stream.send(b"hello")
        await elapse(600)
        blocked.deaf = False
        assert await stream.receive() == b"hello"
        assert rig.control.count(STATUS)


@virtual
async def test_where_the_service_does_not_tell_stall_timeout_decides():
    async with living_pool(ONE) as rig:
        rig.control.fail(STATUS, DENIED)
        rig.pool.stall_timeout = 300.0
        stream = await rig.open()
        stop_agents(rig)
        await stream.send(b"hello")
        began = now()
        await hear_reset(stream, 310)
        assert now() - began >= 300


@virtual
async def test_a_slow_local_reader_is_not_taken_for_a_stopped_agent():
    async with living_pool(ONE, settings=SessionSettings()) as rig:
        rig.control.connected = False
        stream = await rig.open()
        piece = b"x" * 1024
        for _ in range(1200):
            await stream.send(piece)
        await elapse(300)
        heard = 0
        while heard < 1200 * len(piece):
            heard += len(await stream.receive())
